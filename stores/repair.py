"""Brings the object store and the document store into line after a crash.

Uploads put the bytes first and the record after them, deletes go the other way. So a crash can leave bytes
without a record, or a record that is marked as being deleted, and nothing else. A record without bytes means
that the object store lost something; it stays, because an upload of the same file heals it.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from stores.documents import Documents
from stores.objects import ObjectInfo, Objects
from stores.records import Asset

PAGE = 500
# Keys of any other form belong to something else and are left alone.
ASSET_KEY = re.compile(r"(?:posters/)?([0-9a-f]{32})")


@dataclass
class Repaired:
    """What was done: asset ids of deletes that were finished, keys of objects that were removed.

    ``young`` objects without a record were left alone, as their upload may be on its way; ``without_bytes``
    are records that only a new upload can heal.
    """

    finished: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    young: int = 0
    without_bytes: list[Asset] = field(default_factory=list)


async def repair(objects: Objects, documents: Documents, min_age: timedelta = timedelta(hours=1)) -> Repaired:
    """Finish deletes, remove objects without a record from before ``min_age``, find records without bytes."""
    done = Repaired()
    async for asset in _assets(documents):
        if asset.deleting:
            # Asked again: the gateway may have finished the delete, and the file may have come back since.
            record = await _record(documents, asset.asset_id)
            if record is not None and record.deleting:
                await _finish_delete(objects, documents, asset.asset_id)
                done.finished.append(asset.asset_id)
    async for info in _orphans(objects, documents):
        # After the look for a record: an upload that put the same bytes again since has made them young.
        if not await _is_old(objects, info.key, min_age):
            done.young += 1
        elif await objects.delete(info.key):
            done.removed.append(info.key)
    async for asset in _without_bytes(objects, documents):
        done.without_bytes.append(asset)
    return done


async def _finish_delete(objects: Objects, documents: Documents, asset_id: str) -> None:
    # In the order of the library: with the record gone first, a crash in between would hide the bytes.
    await objects.delete(asset_id)
    await objects.delete(f"posters/{asset_id}")
    await documents.delete_asset(asset_id)


async def _orphans(objects: Objects, documents: Documents) -> AsyncIterator[ObjectInfo]:
    async for page in _pages(objects):
        owners = {info.key: info.key.rpartition("/")[2] for info in page}
        known = await documents.get_assets(set(owners.values()))
        for info in page:
            if owners[info.key] not in known and await _record(documents, owners[info.key]) is None:
                yield info


async def _pages(objects: Objects) -> AsyncIterator[list[ObjectInfo]]:
    page: list[ObjectInfo] = []
    async for info in objects.list():
        if ASSET_KEY.fullmatch(info.key):
            page.append(info)
        if len(page) == PAGE:
            yield page
            page = []
    yield page


async def _without_bytes(objects: Objects, documents: Documents) -> AsyncIterator[Asset]:
    # Both come in the order of their keys, so one pass over each is enough, whatever their number.
    present = objects.list()
    info = await anext(present, None)
    async for asset in _assets(documents):
        while info is not None and info.key < asset.asset_id:
            info = await anext(present, None)
        if info is not None and info.key == asset.asset_id:
            continue
        # The listing may be older than the record.
        record = await _record(documents, asset.asset_id)
        if record is not None and not record.deleting and await objects.head(asset.asset_id) is None:
            yield record


async def _assets(documents: Documents) -> AsyncIterator[Asset]:
    last = ""
    while page := await documents.list_assets(last, PAGE):
        for asset in page:
            yield asset
        last = page[-1].asset_id


async def _record(documents: Documents, asset_id: str) -> Asset | None:
    return (await documents.get_assets([asset_id])).get(asset_id)


async def _is_old(objects: Objects, key: str, min_age: timedelta) -> bool:
    info = await objects.head(key)
    return info is not None and datetime.now(UTC) - info.modified >= min_age
