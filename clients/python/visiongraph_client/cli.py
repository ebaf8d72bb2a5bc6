"""The command line: upload, search, people, export and jobs, with ``--json`` for programs.

Exit status: 0, 1 when something failed, 2 for a command that cannot be understood, 130 when it was interrupted.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, TextIO

from visiongraph_client import export
from visiongraph_client.client import Client
from visiongraph_client.errors import VisiongraphError
from visiongraph_client.models import AnalysisPending, JobAnswer
from visiongraph_client.transfers import Progress

MEDIA: Final = frozenset(
    [
        *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"),
        *(".mp4", ".mov", ".avi", ".webm", ".mkv", ".m4v", ".ts", ".mts"),
        *(".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".oga", ".opus"),
    ]
)
"""Endings of the files that are taken from folders; a file that is named is taken whatever its ending."""
HEX: Final = frozenset("0123456789abcdef")
ID_LENGTH: Final = 32
REDRAW_S: Final = 0.1
MAX_RATE: Final = 1000


class Screen:
    """Where people and programs read what happens: results on ``out``, progress and errors on ``err``."""

    def __init__(self, as_json: bool, out: TextIO, err: TextIO) -> None:
        self.as_json, self._out, self._err = as_json, out, err
        self._drawn_at = 0.0

    def result(self, value: Any, text: str) -> None:
        """Show a result: as one line of JSON for programs, as text for people."""
        self._clear()
        print(json.dumps(value, ensure_ascii=False, default=str) if self.as_json else text, file=self._out, flush=True)

    def error(self, text: str) -> None:
        """Show what went wrong."""
        self._clear()
        print(text, file=self._err, flush=True)

    def progress(self, text: str, share: float) -> None:
        """Show how far something is, on a terminal only."""
        now = time.monotonic()
        if self.as_json or not self._err.isatty() or (now - self._drawn_at < REDRAW_S and share < 1):
            return
        self._drawn_at = now
        filled = round(20 * share)
        print(f"\r\033[K[{'#' * filled}{'.' * (20 - filled)}] {share:4.0%} {text[:50]}", end="", file=self._err)
        self._err.flush()

    def _clear(self) -> None:
        if self._drawn_at:
            print("\r\033[K", end="", file=self._err)
            self._drawn_at = 0.0


class Unfinished(MutableMapping[str, str]):
    """Ids of unfinished uploads by hash, in a file, so that the next run goes on with them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._ids: dict[str, str] = dict(json.loads(path.read_text()))
        except (OSError, ValueError):  # there is none, or it is damaged: files are uploaded from their beginning
            self._ids = {}

    def __getitem__(self, key: str) -> str:
        return self._ids[key]

    def __setitem__(self, key: str, value: str) -> None:
        self._ids[key] = value
        self._save()

    def __delitem__(self, key: str) -> None:
        del self._ids[key]
        self._save()

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        new.write_text(json.dumps(self._ids))
        new.replace(self._path)


def upload(client: Client, given: argparse.Namespace, screen: Screen) -> int:
    """Upload files and folders; one that fails does not keep the others."""
    files, missing = _files(given.paths)
    for path in missing:
        screen.error(f"{path}: there is no such file or folder.")
    if not files and not missing:
        screen.error("There are no pictures, videos or sounds in there.")
        return 1
    unfinished = Unfinished(given.state)
    failed = len(missing)
    jobs: list[tuple[str, str]] = []
    for path in files:
        try:
            stored = client.upload(
                path, label=given.label, unfinished=unfinished, on_progress=_shown(screen, path.name)
            )
            value: dict[str, Any] = {"path": str(path), "asset_id": stored.asset_id, "duplicate": stored.duplicate}
            kind = client.assets.get_media(stored.asset_id).content_type.partition("/")[0] if given.index else ""
            if kind == "video":
                job = client.index(stored.asset_id)
                value["job_id"] = job.job_id
                jobs.append((path.name, job.job_id))
            elif kind == "image":
                client.assets.extract_features(asset_id=stored.asset_id)
            screen.result(value, f"{stored.asset_id}  {path}{'  (was there already)' if stored.duplicate else ''}")
        except BrokenPipeError:
            raise
        except (VisiongraphError, OSError) as error:
            failed += 1
            screen.error(f"{path}: {error}")
    for name, job_id in jobs:
        try:
            job_done = client.wait(job_id, on_progress=_job_shown(screen, name))
            screen.result(_plain(job_done), f"indexed   {name}")
        except VisiongraphError as error:
            failed += 1
            screen.error(f"{name}: {error}")
    return 1 if failed else 0


