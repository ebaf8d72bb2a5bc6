"""Traces, objects and identities in MongoDB.

Without transactions over several documents, the traces of a new index are written first, under a new generation; then
the one document of the video names that generation, and the older one is removed. So are its objects, which have a
generation of their own. What is in a film by class is in the document of the video, with the generation that it is of:
where that differs, a program of a version before tags has written the objects.
"""

import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, ClassVar

from pymongo import IndexModel

from stores.mongo.engine import Document, MongoEngine, MongoRepository, translated
from stores.people import Identity, ObjectRecord, People, TraceBoxes, TraceRecord, VideoIndex, summary
from stores.records import ClassCount, from_blob, from_micros, to_blob, to_micros
from vision.objects.tags import Tag

TRACE_FIELDS = [field.name for field in fields(TraceRecord)]
OBJECT_FIELDS = [field.name for field in fields(ObjectRecord)]


class MongoPeople(MongoRepository, People):
    """Collections ``video_indexes``, ``traces``, ``object_tracks`` and ``identities``."""

    indexes: ClassVar = {
        "traces": [
            IndexModel([("asset_id", 1), ("generation", 1), ("trace_id", 1)], unique=True),
            IndexModel("identity_uuid", sparse=True),
        ],
        "video_indexes": [IndexModel([("tags.label", 1), ("tags.confidence", 1)])],
        "object_tracks": [IndexModel([("asset_id", 1), ("generation", 1), ("track_id", 1)], unique=True)],
    }

    def __init__(self, engine: MongoEngine) -> None:
        super().__init__(engine)
        self._indexes = self._collection("video_indexes")
        self._traces = self._collection("traces")
        self._objects = self._collection("object_tracks")
        self._identities = self._collection("identities")
        self._is_tagged = False

    async def put_index(
        self,
        index: VideoIndex,
        traces: Sequence[tuple[TraceRecord, TraceBoxes]],
        objects: Sequence[tuple[ObjectRecord, TraceBoxes]] = (),
    ) -> None:
        await self._make_indexes()
        generation = uuid.uuid4().hex
        values: Document = asdict(index) | {"cuts": list(index.cuts), "indexed_at": to_micros(index.indexed_at)}
        values |= {"_id": index.asset_id, "generation": generation, "object_generation": generation}
        values |= _tags([record for record, _ in objects], generation)
        del values["asset_id"]
        documents = [
            _trace_document(trace) | {"generation": generation, "boxes": boxes.packed()} for trace, boxes in traces
        ]
        await self._insert_objects(objects, generation)
        older = {"asset_id": index.asset_id, "generation": {"$ne": generation}}
        with translated():
            if documents:
                await self._traces.insert_many(documents, ordered=False)
            await self._indexes.replace_one({"_id": index.asset_id}, values, upsert=True)
            await self._traces.delete_many(older)
            await self._objects.delete_many(older)

    async def put_objects(self, index: VideoIndex, objects: Sequence[tuple[ObjectRecord, TraceBoxes]]) -> bool:
        await self._make_indexes()
        generation = uuid.uuid4().hex
        await self._insert_objects(objects, generation)
        same = {"_id": index.asset_id, "indexed_at": to_micros(index.indexed_at)}
        named = {"objects": index.objects, "object_count": index.object_count, "object_generation": generation}
        named |= _tags([record for record, _ in objects], generation)
        with translated():
            if not (await self._indexes.update_one(same, {"$set": named})).matched_count:
                await self._objects.delete_many({"asset_id": index.asset_id, "generation": generation})
                return False
            await self._objects.delete_many({"asset_id": index.asset_id, "generation": {"$ne": generation}})
        return True

    async def list_objects(
        self,
        asset_id: str,
        *,
        after: int = -1,
        limit: int | None = None,
        labels: Sequence[str] = (),
        least: float = 0.0,
    ) -> list[ObjectRecord]:
        query = await self._current(asset_id, "object_generation")
        if query is None:
            return []
        query |= {"track_id": {"$gt": after}, "confidence": {"$gte": least}}
        if labels:
            query["label"] = {"$in": list(labels)}
        with translated():
            found = self._objects.find(query, {"boxes": 0}).sort("track_id", 1).limit(0 if limit is None else limit)
            return [_object(document) async for document in found]

    async def count_objects(self, asset_id: str) -> dict[str, int]:
        query = await self._current(asset_id, "object_generation")
        if query is None:
            return {}
        steps: list[Document] = [
            {"$match": query},
            {"$group": {"_id": "$label", "count": {"$sum": 1}}},
            {"$sort": {"_id": 1}},
        ]
        with translated():
            groups = await self._objects.aggregate(steps)
            return {group["_id"]: group["count"] async for group in groups}

    async def get_object(self, asset_id: str, track_id: int) -> tuple[ObjectRecord, TraceBoxes] | None:
        query = await self._current(asset_id, "object_generation")
        if query is None:
            return None
        with translated():
            found = await self._objects.find_one(query | {"track_id": track_id})
        return None if found is None else (_object(found), TraceBoxes.unpacked(found["boxes"]))

    async def film_tags(self, asset_ids: Iterable[str]) -> dict[str, tuple[Tag, ...]]:
        await self.complete_tags()
        names = ("label", "confidence", "at_once", "screen_time")
        with translated():
            found = self._indexes.find({"_id": {"$in": list(asset_ids)}, "objects": {"$ne": None}}, {"tags": 1})
            return {
                document["_id"]: tuple(Tag(*(tag[name] for name in names)) for tag in document.get("tags", ()))
                async for document in found
            }

    async def films_with(self, labels: Sequence[str], least: float = 0.0) -> set[str]:
        await self.complete_tags()
        return await self._having_all("video_indexes", labels, least)

    async def films_of(self, identity_uuids: Sequence[str]) -> set[str]:
        await self._make_indexes()
        with translated():
            found = self._traces.find(
                {"identity_uuid": {"$in": list(identity_uuids)}}, {"asset_id": 1, "generation": 1}
            )
            traces = {(document["asset_id"], document["generation"]) async for document in found}
        current = await self._generations({asset_id for asset_id, _ in traces})
        return {asset_id for asset_id, generation in traces if current.get(asset_id) == generation}

    async def objects_in(self, asset_ids: Sequence[str], labels: Sequence[str]) -> list[ObjectRecord]:
        current = await self._generations(asset_ids, "object_generation")
        wanted = {"asset_id": {"$in": list(asset_ids)}, "label": {"$in": list(labels)}}
        with translated():
            found = self._objects.find(wanted, {"boxes": 0}).sort([("asset_id", 1), ("track_id", 1)])
            return [_object(each) async for each in found if current.get(each["asset_id"]) == each["generation"]]

    async def traces_in(self, asset_ids: Sequence[str], identity_uuids: Sequence[str]) -> list[TraceRecord]:
        current = await self._generations(asset_ids)
        wanted = {"asset_id": {"$in": list(asset_ids)}, "identity_uuid": {"$in": list(identity_uuids)}}
        with translated():
            found = self._traces.find(wanted, {"boxes": 0}).sort([("asset_id", 1), ("trace_id", 1)])
            return [_trace(each) async for each in found if current.get(each["asset_id"]) == each["generation"]]

    async def count_classes(self, without: Collection[str] = ()) -> tuple[list[ClassCount], int]:
        await self.complete_tags()
        counted: Document = {"objects": {"$ne": None}, "_id": {"$nin": list(without)}}
        sums = {"objects": {"$sum": "$tags.tracks"}, "screen_time": {"$sum": "$tags.screen_time"}}
        steps: list[Document] = [
            {"$match": counted},
            {"$project": {"tags": 1}},
            {"$unwind": "$tags"},
            {"$group": {"_id": "$tags.label", "assets": {"$sum": 1}, **sums}},
            {"$sort": {"_id": 1}},
        ]
        with translated():
            groups = await self._indexes.aggregate(steps)
            counts = [ClassCount(each.pop("_id"), **each) async for each in groups]
            return counts, await self._indexes.count_documents(counted)

    async def complete_tags(self) -> None:
        """Make the indexes, and tag the films whose objects a program of a version before tags has written, once."""
        if self._is_tagged:
            return
        await self._make_indexes()
        fields_read = {"object_generation": 1, "tagged_generation": 1}
        with translated():
            found = self._indexes.find({"objects": {"$ne": None}}, fields_read)
            generations = {
                document["_id"]: document["object_generation"]
                async for document in found
                if document.get("tagged_generation") != document["object_generation"]
            }
            for asset_id, generation in generations.items():
                same = {"_id": asset_id, "object_generation": generation}
                tags = _tags(await self.list_objects(asset_id), generation)
                await self._indexes.update_one(same, {"$set": tags})
        self._is_tagged = True

    async def get_index(self, asset_id: str) -> VideoIndex | None:
        with translated():
            index = await self._indexes.find_one({"_id": asset_id})
        if index is None:
            return None
        values: dict[str, Any] = {field.name: index.get(field.name) for field in fields(VideoIndex)}
        values["object_count"] = values["object_count"] or 0  # one of a version before objects
        values |= {"asset_id": asset_id, "cuts": tuple(index["cuts"]), "indexed_at": from_micros(index["indexed_at"])}
        return VideoIndex(**values)

    async def old_indexes(self, before: datetime, after: str = "", limit: int = 1000) -> list[str]:
        old = {"_id": {"$gt": after}, "indexed_at": {"$lt": to_micros(before)}}
        with translated():
            found = self._indexes.find(old, {"_id": 1}).sort("_id", 1).limit(limit)
            return [document["_id"] async for document in found]

    async def delete_index(self, asset_id: str) -> int:
        with translated():
            index = await self._indexes.delete_one({"_id": asset_id})
            traces = await self._traces.delete_many({"asset_id": asset_id})
            objects = await self._objects.delete_many({"asset_id": asset_id})
        return index.deleted_count + traces.deleted_count + objects.deleted_count

    async def forget_reference(self, asset_id: str) -> int:
        with translated():
            named = {"references": asset_id}
            return (await self._identities.update_many(named, {"$pull": named})).modified_count

    async def list_traces(
        self, asset_id: str, *, after: int = -1, limit: int | None = None, identity_uuid: str | None = None
    ) -> list[TraceRecord]:
        query = await self._current(asset_id)
        if query is None:
            return []
        query |= {"trace_id": {"$gt": after}}
        if identity_uuid is not None:
            query["identity_uuid"] = identity_uuid
        with translated():
            traces = self._traces.find(query, {"boxes": 0}).sort("trace_id", 1).limit(0 if limit is None else limit)
            return [_trace(document) async for document in traces]

    async def list_appearances(
        self, identity_uuid: str, *, after: tuple[str, int] = ("", 0), limit: int | None = None
    ) -> list[TraceRecord]:
        await self._make_indexes()
        later = [{"asset_id": {"$gt": after[0]}}, {"asset_id": after[0], "trace_id": {"$gt": after[1]}}]
        order = [("asset_id", 1), ("trace_id", 1)]
        with translated():
            traces = self._traces.find({"identity_uuid": identity_uuid, "$or": later}, {"boxes": 0}).sort(order)
            documents = [document async for document in traces.limit(0 if limit is None else limit)]
        current = await self._generations({document["asset_id"] for document in documents})
        return [_trace(each) for each in documents if current.get(each["asset_id"]) == each["generation"]]

    async def longest_traces(self, identity_uuids: Iterable[str]) -> dict[str, tuple[str, int]]:
        await self._make_indexes()
        first = {"asset_id": {"$first": "$asset_id"}, "trace_id": {"$first": "$trace_id"}}
        steps: list[Document] = [
            {"$match": {"identity_uuid": {"$in": list(identity_uuids)}}},
            {"$project": {"identity_uuid": 1, "asset_id": 1, "trace_id": 1, "face_count": 1}},
            {"$sort": {"face_count": -1}},
            {"$group": {"_id": "$identity_uuid", **first}},
        ]
        with translated():
            groups = await self._traces.aggregate(steps)
            return {group["_id"]: (group["asset_id"], group["trace_id"]) async for group in groups}

    async def get_trace(self, asset_id: str, trace_id: int) -> tuple[TraceRecord, TraceBoxes] | None:
        query = await self._current(asset_id)
        if query is None:
            return None
        with translated():
            trace = await self._traces.find_one(query | {"trace_id": trace_id})
        return None if trace is None else (_trace(trace), TraceBoxes.unpacked(trace["boxes"]))

    async def set_identities(self, asset_id: str, identities: Mapping[int, str | None]) -> None:
        with translated():
            for trace_id, identity_uuid in identities.items():
                await self._traces.update_many(
                    {"asset_id": asset_id, "trace_id": trace_id}, {"$set": {"identity_uuid": identity_uuid}}
                )

    async def put_identity(self, identity: Identity) -> None:
        with translated():
            await self._identities.replace_one(
                {"_id": identity.identity_uuid}, _identity_document(identity), upsert=True
            )

    async def get_identities(self, identity_uuids: Iterable[str]) -> dict[str, Identity]:
        with translated():
            identities = self._identities.find({"_id": {"$in": list(identity_uuids)}})
            return {document["_id"]: _identity(document) async for document in identities}

    async def list_identities(self, *, after: str = "", limit: int | None = None) -> list[Identity]:
        with translated():
            identities = self._identities.find({"_id": {"$gt": after}}).sort("_id", 1)
            return [_identity(document) async for document in identities.limit(0 if limit is None else limit)]

    async def merge_identities(self, kept: Identity, merged: str) -> None:
        # In this order a crash between the steps leaves nothing that doing it again would not finish.
        await self.put_identity(kept)
        with translated():
            await self._traces.update_many({"identity_uuid": merged}, {"$set": {"identity_uuid": kept.identity_uuid}})
            await self._identities.delete_one({"_id": merged})

    async def split_identity(self, kept: Identity, new: Identity, traces: Sequence[tuple[str, int]]) -> None:
        # In this order a crash between the steps leaves nothing that doing it again would not finish.
        await self.put_identity(new)
        with translated():
            for asset_id, trace_id in traces:
                theirs = {"asset_id": asset_id, "trace_id": trace_id, "identity_uuid": kept.identity_uuid}
                await self._traces.update_many(theirs, {"$set": {"identity_uuid": new.identity_uuid}})
        await self.put_identity(kept)

    async def delete_identity(self, identity_uuid: str) -> bool:
        with translated():
            await self._traces.update_many({"identity_uuid": identity_uuid}, {"$set": {"identity_uuid": None}})
            identity = await self._identities.delete_one({"_id": identity_uuid})
        return identity.deleted_count > 0

    async def owner_ids(self) -> AsyncIterator[str]:
        for name, field in (("video_indexes", "_id"), ("traces", "asset_id"), ("object_tracks", "asset_id")):
            async for asset_id in self._values(name, field):
                yield asset_id

    async def _generations(self, asset_ids: Iterable[str], field: str = "generation") -> dict[str, str | None]:
        with translated():
            indexes = self._indexes.find({"_id": {"$in": list(asset_ids)}}, {field: 1})
            return {index["_id"]: index.get(field) async for index in indexes}

    async def _insert_objects(self, objects: Sequence[tuple[ObjectRecord, TraceBoxes]], generation: str) -> None:
        documents = [asdict(record) | {"generation": generation, "boxes": boxes.packed()} for record, boxes in objects]
        if documents:
            with translated():
                await self._objects.insert_many(documents, ordered=False)

    async def _current(self, asset_id: str, field: str = "generation") -> Document | None:
        """Return what the current traces or objects of a video have; None where there is no index."""
        with translated():
            index = await self._indexes.find_one({"_id": asset_id}, {field: 1})
        # An index of a version before objects has no generation of them, and no object has None.
        return None if index is None else {"asset_id": asset_id, "generation": index.get(field)}


