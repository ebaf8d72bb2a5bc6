"""The audit trail in MongoDB."""

from datetime import datetime
from typing import ClassVar

from pymongo import ASCENDING, DESCENDING, IndexModel

from stores.audit import Audit, AuditEntry, first_id_at
from stores.mongo.engine import Document, MongoEngine, MongoRepository, translated
from stores.records import from_micros, to_micros


class MongoAudit(MongoRepository, Audit):
    """The collection ``audit``."""

    indexes: ClassVar = {"audit": [IndexModel([("object_id", ASCENDING), ("_id", DESCENDING)])]}

    def __init__(self, engine: MongoEngine) -> None:
        super().__init__(engine)
        self._audit = self._collection("audit")

    async def append(self, entry: AuditEntry, *, reserve: bool = False) -> None:
        document: Document = {
            "_id": entry.entry_id,
            "at": to_micros(entry.at),
            "key_id": entry.key_id,
            "who": entry.who,
            "action": entry.action,
            "object_id": entry.object_id,
            "result": entry.result,
            "details": dict(entry.details),
        }
        await self._make_indexes()
        with translated():
            await self._audit.insert_one(document)

    async def list(
        self,
        *,
        since: datetime | None = None,
        key: str | None = None,
        object_id: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[AuditEntry]:
        ids = {} if since is None else {"$gte": first_id_at(since)}
        ids |= {} if after is None else {"$lt": after}
        query: Document = {"_id": ids} if ids else {}
        if key is not None:
            query["$or"] = [{"key_id": key}, {"who": key}]
        if object_id is not None:
            query["object_id"] = object_id
        with translated():
            entries = self._audit.find(query).sort("_id", DESCENDING).limit(limit)
            return [_entry(document) async for document in entries]

    async def delete_before(self, moment: datetime, limit: int) -> int:
        with translated():
            old = self._audit.find({"_id": {"$lt": first_id_at(moment)}}, {"_id": 1}).sort("_id", 1).limit(limit)
            ids = [document["_id"] async for document in old]
            return (await self._audit.delete_many({"_id": {"$in": ids}})).deleted_count


def _entry(document: Document) -> AuditEntry:
    return AuditEntry(
        entry_id=document["_id"],
        at=from_micros(document["at"]),
        key_id=document["key_id"],
        who=document["who"],
        action=document["action"],
        object_id=document["object_id"],
        result=document["result"],
        details=document["details"],
    )
