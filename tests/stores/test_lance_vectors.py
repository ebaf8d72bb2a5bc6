"""LanceDB alone: its index, its upkeep, its other processes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stores.errors import StoreError
from stores.lance import vectors as lance
from stores.lance.vectors import ConflictError, LanceVectors, retrying
from stores.records import Features, Vector
from tests.stores.children import exit_codes, spawn
from tests.stores.samples import MODEL, MOMENT, asset_id, make_features
from tests.tolerances import FP32_DOT


@pytest.fixture
async def vectors(tmp_path: Path) -> AsyncIterator[LanceVectors]:
    store = LanceVectors(f"file://{tmp_path}/vectors")
    yield store
    await store.close()


def isotropic(rows: int, dimension: int, seed: int = 0) -> Vector:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def features_of(units: Vector, first: int = 0) -> list[Features]:
    return [
        Features(f"{first + row:032x}", MODEL, "video" if row % 50 == 0 else "image", unit, unit, MOMENT)
        for row, unit in enumerate(units)
    ]


async def indices(vectors: LanceVectors) -> dict[str, Any]:
    table = await vectors._table(lance._table_name(MODEL))
    assert table is not None
    return {index.name: index for index in await table.handle.list_indices()}


async def recall(vectors: LanceVectors, units: Vector, queries: Vector, k: int = 10) -> float:
    hits = 0
    for query in queries:
        nearest = {f"{row:032x}" for row in np.argsort(-(units @ query))[:k]}
        hits += len(nearest & {hit.asset_id for hit in await vectors.search(MODEL, query, k)})
    return hits / (k * len(queries))


async def test_the_index_finds_what_a_scan_finds(vectors: LanceVectors) -> None:
    units, queries = isotropic(8000, 128), isotropic(40, 128, seed=1)
    await vectors.add(features_of(units))
    await vectors.maintain(MODEL)
    ((name, index),) = (await indices(vectors)).items()
    assert (name, index.index_type, index.num_indexed_rows) == ("unit_ivf5", "IvfSq", 8000)
    assert await recall(vectors, units, queries) >= 0.98

    (itself,) = await vectors.search(MODEL, units[50], 1)
    assert itself.asset_id == f"{50:032x}"
    assert itself.cosine == pytest.approx(1.0, abs=FP32_DOT)
    videos = await vectors.search(MODEL, queries[0], 160, kind="video")
    assert {hit.asset_id for hit in videos} == {f"{row:032x}" for row in range(0, 8000, 50)}

    await vectors.remove(MODEL, [f"{50:032x}"])
    await vectors.add(features_of(units[:1] * -1))
    assert f"{50:032x}" not in {hit.asset_id for hit in await vectors.search(MODEL, units[50], 5)}
    (moved,) = await vectors.search(MODEL, -units[0], 1)
    assert moved.asset_id == f"{0:032x}"
    assert await vectors.count(MODEL) == 7999


async def test_the_index_follows_the_table(vectors: LanceVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "INDEX_FROM_ROWS", 400)
    monkeypatch.setattr(lance, "ROWS_PER_PARTITION", 200)
    monkeypatch.setattr(lance, "FOLD_ROWS", 150)
    units = isotropic(3000, 32)

    async def grow(first: int, last: int) -> dict[str, tuple[int, int]]:
        await vectors.add(features_of(units[first:last], first))
        await vectors.maintain(MODEL)
        return {
            name: (index.num_indexed_rows, index.num_unindexed_rows) for name, index in (await indices(vectors)).items()
        }

    assert await grow(0, 399) == {}
    assert await grow(399, 400) == {"unit_ivf2": (400, 0)}
    assert await grow(400, 550) == {"unit_ivf2": (400, 150)}
    assert await grow(550, 551) == {"unit_ivf2": (551, 0)}
    assert await grow(551, 1599) == {"unit_ivf2": (1599, 0)}
    assert await grow(1599, 1600) == {"unit_ivf8": (1600, 0)}
    assert await grow(1600, 3000) == {"unit_ivf8": (3000, 0)}
    assert await recall(vectors, units, isotropic(20, 32, seed=1)) >= 0.98


async def test_an_index_in_too_many_pieces_is_rebuilt(vectors: LanceVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "INDEX_FROM_ROWS", 300)
    monkeypatch.setattr(lance, "FOLD_ROWS", 10)
    monkeypatch.setattr(lance, "FOLD_SHARE", 0.0)
    monkeypatch.setattr(lance, "MAX_SEGMENTS", 3)
    units = isotropic(600, 16)
    await vectors.add(features_of(units[:300]))
    seen = []
    for first in range(300, 600, 50):
        await vectors.maintain(MODEL)
        seen.append((await indices(vectors))["unit_ivf1"].num_segments)
        await vectors.add(features_of(units[first : first + 50], first))
    assert seen == [1, 2, 3, 4, 1, 2]
    await vectors.maintain(MODEL)
    assert await recall(vectors, units, units[:20]) >= 0.98


async def test_small_files_are_compacted(vectors: LanceVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "MAX_SMALL_FRAGMENTS", 5)
    for number in range(12):
        await vectors.add([make_features(number)])
    table = await vectors._table(lance._table_name(MODEL))
    assert table is not None
    assert (await table.handle.stats())["fragment_stats"]["num_fragments"] == 12
    await vectors.maintain(MODEL)
    assert (await table.handle.stats())["fragment_stats"]["num_fragments"] == 1
    assert await vectors.count(MODEL) == 12


async def test_processes_write_at_once_and_lose_nothing(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/vectors"
    # Two processes share half of their assets; both create the table, and both maintain it all the time.
    children = [spawn("add_vectors", url, first, "12") for first in ("0", "120")]
    assert exit_codes(children) == [0, 0]
    vectors = LanceVectors(url)
    assert await vectors.count(MODEL) == 360
    table = await vectors._table(lance._table_name(MODEL))
    assert table is not None
    rows = (await table.handle.query().select(["asset_id"]).to_arrow())["asset_id"].to_pylist()
    assert sorted(rows) == sorted(asset_id(number) for number in range(360))
    await vectors.close()


async def test_lost_commits_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "FIRST_PAUSE_S", 0.0)
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
    assert attempts == lance.ATTEMPTS
    attempts, outcomes = 0, [RuntimeError("disk is on fire at /secret/path")]
    with pytest.raises(StoreError) as caught:
        await retrying(commit)
    assert (attempts, "secret" in str(caught.value)) == (1, False)


async def test_maintenance_gives_way_to_writers(vectors: LanceVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    await vectors.add([make_features(1)])

    async def lose(table: Any) -> None:
        raise ConflictError

    monkeypatch.setattr(lance, "maintain_table", lose)
    await vectors.maintain(MODEL)
    assert await vectors.count(MODEL) == 1


async def test_an_absent_server_is_a_store_error(s3_endpoint: str) -> None:
    vectors = LanceVectors("s3://bucket/prefix?endpoint_url=http://127.0.0.1:1&region=us-east-1")
    with pytest.raises(StoreError):
        await vectors.count(MODEL)
