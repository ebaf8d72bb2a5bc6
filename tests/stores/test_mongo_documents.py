"""Assets that an earlier version of this program stored, with one upload each, in MongoDB."""

from collections.abc import Iterator

import pytest

from stores.mongo.documents import MongoDocuments
from stores.open import Stores
from stores.records import to_micros
from stores.uploads import Upload
from tests.stores.mongodb import database
from tests.stores.samples import MOMENT, asset_id, make_asset, make_features

OLD = {
    "filename": "old.jpg",
    "kind": "image",
    "format": "jpeg",
    "content_type": "image/jpeg",
    "file_size": 9,
    "uploaded_at": to_micros(MOMENT),
    "width": 4,
    "height": 3,
    "duration": None,
    "fps": None,
    "frame_count": None,
    "rotation": None,
    "has_audio": None,
    "deleting": False,
    "error_message": None,
}


@pytest.fixture
def url(mongodb_server: str) -> Iterator[str]:
    with database(mongodb_server) as name:
        yield name


async def test_the_name_and_time_of_an_old_asset_are_those_of_an_upload_of_nobody(url: str) -> None:
    stores = Stores(documents=url)
    documents = stores.documents
    assert isinstance(documents, MongoDocuments)
    await documents._assets.insert_many([{"_id": asset_id(number), **OLD} for number in range(4)])
    old = Upload("", "old.jpg", MOMENT)
    for asset in await documents.list_assets():
        assert (asset.filename, asset.uploaded_at, asset.uploads) == ("old.jpg", MOMENT, (old,))
    new = Upload("a", "new.jpg", MOMENT)
    assert await documents.add_upload(asset_id(0), new)
    assert set((await documents.get_assets([asset_id(0)]))[asset_id(0)].uploads) == {old, new}
    assert await documents.withdraw(asset_id(1), "a", {"a", "b"}) == "last"
    assert (await documents.get_assets([asset_id(1)]))[asset_id(1)].filename == "old.jpg"
    assert await documents.put_features(make_features(2))
    assert await documents.mark_deleting(asset_id(2))
    assert await documents.delete_asset(asset_id(2))
    assert not await documents.insert_asset(make_asset(3), "a")
    assert {asset.asset_id for asset in await documents.list_assets()} == {asset_id(n) for n in (0, 1, 3)}
    await stores.close()
