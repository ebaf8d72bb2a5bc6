"""What every vector store has to do."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from stores.open import Stores
from stores.vectors import Vectors
from tests.stores.samples import MODEL, asset_id, make_features, unit_vector
from tests.tolerances import FP32_DOT


async def test_an_unknown_model_version_is_empty(vectors: Vectors) -> None:
    assert await vectors.search(MODEL, unit_vector(1), 5) == []
    assert await vectors.count(MODEL) == 0
    await vectors.remove(MODEL, [asset_id(1)])
    await vectors.add([])
    await vectors.maintain(MODEL)


async def test_the_nearest_come_first_with_their_cosine(vectors: Vectors) -> None:
    given = [make_features(number) for number in range(20)]
    await vectors.add(given)
    query = unit_vector(100)
    cosines = {item.asset_id: float(item.unit @ query) for item in given}
    hits = await vectors.search(MODEL, query, 7)
    assert [hit.asset_id for hit in hits] == sorted(cosines, key=lambda key: -cosines[key])[:7]
    assert [hit.cosine for hit in hits] == pytest.approx([cosines[hit.asset_id] for hit in hits], abs=FP32_DOT)
    assert len(await vectors.search(MODEL, query, 50)) == 20
    (itself,) = await vectors.search(MODEL, given[3].unit, 1)
    assert itself.asset_id == asset_id(3)
    assert itself.cosine == pytest.approx(1.0, abs=FP32_DOT)
    assert await vectors.count(MODEL) == 20


async def test_one_kind_can_be_asked_for(vectors: Vectors) -> None:
    await vectors.add([make_features(number, kind="video" if number % 5 == 0 else "image") for number in range(20)])
    videos = {hit.asset_id for hit in await vectors.search(MODEL, unit_vector(1), 10, kind="video")}
    assert videos == {asset_id(number) for number in (0, 5, 10, 15)}
    assert len(await vectors.search(MODEL, unit_vector(1), 10, kind="image")) == 10
    assert await vectors.search(MODEL, unit_vector(1), 10, kind="audio") == []
    with pytest.raises(ValueError, match="media kind"):
        await vectors.search(MODEL, unit_vector(1), 10, kind="x' OR 'a'='a")  # type: ignore[arg-type]


async def test_adding_again_replaces(vectors: Vectors) -> None:
    await vectors.add([make_features(number) for number in range(3)])
    moved = make_features(1, unit=unit_vector(77))
    await vectors.add([make_features(1, unit=unit_vector(55)), make_features(2), moved])
    assert await vectors.count(MODEL) == 3
    (hit, *_) = await vectors.search(MODEL, unit_vector(77), 3)
    assert hit.asset_id == asset_id(1)
    assert hit.cosine == pytest.approx(1.0, abs=FP32_DOT)


async def test_removed_assets_are_not_found(vectors: Vectors) -> None:
    await vectors.add([make_features(number) for number in range(5)])
    await vectors.remove(MODEL, [asset_id(1), asset_id(99), asset_id(3)])
    ids = {hit.asset_id for hit in await vectors.search(MODEL, unit_vector(1), 9)}
    assert ids == {asset_id(number) for number in (0, 2, 4)}
    assert await vectors.count(MODEL) == 3
    await vectors.remove(MODEL, [])
    for bad in ("x' OR '1'='1", "", "ABC", "a b"):
        with pytest.raises(ValueError, match="not an asset id"):
            await vectors.remove(MODEL, [asset_id(0), bad])
    assert await vectors.count(MODEL) == 3


async def test_vectors_of_another_dimension_are_refused(vectors: Vectors) -> None:
    await vectors.add([make_features(1)])
    for wrong in (unit_vector(1, 7), unit_vector(1, 16), np.ones((1, 8), np.float32)):
        with pytest.raises(ValueError, match="8 numbers"):
            await vectors.search(MODEL, wrong, 1)
        with pytest.raises(ValueError, match="8 numbers"):
            await vectors.add([make_features(2), make_features(3, unit=wrong)])
    assert await vectors.count(MODEL) == 1


async def test_model_versions_are_separate_spaces(vectors: Vectors) -> None:
    names = ["a/b", "a_b", "a b", "ä/b", "x" * 300, "x" * 301]
    for number, name in enumerate(names):
        await vectors.add([make_features(number, model=name, unit=unit_vector(number, 4 + number))])
    for number, name in enumerate(names):
        hits = await vectors.search(name, unit_vector(number, 4 + number), 9)
        assert [hit.asset_id for hit in hits] == [asset_id(number)]
    with pytest.raises(ValueError, match="one model version"):
        await vectors.add([make_features(1, model="a/b"), make_features(1, model="a_b")])


async def test_other_writers_are_seen_at_once(vectors: Vectors, vectors_url: str) -> None:
    other = Stores(vectors=vectors_url).vectors
    await vectors.add([make_features(1)])
    assert await other.count(MODEL) == 1
    await vectors.add([make_features(2)])
    assert {hit.asset_id for hit in await other.search(MODEL, unit_vector(1), 9)} == {
        asset_id(1),
        asset_id(2),
    }
    await other.remove(MODEL, [asset_id(1)])
    assert [hit.asset_id for hit in await vectors.search(MODEL, unit_vector(1), 9)] == [asset_id(2)]
    await other.close()


async def test_writers_of_the_same_assets_make_no_doubles(vectors: Vectors, vectors_url: str) -> None:
    others = [Stores(vectors=vectors_url).vectors for _ in range(2)]
    for first in range(0, 90, 30):
        batch = [make_features(number) for number in range(first, first + 30)]
        again = [replace(item, unit=item.unit) for item in batch]
        await asyncio.gather(*(store.add(again) for store in (vectors, *others)))
    assert await vectors.count(MODEL) == 90
    hits = await vectors.search(MODEL, unit_vector(1), 200)
    assert len({hit.asset_id for hit in hits}) == len(hits) == 90
    for store in others:
        await store.close()


async def test_maintaining_a_small_space_changes_no_answer(vectors: Vectors) -> None:
    for number in range(10):
        await vectors.add([make_features(number)])
    before = await vectors.search(MODEL, unit_vector(1), 10)
    await vectors.maintain(MODEL)
    assert await vectors.search(MODEL, unit_vector(1), 10) == before
