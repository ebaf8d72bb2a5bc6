"""Brings the stores into line after a crash.

Uploads put the bytes first and the record after them, deletes go the other way (``stores.deletion``), and begin with a
record that is flagged in the same step in which its last upload is withdrawn. So a crash can
leave bytes without a record, or a record that is flagged as being deleted. Work that was cut off after its asset was
deleted can leave traces, shots, features or derived objects of an asset without a record, and a vector store that did
not hear of a delete keeps its vectors. A record without bytes means that the object store lost something; it stays,
because an upload of the same file heals it.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from stores.deletion import delete_asset, delete_derived
from stores.open import Stores
from stores.partial_uploads import PREFIX, discard
from stores.records import Asset

PAGE: Final = 500
ASSET_KEY: Final = re.compile(r"posters/([0-9a-f]{32})|parts/([0-9a-f]{32})/.*|([0-9a-f]{32})(/.*)?")
"""Keys of assets and of what is derived from them; all others belong to something else and are left alone."""


@dataclass
class Repaired:
    """What a repair did, and what it could not.

    ``finished`` are ids of assets whose delete it finished, ``orphans`` ids of unknown assets whose traces, shots or
    features it removed, ``removed`` keys of objects of unknown assets, ``vectors`` ids of removed vectors.
    ``young`` objects without a record were left alone, as their upload may be under way; ``without_bytes`` are records
    that only a new upload can heal.
    """

    finished: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    vectors: list[str] = field(default_factory=list)
    young: int = 0
    without_bytes: list[Asset] = field(default_factory=list)


async def repair(stores: Stores, min_age: timedelta = timedelta(hours=1)) -> Repaired:
    """Finish deletes, remove what belongs to unknown assets, find records without bytes; return what was done.

    Objects of unknown assets are removed if they are older than ``min_age``.
    """
    done = Repaired()
    async for asset in _assets(stores):
        if asset.deleting:
            # Read again: the gateway may have finished the delete, and the file may have been uploaded again since.
            record = await _record(stores, asset.asset_id)
            if record is not None and record.deleting:
                await delete_asset(stores, asset.asset_id)
                done.finished.append(asset.asset_id)
    for store in (stores.documents, stores.people, stores.shots):
        async for page in _pages(store.owner_ids()):
            for asset_id in await _unknown(stores, page):
                if asset_id not in done.orphans:
                    await delete_derived(stores, asset_id)
                    await stores.documents.delete_asset(asset_id)
                    done.orphans.append(asset_id)
    async for key in _orphan_objects(stores):
        # After the record was looked up: an upload that put the same bytes again since has made them young.
        if not await _is_old(stores, key, min_age):
            done.young += 1
        elif await stores.objects.delete(key):
            done.removed.append(key)
    await _repair_partial_uploads(stores, min_age, done)
    async for page in _pages(stores.vectors.ids()):
        animals = await stores.animals.get(page)
        unknown = [each for each in await _unknown(stores, page) if each not in animals]
        await stores.vectors.remove_all(unknown)
        done.vectors += unknown
    async for asset in _without_bytes(stores):
        done.without_bytes.append(asset)
    return done


async def _repair_partial_uploads(stores: Stores, min_age: timedelta, done: Repaired) -> None:
    """Remove uploads in parts that have expired, and parts of uploads that there are not."""
    uploads = stores.partial_uploads
    while expired := await uploads.expired(datetime.now(UTC), PAGE):
        for upload_id in expired:
            await discard(uploads, stores.objects, upload_id)
    async for page in _pages(info.key async for info in stores.objects.list(PREFIX)):
        owners = {key: key.split("/")[1] for key in page}
        known = {each: await uploads.get(each) is not None for each in set(owners.values())}
        for key, upload_id in owners.items():
            if not known[upload_id] and await _is_old(stores, key, min_age) and await stores.objects.delete(key):
                done.removed.append(key)


async def _orphan_objects(stores: Stores) -> AsyncIterator[str]:
    """Yield the keys of objects of assets that have no record."""
    async for page in _pages(info.key async for info in stores.objects.list() if ASSET_KEY.fullmatch(info.key)):
        owners = {key: match[1] or match[2] or match[3] for key in page if (match := ASSET_KEY.fullmatch(key))}
        unknown = await _unknown(stores, owners.values())
        for key, asset_id in owners.items():
            if asset_id in unknown:
                yield key


async def _unknown(stores: Stores, asset_ids: Iterable[str]) -> list[str]:
    """Return the distinct ids that have no record, not even one that came meanwhile."""
    distinct = list(dict.fromkeys(asset_ids))
    known = await stores.documents.get_assets(distinct)
    return [each for each in distinct if each not in known and await _record(stores, each) is None]


async def _without_bytes(stores: Stores) -> AsyncIterator[Asset]:
    # Both come in the order of their keys, so one pass over each is enough, whatever their number.
    present = stores.objects.list()
    info = await anext(present, None)
    async for asset in _assets(stores):
        while info is not None and info.key < asset.asset_id:
            info = await anext(present, None)
        if info is not None and info.key == asset.asset_id:
            continue
        # The listing may be older than the record.
        record = await _record(stores, asset.asset_id)
        if record is not None and not record.deleting and await stores.objects.head(asset.asset_id) is None:
            yield record


async def _assets(stores: Stores) -> AsyncIterator[Asset]:
    last = ""
    while page := await stores.documents.list_assets(last, PAGE):
        for asset in page:
            yield asset
        last = page[-1].asset_id


async def _record(stores: Stores, asset_id: str) -> Asset | None:
    return (await stores.documents.get_assets([asset_id])).get(asset_id)


async def _pages(items: AsyncIterable[str]) -> AsyncIterator[list[str]]:
    page: list[str] = []
    async for item in items:
        page.append(item)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


async def _is_old(stores: Stores, key: str, min_age: timedelta) -> bool:
    info = await stores.objects.head(key)
    return info is not None and datetime.now(UTC) - info.modified >= min_age
