"""Enrolled animals in MongoDB."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import ClassVar, Final

from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError

from stores.animals import Animal, Animals
from stores.mongo.engine import Document, MongoEngine, MongoRepository, translated
from stores.records import Features, from_blob, from_micros, to_blob, to_micros

WITHOUT_PRINTS: Final = {"prints": False}


class MongoAnimals(MongoRepository, Animals):
    """The collection ``animals``."""

    indexes: ClassVar = {
        "animals": [
            IndexModel([("model_version", 1), ("indexed", 1), ("created_at", 1)]),
            IndexModel([("created_at", -1), ("_id", -1)]),
        ]
    }

    def __init__(self, engine: MongoEngine) -> None:
        super().__init__(engine)
        self._animals = self._collection("animals")

    async def insert(self, animal: Animal, prints: Sequence[bytes] = ()) -> bool:
        await self._make_indexes()
        document = {
            "_id": animal.key,
            "animal_id": animal.animal_id,
            "model_version": animal.model_version,
            "model_ids": list(animal.model_ids),
            "references": to_blob(animal.references),
            "template": to_blob(animal.template),
            "created_at": to_micros(animal.created_at),
            "indexed": False,
            "prints": list(prints),
        }
        with translated():
            try:
                await self._animals.insert_one(document)
            except DuplicateKeyError:
                return False
        return True

    async def get(self, keys: Iterable[str]) -> dict[str, Animal]:
        with translated():
            animals = self._animals.find({"_id": {"$in": list(keys)}}, WITHOUT_PRINTS)
            return {document["_id"]: _animal(document) async for document in animals}

    async def latest(self, before: tuple[datetime, str] | None = None, limit: int = 100) -> list[Animal]:
        query: Document = {}
        if before is not None:
            when = to_micros(before[0])
            query = {"$or": [{"created_at": {"$lt": when}}, {"created_at": when, "_id": {"$lt": before[1]}}]}
        with translated():
            animals = self._animals.find(query, WITHOUT_PRINTS).sort([("created_at", -1), ("_id", -1)]).limit(limit)
            return [_animal(document) async for document in animals]

    async def prints(self, keys: Iterable[str]) -> dict[str, tuple[bytes, ...]]:
        query = {"_id": {"$in": list(keys)}, "prints.0": {"$exists": True}}
        with translated():
            animals = self._animals.find(query, {"prints": True})
            return {document["_id"]: tuple(map(bytes, document["prints"])) async for document in animals}

    async def delete(self, key: str) -> bool:
        with translated():
            return (await self._animals.delete_one({"_id": key})).deleted_count > 0

    async def count(self, model_version: str | None = None) -> int:
        query = {} if model_version is None else {"model_version": model_version}
        with translated():
            return await self._animals.count_documents(query)

    async def unindexed_features(self, model_version: str, limit: int) -> list[Features]:
        with translated():
            pending = self._animals.find({"model_version": model_version, "indexed": False}, WITHOUT_PRINTS)
            return [_features(document) async for document in pending.sort("created_at", 1).limit(limit)]

    async def unindexed_models(self) -> list[str]:
        with translated():
            return await self._animals.distinct("model_version", {"indexed": False})

    async def mark_indexed(self, features: Iterable[Features]) -> None:
        with translated():
            for item in features:
                when = to_micros(item.created_at)
                await self._animals.update_one(
                    {"_id": item.asset_id, "model_version": item.model_version, "created_at": when},
                    {"$set": {"indexed": True}},
                )

    async def mark_unindexed(self, model_version: str, keys: Sequence[str] | None = None) -> None:
        marked: Document = {"model_version": model_version, "indexed": True}
        if keys is not None:
            marked["_id"] = {"$in": list(keys)}
        with translated():
            await self._animals.update_many(marked, {"$set": {"indexed": False}})


def _animal(document: Document) -> Animal:
    template = from_blob(document["template"])
    return Animal(
        animal_id=document["animal_id"],
        model_version=document["model_version"],
        model_ids=tuple(document["model_ids"]),
        references=from_blob(document["references"]).reshape(-1, template.size),
        template=template,
        created_at=from_micros(document["created_at"]),
    )


def _features(document: Document) -> Features:
    template = from_blob(document["template"])
    when = from_micros(document["created_at"])
    return Features(document["_id"], document["model_version"], "image", template, template, when)
