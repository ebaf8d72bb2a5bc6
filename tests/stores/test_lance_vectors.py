"""LanceDB alone: its two tables, its index, its upkeep, its other processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lancedb.index import IvfSq

from stores.errors import StoreError
from stores.lance import maintenance, tables
from stores.lance.maintenance import MAINTENANCE, Upkeep, maintain
from stores.lance.search import Plan
from stores.lance.tables import RECENT, ConflictError, Table, retrying, table_name
from stores.lance.vectors import LanceVectors
from stores.records import Features, Vector
from stores.vectors import Neighbour
from tests.stores.children import exit_codes, spawn
from tests.stores.samples import MODEL, MOMENT, asset_id, make_features
from tests.tolerances import FP32_DOT

SMALL = Upkeep(index_from=2000, fold=500, per_partition=100)
NAME = table_name(MODEL)


@pytest.fixture
async def vectors(tmp_path: Path) -> AsyncIterator[LanceVectors]:
    store = LanceVectors(f"file://{tmp_path}/vectors", SMALL)
    yield store
    await store.close()


def clustered(rows: int, dimension: int = 64, seed: int = 0) -> Vector:
    """Vectors on a curved surface of 8 dimensions, as an index can skip parts of it."""
    inner = np.random.default_rng(seed).standard_normal((rows, 8), dtype=np.float32)
    surface = np.random.default_rng(99).standard_normal((8, dimension), dtype=np.float32)
    outer = np.tanh(inner @ surface * 0.5)
    return np.asarray(outer / np.linalg.norm(outer, axis=1, keepdims=True), np.float32)


def features_of(units: Vector, first: int = 0) -> list[Features]:
    return [
        Features(key(first + row), MODEL, "video" if row % 50 == 0 else "image", unit, unit, MOMENT)
        for row, unit in enumerate(units)
    ]


def key(row: int) -> str:
    return f"{row:032x}"


def ids(hits: list[Neighbour]) -> list[str]:
    return [hit.asset_id for hit in hits]


async def table(vectors: LanceVectors, ending: str = "") -> Table:
    opened = await vectors._tables.open(NAME + ending)
    assert opened is not None
    return opened


async def plan_of(vectors: LanceVectors) -> Plan | None:
    return await Plan.of(await table(vectors))


async def indices(vectors: LanceVectors) -> list[Any]:
    """The indices of vectors."""
    listed = await (await table(vectors)).handle.list_indices()
    return [each for each in listed if each.columns == ["vector"]]


async def counts(vectors: LanceVectors) -> tuple[int, int]:
    """Vectors in the large table and in the small one."""
    return await (await table(vectors)).count(), await (await table(vectors, RECENT)).count()


async def recall(vectors: LanceVectors, units: Vector, queries: Vector, k: int = 10) -> float:
    hits = 0
    for query in queries:
        nearest = {key(row) for row in np.argsort(-(units @ query))[:k]}
        hits += len(nearest & set(ids(await vectors.search(MODEL, query, k))))
    return hits / (k * len(queries))


async def kept_up(vectors: LanceVectors, upkeep: Upkeep = SMALL) -> None:
    """Maintain in this process, where constants can be changed."""
    await maintain(vectors._tables, NAME, upkeep)


async def test_an_index_from_a_size_on(vectors_url: str) -> None:
    """On a disk and in a bucket, maintained by the process that does it in the service."""
    vectors = LanceVectors(vectors_url, SMALL)
    units, queries = clustered(6000), clustered(40, seed=1)
    await vectors.add(features_of(units[:1999]))
    await vectors.maintain(MODEL)
    assert (await counts(vectors), await indices(vectors), await plan_of(vectors)) == ((1999, 0), [], None)
    await vectors.add(features_of(units[1999:], 1999))
    assert await counts(vectors) == (1999, 4001)
    await vectors.maintain(MODEL)
    assert await counts(vectors) == (6000, 0)
    ((index,), plan) = await indices(vectors), await plan_of(vectors)
    assert plan is not None
    assert (index.index_type, index.num_indexed_rows, plan.index) == ("IvfRq", 6000, index.name)
    assert 8 <= plan.probes < 60
    assert plan.recall >= 0.995
    assert await recall(vectors, units, queries) >= 0.99
    assert await recall(vectors, units, queries[:10], k=100) >= 0.99
    hits = await vectors.search(MODEL, queries[0], 10)
    assert [hit.cosine for hit in hits] == pytest.approx(
        sorted((units @ queries[0]).tolist(), reverse=True)[:10], abs=FP32_DOT
    )
    await vectors.close()


@pytest.fixture
async def indexed(vectors: LanceVectors) -> LanceVectors:
    """A space of 4,000 vectors with an index."""
    await vectors.add(features_of(clustered(4000)))
    await kept_up(vectors)
    plan = await plan_of(vectors)
    assert plan is not None
    assert plan.probes
    return vectors


async def test_writes_and_deletes_count_at_once(indexed: LanceVectors, tmp_path: Path) -> None:
    units, other = clustered(4000), clustered(20, seed=5)
    # Inserted.
    await indexed.add(features_of(other, 4000))
    assert await counts(indexed) == (4000, 20)
    for row, unit in enumerate(other):
        (itself, *_) = await indexed.search(MODEL, unit, 3)
        assert itself.asset_id == key(4000 + row)
        assert itself.cosine == pytest.approx(1.0, abs=FP32_DOT)
    # Replaced: the old vector is not found any more.
    await indexed.add(features_of(-units[:3]))
    assert (await counts(indexed), await indexed.count(MODEL)) == ((3997, 23), 4020)
    for row in range(3):
        assert ids(await indexed.search(MODEL, -units[row], 1)) == [key(row)]
        assert key(row) not in ids(await indexed.search(MODEL, units[row], 50))
    # Deleted, from both tables.
    await indexed.remove(MODEL, [key(0), key(10), key(4001), key(99999)])
    assert (await counts(indexed), await indexed.count(MODEL)) == ((3996, 21), 4017)
    assert key(10) not in ids(await indexed.search(MODEL, units[10], 100))
    assert key(4001) not in ids(await indexed.search(MODEL, other[1], 100))
    await indexed.remove_all([key(11), key(4002)])
    assert await counts(indexed) == (3995, 20)
    # Another process sees the same, and so does the next start.
    again = LanceVectors(f"file://{tmp_path}/vectors", SMALL)
    assert await again.count(MODEL) == 4015
    for unit in other[3:8]:
        assert await again.search(MODEL, unit, 10) == await indexed.search(MODEL, unit, 10)
    assert await Plan.of(await table(again)) == await plan_of(indexed)
    await again.close()


async def test_what_has_to_be_exact_is_scanned(indexed: LanceVectors) -> None:
    units = clustered(4000)
    plan = await plan_of(indexed)
    assert plan is not None
    # One partition finds next to nothing of what lies farther away.
    await Plan(plan.index, 1, 4, 0.1, 4000).save(await table(indexed))
    assert await recall(indexed, units, clustered(20, seed=1)) < 0.95
    query = clustered(1, seed=7)[0]
    order = [key(row) for row in np.argsort(-(units @ query))]
    assert ids(await indexed.search(MODEL, query, 100, exact=True)) == order[:100]
    assert ids(await indexed.search(MODEL, query, 101)) == order[:101]
    videos = [each for each in order if int(each, 16) % 50 == 0]
    assert ids(await indexed.search(MODEL, query, 30, kind="video")) == videos[:30]
    assert len(await indexed.search(MODEL, query, 4000)) == 4000


async def test_the_index_follows_the_table(vectors: LanceVectors) -> None:
    upkeep = Upkeep(index_from=400, fold=150, per_partition=100, segments=3)
    units = clustered(3000, 32)

    async def grow(first: int, last: int) -> tuple[int, int, int, int]:
        """Return vectors in the index, its pieces, recent vectors, and at how many the index was measured."""
        await vectors.add(features_of(units[first:last], first))
        await kept_up(vectors, upkeep)
        plan = await plan_of(vectors)
        (index,) = await indices(vectors) or [None]
        pieces = (index.num_indexed_rows, index.num_segments) if index else (0, 0)
        return *pieces, (await counts(vectors))[1], plan.rows if plan else 0

    assert await grow(0, 399) == (0, 0, 0, 0)
    assert await grow(399, 400) == (0, 0, 1, 0)
    assert await grow(400, 1500) == (1500, 1, 0, 1500)
    assert await grow(1500, 1600) == (1500, 1, 100, 1500)
    assert await grow(1600, 1650) == (1650, 2, 0, 1500)
    assert await grow(1650, 1800) == (1800, 3, 0, 1800)
    assert await grow(1800, 1950) == (1950, 4, 0, 1800)
    assert await grow(1950, 2100) == (2100, 1, 0, 2100)
    assert (await grow(2100, 3000))[::2] == (3000, 0)
    assert (await grow(3000, 3000))[::2] == (3000, 0)
    assert await recall(vectors, units, clustered(20, 32, seed=1)) >= 0.98


async def test_an_index_that_finds_too_little_is_not_used(
    vectors: LanceVectors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    isotropic = np.random.default_rng(0).standard_normal((5000, 64), dtype=np.float32)
    isotropic /= np.linalg.norm(isotropic, axis=1, keepdims=True)
    monkeypatch.setattr(maintenance, "TARGET", 1.01)
    await vectors.add(features_of(isotropic[:2000]))
    await kept_up(vectors)
    plan = await plan_of(vectors)
    assert plan is not None
    assert (plan.probes, plan.rows, await indices(vectors)) == (0, 2000, [])
    assert "searches stay scans" in caplog.text
    assert await recall(vectors, isotropic[:2000], isotropic[2000:2020]) == 1.0
    # Nothing is tried again before the space has doubled, but vectors go on being moved.
    monkeypatch.setattr(maintenance, "TARGET", 0.995)
    await vectors.add(features_of(isotropic[2000:3900], 2000))
    await kept_up(vectors)
    assert (await indices(vectors), await counts(vectors)) == ([], (3900, 0))
    await vectors.add(features_of(isotropic[3900:], 3900))
    await kept_up(vectors)
    plan = await plan_of(vectors)
    assert plan is not None
    # Among vectors without structure hardly any partition can be left out.
    assert (len(await indices(vectors)), plan.probes > 20) == (1, True)
    assert await recall(vectors, isotropic, -isotropic[:20]) >= 0.99


async def test_without_a_size_there_is_no_index(indexed: LanceVectors) -> None:
    await indexed.maintain(MODEL, indexed=False)
    assert (await indices(indexed), await counts(indexed)) == ([], (4000, 0))
    assert await recall(indexed, clustered(4000), clustered(5, seed=3)) == 1.0
    await kept_up(indexed, Upkeep(index_from=0, fold=500))
    assert await indices(indexed) == []


async def test_an_index_of_an_earlier_version_is_replaced(vectors: LanceVectors) -> None:
    units = clustered(2500)
    await vectors.add(features_of(units))
    await kept_up(vectors, Upkeep(index_from=0, fold=500))
    main = await table(vectors)
    await main.handle.create_index("vector", config=IvfSq(distance_type="cosine", num_partitions=5), name="unit_ivf5")
    assert await recall(vectors, units, units[:10]) == 1.0  # by a scan
    await kept_up(vectors)
    ((index,), plan) = await indices(vectors), await plan_of(vectors)
    assert plan is not None
    assert (index.index_type, plan.index, plan.probes > 0) == ("IvfRq", index.name, True)


async def test_a_build_that_is_killed_is_done_again(vectors: LanceVectors, tmp_path: Path) -> None:
    units = clustered(6000)
    await vectors.add(features_of(units))
    task = {"url": f"file://{tmp_path}/vectors", "name": NAME, "upkeep": asdict(SMALL)}
    killed = 0
    for more in (2, 8):
        killed += await asyncio.to_thread(kill_after, more, tmp_path / "vectors", task)
        assert len(set(ids(await vectors.search(MODEL, units[7], 50)))) == 50
        assert ids(await vectors.search(MODEL, units[7], 1)) == [key(7)]
    assert killed == 2
    await kept_up(vectors)
    ((index,), plan) = await indices(vectors), await plan_of(vectors)
    assert plan is not None
    assert (index.num_indexed_rows, plan.index, await counts(vectors)) == (6000, index.name, (6000, 0))
    assert await recall(vectors, units, clustered(20, seed=1)) >= 0.99


def kill_after(files: int, folder: Path, task: dict[str, Any]) -> bool:
    """Start what maintains a space and kill it when it has made so many files; False if it was done before."""
    child = subprocess.Popen([sys.executable, "-m", MAINTENANCE], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert child.stdin is not None
    child.stdin.write(json.dumps(task).encode())
    child.stdin.close()
    enough = len(list(folder.rglob("*"))) + files
    while child.poll() is None and len(list(folder.rglob("*"))) < enough:
        time.sleep(0.001)
    child.kill()
    return child.wait() == -signal.SIGKILL


async def test_a_crash_between_two_commits_is_finished(indexed: LanceVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    main = await table(indexed)
    (old,) = await indices(indexed)

    # A new index stands beside the old one, which is still used.
    async def crash(*args: Any) -> None:
        raise StoreError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Plan, "clear", crash)
        with pytest.raises(StoreError, match="killed"):
            await maintenance._build(main, await maintenance._State.of(main), SMALL)
    assert len(await indices(indexed)) == 2
    assert await recall(indexed, clustered(4000), clustered(20, seed=1)) >= 0.99
    await kept_up(indexed)
    ((new,), plan) = await indices(indexed), await plan_of(indexed)
    assert plan is not None
    assert (plan.index, new.name != old.name) == (new.name, True)

    # Vectors are in both tables.
    other = clustered(600, seed=5)
    await indexed.add(features_of(other, 4000))
    with monkeypatch.context() as patch:
        patch.setattr(maintenance, "_versions", crash_now)
        with pytest.raises(StoreError, match="killed"):
            await kept_up(indexed)
    assert await counts(indexed) == (4600, 600)
    hits = ids(await indexed.search(MODEL, other[0], 100))
    assert (hits[0], len(set(hits))) == (key(4000), 100)
    await kept_up(indexed)
    assert (await counts(indexed), await indexed.count(MODEL)) == ((4600, 0), 4600)


def crash_now(*args: Any) -> None:
    raise StoreError("killed")


async def test_what_changes_while_it_is_moved(vectors: LanceVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    units = clustered(600)
    await vectors.add(features_of(units))
    merge, meanwhile = Table.merge, [True]

    async def merge_later(self: Table, rows: Any) -> None:
        if meanwhile.pop():
            await vectors.remove(MODEL, [key(1)])
            meanwhile.append(False)
            await vectors.add(features_of(-units[2:3], 2))
            meanwhile.append(False)
            await vectors.add(features_of(units[:1] * -1, 700))
            meanwhile.append(False)
        await merge(self, rows)
        meanwhile.append(False)

    monkeypatch.setattr(Table, "merge", merge_later)
    await kept_up(vectors)
    assert await counts(vectors) == (598, 2)
    assert sorted([each async for each in vectors.ids()]) == sorted(
        [key(row) for row in range(600) if row != 1] + [key(700)]
    )
    assert key(1) not in ids(await vectors.search(MODEL, units[1], 600))
    assert ids(await vectors.search(MODEL, -units[2], 1)) == [key(2)]


async def test_small_files_are_merged(vectors: LanceVectors) -> None:
    for number in range(34):
        await vectors.add([make_features(number)])
    recent = await table(vectors, RECENT)
    assert (await recent.handle.stats())["fragment_stats"]["num_fragments"] == 34
    await vectors.maintain(MODEL)
    assert (await recent.handle.stats())["fragment_stats"]["num_fragments"] == 1
    assert await vectors.count(MODEL) == 34


async def test_processes_write_at_once_and_lose_nothing(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/vectors"
    # Two processes share half of their assets; both create the table, and both maintain it all the time.
    children = [spawn("add_vectors", url, first, "12") for first in ("0", "120")]
    assert exit_codes(children) == [0, 0]
    vectors = LanceVectors(url)
    assert await vectors.count(MODEL) == 360
    assert sorted([each async for each in vectors.ids()]) == sorted(asset_id(number) for number in range(360))
    await vectors.close()


async def test_lost_commits_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "FIRST_PAUSE_S", 0.0)
    outcomes: list[Exception | int] = [
        RuntimeError("Retryable commit conflict for version 3"),
        OSError("Too many concurrent writers"),
        7,
    ]
    attempts = 0

    async def commit() -> int:
        nonlocal attempts
        outcome = outcomes[min(attempts, len(outcomes) - 1)]
        attempts += 1
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert await retrying(commit) == 7
    assert attempts == 3
    attempts, outcomes = 0, [RuntimeError("commit conflict")]
    with pytest.raises(StoreError, match="faster every time"):
        await retrying(commit)
    assert attempts == tables.ATTEMPTS
    attempts, outcomes = 0, [RuntimeError("disk is on fire at /secret/path")]
    with pytest.raises(StoreError) as caught:
        await retrying(commit)
    assert (attempts, "secret" in str(caught.value)) == (1, False)


async def test_maintenance_gives_way_to_writers(vectors: LanceVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    await vectors.add(features_of(clustered(600)))
    attempts: list[int] = []

    async def lose(*args: Any) -> None:
        attempts.append(1)
        raise ConflictError

    monkeypatch.setattr("stores.lance.vectors._maintain_in_child", lose)
    await vectors.maintain(MODEL)
    assert (len(attempts), await vectors.count(MODEL)) == (3, 600)


async def test_errors_of_the_maintaining_process_are_raised(tmp_path: Path) -> None:
    vectors = LanceVectors(f"file://{tmp_path}/vectors", SMALL)
    await vectors.add(features_of(clustered(600)))
    for path in (tmp_path / "vectors" / f"{NAME}.lance" / "_versions").iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(StoreError):
        await LanceVectors(f"file://{tmp_path}/vectors", SMALL).maintain(MODEL)
    await vectors.close()


async def test_maintenance_can_be_stopped(vectors: LanceVectors) -> None:
    await vectors.add(features_of(clustered(3000)))
    others = _children()
    task = asyncio.create_task(vectors.maintain(MODEL))
    while not (children := _children() - others):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(children) == 1
    assert not _children() & children
    assert await vectors.count(MODEL) == 3000


def _children() -> set[int]:
    path = Path(f"/proc/{os.getpid()}/task")
    return {int(pid) for each in path.iterdir() for pid in (each / "children").read_text().split()}


async def test_an_absent_server_is_a_store_error(s3_endpoint: str) -> None:
    vectors = LanceVectors("s3://bucket/prefix?endpoint_url=http://127.0.0.1:1&region=us-east-1")
    with pytest.raises(StoreError):
        await vectors.count(MODEL)


async def test_a_table_of_a_newer_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stores.lance import tables

    monkeypatch.setattr(tables, "SCHEMA_VERSION", 2)
    newer = LanceVectors(f"file://{tmp_path}/vectors")
    await newer.add(features_of(clustered(3)))
    await newer.close()
    monkeypatch.setattr(tables, "SCHEMA_VERSION", 1)
    older = LanceVectors(f"file://{tmp_path}/vectors")
    message = r"has schema 2, this program knows 1; update the program, or remove the vectors"
    with pytest.raises(StoreError, match=message):
        await older.count(MODEL)
    await older.close()


async def test_a_table_without_a_number_is_of_the_first_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stores.lance import tables

    schema = tables._schema
    monkeypatch.setattr(tables, "_schema", lambda *args, **more: schema(*args, **more).remove_metadata())
    store = LanceVectors(f"file://{tmp_path}/vectors")
    await store.add(features_of(clustered(3)))
    await store.close()
    monkeypatch.undo()
    store = LanceVectors(f"file://{tmp_path}/vectors")
    assert await store.count(MODEL) == 3
    await store.close()
