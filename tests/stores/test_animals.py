"""Enrolled animals: one contract, over every backend."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from stores.animals import Animal, Animals, animal_key
from stores.open import Stores

NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)


@pytest.fixture
def animals(stores: Stores) -> Animals:
    return stores.animals


def animal(number: int, version: str = "muzzle@1") -> Animal:
    codes = np.random.default_rng(number).normal(size=(3, 384)).astype(np.float32)
    when = NOW + timedelta(seconds=number)
    return Animal(f"DE-{number}", version, (60, 62, 64), codes, codes.mean(0), when)


async def test_an_animal_comes_back_as_it_was(animals: Animals) -> None:
    given = animal(1)
    assert await animals.insert(given)
    assert not await animals.insert(replace(given, created_at=NOW))
    stored = (await animals.get([given.key, animal_key("nobody")]))[given.key]
    assert (stored.animal_id, stored.model_version, stored.model_ids, stored.created_at) == (
        *("DE-1", "muzzle@1", (60, 62, 64), given.created_at),
    )
    np.testing.assert_array_equal(stored.references, given.references)
    np.testing.assert_array_equal(stored.template, given.template)
    assert await animals.delete(given.key)
    assert not await animals.delete(given.key)
    assert await animals.get([given.key]) == {}


async def test_animals_are_listed_in_pages_latest_first(animals: Animals) -> None:
    twins = [replace(animal(number), created_at=NOW) for number in (7, 8)]  # enrolled at the same time
    for each in (animal(2), *twins, animal(1), animal(3)):
        await animals.insert(each)
    expected = ["DE-3", "DE-2", "DE-1", *(each.animal_id for each in sorted(twins, key=lambda each: each.key)[::-1])]
    for size in (1, 2, 4, 9):
        listed: list[Animal] = []
        while page := await animals.latest((listed[-1].created_at, listed[-1].key) if listed else None, size):
            assert len(page) <= size
            listed += page
        assert [each.animal_id for each in listed] == expected
    np.testing.assert_array_equal(listed[0].references, animal(3).references)


async def test_prints_are_kept_beside_their_animal(animals: Animals) -> None:
    one, two, three = animal(1), animal(2), animal(3)
    assert await animals.insert(one, [b"left", bytes(range(256)) * 400, b""])
    assert await animals.insert(two)
    assert await animals.insert(three, [b"front"])
    assert not await animals.insert(one, [b"other"])
    keys = [one.key, two.key, three.key, animal_key("nobody")]
    assert await animals.prints(keys) == {one.key: (b"left", bytes(range(256)) * 400, b""), three.key: (b"front",)}
    assert await animals.prints([]) == {}
    assert await animals.delete(one.key)
    assert await animals.prints([one.key, three.key]) == {three.key: (b"front",)}
    assert await animals.insert(one, [b"new"])
    assert await animals.prints([one.key]) == {one.key: (b"new",)}


async def test_animals_are_counted_by_version(animals: Animals) -> None:
    for number in range(3):
        await animals.insert(animal(number))
    await animals.insert(animal(9, "muzzle@2"))
    assert [await animals.count(), await animals.count("muzzle@1"), await animals.count("muzzle@3")] == [4, 3, 0]


async def test_the_index_takes_each_template_once(animals: Animals) -> None:
    for number in (2, 1, 3):
        await animals.insert(animal(number))
    first = await animals.unindexed_features("muzzle@1", 2)
    assert [item.asset_id for item in first] == [animal(1).key, animal(2).key]
    np.testing.assert_array_equal(first[0].unit, animal(1).template)
    await animals.mark_indexed(first)
    assert [item.asset_id for item in await animals.unindexed_features("muzzle@1", 9)] == [animal(3).key]
    await animals.mark_indexed(
        [replace(item, created_at=NOW) for item in await animals.unindexed_features("muzzle@1", 9)]
    )
    assert await animals.unindexed_models() == ["muzzle@1"]  # that one was enrolled anew meanwhile
    await animals.mark_unindexed("muzzle@1")
    assert len(await animals.unindexed_features("muzzle@1", 9)) == 3


async def test_some_animals_are_indexed_again(animals: Animals) -> None:
    for number in (1, 2, 3):
        await animals.insert(animal(number))
    await animals.mark_indexed(await animals.unindexed_features("muzzle@1", 9))
    assert await animals.unindexed_models() == []
    for version in ("muzzle@2", "muzzle@1"):
        await animals.mark_unindexed(version, (animal(1).key, animal(3).key, animal_key("nobody")))
    assert await animals.unindexed_models() == ["muzzle@1"]
    again = await animals.unindexed_features("muzzle@1", 9)
    assert [item.asset_id for item in again] == [animal(1).key, animal(3).key]
