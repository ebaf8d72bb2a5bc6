"""Measure ``GET /assets`` by objects and people, and the counts by class, on a library of made-up rows.

    python -m ops.bench.library_search --assets 100000 --report ops/bench/reports/library_search.md

Everything but the models is as in the service: routes, stores, pages with tags and stretches. Nine assets of ten are
pictures, of which all were looked at; a film has 40 tracks and a trace. ``--documents`` names another database.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from ops.bench.report import made_by, table
from stores.open import Stores
from stores.people import Identity, ObjectRecord, TraceBoxes, TraceRecord, VideoIndex
from stores.records import PLACE_COLUMNS, Asset, PictureFaces, PictureObjects
from vision.media.sniff import MediaKind

SHARES: Final = {
    "person": 0.6,
    "car": 0.2,
    "chair": 0.1,
    "dog": 0.05,
    "cat": 0.04,
    "bicycle": 0.02,
    "horse": 0.01,
    "toothbrush": 0.001,
}
"""Share of the assets that a class is in."""
TRACKS: Final = 40
EVERY_FILM: Final = 10
FACES: Final = 0.6
"""Share of the pictures that have a face."""
DETECTOR, RECOGNIZER = "bench@1", "faces@1:0.6+face@1"
AT_ONCE: Final = 50
QUERIES: Final = {
    "all assets": "",
    "`objects=person`": "objects=person",
    "`objects=dog`": "objects=dog",
    "`objects=toothbrush`": "objects=toothbrush",
    "`objects=person,dog,car`": "objects=person,dog,car",
    "`objects=dog&min_confidence=0.9`": "objects=dog&min_confidence=0.9",
    "`objects=dog&kind=video`": "objects=dog&kind=video",
    "`objects=dog&name=77`": "objects=dog&name=77",
    "`people=Ada`": "people=Ada",
    "`people=Ada&objects=dog`": "people=Ada&objects=dog",
}
ROUNDS: Final = 15


class _Boxes(TraceBoxes):
    """Boxes that are packed once: a search reads none of them."""

    def packed(self) -> bytes:
        return _PACKED


_EMPTY: Final = TraceBoxes(np.arange(50), np.zeros((50, 4), np.float32), np.ones(50, np.float32), np.ones(50, np.bool_))
_PACKED: Final = _EMPTY.packed()
_BOXES: Final = _Boxes(_EMPTY.frames, _EMPTY.boxes, _EMPTY.confidences, _EMPTY.detected)


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians of one query: milliseconds until the answer, of the processor, and how many assets it has."""

    milliseconds: float
    cpu_ms: float
    assets: int


async def fill(stores: Stores, count: int) -> None:
    """Store so many assets with what was seen in them."""
    random, now = np.random.default_rng(7), datetime.now(UTC) - timedelta(days=400)
    ada = _unit(random.standard_normal(128))
    await stores.people.put_identity(Identity("ada", "Ada", "face@1", ada, 5.0, (), now))
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(count, first + AT_ONCE))
        await asyncio.gather(*(stores.documents.insert_asset(_asset(each, now)) for each in numbers))
        labels = {each: [label for label, share in SHARES.items() if random.random() < share] for each in numbers}
        pictures = [each for each in numbers if each % EVERY_FILM]
        await asyncio.gather(
            *(stores.documents.put_objects(_objects(each, labels[each], random)) for each in pictures),
            *(stores.documents.put_faces(_faces(each, ada, random)) for each in pictures),
            *(_index(stores, each, labels[each], random) for each in numbers if not each % EVERY_FILM),
        )
        print(f"\r{numbers[-1] + 1:,} assets", end="", flush=True)
    print()


def _id(number: int) -> str:
    return f"{(number * 0x9E3779B97F4A7C15) % 2**64:016x}{number:016x}"


def _asset(number: int, since: datetime) -> Asset:
    kind: MediaKind = "image" if number % EVERY_FILM else "video"
    moment = since + timedelta(seconds=90 * number)
    return Asset(_id(number), f"{number}.{kind}", kind, "JPEG", "image/jpeg", 10**6, moment, 640, 480, fps=25.0)


def _objects(number: int, labels: Sequence[str], random: np.random.Generator) -> PictureObjects:
    all_labels = [label for label in labels for _ in range(int(random.integers(1, 4)))]
    places = random.uniform(0.3, 1, (len(all_labels), 5)).astype(np.float32)
    now = datetime.now(UTC)
    return PictureObjects(_id(number), f"{DETECTOR}:0.3", "image", 640, 480, tuple(all_labels), places, now)


def _faces(number: int, ada: np.ndarray[Any, Any], random: np.random.Generator) -> PictureFaces:
    count = int(random.random() < FACES) + int(random.random() < FACES / 2)
    vectors = [
        _unit(ada + 0.05 * random.standard_normal(128) if number % 500 == 1 else random.standard_normal(128))
        for _ in range(count)
    ]
    places = np.zeros((count, PLACE_COLUMNS), np.float32)
    return PictureFaces(_id(number), RECOGNIZER, places, np.array(vectors, np.float32), datetime.now(UTC))


