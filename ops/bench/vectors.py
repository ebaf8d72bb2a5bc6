"""Measure searches of the vector store by its index and by a scan: ``python -m ops.bench.vectors --seeds FILE``.

Two sets of unit vectors: *real-like*, drawn around features of real pictures, as ``ops.bench.vector_data`` describes;
and *isotropic*, the worst case, where no vector has a near neighbour and no index can skip anything.

They are appended to the large table of a space, which the service reaches by moving new vectors in batches, and then
maintained by the process that does it in the service. Queries are vectors of the same set that are not stored; a hit
is one that is no farther than the last true neighbour. CPU: milliseconds of all threads of the process that searches,
which do not depend on what else runs; wall: the best and the median of one after another.
"""

import argparse
import asyncio
import os
import platform
import resource
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

from ops.bench.vector_data import real_like, unit
from stores.lance.maintenance import ROUNDING, Upkeep, cosines_by_scan
from stores.lance.search import Plan
from stores.lance.tables import RECENT, Table, Tables, rows_of, table_name
from stores.lance.vectors import LanceVectors
from stores.records import Features, Vector
from stores.vectors import Neighbour

MODEL = "bench/1"
CHUNK = 50_000
VIDEO_SHARE = 0.05
SERVED = 26
"""Neighbours that the service asks for when its client wants 10."""