def _tags(objects: Sequence[ObjectRecord], generation: str) -> Document:
    tags = [
        {
            "label": tag.label,
            "confidence": tag.confidence,
            "at_once": tag.at_once,
            "screen_time": tag.screen_time,
            "tracks": tracks,
        }
        for tag, tracks in summary(objects)
    ]
    return {"tags": tags, "tagged_generation": generation}


def _object(document: Document) -> ObjectRecord:
    values: dict[str, Any] = {name: document.get(name) for name in OBJECT_FIELDS}
    return ObjectRecord(**values)


def _trace_document(trace: TraceRecord) -> Document:
    values: Document = {name: getattr(trace, name) for name in TRACE_FIELDS}
    return values | {"vector": to_blob(trace.vector)}


def _trace(document: Document) -> TraceRecord:
    values: dict[str, Any] = {name: document.get(name) for name in TRACE_FIELDS}
    return TraceRecord(**values | {"vector": from_blob(document["vector"])})


def _identity_document(identity: Identity) -> Document:
    return {
        "name": identity.name,
        "models": identity.models,
        "vector": to_blob(identity.vector),
        "weight": identity.weight,
        "references": list(identity.references),
        "created_at": to_micros(identity.created_at),
        "rejected": to_blob(identity.rejected),
    }


def _identity(document: Document) -> Identity:
    vector = from_blob(document["vector"])
    return Identity(
        identity_uuid=document["_id"],
        name=document["name"],
        models=document["models"],
        vector=vector,
        weight=document["weight"],
        references=tuple(document["references"]),
        created_at=from_micros(document["created_at"]),
        rejected=from_blob(document.get("rejected", b"")).reshape(-1, len(vector)),
    )