async def _index(stores: Stores, number: int, labels: Sequence[str], random: np.random.Generator) -> None:
    film, now, tracks = _id(number), datetime.now(UTC), []
    for track in range(1, TRACKS + 1 if labels else 1):
        start, length = random.uniform(0, 580), random.uniform(1, 20)
        label, confidence = labels[track % len(labels)], float(random.uniform(0.4, 0.95))
        frames = int(25 * start), int(25 * (start + length))
        record = ObjectRecord(film, track, label, *frames, start, start + length, 25, confidence, length, None)
        tracks.append((record, _BOXES))
    who = "ada" if number % 1000 == 0 else None
    trace = TraceRecord(film, 1, 0, 99, 0.0, 4.0, 25, who, _unit(random.standard_normal(128)))
    index = VideoIndex(film, "m", 640, 480, 25.0, 15_000, 600.0, 2, (), 1, now, f"{DETECTOR}:0.3", len(tracks))
    await stores.people.put_index(index, [(trace, _BOXES)], tracks)


def _unit(vector: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a vector of length 1."""
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


class _Info:
    """A stage that says what it is, and is never called."""

    def __init__(self, **info: Any) -> None:
        self._info = {"loaded": True, **info}

    async def info(self, *_: float) -> dict[str, Any]:
        return self._info

    async def ready_info(self, _: object) -> dict[str, Any]:
        return self._info


@asynccontextmanager
async def served() -> AsyncIterator[tuple[httpx.AsyncClient, Stores]]:
    """Yield a client of the asset routes in this process, and the stores of the settings."""
    from configs.settings import settings
    from graphs.web.api import find_apis
    from graphs.web.gateway import build_app, open_context

    settings.cache_clear()
    handles: dict[str, Any] = {key: _Info() for key in find_apis()["assets"].stage_keys}
    handles["objects/detector"] = _Info(model_version=DETECTOR, threshold=0.3, classes=list(SHARES))
    handles["people/faces"] = _Info(model_version="faces@1", threshold=0.6)
    handles["people/identity"] = _Info(model_version="face@1")
    context = open_context(settings(), handles)
    transport = httpx.ASGITransport(build_app(context, ["assets"]))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=120) as client:
        yield client, context.stores
    await context.close()


async def measure(client: httpx.AsyncClient, path: str) -> Measured:
    """Ask for the same page over and over, one request at a time."""
    times, cpu, body = list[float](), list[float](), dict[str, Any]()
    for _ in range(ROUNDS):
        wall, processor = time.perf_counter(), time.process_time()
        answer = await client.get(path)
        times.append(1000 * (time.perf_counter() - wall))
        cpu.append(1000 * (time.process_time() - processor))
        if answer.is_error:
            raise SystemExit(f"{path}: {answer.text}")
        body = answer.json()
    return Measured(statistics.median(times[1:]), statistics.median(cpu[1:]), len(body.get("assets", ())))


async def pages(client: httpx.AsyncClient, query: str) -> int:
    """Return how many assets all pages of a search have."""
    count, after = 0, ""
    while True:
        page = (await client.get(f"/api/v1/assets?{query}&limit=500{after}")).json()
        count += len(page["assets"])
        if page["next"] is None:
            return count
        after = f"&after={page['next']}"


async def run(count: int) -> list[str]:
    """Fill a library, ask all queries, and return the lines of the report."""
    async with served() as (client, stores):
        await fill(stores, count)
        started = time.perf_counter()
        (await client.get("/api/v1/assets?objects=dog&people=Ada")).raise_for_status()
        first = 1000 * (time.perf_counter() - started)
        rows = list[tuple[str, ...]]()
        for name, query in QUERIES.items():
            one = await measure(client, f"/api/v1/assets?{query}")
            found = await pages(client, query)
            rows.append((name, f"{found:,}", str(one.assets), f"{one.milliseconds:.0f}", f"{one.cpu_ms:.0f}"))
            print(rows[-1])
        counts = await measure(client, "/api/v1/assets/objects")
        rows.append(("`/assets/objects`", "", "", f"{counts.milliseconds:.0f}", f"{counts.cpu_ms:.0f}"))
    films = len(range(0, count, EVERY_FILM))
    return [
        f"{count - films:,} pictures and {films:,} films with {TRACKS} tracks each, all of them looked at. Pages of "
        f"100; medians of {ROUNDS - 1} requests, one at a time, all of it in one process.",
        "",
        *table(("query", "assets that have it", "on the page", "ms", "CPU ms"), rows),
        f"The first search of a process takes {first:.0f} ms: it looks for pictures that the models never saw.",
    ]


def main() -> None:
    """Run the benchmark in an empty folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--assets", type=int, default=100_000)
    parser.add_argument("--documents", default="", help="URL of an empty database; by default SQLite")
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"VISION_HOME": home, "RATE_LIMIT_ENABLED": "false", "VISION_CACHE_URL": ""}
        if given.documents:
            os.environ["VISION_DOCUMENTS_URL"] = given.documents
        lines = asyncio.run(run(given.assets))
    command = f"ops.bench.library_search --assets {given.assets}"
    text = "\n".join(["# The library searched by what is in it", "", made_by(command, "fastapi"), "", *lines, ""])
    print(text)
    if given.report:
        given.report.write_text(text)


if __name__ == "__main__":
    main()