Search = Callable[[Vector], Awaitable[Sequence[Neighbour]]]


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the report; times in milliseconds."""

    dataset: str
    what: str
    cpu_ms: float
    best_ms: float
    p50_ms: float
    recall: float | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """What the index of one set cost: processor seconds, MB of memory at most, MB on disk, and how it is searched."""

    dataset: str
    cpu_s: float
    peak_mb: float
    index_mb: float
    plan: Plan | None
    resident_mb: float
    how: str


def cpu_s(who: int = resource.RUSAGE_SELF) -> float:
    """Return processor seconds of this process, or of its children that have ended."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def resident_mb() -> float:
    """Return the memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def isotropic(rows: int, dimension: int, rng: np.random.Generator) -> Vector:
    """Return unit vectors in all directions."""
    made = np.empty((rows, dimension), np.float32)
    for first in range(0, rows, CHUNK):
        made[first : first + CHUNK] = unit(rng.standard_normal((min(CHUNK, rows - first), dimension), dtype=np.float32))
    return made


async def fill(url: str, units: Vector) -> Table:
    """Append the vectors to the large table of a new space."""
    tables, name = Tables(url), table_name(MODEL)
    main = await tables.create(name, units.shape[1])
    await tables.create(name + RECENT, units.shape[1])
    for first in range(0, len(units), CHUNK):
        rows = rows_of(features(units[first : first + CHUNK], first), units.shape[1])
        await main.handle.add(rows.drop_columns(["batch"]))
    return main


def features(units: Vector, first: int = 0) -> list[Features]:
    """Return the vectors as the features of assets that are numbered."""
    every, now = round(1 / VIDEO_SHARE), datetime.now(UTC)
    return [
        Features(f"{row:032x}", MODEL, "image" if row % every else "video", each, each, now)
        for row, each in enumerate(units, first)
    ]


async def measure(dataset: str, what: str, search: Search, queries: Vector, k: int, true: Vector | None) -> Measured:
    """Time every query; compare its first ``k`` with the true cosines, best first, where they are given."""
    for query in queries[:10]:
        await search(query)
    times, hits, used = [], 0, cpu_s()
    for number, query in enumerate(queries):
        start = time.perf_counter()
        neighbours = await search(query)
        times.append(1000 * (time.perf_counter() - start))
        if true is not None:
            hits += sum(each.cosine >= true[number, k - 1] - ROUNDING for each in neighbours[:k])
    cpu_ms = 1000 * (cpu_s() - used) / len(queries)
    print(f"{dataset}, {what}: {cpu_ms:.1f} CPU ms", file=sys.stderr)
    recall = None if true is None else hits / (k * len(queries))
    return Measured(dataset, what, cpu_ms, min(times), float(np.median(times)), recall)


async def bench_lance(
    dataset: str, how: str, units: Vector, queries: Vector, folder: str
) -> tuple[Built, list[Measured]]:
    """Build the index, then measure searches by it and by a scan, and writes."""
    url = f"file://{folder}"
    main = await fill(url, units)
    store = LanceVectors(url, Upkeep())
    used = cpu_s(resource.RUSAGE_CHILDREN)
    await store.maintain(MODEL)
    used = cpu_s(resource.RUSAGE_CHILDREN) - used
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    plan = await Plan.of(main)
    index_mb = sum(each.size_bytes for each in await main.handle.list_indices() if each.columns == ["vector"]) / 2**20
    true = await cosines_by_scan(main, queries, 100)
    before_mb, few = resident_mb(), queries[: max(5, len(queries) // 10)]

    def nearest(k: int, *, exact: bool = False) -> Search:
        async def search(query: Vector) -> list[Neighbour]:
            return await store.search(MODEL, query, k, exact=exact)

        return search

    lines = [
        await measure(dataset, "top 10, as the service asks (26)", nearest(SERVED), queries, 10, true),
        await measure(dataset, "top 100", nearest(100), queries, 100, true),
    ]
    built = Built(dataset, used, peak_mb, index_mb, plan, resident_mb() - before_mb, how)

    async def of_one_kind(query: Vector) -> list[Neighbour]:
        return await store.search(MODEL, query, 10, kind="video")

    scans = [
        await measure(dataset, "top 10 by a scan", nearest(10, exact=True), few, 10, true),
        await measure(dataset, "top 10 of one kind (5 %), a scan", of_one_kind, few, 10, None),
    ]

    async def write(query: Vector) -> Sequence[Neighbour]:
        await store.add([features(query[None], len(units))[0]])
        found = await store.search(MODEL, query, SERVED)
        assert found[0].asset_id == f"{len(units):032x}"
        return found

    lines += [*scans, await measure(dataset, "a write, and the search that finds it", write, few, 10, None)]
    await store.close()
    return built, lines


async def bench_usearch(dataset: str, units: Vector, queries: Vector, true: Vector) -> list[Measured]:
    """Measure the HNSW index of usearch with its defaults, which is in the memory of one process."""
    from usearch.index import Index

    measured = []
    for dtype in ("f32", "i8"):
        index = Index(ndim=units.shape[1], metric="cos", dtype=dtype)
        used = cpu_s()
        index.add(np.arange(len(units)), units)
        used = cpu_s() - used

        async def search(query: Vector, index: "Index" = index) -> list[Neighbour]:
            return [Neighbour(f"{key:032x}", float(units[key] @ query)) for key in index.search(query, 10).keys]

        what = f"top 10 by usearch, HNSW {dtype}, built in {used:.0f} CPU s"
        measured.append(await measure(dataset, what, search, queries, 10, true))
    return measured


async def bench(options: argparse.Namespace) -> tuple[list[Built], list[Measured]]:
    """Measure both sets."""
    builds: list[Built] = []
    measured: list[Measured] = []
    total = options.rows + options.queries
    for dataset in options.sets:
        rng = np.random.default_rng(0)
        if dataset == "real-like":
            both, facts = real_like(np.load(options.seeds), total, rng)
            how = ", ".join(f"{name} {value:,.4g}" for name, value in facts.items())
        else:
            both, how = isotropic(total, options.dimension, rng), ""
        units, queries = both[: options.rows], both[options.rows :]
        with tempfile.TemporaryDirectory(prefix="bench-vectors-") as folder:
            built, lines = await bench_lance(dataset, how, units, queries, folder)
            builds.append(built)
            measured += lines
            if options.usearch:
                main = await Tables(f"file://{folder}").open(table_name(MODEL))
                assert main is not None
                measured += await bench_usearch(dataset, units, queries, await cosines_by_scan(main, queries, 10))
    return builds, measured


def report(builds: Sequence[Built], measured: Sequence[Measured], options: argparse.Namespace, load: float) -> str:
    """Return the report in Markdown."""
    command = shlex.join(["python", "-m", "ops.bench.vectors", *sys.argv[1:]])
    machine = f"{os.cpu_count()} × {platform.machine()}, Python {platform.python_version()}"
    versions = f"lancedb {version('lancedb')}, numpy {version('numpy')}"
    lines = [
        f"# Nearest neighbours: {options.rows:,} × {options.dimension}",
        "",
        f"Made by `{command}` on {machine}, {versions}; {options.queries} queries, "
        f"with a load of {load:.1f} from other work at the start.",
        "",
        "| vectors | search | CPU ms | best ms | p50 ms | recall |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for line in measured:
        recall = "" if line.recall is None else f"{line.recall:.4f}"
        lines.append(
            f"| {line.dataset} | {line.what} | {line.cpu_ms:.1f} | {line.best_ms:.1f} | {line.p50_ms:.1f} | {recall} |"
        )
    lines += [
        "",
        "| vectors | index, CPU s | its process, MB at most | index, MB on disk | searched by | measured recall "
        "| a process that searches, MB more | made of |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: | --- |",
    ]
    for built in builds:
        plan = built.plan
        by = f"{plan.probes} partitions" if plan and plan.probes else "a scan"
        lines.append(
            f"| {built.dataset} | {built.cpu_s:.0f} | {built.peak_mb:.0f} | {built.index_mb:.0f} | {by} "
            f"| {plan.recall if plan else 0:.4f} | {built.resident_mb:.0f} | {built.how} |"
        )
    return "\n".join([*lines, "", (__doc__ or "").partition("\n\n")[2]])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--sets", nargs="+", choices=["real-like", "isotropic"], default=["real-like", "isotropic"])
    parser.add_argument("--seeds", type=Path, help="file of ops.bench.vector_data, for the real-like set")
    parser.add_argument("--usearch", action="store_true", help="measure usearch as well, which takes long to build")
    parser.add_argument("--out", type=Path, help="file for the report; printed anyway")
    options = parser.parse_args()
    if "real-like" in options.sets and options.seeds is None:
        parser.error("--seeds is needed for the real-like set")
    load = os.getloadavg()[0]
    text = report(*asyncio.run(bench(options)), options, load)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)


if __name__ == "__main__":
    main()