def search(client: Client, given: argparse.Namespace, screen: Screen) -> int:
    """Search by a picture, as a file or an id, or shots by words."""
    path = Path(given.query)
    if _is_id(given.query) or path.is_file():
        asset_id = given.query if _is_id(given.query) else client.upload(path).asset_id
        for hit in client.assets.semantic_search(query_asset_id=asset_id, top_k=given.top).search_results:
            screen.result(_plain(hit), f"{hit.similarity_score:6.2f}  {hit.asset_id}  {hit.filename}")
        return 0
    found = client.shots.suggest_shots(scene_description=given.query, limit=given.top)
    for shot in found.recommendations:
        place = f"{shot.video_asset_id}  {shot.start_timestamp:.2f}-{shot.end_timestamp:.2f} s"
        screen.result(
            _plain(shot),
            f"{shot.relevance_score:6.2f}  {place}  {'; '.join(each.explanation for each in shot.reasons)}",
        )
    return 0


def people(client: Client, given: argparse.Namespace, screen: Screen) -> int:
    """Show who is in a video, or everybody who is known."""
    if given.file_uuid:
        for person in client.media.people(given.file_uuid).identities:
            times = f"{person.first_time:.2f}-{person.last_time:.2f} s"
            screen.result(_plain(person), f"{person.identity_uuid}  {person.name or '(no name)'}  {times}")
        return 0
    for known in client.iter_identities():
        screen.result(_plain(known), f"{known.identity_uuid}  {known.name or '(no name)'}")
    return 0


def export_video(client: Client, given: argparse.Namespace, screen: Screen) -> int:
    """Write the shots of a video, or the appearances of people in it, for editors."""
    details = client.media.details(given.file_uuid)
    film = export.Film(
        given.file_uuid, details.filename, details.fps or 25.0, details.frame_count or 0, given.media_url or ""
    )
    events = (
        _shots(client, given.file_uuid, screen)
        if given.what == "shots"
        else _appearances(client, given.file_uuid, film.fps)
    )
    text = export.FORMATS[given.format](film, events, given.rate)
    if given.output is None:
        print(text, end="")
        return 0
    given.output.write_text(text, encoding="utf-8")
    screen.result({"path": str(given.output), "events": len(events)}, f"{len(events)} events in {given.output}")
    return 0


def jobs(client: Client, given: argparse.Namespace, screen: Screen) -> int:
    """Show the jobs, latest first."""
    for number, job in enumerate(client.iter_jobs(status=given.status)):
        if number == given.top:
            break
        text = f"{job.job_id}  {job.kind}  {job.status}  {job.progress:.0%}  {job.error or job.message}"
        screen.result(_plain(job), text)
    return 0


def _shots(client: Client, file_uuid: str, screen: Screen) -> list[export.Event]:
    found = client.shots.analyze_video_shots(video_asset_id=file_uuid, extract_keyframes=False)
    if isinstance(found, AnalysisPending):
        client.wait(found.job_id, on_progress=_job_shown(screen, "analysis of shots"))
        found = client.shots.analyze_video_shots(video_asset_id=file_uuid, extract_keyframes=False)
        if isinstance(found, AnalysisPending):
            raise VisiongraphError("The shots are being analysed again; try again in a moment.")
    return [
        export.Event(
            name=f"Shot {shot.shot_index}",
            first_frame=shot.start_frame,
            last_frame=shot.end_frame,
            start_s=shot.start_timestamp,
            end_s=shot.end_timestamp,
            note=", ".join(filter(None, (shot.shot_size, shot.camera_movement, *shot.auto_tags))),
        )
        for shot in found.shot_analyses
    ]


def _appearances(client: Client, file_uuid: str, fps: float) -> list[export.Event]:
    names = {each.identity_uuid: each.name or each.identity_uuid for each in client.media.people(file_uuid).identities}
    events = [
        export.Event(
            name=names.get(trace.identity_uuid or "", "Unknown"),
            first_frame=trace.first_frame,
            last_frame=trace.last_frame,
            start_s=trace.first_time,
            end_s=trace.last_time + 1 / fps,  # it says when the last frame begins
            note=f"trace {trace.trace_id}",
        )
        for trace in client.iter_traces(file_uuid)
    ]
    return sorted(events, key=lambda event: (event.first_frame, event.name))


