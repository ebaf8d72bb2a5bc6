"""The search stage over real stores: it carries features into the index, drops and rebuilds."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from configs import settings as settings_module
from deployments.serving.vector_search import Config, Forget, NearestQuery, SearchResult
from stores.documents import Documents
from stores.lance import maintenance
from stores.lance.maintenance import Upkeep
from stores.lance.search import Plan
from stores.lance.tables import table_name
from stores.lance.vectors import LanceVectors
from stores.open import Stores
from stores.records import Asset, Features, Vector
from tests.dummies import LocalNearest
from tests.tolerances import FP32_DOT
from vision.media.sniff import MediaKind

pytestmark = pytest.mark.numeric

MODEL, DIMENSIONS = "model@1", 16
T = TypeVar("T")
Start = Callable[..., LocalNearest]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts stages over the same stores."""
    monkeypatch.setenv("VISION_HOME", str(tmp_path))
    settings_module.settings.cache_clear()
    started: list[LocalNearest] = []

    def start(**config: Any) -> LocalNearest:
        stage = LocalNearest(Config(**config))
        stage.load()
        started.append(stage)
        return stage

    yield start
    for stage in started:
        stage.close()
    settings_module.settings.cache_clear()


class Library:
    """The documents as another process writes them."""

    def __init__(self, home: Path) -> None:
        self._url = f"sqlite:///{home}/documents.sqlite"

    def write(self, work: Callable[[Documents], Awaitable[T]]) -> T:
        async def run() -> T:
            stores = Stores(documents=self._url)
            try:
                return await work(stores.documents)
            finally:
                await stores.close()

        return asyncio.run(run())

    def add(self, *numbers: int, model: str = MODEL, kind: MediaKind = "image", unit: Vector | None = None) -> None:
        async def work(documents: Documents) -> None:
            for n in numbers:
                now = datetime.now(UTC)
                await documents.insert_asset(Asset(key(n), f"{n}.png", kind, "PNG", "image/png", 1, now))
                vector = vector_of(n) if unit is None else unit
                assert await documents.put_features(Features(key(n), model, kind, vector, vector, now))

        self.write(work)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


def key(number: int) -> str:
    return f"{number:032x}"


def vector_of(number: int) -> Vector:
    vector = np.random.default_rng(number).standard_normal(DIMENSIONS).astype(np.float32)
    return vector / np.linalg.norm(vector)


def ask(stage: LocalNearest, unit: Vector, k: int = 3, model: str = MODEL, **more: Any) -> SearchResult:
    (result,) = stage.predict_batch([NearestQuery(model, unit, k, **more)])
    assert isinstance(result, SearchResult)
    return result


def ids(result: SearchResult) -> list[str]:
    return [neighbour.asset_id for neighbour in result.neighbours]


def test_an_empty_library_has_no_neighbours(start: Start) -> None:
    assert ask(start(), vector_of(1)) == SearchResult([], 0)


def test_neighbours_are_the_nearest_by_cosine(start: Start, library: Library) -> None:
    library.add(*range(50))
    result = ask(start(index_chunk=7), vector_of(99), k=5)
    cosines = {key(n): float(vector_of(n) @ vector_of(99)) for n in range(50)}
    best = sorted(cosines, key=cosines.__getitem__, reverse=True)[:5]
    assert (ids(result), result.searched) == (best, 50)
    np.testing.assert_allclose([n.cosine for n in result.neighbours], [cosines[b] for b in best], atol=FP32_DOT)


def test_features_of_other_writers_are_seen_at_once(start: Start, library: Library) -> None:
    one, other = start(), start()
    for n in range(4):
        library.add(n)
        for stage in (one, other):
            result = ask(stage, vector_of(n), k=1)
            assert (ids(result), result.searched) == ([key(n)], n + 1)


def test_features_that_changed_replace_the_old_ones(start: Start, library: Library) -> None:
    stage = start()
    library.add(1, 2)
    assert ids(ask(stage, vector_of(1), k=1)) == [key(1)]
    library.add(1, unit=vector_of(77))
    result = ask(stage, vector_of(77), k=1)
    assert (ids(result), result.searched) == ([key(1)], 2)
    assert result.neighbours[0].cosine == pytest.approx(1, rel=FP32_DOT)


