"""The MongoDB database of the document store, with all its collections."""

from collections.abc import Mapping
from typing import Any

from stores.mongo import (
    analyses,
    animals,
    audit,
    documents,
    jobs,
    keys,
    partial_uploads,
    people,
    shots,
    subscriptions,
    usage,
)
from stores.mongo.engine import MongoEngine, translated


class MongoDatabase:
    """All stores of one database.

    :raises ValueError: the URL is not of the form ``mongodb://…`` or ``mongodb+srv://…``.
    """

    def __init__(self, url: str) -> None:
        self._engine = MongoEngine(url)
        self.documents = documents.MongoDocuments(self._engine)
        self.jobs = jobs.MongoJobs(self._engine)
        self.people = people.MongoPeople(self._engine)
        self.shots = shots.MongoShots(self._engine)
        self.analyses = analyses.MongoAnalyses(self._engine)
        self.animals = animals.MongoAnimals(self._engine)
        self.keys = keys.MongoKeys(self._engine)
        self.partial_uploads = partial_uploads.MongoPartialUploads(self._engine)
        self.usage = usage.MongoUsage(self._engine)
        self.audit = audit.MongoAudit(self._engine)
        self.subscriptions = subscriptions.MongoSubscriptions(self._engine)
        self.deliveries = jobs.MongoJobs(self._engine, "deliveries")
        self._engine.migrate_by({1: self.documents.complete_assets, 2: self.people.complete_tags})

    async def migrate(self) -> tuple[int, int]:
        """Bring the database to this schema; return the version that it had, 0 for a new one, and that it has."""
        with translated():
            return await self._engine.schema.migrate()

    async def mentions(self, text: str) -> Mapping[str, int]:
        """Return how many documents name a text anywhere, by collection. Raises StoreError."""
        counts: dict[str, int] = {}
        with translated():
            for name in await self._engine.database.list_collection_names():
                documents = self._engine.database[name].find()
                counts[name] = sum([_names(document, text) async for document in documents])
        return {name: count for name, count in counts.items() if count}

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.close()


def _names(value: Any, text: str) -> bool:
    if isinstance(value, dict):
        return any(text in key or _names(each, text) for key, each in value.items())
    if isinstance(value, list):
        return any(_names(each, text) for each in value)
    return text.encode() in value if isinstance(value, bytes) else text in str(value)
