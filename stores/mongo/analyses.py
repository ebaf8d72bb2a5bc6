"""Authenticity analyses in MongoDB."""

from datetime import datetime
from typing import ClassVar

from pymongo import IndexModel

from stores.analyses import Analyses, Analysis
from stores.mongo.engine import MongoEngine, MongoRepository, translated
from stores.records import from_micros, to_micros


class MongoAnalyses(MongoRepository, Analyses):
    """The collection ``analyses``, which MongoShots uses too: only those of this store expire.

    Expired ones are removed by ``delete_expired`` and not by an index with a time to live, which not every compatible
    server has.
    """

    indexes: ClassVar = {"analyses": [IndexModel("expires_at")]}

    def __init__(self, engine: MongoEngine) -> None:
        super().__init__(engine)
        self._analyses = self._collection("analyses")

    async def put(self, analysis: Analysis) -> None:
        document = {
            "_id": analysis.analysis_id,
            "answer": analysis.answer,
            "picture": analysis.picture,
            "created_at": to_micros(analysis.created_at),
            "expires_at": to_micros(analysis.expires_at),
        }
        await self._make_indexes()
        with translated():
            await self._analyses.insert_one(document)

    async def get(self, analysis_id: str, now: datetime) -> Analysis | None:
        with translated():
            row = await self._analyses.find_one({"_id": analysis_id, "expires_at": {"$gte": to_micros(now)}})
        if row is None:
            return None
        times = from_micros(row["created_at"]), from_micros(row["expires_at"])
        return Analysis(row["_id"], row["answer"], row["picture"], *times)

    async def delete_expired(self, now: datetime) -> int:
        with translated():
            return (await self._analyses.delete_many({"expires_at": {"$lt": to_micros(now)}})).deleted_count
