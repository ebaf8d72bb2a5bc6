"""Repair over a real folder and a real SQLite file."""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from stores.documents import Documents
from stores.objects import Objects
from stores.open import Stores
from stores.repair import Repaired, repair
from tests.stores.samples import asset_id, make_asset, make_features, write_file

HOUR_S = 3600
Put = Callable[..., Awaitable[None]]


@pytest_asyncio.fixture
async def objects(tmp_path: Path) -> AsyncIterator[Objects]:
    stores = Stores(objects=f"file://{tmp_path}/objects")
    yield stores.objects
    await stores.close()


@pytest_asyncio.fixture
async def documents(tmp_path: Path) -> AsyncIterator[Documents]:
    stores = Stores(documents=f"sqlite:///{tmp_path}/documents.sqlite")
    yield stores.documents
    await stores.close()


@pytest.fixture
def put(objects: Objects, tmp_path: Path) -> Put:
    """Stores a small object under a key, as if that had been some seconds ago."""

    async def store(key: str, age_s: float = 2 * HOUR_S) -> None:
        await objects.put_file(key, write_file(tmp_path, b"bytes"), "image/jpeg")
        then = time.time() - age_s
        for path in (tmp_path / "objects").glob(f"*/{key.replace('/', ',')}"):
            os.utime(path, (then, then))

    return store


async def keys_of(objects: Objects) -> list[str]:
    return [info.key async for info in objects.list()]


async def test_whole_assets_are_left_as_they_are(objects: Objects, documents: Documents, put: Put) -> None:
    for number in range(3):
        await put(asset_id(number))
        await documents.insert_asset(make_asset(number))
    await put(f"posters/{asset_id(0)}")
    before = await keys_of(objects)
    assert await repair(objects, documents) == Repaired()
    assert await keys_of(objects) == before


async def test_half_done_deletes_are_finished(objects: Objects, documents: Documents, put: Put) -> None:
    for number, keys in enumerate([[asset_id(0), f"posters/{asset_id(0)}"], [f"posters/{asset_id(1)}"], []]):
        await documents.insert_asset(make_asset(number))
        await documents.put_features(make_features(number))
        await documents.mark_deleting(asset_id(number))
        for key in keys:
            await put(key, age_s=0)
    done = await repair(objects, documents)
    assert sorted(done.finished) == sorted(map(asset_id, range(3)))
    assert (done.removed, done.without_bytes) == ([], [])
    assert await keys_of(objects) == []
    assert await documents.list_assets() == []


async def test_old_bytes_without_a_record_are_removed_and_young_ones_left(
    objects: Objects, documents: Documents, put: Put
) -> None:
    await put(asset_id(1))
    await put(f"posters/{asset_id(1)}")
    await put(asset_id(2), age_s=HOUR_S / 2)
    done = await repair(objects, documents)
    assert sorted(done.removed) == sorted([asset_id(1), f"posters/{asset_id(1)}"])
    assert done.young == 1
    assert await keys_of(objects) == [asset_id(2)]
    assert (await repair(objects, documents, timedelta(minutes=20))).removed == [asset_id(2)]


async def test_objects_of_others_are_never_touched(objects: Objects, documents: Documents, put: Put) -> None:
    others = sorted(["clips/7", "readme", f"faces/{asset_id(1)}", asset_id(1)[:31], asset_id(1).upper() + "x"])
    for key in others:
        await put(key)
    assert await repair(objects, documents) == Repaired()
    assert sorted(await keys_of(objects)) == others


async def test_records_without_bytes_are_reported_and_kept(objects: Objects, documents: Documents, put: Put) -> None:
    for number in range(1200):  # more than a page
        await documents.insert_asset(make_asset(number))
    for number in range(0, 1200, 100):
        await put(asset_id(number))
    done = await repair(objects, documents)
    missing = {asset_id(number) for number in range(1200) if number % 100}
    assert {asset.asset_id for asset in done.without_bytes} == missing
    assert (done.finished, done.removed, done.young) == ([], [], 0)
    assert len(await documents.get_assets(missing)) == len(missing)


class Racing:
    """A document store that hides one record at first, as if its upload ended during the repair."""

    def __init__(self, documents: Documents, late: str) -> None:
        self._documents, self._late, self._asked = documents, late, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._documents, name)

    async def get_assets(self, asset_ids: object) -> object:
        self._asked += 1
        found = await self._documents.get_assets(asset_ids)  # type: ignore[arg-type]
        return {key: asset for key, asset in found.items() if key != self._late or self._asked > 1}


async def test_a_record_that_comes_during_the_repair_keeps_its_bytes(
    objects: Objects, documents: Documents, put: Put
) -> None:
    await put(asset_id(1))
    await documents.insert_asset(make_asset(1))
    done = await repair(objects, Racing(documents, asset_id(1)))  # type: ignore[arg-type]
    assert done == Repaired()
    assert await keys_of(objects) == [asset_id(1)]
