"""Assets with their uploads, what was computed of them, and configuration in MongoDB, for many machines."""

from collections.abc import AsyncIterator, Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import ClassVar, Final

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne
from pymongo.errors import DuplicateKeyError

from stores.documents import Documents
from stores.mongo import engine
from stores.mongo.engine import Document, MongoEngine, MongoRepository, translated
from stores.records import (
    OBJECT_COLUMNS,
    PLACE_BYTES,
    Asset,
    ClassCount,
    Features,
    PictureFaces,
    PictureObjects,
    Vector,
    from_blob,
    from_face_blobs,
    from_micros,
    stacked_faces,
    to_blob,
    to_micros,
)
from stores.uploads import ANYONE, Addition, Upload, Uploads, Withdrawal, earliest, latest, with_upload, without_upload
from vision.media.sniff import MediaKind
from vision.objects.tags import Tag

IDS_PER_QUERY = 1000
FACES_AT_ONCE: Final = 5000
"""Pictures whose faces are in memory at once."""
OLD_FIELDS = ("filename", "uploaded_at")
"""Of the one upload of an asset, in documents of earlier versions."""
NEWEST_FIRST: Final = [("latest_upload", DESCENDING), ("_id", DESCENDING)]


class MongoDocuments(MongoRepository, Documents):
    """Collections ``assets``, ``features``, ``faces``, ``picture_objects`` and ``config``."""

    indexes: ClassVar = {
        "assets": [IndexModel(NEWEST_FIRST), IndexModel("uploads.owner")],
        "features": [
            IndexModel("asset_id"),
            IndexModel([("model_version", ASCENDING), ("indexed", ASCENDING), ("created_at", ASCENDING)]),
        ],
        "faces": [IndexModel("asset_id")],
        "picture_objects": [IndexModel([("tags.label", ASCENDING), ("tags.confidence", ASCENDING)])],
    }

    def __init__(self, engine: MongoEngine) -> None:
        super().__init__(engine)
        self._assets = self._collection("assets")
        self._features = self._collection("features")
        self._faces = self._collection("faces")
        self._objects = self._collection("picture_objects")
        self._config = self._collection("config")
        self._is_complete = False

    async def insert_asset(self, asset: Asset, owner: str = ANYONE) -> bool:
        upload = Upload(owner, asset.filename, asset.uploaded_at)
        document = asdict(asset) | _uploads_document((upload,)) | {"revision": 0}
        document["_id"] = document.pop("asset_id")
        del document["filename"], document["uploaded_at"]
        with translated():
            try:
                await self._assets.insert_one(document)
            except DuplicateKeyError:
                return False
        return True

    async def add_upload(self, asset_id: str, upload: Upload) -> Addition:
        def add(uploads: Uploads) -> Document | None:
            added = with_upload(uploads, upload)
            return None if added == uploads else _uploads_document(added)

        before = await self._change_uploads(asset_id, add)
        if before is None:
            return ""
        return "there" if with_upload(before, upload) == before else "added"

    async def add_label(self, asset_id: str, label: str) -> bool:
        with translated():
            alive = {"_id": asset_id, "deleting": False}
            return (await self._assets.update_one(alive, {"$addToSet": {"labels": label}})).matched_count == 1

    async def labelled(self, asset_ids: Iterable[str], labels: Iterable[str]) -> set[str]:
        with translated():
            found = self._assets.find({"_id": {"$in": list(asset_ids)}, "labels": {"$in": list(labels)}}, {"_id": 1})
            return {document["_id"] async for document in found}

    async def withdraw(self, asset_id: str, owner: str, clients: Container[str]) -> Withdrawal:
        def withdraw(uploads: Uploads) -> Document | None:
            outcome, left = without_upload(uploads, owner, clients)
            if outcome not in ("last", "withdrawn"):
                return None
            return _uploads_document(left) | ({"deleting": True} if outcome == "last" else {})

        before = await self._change_uploads(asset_id, withdraw)
        return without_upload(before or (), owner, clients)[0]

    async def uploaded_by(self, owner: str) -> tuple[int, int]:
        await self._make_indexes()
        own: Document = {"deleting": False, "uploads": {"$elemMatch": {"owner": owner, "withdrawn": False}}}
        total = {"_id": None, "files": {"$sum": 1}, "size": {"$sum": "$file_size"}}
        with translated():
            async for group in await self._assets.aggregate([{"$match": own}, {"$group": total}]):
                return int(group["files"]), int(group["size"])
        return 0, 0

    async def get_assets(self, asset_ids: Iterable[str]) -> dict[str, Asset]:
        documents = await self._find_ids(self._assets, asset_ids)
        return {document["_id"]: _asset(document) for document in documents}

    async def list_assets(self, after: str = "", limit: int = 1000) -> list[Asset]:
        with translated():
            cursor = self._assets.find({"_id": {"$gt": after}}).sort("_id").limit(limit)
            return [_asset(document) async for document in cursor]

    async def newest_assets(
        self,
        kind: MediaKind | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 1000,
        among: Collection[str] | None = None,
    ) -> list[Asset]:
        await self.complete_assets()
        wanted: Document = {"deleting": False} | ({"kind": kind} if kind else {})
        if before is not None:
            moment, asset_id = to_micros(before[0]), before[1]
            earlier = {"latest_upload": {"$lt": moment}}
            wanted["$or"] = [earlier, {"latest_upload": moment, "_id": {"$lt": asset_id}}]
        if among is not None and len(among) > IDS_PER_QUERY:
            # So many are met soon on the way from the newest one on.
            ids = list[str]()
            with translated():
                async for document in self._assets.find(wanted, {"_id": 1}).sort(NEWEST_FIRST):
                    ids += [document["_id"]] if document["_id"] in among else []
                    if len(ids) == limit:
                        break
            assets = await self.get_assets(ids)
            return [assets[each] for each in ids if each in assets]
        if among is not None:
            wanted["_id"] = {"$in": list(among)}
        with translated():
            return [_asset(document) async for document in self._assets.find(wanted).sort(NEWEST_FIRST).limit(limit)]

    async def old_assets(self, before: datetime, after: str = "", limit: int = 1000) -> list[Asset]:
        await self.complete_assets()
        old = {"_id": {"$gt": after}, "latest_upload": {"$lt": to_micros(before)}}
        with translated():
            return [_asset(document) async for document in self._assets.find(old).sort("_id").limit(limit)]

    async def expire_asset(self, asset_id: str, before: datetime) -> bool:
        def expire(uploads: Uploads) -> Document | None:
            return {**_uploads_document(uploads), "deleting": True} if latest(uploads) < before else None

        uploads = await self._change_uploads(asset_id, expire)
        if uploads is not None:
            return latest(uploads) < before
        with translated():
            flagged = await self._assets.find_one({"_id": asset_id, "deleting": True})
        return flagged is not None and latest(_uploads(flagged)) < before

    async def count_assets(self) -> dict[MediaKind, int]:
        steps: list[Document] = [
            {"$match": {"deleting": False}},
            {"$group": {"_id": "$kind", "count": {"$sum": 1}}},
        ]
        with translated():
            return {group["_id"]: group["count"] async for group in await self._assets.aggregate(steps)}

    async def complete_assets(self) -> None:
        """Make the indexes, and give assets of earlier versions the time of their latest upload, once."""
        if self._is_complete:
            return
        await self._make_indexes()
        with translated():
            async for document in self._assets.find({"latest_upload": {"$exists": False}}):
                await self._change_uploads(document["_id"], _uploads_document)
        self._is_complete = True

    async def hidden_from(self, owner: str) -> set[str]:
        await self._make_indexes()
        # The only upload of an asset that was withdrawn leaves it as it is.
        withdrawn = {"uploads": {"$elemMatch": {"owner": owner, "withdrawn": True}}, "uploads.1": {"$exists": True}}
        with translated():
            found = self._assets.find({"$or": [{"deleting": True}, withdrawn]}, {"_id": 1})
            return {document["_id"] async for document in found}

    async def mark_deleting(self, asset_id: str) -> bool:
        return await self._set_asset({"_id": asset_id}, {"deleting": True})

    async def delete_asset(self, asset_id: str) -> int:
        # The flag comes first, so that what is written from here on takes itself back (_put_of_asset);
        # the asset goes last, so that a delete that was cut short can be asked for again. Without a record there may
        # be features all the same, of a put whose process died before it could take them back.
        await self.mark_deleting(asset_id)
        await self._make_indexes()
        with translated():
            features = await self._features.delete_many({"asset_id": asset_id})
            faces = await self._faces.delete_many({"asset_id": asset_id})
            objects = await self._objects.delete_one({"_id": asset_id})
            asset = await self._assets.delete_one({"_id": asset_id})
            return features.deleted_count + faces.deleted_count + objects.deleted_count + asset.deleted_count

    async def set_asset_error(self, asset_id: str, message: str | None) -> None:
        await self._set_asset({"_id": asset_id}, {"error_message": message})

    async def put_features(self, features: Features) -> bool:
        return await self._put_of_asset(self._features, _features_document(features))

    async def without_features(self, model_version: str, limit: int) -> list[Asset]:
        return await self._without(self._features, ("image", "video"), model_version, limit)

    async def get_features(self, model_version: str, asset_ids: Iterable[str]) -> dict[str, Features]:
        keys = (_computed_id(model_version, asset_id) for asset_id in asset_ids)
        documents = await self._find_ids(self._features, keys)
        return {document["asset_id"]: _features(document) for document in documents}

    async def unindexed_features(self, model_version: str, limit: int) -> list[Features]:
        await self._make_indexes()
        with translated():
            pending = self._features.find({"model_version": model_version, "indexed": False})
            return [_features(document) async for document in pending.sort("created_at").limit(limit)]

    async def unindexed_models(self) -> list[str]:
        with translated():
            return await self._features.distinct("model_version", {"indexed": False})

    async def mark_indexed(self, features: Iterable[Features]) -> None:
        marks = [
            UpdateOne(
                {
                    "_id": _computed_id(item.model_version, item.asset_id),
                    "created_at": to_micros(item.created_at),
                },
                {"$set": {"indexed": True}},
            )
            for item in features
        ]
        await self._bulk(self._features, marks)

    async def mark_unindexed(self, model_version: str) -> None:
        await self._make_indexes()
        with translated():
            await self._features.update_many(
                {"model_version": model_version, "indexed": True}, {"$set": {"indexed": False}}
            )

    async def put_faces(self, faces: PictureFaces) -> bool:
        return await self._put_of_asset(self._faces, _faces_document(faces))

    async def get_faces(self, model_version: str, asset_ids: Iterable[str]) -> dict[str, PictureFaces]:
        keys = (_computed_id(model_version, asset_id) for asset_id in asset_ids)
        documents = await self._find_ids(self._faces, keys)
        return {document["asset_id"]: _faces(document) for document in documents}

    async def without_faces(self, model_version: str, limit: int, since: datetime | None = None) -> list[Asset]:
        return await self._without(self._faces, ("image",), model_version, limit, since)

    async def face_vectors(
        self, model_version: str, among: Collection[str] | None = None
    ) -> AsyncIterator[tuple[list[str], Vector]]:
        if among is not None:
            faces = (await self.get_faces(model_version, among)).values()
            yield stacked_faces((each.asset_id, len(each.places), to_blob(each.vectors)) for each in faces)
            return
        page: list[tuple[str, int, bytes]] = []
        with translated():
            async for each in self._faces.find({"model_version": model_version}):
                page.append((each["asset_id"], len(each["places"]) // PLACE_BYTES, each["vectors"]))
                if len(page) == FACES_AT_ONCE:
                    yield stacked_faces(page)
                    page.clear()
        yield stacked_faces(page)

    async def put_objects(self, objects: PictureObjects) -> bool:
        return await self._put_of_asset(self._objects, _objects_document(objects), objects.asset_id)

    async def get_objects(self, asset_ids: Iterable[str]) -> dict[str, PictureObjects]:
        documents = await self._find_ids(self._objects, asset_ids)
        return {document["_id"]: _objects(document) for document in documents}

    async def picture_tags(self, asset_ids: Iterable[str]) -> dict[str, tuple[Tag, ...]]:
        with translated():
            found = self._objects.find({"_id": {"$in": list(asset_ids)}, "kind": "image"}, {"tags": 1})
            return {document["_id"]: tuple(Tag(**tag) for tag in document["tags"]) async for document in found}

    async def without_objects(self, model_version: str, limit: int, since: datetime | None = None) -> list[Asset]:
        return await self._without(self._objects, ("image",), model_version, limit, since)

    async def pictures_with(self, labels: Sequence[str], least: float = 0.0) -> set[str]:
        return await self._having_all("picture_objects", labels, least)

    async def count_classes(self, without: Collection[str] = ()) -> tuple[list[ClassCount], int]:
        counted: Document = {"kind": "image", "_id": {"$nin": list(without)}}
        steps: list[Document] = [
            {"$match": counted},
            {"$unwind": "$tags"},
            {"$group": {"_id": "$tags.label", "assets": {"$sum": 1}, "objects": {"$sum": "$tags.at_once"}}},
            {"$sort": {"_id": 1}},
        ]
        with translated():
            groups = await self._objects.aggregate(steps)
            counts = [ClassCount(each["_id"], each["assets"], each["objects"]) async for each in groups]
            return counts, await self._objects.count_documents(counted)

    async def get_config(self) -> dict[str, float]:
        with translated():
            return {document["_id"]: document["value"] async for document in self._config.find()}

    async def set_config(self, values: Mapping[str, float]) -> None:
        changes = [
            UpdateOne({"_id": name}, {"$set": {"value": float(value)}}, upsert=True) for name, value in values.items()
        ]
        await self._bulk(self._config, changes)

    async def owner_ids(self) -> AsyncIterator[str]:
        for name in ("features", "faces", "picture_objects"):
            async for asset_id in self._values(name, "asset_id"):
                yield asset_id

    async def _without(
        self,
        collection: engine.Collection,
        kinds: Sequence[MediaKind],
        model_version: str,
        limit: int,
        since: datetime | None = None,
    ) -> list[Asset]:
        """Return assets of which a collection has no document of one model, see ``without_features``."""
        wanted: Document = {"kind": {"$in": list(kinds)}, "deleting": False, "error_message": None}
        if since is not None:
            await self.complete_assets()
            wanted["latest_upload"] = {"$gte": to_micros(since)}
        assets: list[Asset] = []
        with translated():
            ids = [document["_id"] async for document in self._assets.find(wanted, {"_id": 1})]
        for first in range(0, len(ids), IDS_PER_QUERY):
            page = ids[first : first + IDS_PER_QUERY]
            with translated():
                # Objects have one document for all models. By the key alone, as no other index finds them faster.
                one = collection is self._objects
                keys = page if one else [_computed_id(model_version, asset_id) for asset_id in page]
                computed = collection.find({"_id": {"$in": keys}}, {"asset_id": 1, "model_version": 1})
                found = {each["asset_id"] async for each in computed if each["model_version"] == model_version}
            missing = [asset_id for asset_id in page if asset_id not in found][: limit - len(assets)]
            assets += (await self.get_assets(missing)).values()
            if len(assets) >= limit:
                break
        return assets

    async def _put_of_asset(self, collection: engine.Collection, document: Document, key_id: str | None = None) -> bool:
        """Store a record of an asset and clear the asset's error; False if the asset is unknown or being deleted.

        ``key_id``: its key, where it is not one for each model.
        """
        alive = {"_id": document["asset_id"], "deleting": False}
        key = {"_id": key_id or _computed_id(document["model_version"], document["asset_id"])}
        await self._make_indexes()
        with translated():
            if await self._assets.find_one(alive, {"_id": 1}) is None:
                return False
            await collection.update_one(key, {"$set": document}, upsert=True)
        # Checking again after the write closes the race with a delete, without a transaction: whoever comes
        # second sees the other and removes what was written.
        if await self._set_asset(alive, {"error_message": None}):
            return True
        with translated():
            await collection.delete_one(key)
        return False

    async def _change_uploads(self, asset_id: str, change: Callable[[Uploads], Document | None]) -> Uploads | None:
        """Set in an asset what ``change`` makes of its uploads, if anything; return them as they were before.

        Return None if the asset is unknown or being deleted.
        """
        alive = {"_id": asset_id, "deleting": False}
        while True:
            with translated():
                document = await self._assets.find_one(alive)
            if document is None:
                return None
            uploads = _uploads(document)
            values = change(uploads)
            if values is None:
                return uploads
            # The number tells whether somebody else changed them meanwhile. Documents of earlier versions have none.
            revision = document.get("revision")
            unchanged = alive | {"revision": {"$exists": False} if revision is None else revision}
            if await self._set_asset(unchanged, values | {"revision": (revision or 0) + 1}, remove=OLD_FIELDS):
                return uploads

    async def _set_asset(self, which: Document, values: Document, remove: Iterable[str] = ()) -> bool:
        change = {"$set": values} | ({"$unset": dict.fromkeys(remove, "")} if remove else {})
        with translated():
            return (await self._assets.update_one(which, change)).matched_count == 1

    async def _find_ids(self, collection: engine.Collection, ids: Iterable[str]) -> list[Document]:
        all_ids, documents = list(ids), []
        with translated():
            for first in range(0, len(all_ids), IDS_PER_QUERY):
                page = all_ids[first : first + IDS_PER_QUERY]
                documents += await collection.find({"_id": {"$in": page}}).to_list()
        return documents

    async def _bulk(self, collection: engine.Collection, changes: list[UpdateOne]) -> None:
        if changes:
            with translated():
                await collection.bulk_write(changes, ordered=False)


def _computed_id(model_version: str, asset_id: str) -> str:
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


def _faces_document(faces: PictureFaces) -> Document:
    return {
        "asset_id": faces.asset_id,
        "model_version": faces.model_version,
        "places": to_blob(faces.places),
        "vectors": to_blob(faces.vectors),
        "created_at": to_micros(faces.created_at),
    }


def _faces(document: Document) -> PictureFaces:
    return PictureFaces(
        document["asset_id"],
        document["model_version"],
        *from_face_blobs(document["places"], document["vectors"]),
        from_micros(document["created_at"]),
    )


def _objects_document(objects: PictureObjects) -> Document:
    tags = objects.tags if objects.kind == "image" else ()
    return {
        "asset_id": objects.asset_id,
        "model_version": objects.model_version,
        "kind": objects.kind,
        "width": objects.width,
        "height": objects.height,
        "labels": list(objects.labels),
        "places": to_blob(objects.places),
        "tags": [{"label": tag.label, "confidence": tag.confidence, "at_once": tag.at_once} for tag in tags],
        "created_at": to_micros(objects.created_at),
    }


def _objects(document: Document) -> PictureObjects:
    return PictureObjects(
        asset_id=document["asset_id"],
        model_version=document["model_version"],
        kind=document["kind"],
        width=document["width"],
        height=document["height"],
        labels=tuple(document["labels"]),
        places=from_blob(document["places"]).reshape(-1, OBJECT_COLUMNS),
        created_at=from_micros(document["created_at"]),
    )


def _asset(document: Document) -> Asset:
    uploads = _uploads(document)
    first = earliest(uploads)
    others = ("_id", "revision", "labels", "latest_upload", *OLD_FIELDS)
    facts = {name: value for name, value in document.items() if name not in others}
    own = {"filename": first.filename, "uploaded_at": first.uploaded_at, "uploads": uploads}
    return Asset(asset_id=document["_id"], **(facts | own))


def _uploads(document: Document) -> Uploads:
    """Return the uploads of an asset; earlier versions of this program knew one, whose fields are the asset's own."""
    if "uploads" not in document:
        return (Upload(ANYONE, document["filename"], from_micros(document["uploaded_at"])),)
    return tuple(Upload(**each | {"uploaded_at": from_micros(each["uploaded_at"])}) for each in document["uploads"])


def _uploads_document(uploads: Uploads) -> Document:
    return {"uploads": [_upload_document(each) for each in uploads], "latest_upload": to_micros(latest(uploads))}


def _upload_document(upload: Upload) -> Document:
    return asdict(upload) | {"uploaded_at": to_micros(upload.uploaded_at)}
