"""Uploads in parts, in MongoDB."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from pymongo import IndexModel

from stores.mongo.engine import Document, MongoEngine, MongoRepository, translated
from stores.partial_uploads import Part, PartialUpload, PartialUploads, Usage
from stores.records import from_micros, optional_micros, optional_moment, to_micros


class MongoPartialUploads(MongoRepository, PartialUploads):
    """The collection ``partial_uploads``."""

    indexes: ClassVar = {"partial_uploads": [IndexModel([("owner", 1), ("asset_id", 1)]), IndexModel("expires_at")]}

    def __init__(self, engine: MongoEngine) -> None:
        super().__init__(engine)
        self._uploads = self._collection("partial_uploads")

    async def insert(self, upload: PartialUpload) -> None:
        document = {
            "_id": upload.upload_id,
            "owner": upload.owner,
            "length": upload.length,
            "metadata": upload.metadata,
            "label": upload.label,
            "created_at": to_micros(upload.created_at),
            "expires_at": to_micros(upload.expires_at),
            "received": upload.offset,
            "parts": [list(part) for part in upload.parts],
            "holder": upload.holder,
            "held_until": optional_micros(upload.held_until),
            "asset_id": upload.asset_id,
        }
        await self._make_indexes()
        with translated():
            await self._uploads.insert_one(document)

    async def get(self, upload_id: str) -> PartialUpload | None:
        with translated():
            document = await self._uploads.find_one({"_id": upload_id})
        return None if document is None else _upload(document)

    async def usage(self, owner: str, now: datetime) -> Usage:
        query = {"owner": owner, "asset_id": "", "expires_at": {"$gte": to_micros(now)}}
        with translated():
            sizes = [each["length"] async for each in self._uploads.find(query, {"length": 1})]
        return Usage(len(sizes), sum(sizes))

    async def hold(self, upload_id: str, holder: str, now: datetime, until: datetime, *, force: bool = False) -> bool:
        query: Document = {"_id": upload_id}
        if not force:
            query["$or"] = [{"holder": ""}, {"held_until": {"$lte": to_micros(now)}}]
        return await self._update(query, {"$set": {"holder": holder, "held_until": to_micros(until)}})

    async def renew(self, upload_id: str, holder: str, until: datetime) -> bool:
        return await self._update({"_id": upload_id, "holder": holder}, {"$set": {"held_until": to_micros(until)}})

    async def append(self, upload_id: str, holder: str, offset: int, part: Part, expires_at: datetime) -> bool:
        change = {
            "$inc": {"received": part.size},
            "$push": {"parts": list(part)},
            "$set": {"expires_at": to_micros(expires_at)},
        }
        return await self._update({"_id": upload_id, "holder": holder, "received": offset}, change)

    async def finish(self, upload_id: str, holder: str, asset_id: str) -> bool:
        change = {"$set": {"asset_id": asset_id, "parts": []}}
        return await self._update({"_id": upload_id, "holder": holder}, change)

    async def release(self, upload_id: str, holder: str) -> None:
        await self._update({"_id": upload_id, "holder": holder}, {"$set": {"holder": "", "held_until": None}})

    async def delete(self, upload_id: str) -> bool:
        with translated():
            return (await self._uploads.delete_one({"_id": upload_id})).deleted_count > 0

    async def forget_asset(self, asset_id: str) -> int:
        with translated():
            return (await self._uploads.delete_many({"asset_id": asset_id})).deleted_count

    async def expired(self, now: datetime, limit: int) -> Sequence[str]:
        with translated():
            query = {"expires_at": {"$lt": to_micros(now)}}
            cursor = self._uploads.find(query, {"_id": 1}).sort([("expires_at", 1)]).limit(limit)
            return [each["_id"] async for each in cursor]

    async def _update(self, query: Document, change: Document) -> bool:
        with translated():
            return (await self._uploads.update_one(query, change)).matched_count > 0


def _upload(document: Document) -> PartialUpload:
    return PartialUpload(
        upload_id=document["_id"],
        owner=document["owner"],
        length=document["length"],
        metadata=document["metadata"],
        label=document["label"],
        created_at=from_micros(document["created_at"]),
        expires_at=from_micros(document["expires_at"]),
        offset=document["received"],
        parts=tuple(Part(*each) for each in document["parts"]),
        holder=document["holder"],
        held_until=optional_moment(document["held_until"]),
        asset_id=document["asset_id"],
    )