def _files(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the files that are named or are in folders that are named, and what there is not."""
    files: dict[Path, None] = {}
    missing = []
    for path in paths:
        if path.is_dir():
            found = sorted(each for each in path.rglob("*") if each.suffix.lower() in MEDIA and each.is_file())
            files.update(dict.fromkeys(found))
        elif path.is_file():
            files[path] = None
        else:
            missing.append(path)
    return list(files), missing


def _shown(screen: Screen, name: str) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        screen.progress(f"{progress.stage} {name}", progress.done / max(1, progress.total))

    return show


def _job_shown(screen: Screen, name: str) -> Callable[[JobAnswer], None]:
    def show(job: JobAnswer) -> None:
        screen.progress(f"{name}: {job.message or job.status}", job.progress)

    return show


def _rate(text: str) -> Fraction:
    """Return a rate such as 25, 29.97 or 30000/1001; 29.97 is that of NTSC."""
    try:
        given = Fraction(text)
    except (ValueError, ZeroDivisionError):
        given = Fraction(0)
    if not 1 <= given <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate; give frames a second, such as 25 or 29.97")
    return next((each for each in export.RATES if abs(given / each - 1) < export.SAME_RATE), given)


def _is_id(text: str) -> bool:
    return len(text) == ID_LENGTH and set(text) <= HEX


def _plain(model: Any) -> Any:
    return model.model_dump(mode="json")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    whole = argparse.ArgumentParser(prog="visiongraph-client", description="Use a visiongraph service.")
    usual = argparse.ArgumentParser(add_help=False)
    usual.add_argument("--url", help="address of the service; else VISIONGRAPH_URL, else http://127.0.0.1:8000")
    usual.add_argument(
        "--key", help="API key; better in the variable VISIONGRAPH_KEY, which no list of processes shows"
    )
    usual.add_argument("--json", action="store_true", help="one line of JSON for each result")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[Client, argparse.Namespace, Screen], int]) -> argparse.ArgumentParser:
        text = (function.__doc__ or "").splitlines()[0]
        made = commands.add_parser(name, parents=[usual], help=text, description=text)
        made.set_defaults(function=function)
        return made

    uploading = command("upload", upload)
    uploading.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files, and folders with all in them")
    uploading.add_argument(
        "--index", action="store_true", help="find people and shots of videos, and how pictures look, for searches"
    )
    uploading.add_argument("--label", help="of the files, for keys that are held to it")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    uploading.add_argument(
        "--state", type=Path, default=cache / "visiongraph-client" / "uploads.json", help="file of unfinished uploads"
    )
    searching = command("search", search)
    searching.add_argument("query", help="an asset id, a picture, or words that describe a shot")
    searching.add_argument("--top", type=int, default=10, help="most results")
    knowing = command("people", people)
    knowing.add_argument("file_uuid", nargs="?", help="a video; without it, everybody who is known")
    exporting = command("export", export_video)
    exporting.add_argument("file_uuid", help="a video")
    exporting.add_argument("--what", choices=("shots", "people"), default="shots")
    exporting.add_argument("--format", choices=tuple(export.FORMATS), default="csv")
    exporting.add_argument("--output", "-o", type=Path, help="file; else it is printed")
    exporting.add_argument("--rate", type=_rate, help="frames a second of the editor's project; else those of the film")
    exporting.add_argument("--media-url", help="where an editor finds the film, for OTIO")
    listing = command("jobs", jobs)
    listing.add_argument("--status", choices=("queued", "running", "succeeded", "failed", "cancelled"))
    listing.add_argument("--top", type=int, default=20, help="most results")
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    given = parser().parse_args(arguments)
    screen = Screen(given.json, sys.stdout, sys.stderr)
    try:
        with Client(given.url, given.key) as client:
            status: int = given.function(client, given, screen)
            return status
    except BrokenPipeError:  # whoever reads the results has seen enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (VisiongraphError, ValueError, OSError) as error:
        screen.error(str(error))
        return 1
    except KeyboardInterrupt:
        screen.error("Interrupted; an upload goes on where it ended when the same command is given again.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