def test_models_are_spaces_of_their_own(start: Start, library: Library) -> None:
    stage = start()
    library.add(1, 2)
    library.add(2, 3, model="model@2")
    assert sorted(ids(ask(stage, vector_of(2)))) == [key(1), key(2)]
    assert sorted(ids(ask(stage, vector_of(2), model="model@2"))) == [key(2), key(3)]
    assert ask(stage, vector_of(2), model="model@3") == SearchResult([], 0)


def test_a_kind_may_be_asked_for(start: Start, library: Library) -> None:
    stage = start()
    library.add(*range(6))
    library.add(7, 8, kind="video")
    assert sorted(ids(ask(stage, vector_of(1), k=8, kind="video"))) == [key(7), key(8)]
    assert key(7) not in ids(ask(stage, vector_of(7), k=8, kind="image"))
    assert ids(ask(stage, vector_of(7), k=1)) == [key(7)]


def test_what_is_to_be_forgotten_is_gone(start: Start, library: Library) -> None:
    stage = start()
    library.add(1, 2, 3)
    ask(stage, vector_of(1))
    assert stage.predict_batch([Forget(MODEL, (key(1), key(9)))]) == [SearchResult([], 1)]
    result = ask(stage, vector_of(1))
    assert (sorted(ids(result)), result.searched) == ([key(2), key(3)], 2)
    assert stage.predict_batch([Forget("model@9", (key(1),))]) == [SearchResult([], 0)]


def test_a_lost_vector_store_is_rebuilt(start: Start, library: Library, tmp_path: Path) -> None:
    library.add(*range(20))
    before = ask(start(), vector_of(5))
    shutil.rmtree(tmp_path / "vectors")
    assert ask(start(index_chunk=6), vector_of(5)) == before


def test_maintenance_carries_features_over_without_a_search(start: Start, library: Library) -> None:
    stage = start()
    library.add(1, 2)
    library.add(3, model="model@2")
    stage.tick()
    assert library.write(lambda documents: documents.unindexed_models()) == []
    stage.tick()  # with nothing to do
    assert ask(stage, vector_of(3), model="model@2").searched == 1


def test_a_large_library_gets_an_index_beside_requests(
    start: Start, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISION_VECTOR_INDEX_FROM", "300")
    settings_module.settings.cache_clear()
    monkeypatch.setattr(maintenance, "Upkeep", partial(Upkeep, fold=300, per_partition=50))
    stage = start()
    library.add(*range(400))
    before = ask(stage, vector_of(5), k=5)
    stage.tick()
    # Searches are answered while it is made.
    library.add(400)
    assert ids(ask(stage, vector_of(400), k=1)) == [key(400)]
    stage._maintenance.wait()
    plan = stage._loop.run(plan_of(stage._vectors))
    assert (plan is not None and plan.probes > 0, ask(stage, vector_of(5), k=5).searched) == (True, 401)
    assert ids(ask(stage, vector_of(5), k=1)) == ids(before)[:1] == [key(5)]
    # It is stopped with the stage, in the middle.
    library.add(*range(401, 800))
    stage.tick()
    stage._maintenance.stop()
    assert ask(stage, vector_of(799), k=1).searched == 800


async def plan_of(vectors: Any) -> Plan | None:
    assert isinstance(vectors, LanceVectors)
    table = await vectors._tables.open(table_name(MODEL))
    assert table is not None
    return await Plan.of(table)


def test_features_written_while_they_are_carried_over_are_not_lost(start: Start, library: Library) -> None:
    """An older copy that was indexed must not mark the newer one as indexed."""
    stage = start()
    library.add(1)

    async def overtaken(documents: Documents) -> None:
        (old,) = await documents.unindexed_features(MODEL, 10)
        newer = replace(old, unit=vector_of(77), created_at=old.created_at + timedelta(seconds=1))
        await documents.put_features(newer)
        await documents.mark_indexed([old])

    library.write(overtaken)
    assert ask(stage, vector_of(77), k=1).neighbours[0].cosine == pytest.approx(1, rel=FP32_DOT)


def test_it_says_what_it_is(start: Start) -> None:
    assert start().info() == {"store": "lance", "metric": "cosine, -1 to 1, higher is nearer"}
