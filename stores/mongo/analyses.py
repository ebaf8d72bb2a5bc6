"""Analyses in MongoDB."""

from datetime import datetime

from stores.analyses import Analyses, Analysis
from stores.mongo.engine import MongoStore, translated
from stores.records import from_micros, to_micros


class MongoAnalyses(MongoStore, Analyses):
    """Collection ``analyses`` of the documents' database.

    What expired is removed by ``delete_expired`` and not by an index with a time to live, which not every kin has.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._analyses = self._database["analyses"]
        self._indexed = False

    async def put(self, analysis: Analysis) -> None:
        document = {
            "_id": analysis.analysis_id,
            "answer": analysis.answer,
            "picture": analysis.picture,
            "created_at": to_micros(analysis.created_at),
            "expires_at": to_micros(analysis.expires_at),
        }
        with translated():
            if not self._indexed:
                await self._analyses.create_index("expires_at")
                self._indexed = True
            await self._analyses.insert_one(document)

    async def get(self, analysis_id: str, now: datetime) -> Analysis | None:
        with translated():
            found = await self._analyses.find_one({"_id": analysis_id, "expires_at": {"$gte": to_micros(now)}})
        if found is None:
            return None
        times = from_micros(found["created_at"]), from_micros(found["expires_at"])
        return Analysis(found["_id"], found["answer"], found["picture"], *times)

    async def delete_expired(self, now: datetime) -> int:
        with translated():
            return (await self._analyses.delete_many({"expires_at": {"$lt": to_micros(now)}})).deleted_count
