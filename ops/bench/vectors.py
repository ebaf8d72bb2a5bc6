"""Measure latency and recall of the vector store against a scan: ``python -m ops.bench.vectors --rows 100000``.

Two sets of unit vectors: *clustered* has the low intrinsic dimension of real image features; *isotropic* is
the worst case, where no vector has a near neighbour and no index can skip anything.
"""

import argparse
import asyncio
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stores.lance.vectors import LanceVectors
from stores.records import Features, Vector

MODEL = "bench/1"
CHUNK = 2000
"""Rows of one ``add``, as in the service."""
CLUSTERS, INTRINSIC = 500, 24
VIDEO_SHARE = 0.05

Rows = NDArray[np.int64]
Search = Callable[[Vector], Awaitable[Sequence[int]]]


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the report; times in seconds and milliseconds, ``cpu_ms`` those of the processor a query."""

    dataset: str
    engine: str
    build_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    recall: float


def clustered(rows: int, dimension: int, rng: np.random.Generator) -> Vector:
    """Return clusters on a curved surface of ``INTRINSIC`` dimensions, with a little noise in all of them."""
    centres = rng.standard_normal((CLUSTERS, INTRINSIC), dtype=np.float32)
    inner = centres[rng.integers(CLUSTERS, size=rows)]
    inner = inner + 0.5 * rng.standard_normal(inner.shape, dtype=np.float32)
    outer = np.tanh(inner @ np.random.default_rng(7).standard_normal((INTRINSIC, dimension), dtype=np.float32))
    return _unit(outer + 0.05 * rng.standard_normal(outer.shape, dtype=np.float32))


def isotropic(rows: int, dimension: int, rng: np.random.Generator) -> Vector:
    """Return unit vectors in all directions."""
    return _unit(rng.standard_normal((rows, dimension), dtype=np.float32))


def _unit(vectors: Vector) -> Vector:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def exact(units: Vector, query: Vector, k: int) -> Rows:
    """Return the row numbers of the ``k`` nearest, by a scan."""
    cosines = units @ query
    nearest = np.argpartition(-cosines, k)[:k]
    return np.asarray(nearest[np.argsort(-cosines[nearest])], np.int64)


async def measure(dataset: str, engine: str, build_s: float, search: Search, queries: Vector, truth: Rows) -> Measured:
    """Time every query and compare its result with the truth."""
    for query in queries[:10]:
        await search(query)
    times, hits = [], 0
    used = time.process_time()
    for query, nearest in zip(queries, truth, strict=True):
        start = time.perf_counter()
        neighbours = await search(query)
        times.append(1000 * (time.perf_counter() - start))
        hits += len(set(neighbours) & set(nearest.tolist()))
    cpu_ms = 1000 * (time.process_time() - used) / len(times)
    p50, p99 = np.percentile(times, [50, 99])
    print(f"{dataset} {engine}: {p50:.1f} ms", file=sys.stderr)
    return Measured(dataset, engine, build_s, float(p50), float(p99), cpu_ms, hits / truth.size)


async def bench_lance(dataset: str, units: Vector, queries: Vector, truths: dict[str, Rows], k: int) -> list[Measured]:
    """Measure the store, over all rows and over one kind of asset."""
    with tempfile.TemporaryDirectory(prefix="bench-vectors-") as folder:
        store, now = LanceVectors(f"file://{folder}"), datetime.now(UTC)
        videos = len(units) * VIDEO_SHARE
        start = time.perf_counter()
        for first in range(0, len(units), CHUNK):
            await store.add(
                [
                    Features(f"{row:032x}", MODEL, "video" if row < videos else "image", unit, unit, now)
                    for row, unit in enumerate(units[first : first + CHUNK], first)
                ]
            )
        added = time.perf_counter()
        await store.maintain(MODEL)
        indexed = time.perf_counter()

        async def search(query: Vector) -> list[int]:
            return [int(hit.asset_id, 16) for hit in await store.search(MODEL, query, k)]

        async def search_videos(query: Vector) -> list[int]:
            return [int(hit.asset_id, 16) for hit in await store.search(MODEL, query, k, kind="video")]

        print(f"{dataset}: added in {added - start:.1f} s", file=sys.stderr)
        build_s = indexed - start
        every = await measure(dataset, "LanceVectors", build_s, search, queries, truths["all"])
        some = await measure(dataset, "LanceVectors, one kind (5 %)", build_s, search_videos, queries, truths["video"])
        await store.close()
        return [every, some]


async def bench_usearch(dataset: str, units: Vector, queries: Vector, truth: Rows, k: int) -> list[Measured]:
    """Measure the HNSW index of usearch with its defaults, which is in the memory of one process."""
    try:
        from usearch.index import Index
    except ImportError:
        return []
    measured = []
    for dtype in ("f32", "i8"):
        index = Index(ndim=units.shape[1], metric="cos", dtype=dtype)
        start = time.perf_counter()
        index.add(np.arange(len(units)), units)
        build_s = time.perf_counter() - start

        async def search(query: Vector, index: "Index" = index) -> list[int]:
            return [int(key) for key in index.search(query, k).keys]

        measured.append(await measure(dataset, f"usearch HNSW {dtype}", build_s, search, queries, truth))
    return measured


async def bench(options: argparse.Namespace) -> list[Measured]:
    """Measure every engine on both sets."""
    measured: list[Measured] = []
    for dataset, make in (("clustered", clustered), ("isotropic", isotropic)):
        both = make(options.rows + options.queries, options.dimension, np.random.default_rng(0))
        units, queries = both[: options.rows], both[options.rows :]
        videos = units[: int(options.rows * VIDEO_SHARE)]
        truths = {
            "all": np.stack([exact(units, query, options.k) for query in queries]),
            "video": np.stack([exact(videos, query, options.k) for query in queries]),
        }

        async def scan(query: Vector, units: Vector = units) -> list[int]:
            return [int(row) for row in exact(units, query, options.k)]

        measured.append(await measure(dataset, "numpy scan", 0.0, scan, queries, truths["all"]))
        measured += await bench_lance(dataset, units, queries, truths, options.k)
        measured += await bench_usearch(dataset, units, queries, truths["all"], options.k)
    return measured


def report(measured: Sequence[Measured], options: argparse.Namespace, load: float) -> str:
    """Return the report in Markdown."""
    command = shlex.join(["python", "-m", "ops.bench.vectors", *sys.argv[1:]])
    machine = f"{os.cpu_count()} × {platform.machine()}, Python {platform.python_version()}"
    versions = f"lancedb {version('lancedb')}, numpy {version('numpy')}"
    lines = [
        f"# Nearest neighbours: {options.rows:,} × {options.dimension}, top {options.k}",
        "",
        f"Made by `{command}` on {machine}, {versions}; {options.queries} queries, one after another, "
        f"with a load of {load:.1f} from other work at the start. "
        "Build: writing and indexing everything. Recall: share of the exact neighbours that were returned.",
        "",
        "| vectors | engine | build s | p50 ms | p99 ms | CPU ms | recall |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {line.dataset} | {line.engine} | {line.build_s:.1f} | {line.p50_ms:.1f} | {line.p99_ms:.1f} "
        f"| {line.cpu_ms:.1f} | {line.recall:.4f} |"
        for line in measured
    ]
    return "\n".join([*lines, "", (__doc__ or "").partition("\n\n")[2]])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--out", type=Path, help="file for the report; printed anyway")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    text = report(asyncio.run(bench(options)), options, load)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)


if __name__ == "__main__":
    main()
