"""The number of the schema in a MongoDB database: migrated forward, by several at once, and refused when too new."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from stores.errors import StoreError
from stores.mongo.database import MongoDatabase
from stores.mongo.schema import COLLECTION, OLDEST, VERSION
from stores.open import Stores
from stores.records import to_micros
from stores.shots import ShotFilter
from tests.stores.mongodb import database
from tests.stores.samples import MOMENT, asset_id, make_asset, make_features
from tests.stores.test_mongo_documents import OLD
from tests.stores.test_shots import CLIP, DOG, FILM, TEXT, shot


@pytest.fixture
def url(mongodb_server: str) -> Iterator[str]:
    with database(mongodb_server) as name:
        yield name


async def put(url: str, collection: str, *documents: dict[str, Any]) -> None:
    mongo = MongoDatabase(url)
    await mongo._engine.database[collection].insert_many(list(documents))
    await mongo.close()


async def number_in(url: str) -> dict[str, Any] | None:
    mongo = MongoDatabase(url)
    stored: dict[str, Any] | None = await mongo._engine.database[COLLECTION].find_one({}, {"_id": 0})
    await mongo.close()
    return stored


NOW = {"version": VERSION, "oldest": OLDEST}


async def test_a_new_database_is_of_this_version(url: str) -> None:
    stores = Stores(documents=url)
    assert await stores.migrate() == (0, VERSION)
    assert await stores.documents.insert_asset(make_asset(1))
    assert await stores.migrate() == (VERSION, VERSION)
    await stores.close()
    assert await number_in(url) == NOW


async def test_one_without_a_number_is_migrated(url: str) -> None:
    await put(url, "assets", *({"_id": asset_id(number), **OLD} for number in range(5)))
    stores = Stores(documents=url)
    await stores.documents.ping()
    await stores.close()
    assert await number_in(url) == NOW
    mongo = MongoDatabase(url)
    kept = [each async for each in mongo._engine.database["assets"].find({"latest_upload": to_micros(MOMENT)})]
    await mongo.close()
    assert len(kept) == 5


async def test_processes_that_migrate_it_at_once(url: str) -> None:
    await put(url, "assets", *({"_id": asset_id(number), **OLD} for number in range(50)))
    each = [Stores(documents=url) for _ in range(3)]
    found = await asyncio.gather(*(stores.migrate() for stores in each))
    assert {before for before, _ in found} <= {1, VERSION}
    assert [asset.filename for asset in await each[0].documents.newest_assets()] == ["old.jpg"] * 50
    for stores in each:
        await stores.close()
    assert await number_in(url) == NOW


async def test_a_migration_that_was_cut_short_is_done_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(url, "assets", *({"_id": asset_id(number), **OLD} for number in range(5)))
    mongo = MongoDatabase(url)
    change, left = mongo.documents._change_uploads, [2]

    async def dies(asset: str, how: Any) -> Any:
        if not left[0]:
            raise StoreError("mongodb: AutoReconnect")
        left[0] -= 1
        return await change(asset, how)

    monkeypatch.setattr(mongo.documents, "_change_uploads", dies)
    with pytest.raises(StoreError, match="AutoReconnect"):
        await mongo.migrate()
    assert await number_in(url) is None
    left[0] = 10
    assert await mongo.migrate() == (1, VERSION)
    assert left[0] == 7  # two of the five were done before
    await mongo.close()


async def test_one_that_is_too_new_is_refused(url: str) -> None:
    await put(url, COLLECTION, {"_id": COLLECTION, "version": VERSION + 2, "oldest": VERSION + 1})
    stores = Stores(documents=url)
    message = rf"the database has schema {VERSION + 2}, this program knows {VERSION}; update the program"
    for use in (stores.documents.ping, stores.migrate):
        with pytest.raises(StoreError, match=message):
            await use()
    with pytest.raises(StoreError, match=message):
        await stores.documents.put_features(make_features(1))
    await stores.close()


async def test_one_that_is_newer_serves_programs_of_this_version_while_it_says_so(url: str) -> None:
    newer = {"version": VERSION + 1, "oldest": VERSION}
    await put(url, COLLECTION, {"_id": COLLECTION, **newer})
    stores = Stores(documents=url)
    assert await stores.documents.insert_asset(make_asset(1))
    assert await stores.migrate() == (VERSION + 1, VERSION + 1)
    await stores.close()
    assert await number_in(url) == newer


async def test_a_shot_of_a_version_before_objects_has_none(url: str) -> None:
    stores = Stores(documents=url)
    await stores.shots.put_shots([shot(), shot(1, objects=(DOG,))])
    mongo = MongoDatabase(url)
    await mongo._engine.database["shots"].update_many({}, {"$unset": {"objects": 1}})
    await mongo.close()
    stored = await stores.shots.get_shots([shot().shot_id, shot(1).shot_id])
    assert [each.objects for each in stored.values()] == [None, None]
    assert {each.objects for each in await stores.shots.spans(FILM)} == {None}
    assert (await stores.shots.catalogue(TEXT, CLIP)).not_looked == 2
    await stores.shots.set_objects({shot().shot_id: (DOG,)})
    assert await stores.shots.count_shots(ShotFilter(objects=("dog",))) == 1
    await stores.close()
