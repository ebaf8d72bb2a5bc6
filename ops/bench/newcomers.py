"""Do three tasks in the console as somebody does who sees it for the first time, and say what they take.

::

    python -m ops.bench.newcomers --url http://127.0.0.1:8000 --pictures FOLDER --like a.jpg --film film.mp4 \
        --voice voice.wav --out ops/bench/reports/newcomers.md

Every task begins at ``/console`` in a new browser and uses what is written on the page alone. The seconds are those of
the service and the browser, as measured, and those that a person needs besides. By the keystroke-level model (Card,
Moran and Newell 1980) these are 1.35 s to decide on each step, 1.1 s to point and 0.2 s to click; by our own measure
6 s to find a file in the dialog of the system, 2 s to scroll and 3 s to read.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from ops.bench.report import made_by, table

DECIDE_S: Final = 1.35
POINT_S: Final = 1.1
CLICK_S: Final = 0.2
SCROLL_S: Final = 2.0
FILE_S: Final = 6.0
READ_S: Final = 3.0
LONGEST_MS: Final = 120_000
WITHIN_S: Final = 60.0


@dataclass
class Newcomer:
    """Somebody at a page: what they did, and how long it took besides what the machine took."""

    page: Any
    steps: list[str] = field(default_factory=list)
    clicks: int = 0
    own_s: float = 0.0

    def click(self, what: Any, called: str) -> None:
        """Decide on something, point at it and click, after scrolling to it if it is not on the screen."""
        self._scroll_to(what)
        what.click()
        self._did(f"click **{called}**")

    def choose(self, what: Any, path: Path, called: str) -> None:
        """Click a place for files and choose one in the dialog."""
        what.set_input_files(path)
        self._did(f"**{called}**: choose the file")
        self.own_s += FILE_S

    def read(self, what: Any) -> str:
        """Wait for something and read it, after scrolling to it if it is not on the screen."""
        self._scroll_to(what)
        self.own_s += READ_S
        return " ".join(str(what.inner_text()).split())

    def _scroll_to(self, what: Any) -> None:
        what.wait_for()
        box, height = what.bounding_box(), self.page.viewport_size["height"]
        if box is None or box["y"] + box["height"] > height or box["y"] < 0:
            what.scroll_into_view_if_needed()
            self.steps.append("scroll")
            self.own_s += DECIDE_S + SCROLL_S

    def _did(self, step: str) -> None:
        self.steps.append(step)
        self.clicks += 1
        self.own_s += DECIDE_S + POINT_S + CLICK_S


@dataclass(frozen=True)
class Outcome:
    """What a task took: ``machine_s`` as measured, ``own_s`` of the person by the model."""

    task: str
    answer: str
    steps: list[str]
    clicks: int
    machine_s: float
    own_s: float

    @property
    def seconds(self) -> float:
        """Return the time from the first look at the console to the answer."""
        return self.machine_s + self.own_s


def like(person: Newcomer, given: argparse.Namespace) -> str:
    """Find a picture like another."""
    page = person.page
    person.choose(
        page.locator(".drop", has_text="Find a picture like").locator("input"), given.like, "Find a picture like…"
    )
    page.get_by_role("heading", name="More like this").wait_for()
    hits = page.locator(".row-grid .tile")
    hits.first.wait_for()
    return person.read(hits.first)


def together(person: Newcomer, given: argparse.Namespace) -> str:
    """Find when two people of a film first share a frame."""
    page = person.page
    person.choose(page.locator(".drop", has_text="Add files").locator("input"), given.film, "Add files")
    person.click(page.locator(".tile", has_text=given.film.name).first, given.film.name)
    find = "Find people, objects and shots"
    person.click(page.get_by_role("button", name=find), find)
    boxes = page.get_by_label("together with")
    boxes.nth(max(given.people) - 1).wait_for()
    for number in given.people:
        person.click(boxes.nth(number - 1), f"together with (person {number})")
    return person.read(page.locator(".notice.good"))


def voice(person: Newcomer, given: argparse.Namespace) -> str:
    """Judge a voice message."""
    page = person.page
    person.click(page.get_by_role("navigation").get_by_role("link", name="Authenticity"), "Authenticity")
    person.choose(page.locator(".drop", has_text="Judge a file").locator("input"), given.voice, "Judge a file")
    return person.read(page.locator(".verdict .stamp")) + ". " + person.read(page.locator(".verdict li").nth(1))


Task = Callable[[Newcomer, argparse.Namespace], str]
TASKS: Final[tuple[Task, ...]] = (like, together, voice)


def fill(url: str, folder: Path) -> int:
    """Upload the pictures of a folder and let them be searched; return how many the library has then."""
    with httpx.Client(base_url=url, timeout=120) as client:
        ids = []
        for path in sorted(each for each in folder.rglob("*") if each.suffix.lower() in {".jpg", ".jpeg", ".png"}):
            answer = client.post("/api/v1/upload-media", files={"file": (path.name, path.read_bytes())})
            ids.append(answer.raise_for_status().json()["asset_id"])
        for asset_id in ids:
            client.post("/api/v1/extract-features", json={"asset_id": asset_id}).raise_for_status()
        counts = client.get("/api/v1/assets", params={"limit": 1}).raise_for_status().json()["counts"]
    return int(counts["image"])


def forget(url: str, path: Path) -> None:
    """Delete a film, so that its index is made anew."""
    with httpx.Client(base_url=url, timeout=120) as client:
        answer = client.post("/api/v1/upload-media", files={"file": (path.name, path.read_bytes())}).raise_for_status()
        client.delete(f"/api/v1/media/{answer.json()['asset_id']}").raise_for_status()


def outcomes(given: argparse.Namespace, tasks: Sequence[Task] = TASKS) -> list[Outcome]:
    """Do tasks, each as in a new browser."""
    from playwright.sync_api import sync_playwright

    done = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        for task in tasks:
            context = browser.new_context(viewport={"width": 1360, "height": 900})
            page = context.new_page()
            page.set_default_timeout(LONGEST_MS)
            person, began = Newcomer(page), time.monotonic()
            page.goto(f"{given.url}/console")
            page.locator("h1").wait_for()
            answer = task(person, given)
            taken = time.monotonic() - began
            if given.screens is not None:
                page.screenshot(path=given.screens / f"{task.__name__}.png")
            context.close()
            name = (task.__doc__ or "").rstrip(".")
            done.append(Outcome(name, answer, person.steps, person.clicks, taken, person.own_s))
        browser.close()
    return done


def report(found: list[Outcome], pictures: int, command: str) -> str:
    """Return the report as Markdown."""
    lines = [
        "# Newcomers' tasks in the console",
        "",
        f"Three tasks, each from the first look at `/console` to the answer, with {pictures} pictures in the library:",
        f"{made_by(command, 'playwright')}.",
        "",
        "The clicks are those of a real browser on the real service. *Machine* is what service and browser took, as",
        "measured; *person* what somebody needs besides to decide, point, find a file and read, by the keystroke-level",
        "model of Card, Moran and Newell, as `ops/bench/newcomers.py` says it. The aim is a minute together.",
        "",
    ]
    rows = [
        (
            each.task,
            each.clicks,
            f"{each.machine_s:.1f} s",
            f"{each.own_s:.1f} s",
            f"**{each.seconds:.0f} s**",
            each.answer,
        )
        for each in found
    ]
    lines += table(("task", "clicks", "machine", "person", "together", "what they read"), rows)
    lines += [f"- {each.task}: {', '.join(each.steps)}." for each in found]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Do the tasks and write the report; fail if one takes a minute."""
    parser = argparse.ArgumentParser(description="Three tasks of newcomers in the console.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures for the library")
    parser.add_argument("--like", type=Path, required=True, help="picture to look for")
    parser.add_argument("--film", type=Path, required=True, help="film in which two people share a frame")
    parser.add_argument("--people", type=int, nargs=2, default=[1, 2], help="which two of that film, from 1")
    parser.add_argument("--voice", type=Path, required=True, help="voice message")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--screens", type=Path, help="folder for pictures of the last page of each task")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    pictures = fill(given.url, given.pictures)
    forget(given.url, given.film)
    found = outcomes(given)
    names = [f"--{name} {getattr(given, name).name}" for name in ("pictures", "like", "film", "voice")]
    names.append(f"--people {given.people[0]} {given.people[1]}")
    text = report(found, pictures, f"ops.bench.newcomers {' '.join(names)}")
    print(text)
    if given.out is not None:
        given.out.write_text(text)
    slow = [each.task for each in found if each.seconds >= WITHIN_S]
    if slow:
        raise SystemExit(f"A minute or more: {', '.join(slow)}")


if __name__ == "__main__":
    main()
