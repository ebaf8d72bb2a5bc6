"""Documents in MongoDB, for many machines; plain operations only, so that its kin can serve too."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from pymongo import ASCENDING, AsyncMongoClient, IndexModel, ReadPreference, UpdateOne, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError, PyMongoError

from ops.stores.documents import StoreError
from ops.stores.records import Asset, Features, from_blob, from_micros, to_blob, to_micros

DATABASE = "visiongraph"
"""Used when the URL names none."""
IDS_PER_QUERY = 1000
TIMEOUTS_MS = {"serverSelectionTimeoutMS": 5_000, "timeoutMS": 30_000}
"""Defaults; the URL may set its own."""

Document = dict[str, Any]
Collection = AsyncCollection[Document]


class MongoDocuments:
    """``mongodb://…`` or ``mongodb+srv://…``; connects, and creates its indexes, at the first operation.

    :raises ValueError: the URL is not of that form.
    """

    type = "mongodb"
    remote = True

    def __init__(self, url: str) -> None:
        options: Document = {k: v for k, v in TIMEOUTS_MS.items() if f"{k}=".lower() not in url.lower()}
        try:
            self._client: AsyncMongoClient[Document] = AsyncMongoClient(url, appname="visiongraph", **options)
            database = self._client.get_default_database(
                DATABASE,
                read_preference=ReadPreference.PRIMARY,  # a secondary may not have seen an older write yet
                write_concern=WriteConcern("majority", j=True),
            )
        except (PyMongoError, ValueError):  # whose texts may quote a piece of the password
            raise ValueError(
                "not a MongoDB URL: expected mongodb://user:password@host/database, "
                "the password percent-encoded where it has special characters"
            ) from None
        self._assets: Collection = database["assets"]
        self._features: Collection = database["features"]
        self._config: Collection = database["config"]
        self._has_indexes = False

    async def insert_asset(self, asset: Asset) -> bool:
        document = asdict(asset) | {"uploaded_at": to_micros(asset.uploaded_at)}
        document["_id"] = document.pop("asset_id")
        with _translated():
            try:
                await self._assets.insert_one(document)
            except DuplicateKeyError:
                return False
        return True

    async def get_assets(self, asset_ids: Iterable[str]) -> dict[str, Asset]:
        found = await self._find_ids(self._assets, asset_ids)
        return {document["_id"]: _asset(document) for document in found}

    async def list_assets(self, after: str = "", limit: int = 1000) -> list[Asset]:
        with _translated():
            cursor = self._assets.find({"_id": {"$gt": after}}).sort("_id").limit(limit)
            return [_asset(document) async for document in cursor]

    async def mark_deleting(self, asset_id: str) -> bool:
        return await self._set_asset({"_id": asset_id}, {"deleting": True})

    async def delete_asset(self, asset_id: str) -> bool:
        # The flag comes first, so that features written from here on take themselves back (put_features);
        # the asset goes last, so that a delete that was cut short can be asked for again.
        if not await self.mark_deleting(asset_id):
            return False
        await self._index()
        with _translated():
            await self._features.delete_many({"asset_id": asset_id})
            return (await self._assets.delete_one({"_id": asset_id})).deleted_count == 1

    async def set_asset_error(self, asset_id: str, message: str | None) -> None:
        await self._set_asset({"_id": asset_id}, {"error_message": message})

    async def put_features(self, features: Features) -> bool:
        alive = {"_id": features.asset_id, "deleting": False}
        with _translated():
            if await self._assets.find_one(alive, {"_id": 1}) is None:
                return False
            key = {"_id": _features_id(features.model_version, features.asset_id)}
            await self._features.update_one(key, {"$set": _features_document(features)}, upsert=True)
        # Looking again after the write closes the race with a delete, without a transaction: whoever comes
        # second sees the other and removes the features.
        if await self._set_asset(alive, {"error_message": None}):
            return True
        with _translated():
            await self._features.delete_one(key)
        return False

    async def get_features(self, model_version: str, asset_ids: Iterable[str]) -> dict[str, Features]:
        keys = (_features_id(model_version, asset_id) for asset_id in asset_ids)
        found = await self._find_ids(self._features, keys)
        return {document["asset_id"]: _features(document) for document in found}

    async def unindexed_features(self, model_version: str, limit: int) -> list[Features]:
        await self._index()
        with _translated():
            pending = self._features.find({"model_version": model_version, "indexed": False})
            return [_features(document) async for document in pending.sort("created_at").limit(limit)]

    async def unindexed_models(self) -> list[str]:
        with _translated():
            return await self._features.distinct("model_version", {"indexed": False})

    async def mark_indexed(self, features: Iterable[Features]) -> None:
        marks = [
            UpdateOne(
                {
                    "_id": _features_id(item.model_version, item.asset_id),
                    "created_at": to_micros(item.created_at),
                },
                {"$set": {"indexed": True}},
            )
            for item in features
        ]
        await self._bulk(self._features, marks)

    async def mark_unindexed(self, model_version: str) -> None:
        await self._index()
        with _translated():
            await self._features.update_many(
                {"model_version": model_version, "indexed": True}, {"$set": {"indexed": False}}
            )

    async def get_config(self) -> dict[str, float]:
        with _translated():
            return {document["_id"]: document["value"] async for document in self._config.find()}

    async def set_config(self, values: Mapping[str, float]) -> None:
        changes = [
            UpdateOne({"_id": name}, {"$set": {"value": float(value)}}, upsert=True) for name, value in values.items()
        ]
        await self._bulk(self._config, changes)

    async def ping(self) -> None:
        with _translated():
            await self._client.admin.command("ping")

    async def close(self) -> None:
        await self._client.close()

    async def _index(self) -> None:
        """Create the indexes before the first operation that needs one; doing so twice is no error."""
        if not self._has_indexes:
            pending = [("model_version", ASCENDING), ("indexed", ASCENDING), ("created_at", ASCENDING)]
            with _translated():
                await self._features.create_indexes([IndexModel("asset_id"), IndexModel(pending)])
            self._has_indexes = True

    async def _set_asset(self, which: Document, values: Document) -> bool:
        with _translated():
            return (await self._assets.update_one(which, {"$set": values})).matched_count == 1

    async def _find_ids(self, collection: Collection, ids: Iterable[str]) -> list[Document]:
        wanted, found = list(ids), []
        with _translated():
            for first in range(0, len(wanted), IDS_PER_QUERY):
                some = wanted[first : first + IDS_PER_QUERY]
                found += await collection.find({"_id": {"$in": some}}).to_list()
        return found

    async def _bulk(self, collection: Collection, changes: list[UpdateOne]) -> None:
        if changes:
            with _translated():
                await collection.bulk_write(changes, ordered=False)


@contextmanager
def _translated() -> Iterator[None]:
    """Driver errors as StoreError, by name and code only: their texts quote addresses and documents."""
    try:
        yield
    except PyMongoError as error:
        code = getattr(error, "code", None)
        raise StoreError(f"mongodb: {type(error).__name__}{f' {code}' if code else ''}") from error


def _features_id(model_version: str, asset_id: str) -> str:
    return f"{asset_id}/{model_version}"


def _features_document(features: Features) -> Document:
    return {
        "asset_id": features.asset_id,
        "model_version": features.model_version,
        "kind": features.kind,
        "raw": to_blob(features.raw),
        "unit": to_blob(features.unit),
        "created_at": to_micros(features.created_at),
        "indexed": False,
    }


def _features(document: Document) -> Features:
    return Features(
        document["asset_id"],
        document["model_version"],
        document["kind"],
        from_blob(document["raw"]),
        from_blob(document["unit"]),
        from_micros(document["created_at"]),
    )


def _asset(document: Document) -> Asset:
    uploaded_at = from_micros(document.pop("uploaded_at"))
    return Asset(asset_id=document.pop("_id"), uploaded_at=uploaded_at, **document)
