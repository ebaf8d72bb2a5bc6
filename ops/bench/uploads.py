"""Measure uploads and what limits them: ``python -m ops.bench.uploads [--out FILE]``.

A 200 promises that bytes, names and record are on the disk. So the ceiling is the stores alone, with as many puts and
commits at once as there are clients. The parts of an upload are measured one by one, one upload after the other: the
clock shows what waits for the disk, CPU milliseconds what does not.
"""

import argparse
import asyncio
import hashlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from configs.settings import Settings
from graphs.web.gateway import open_context
from graphs.web.uploads.library import Library
from graphs.web.uploads.spool import spool_upload
from ops.bench.assets import CLIENTS, OURS, in_turn, light_service, medians, of, uploaded
from ops.bench.load import BOUNDARY, Service, jpegs, upload_request
from ops.bench.report import Contestant, Line, contestants_table, made_by, publish
from stores.file.objects import _sync
from stores.open import Stores
from stores.records import Asset
from vision.media.probe import Limits, Probe, probe

STORES: Final = "the stores alone"
COUNT: Final = 200
CHUNK: Final = 64 * 1024
"""Bytes that a server hands on at a time."""


def line(served: Service, *, count: int = COUNT, rounds: int = 6) -> Line:
    """Measure uploads of different pictures of about 75 kB; the value is uploads a second."""

    def ours(index: int) -> Contestant:
        return of(OURS, uploaded(jpegs(count, 5 * 10**6 + index * count), served)[0])

    def alone(index: int) -> Contestant:
        return asyncio.run(stored(jpegs(count, 6 * 10**6 + index * count)))

    contestants = medians(in_turn({OURS: ours, STORES: alone}, rounds))
    each = ", ".join(
        f"{part.name} {part.cpu_ms or 0:.2f} of {1000 / (part.rate or 1):.2f}" for part in asyncio.run(parts(count))
    )
    notes = (f"CPU ms of ms on the clock, one upload after the other in one process: {each}.",)
    return Line(contestants[0].rate or 0.0, contestants, notes)


async def stored(pictures: Sequence[bytes]) -> Contestant:
    """Put files into the object store and records into the document store, as many at once as there are clients."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        stores = Stores.open(Settings(home=home))
        paths = _written(pictures, home)
        queue = iter(list(zip(pictures, paths, strict=True)))

        async def worker() -> None:
            for data, path in queue:
                asset = _asset(data, Probe("image", "JPEG", "image/jpeg", 640, 480))
                await stores.objects.put_file(asset.asset_id, path, asset.content_type)
                await stores.documents.insert_asset(asset)

        used, started = time.process_time(), time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(CLIENTS)))
        used, seconds = time.process_time() - used, time.perf_counter() - started
        await stores.close()
    return Contestant(STORES, len(pictures) / seconds, 1000 * used / len(pictures))


async def parts(count: int = COUNT) -> list[Contestant]:
    """Measure the parts of an upload, and a whole one without HTTP, each by itself and one after the other."""
    pictures = jpegs(2 * count, 7 * 10**6)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        context = open_context(Settings(home=home), {})
        library, limits = Library(context), Limits.of(context.settings)
        bodies = [upload_request("/", "a.jpg", data, 1).partition(b"\r\n\r\n")[2] for data in pictures]
        paths = _written(pictures[:count], home)
        assets = [_asset(data, Probe("image", "JPEG", "image/jpeg", 640, 480)) for data in pictures[:count]]

        async def receive(number: int) -> None:
            async with spool_upload(_chunks(bodies[number]), _FORM, context.spool, 10**8):
                pass

        async def hash_bytes(number: int) -> None:
            hashlib.sha256(pictures[number]).digest()

        async def examine(number: int) -> None:
            probe(paths[number], limits)

        async def sync(number: int) -> None:
            _sync(paths[number])

        async def put(number: int) -> None:
            await context.objects.put_file(assets[number].asset_id, paths[number], "image/jpeg")

        async def record(number: int) -> None:
            await context.documents.insert_asset(assets[number])

        async def whole(number: int) -> None:
            await library.upload(_chunks(bodies[count + number]), _FORM)

        timed = [
            await _timed(name, action, count)
            for name, action in {
                "hash": hash_bytes,
                "receive (parse, hash, write)": receive,
                "decode and describe": examine,
                "sync one file": sync,
                "object (move, sync, name)": put,
                "record (commit)": record,
                "all of it": whole,
            }.items()
        ]
        await context.close()
    return timed


_FORM: Final = f"multipart/form-data; boundary={BOUNDARY}"


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]


async def _timed(name: str, action: Callable[[int], Awaitable[None]], count: int) -> Contestant:
    used, started = time.process_time(), time.perf_counter()
    for number in range(count):
        await action(number)
    used, seconds = time.process_time() - used, time.perf_counter() - started
    return Contestant(name, count / seconds, 1000 * used / count)


def _written(pictures: Sequence[bytes], folder: Path) -> list[Path]:
    paths = [folder / f"{number}.jpg" for number in range(len(pictures))]
    for path, data in zip(paths, pictures, strict=True):
        path.write_bytes(data)
    return paths


def _asset(data: bytes, facts: Probe) -> Asset:
    digest = hashlib.sha256(data).hexdigest()
    return Asset(digest[:32], "a.jpg", file_size=len(data), uploaded_at=datetime.now(UTC), **asdict(facts))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", action="store_true", help="only the parts, without the service")
    parser.add_argument("--out", type=Path, help="Markdown file; by default only printed")
    arguments = parser.parse_args()
    made = made_by(" ".join(["ops.bench.uploads", *sys.argv[1:]]), "ray")
    text = ["# Uploads", "", f"{made}.", "", (__doc__ or "").partition("\n\n")[2]]
    if not arguments.parts:
        with light_service() as served:
            text += contestants_table(line(served).contestants)
    text += ["Parts, one by one:", "", *contestants_table(asyncio.run(parts()))]
    publish(text, arguments.out)


if __name__ == "__main__":
    main()
