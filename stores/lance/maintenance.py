"""Maintains a space of vectors: moves recent ones, builds, extends and measures the index.

As a program it reads ``{"url", "name", "upkeep"}`` from standard input, so that the work is done in a process of low
priority. Killed at any moment it leaves a space that is searched as before, and the next run resumes.

An index is used once it was measured: the nearest of a sample of the stored vectors are looked up by a scan and by the
index, with more and more partitions, until it finds ``TARGET`` of them. Where no number of partitions does, as among
vectors without any structure, the index is dropped and searches stay scans until the space has doubled.
"""

import asyncio
import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np
from filelock import FileLock, Timeout
from lancedb.index import BTree, IvfRq

from stores.errors import StoreError
from stores.lance.search import MEASURED_AT, Plan, nearest, neighbours
from stores.lance.tables import IDS_PER_PAGE, RECENT, Table, Tables, retrying, translated
from stores.records import Vector

log = logging.getLogger(__name__)

MAINTENANCE: Final = "stores.lance.maintenance"
"""This module as a program."""
TARGET: Final = 0.995
"""Share of the nearest 10, and of the nearest 100, that an index has to find in the sample."""
SAMPLE: Final = 128
ROUNDING: Final = 3e-6
"""By which two ways of computing a cosine in fp32 may differ."""
FIRST_PROBES: Final = 8
REFINE: Final = 4
BITS: Final = 5
"""Of each number in the index: RaBitQ (Gao and Long 2024, https://arxiv.org/abs/2405.12497), with 4 bits after the
sign."""
REMEASURE: Final = 1.1
"""Growth after which an index is measured again."""
RETRY: Final = 2
"""Growth after which an index is tried again that found too little."""
KEEP_VERSIONS: Final = timedelta(hours=1)
"""Old versions stay this long for readers in the middle of a search."""
KEY: Final = "asset_id_btree"
NICENESS: Final = 10
"""A tenth of the processor time of a process that answers requests; at 19 a busy machine would never finish."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """When a space is maintained, in rows of its tables.

    ``index_from``: an index of the vectors is built (0: never). ``fold``: recent vectors are moved. An index has about
    ``per_partition`` rows in each partition, as LanceDB splits those of more than four times and joins those of less
    than a quarter of that; it is built anew when it has more than ``segments`` pieces, of which each fold may add one.
    More small files than ``fragments`` are merged.
    """

    index_from: int = 20_000
    fold: int = 4000
    per_partition: int = 1500
    segments: int = 16
    fragments: int = 32

    def unindexed(self) -> "Upkeep":
        """Return the upkeep of a space that is always scanned."""
        return replace(self, index_from=0)


async def compact_recent(recent: Table, fragments: int) -> None:
    """Merge the small files of a table of recent vectors, a matter of milliseconds."""
    if (await _small_fragments(recent)) > fragments:
        await translated(recent.handle.optimize(cleanup_older_than=KEEP_VERSIONS))


async def is_due(main: Table, recent: Table | None, upkeep: Upkeep) -> bool:
    """Return whether ``maintain`` has something to do."""
    if recent is not None and await recent.count() >= upkeep.fold:
        return True
    state = await _State.of(main)
    return state.needs_index(upkeep) or state.needs_fold(upkeep) or state.needs_plan(upkeep) or state.needs_drop(upkeep)


async def maintain(tables: Tables, name: str, upkeep: Upkeep) -> None:
    """Do what is due.

    :raises ConflictError: other writers changed a table meanwhile; nothing is lost.
    :raises StoreError: the store failed.
    """
    main, recent = await tables.open(name), await tables.open(name + RECENT)
    if main is None:
        return
    if recent is not None and await recent.count() >= upkeep.fold:
        await _move(recent, main)
    state = await _State.of(main)
    if state.key is None and state.rows >= upkeep.fold:
        await translated(main.handle.create_index("asset_id", config=BTree(), name=KEY))
    if state.needs_drop(upkeep):
        await _drop(main, state.vector_indices)
        state = await _State.of(main)
    if state.needs_index(upkeep):
        await _build(main, state, upkeep)
    elif state.needs_fold(upkeep):
        await translated(main.handle.optimize(cleanup_older_than=KEEP_VERSIONS))
    state = await _State.of(main)
    if state.needs_plan(upkeep):
        await _measure(main, state, upkeep)


@dataclass(frozen=True, slots=True)
class _State:
    """What a main table is like; ``vector_indices`` with the one that searches use first."""

    rows: int
    fragments: int
    vector_indices: Sequence[Any]
    key: Any
    plan: Plan | None

    @classmethod
    async def of(cls, main: Table) -> "_State":
        indices = list(await translated(main.handle.list_indices()))
        vector = sorted((each for each in indices if each.columns == ["vector"]), key=lambda each: each.created_at)
        key = next((each for each in indices if each.columns == ["asset_id"]), None)
        return cls(await main.count(), await _small_fragments(main), vector, key, await Plan.of(main))

    @property
    def index(self) -> Any:
        return self.vector_indices[0] if len(self.vector_indices) == 1 else None

    def hopeless(self) -> bool:
        """Whether an index of about this size was found to find too little."""
        return self.plan is not None and not self.plan.probes and self.rows < RETRY * self.plan.rows

    def needs_drop(self, upkeep: Upkeep) -> bool:
        return bool(self.vector_indices) and not upkeep.index_from

    def needs_index(self, upkeep: Upkeep) -> bool:
        if not upkeep.index_from or self.rows < upkeep.index_from or self.hopeless():
            return False
        # Of two the older one was about to be replaced when the process was stopped; another type is of an earlier
        # version.
        if self.index is None or self.index.index_type != "IvfRq":
            return True
        return bool(self.index.num_segments > upkeep.segments)

    def needs_fold(self, upkeep: Upkeep) -> bool:
        if self.fragments > upkeep.fragments:
            return True
        return self.index is not None and self.index.num_unindexed_rows >= upkeep.fold

    def needs_plan(self, upkeep: Upkeep) -> bool:
        if self.index is None or not upkeep.index_from:
            return False
        return self.plan is None or self.plan.index != self.index.name or self.rows > REMEASURE * self.plan.rows


async def _small_fragments(table: Table) -> int:
    return int((await translated(table.handle.stats()))["fragment_stats"]["num_small_fragments"])


async def _move(recent: Table, main: Table) -> None:
    """Move all recent vectors, except those that change or go meanwhile."""
    rows = await translated(recent.handle.query().to_arrow())
    await main.merge(rows.drop_columns(["batch"]))
    # What left the recent table in the meantime was deleted or replaced before it could be found in the main one, so
    # whoever did that has not removed it there.
    moved = _versions(rows)
    stayed = _versions(await translated(recent.handle.query().select(["asset_id", "batch"]).to_arrow()))
    await main.delete([asset_id for asset_id, _ in moved - stayed])
    batches = sorted({batch for _, batch in moved})
    for first in range(0, len(batches), IDS_PER_PAGE):
        page = ", ".join(f"'{batch}'" for batch in batches[first : first + IDS_PER_PAGE])
        await retrying(partial(recent.handle.delete, f"batch IN ({page})"))
    await translated(recent.handle.optimize(cleanup_older_than=KEEP_VERSIONS))


def _versions(rows: Any) -> set[tuple[str, str]]:
    return set(zip(rows["asset_id"].to_pylist(), rows["batch"].to_pylist(), strict=True))


async def _build(main: Table, state: _State, upkeep: Upkeep) -> None:
    """Build an index beside the one that is used, then take its place."""
    if len(state.vector_indices) < 2:  # of two the newer one is complete
        config = IvfRq(distance_type="cosine", target_partition_size=upkeep.per_partition, num_bits=BITS)
        await translated(main.handle.create_index("vector", config=config, name=f"vector_{uuid4().hex[:8]}"))
        state = await _State.of(main)
    await Plan.clear(main)
    await _drop(main, state.vector_indices[:-1])
    await translated(main.handle.optimize(cleanup_older_than=KEEP_VERSIONS))


async def _drop(main: Table, indices: Sequence[Any]) -> None:
    for index in indices:
        await translated(main.handle.drop_index(index.name))


async def _measure(main: Table, state: _State, upkeep: Upkeep) -> None:
    """Find the fewest partitions whose search finds enough, and let searches use it; without any drop the index."""
    index = state.index.name
    every = 4 * state.rows // upkeep.per_partition + 1
    sample = await _sample(main, state.rows)
    counts = [min(count, state.rows - 1) for count in MEASURED_AT]
    true = await cosines_by_scan(main, sample.units, max(counts) + 1)
    for probes, refine in [*_steps(every), (every, 4 * REFINE)]:
        plan = Plan(index, probes, refine, 0.0, state.rows)
        recall = min([await _recall(main, sample, true, count, plan) for count in counts])
        if recall >= TARGET:
            await replace(plan, recall=round(recall, 4)).save(main)
            return
    log.warning("an index of %d vectors finds %.3f of the nearest; searches stay scans", state.rows, recall)
    await replace(plan, probes=0, recall=round(recall, 4)).save(main)
    await _drop(main, state.vector_indices)


def _steps(every: int) -> Iterator[tuple[int, int]]:
    """Yield numbers of probes, each half as many again as the one before, up to all partitions, and how to refine."""
    probes = FIRST_PROBES
    while probes < every:
        yield probes, REFINE
        probes += probes // 2
    yield every, REFINE


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """Stored vectors, float32[n, d], and whose they are."""

    asset_ids: list[str]
    units: Vector


async def _sample(main: Table, rows: int) -> _Sample:
    rng = np.random.default_rng(rows)
    offsets = sorted(rng.choice(rows, min(SAMPLE, rows), replace=False).tolist())
    taken = await translated(main.handle.take_offsets(offsets).select(["asset_id", "vector"]).to_arrow())
    return _Sample(taken["asset_id"].to_pylist(), _matrix(taken["vector"].combine_chunks(), main.dimension))


async def cosines_by_scan(main: Table, units: Vector, k: int) -> Vector:
    """Return float32[n, k]: the cosines of the ``k`` nearest of each, best first; one pass over the table."""
    best = np.full((len(units), k), -np.inf, np.float32)
    batches = await translated(main.handle.query().select(["vector"]).to_batches(max_batch_length=8192))
    while batch := await translated(anext(batches, None)):
        cosines = units @ _matrix(batch["vector"], main.dimension).T
        near = cosines[:, (cosines > best.min(1, keepdims=True)).any(0)]
        best = -np.partition(-np.concatenate([best, near], 1), k - 1, axis=1)[:, :k]
    return -np.sort(-best, axis=1)


async def _recall(main: Table, sample: _Sample, true: Vector, k: int, plan: Plan) -> float:
    """Return the share of the ``k`` nearest others that a search finds; of those that are equally near any counts."""
    hits = 0
    for asset_id, unit, cosines in zip(sample.asset_ids, sample.units, true, strict=True):
        found = await neighbours(nearest(main, unit, k + 1, plan))
        others = [hit.cosine for hit in found if hit.asset_id != asset_id]
        hits += sum(cosine >= cosines[k] - ROUNDING for cosine in others[:k])
    return hits / (k * len(sample.asset_ids))


def _matrix(vectors: Any, dimension: int) -> Vector:
    return np.asarray(vectors.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(-1, dimension)


async def _run(url: str, name: str, upkeep: Upkeep) -> None:
    tables = Tables(url)
    try:
        await maintain(tables, name, upkeep)
    finally:
        tables.close()


def main() -> None:
    """Maintain one space; print a line of JSON, the error if there was one."""
    os.nice(NICENESS)
    task = json.load(sys.stdin)
    place = hashlib.sha256(f"{task['url']} {task['name']}".encode()).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"visiongraph-vectors-{os.getuid()}-{place}.lock")
    error = None
    try:
        with lock.acquire(timeout=0):
            asyncio.run(_run(task["url"], task["name"], Upkeep(**task["upkeep"])))
    except Timeout:  # another process of this machine is at it
        pass
    except StoreError as raised:
        error = [type(raised).__name__, str(raised)]
    print(json.dumps({"error": error}))


if __name__ == "__main__":
    main()
