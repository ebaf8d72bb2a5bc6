"""Measure the nearest of a million vectors, as any checkout of this repository finds them, beside a scan in memory.

``python -m ops.bench.nearest --media FOLDER`` makes vectors like those of real pictures (``ops.bench.vector_data``),
puts them into the store as the service has it, lets that keep itself up to date, and searches. ``ops.bench.vectors``
says more of the index of this checkout.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from configs.settings import Settings
from ops.bench.report import Contestant, Line, contestants_table, made_by, publish
from ops.bench.vector_data import features, real_like
from stores.open import Stores
from stores.records import Features, Vector

MODEL: Final = "bench/1"
CHUNK: Final = 2000
"""Rows of one ``add``, as in the service."""
TOP: Final = 10
SCANNED: Final = 40
"""Queries of the scan, which takes long."""

Rows = NDArray[np.int64]
Search = Callable[[Vector], Awaitable[Sequence[int]]]


def line(media: Path, *, rows: int = 1_000_000, seconds: float = 60.0, queries: int = 200) -> Line:
    """Measure the store; the value is milliseconds of the median query, one after another."""
    units, asked = _vectors(media, rows, seconds, queries)
    return asyncio.run(_measured(units, asked))


def _vectors(media: Path, rows: int, seconds: float, queries: int) -> tuple[Vector, Vector]:
    """Return stored vectors and queries, made once: those of an earlier call if the folder for such files has them."""
    path = Path(tempfile.gettempdir()) / f"visiongraph-nearest-{rows}-{seconds:g}-{queries}.npy"
    if not path.exists():
        made, _ = real_like(features(media, seconds), rows + queries, np.random.default_rng(0))
        np.save(path, made)
    made = np.load(path)
    return made[:rows], made[rows:]


def nearest(units: Vector, query: Vector) -> list[int]:
    """Return the row numbers of the nearest, by a scan."""
    cosines = units @ query
    top = np.argpartition(-cosines, TOP)[:TOP]
    return [int(row) for row in top[np.argsort(-cosines[top])]]


async def _measured(units: Vector, queries: Vector) -> Line:
    async def scan(query: Vector) -> list[int]:
        return nearest(units, query)

    truth = [nearest(units, query) for query in queries]
    with tempfile.TemporaryDirectory(prefix="nearest-") as folder:
        stores, now, started = Stores.open(Settings(home=Path(folder))), datetime.now(UTC), time.perf_counter()
        for first in range(0, len(units), CHUNK):
            chunk = enumerate(units[first : first + CHUNK], first)
            await stores.vectors.add([Features(f"{row:032x}", MODEL, "image", unit, unit, now) for row, unit in chunk])
        added_s = time.perf_counter() - started
        await stores.vectors.maintain(MODEL)
        kept_s = time.perf_counter() - started - added_s

        async def search(query: Vector) -> list[int]:
            return [int(hit.asset_id, 16) for hit in await stores.vectors.search(MODEL, query, TOP)]

        ours, times, hits = await _timed("the store", search, queries)
        await stores.close()
    bare, _, _ = await _timed("a scan in memory", scan, queries[:SCANNED])
    recall = float(np.mean([len(set(its) & set(exact)) / TOP for its, exact in zip(hits, truth, strict=True)]))
    notes = (
        f"{len(units):,} vectors of {units.shape[1]} numbers, top {TOP} of {len(queries)} queries, one after another: "
        f"recall {recall:.4f}, 99 of 100 within {np.percentile(times, 99):.1f} ms. Adding took {added_s:.0f} s, "
        f"keeping it up to date {kept_s:.0f} s.",
    )
    return Line(float(np.median(times)), (ours, bare), notes)


async def _timed(name: str, search: Search, queries: Vector) -> tuple[Contestant, list[float], list[Sequence[int]]]:
    """Search one query after another; return the contestant, milliseconds and hits of each."""
    for query in queries[:10]:
        await search(query)
    times, hits, used = [], [], time.process_time()
    for query in queries:
        started = time.perf_counter()
        hits.append(await search(query))
        times.append(1000 * (time.perf_counter() - started))
    cpu_ms = 1000 * (time.process_time() - used) / len(queries)
    return Contestant(name, 1000 / float(np.median(times)), cpu_ms), times, hits


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, required=True, help="folder of pictures and films")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the processor, for features of pictures")
    parser.add_argument("--out", type=Path, help="Markdown file; by default only printed")
    arguments = parser.parse_args()
    measured = line(arguments.media, rows=arguments.rows, seconds=arguments.seconds)
    made = made_by(" ".join(["ops.bench.nearest", *sys.argv[1:]]), "lancedb")
    publish(["# Nearest", "", f"{made}.", "", *contestants_table(measured.contestants), *measured.notes], arguments.out)


if __name__ == "__main__":
    main()
