"""Shots in MongoDB.

Without transactions over several documents, the shots of a new analysis are written first, under a new generation; then
the one document of the video names that generation, and the older one is removed.
"""

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from pymongo import IndexModel, ReplaceOne, UpdateOne

from stores.mongo.engine import Document, MongoEngine, MongoRepository, translated
from stores.records import from_micros, to_micros
from stores.shots import (
    VECTORS,
    Catalogue,
    Shot,
    ShotAnalysis,
    ShotFilter,
    ShotLabels,
    Shots,
    ShotSpan,
    catalogue_of,
    folded,
    from_row,
    labels_of,
    span_of,
    stored_moment,
    to_blobs,
    to_json,
)
from vision.objects.tags import Tag

ATTEMPTS = 5
"""To read an analysis while it is being replaced."""
ORDER = [("stored_at", -1), ("asset_id", 1), ("start_frame", 1), ("_id", 1)]
LIBRARY = "library"
SHOT = {"record": 1, "objects": 1, **dict.fromkeys(VECTORS, 1)}
SEARCHED = dict.fromkeys(("tone", "genre", "tags", "text", "text_version", "clip", "clip_version", "objects"), 1)


class MongoShots(MongoRepository, Shots):
    """Collections ``analyses``, ``analysed_shots``, ``shots`` and ``shot_library``.

    MongoAnalyses has its analyses in ``analyses`` too; only those of videos have a generation.
    """

    indexes: ClassVar = {
        "analysed_shots": [IndexModel([("asset_id", 1), ("generation", 1), ("place", 1)], unique=True)],
        "shots": [IndexModel("asset_id"), IndexModel(ORDER)],
    }

    def __init__(self, engine: MongoEngine) -> None:
        super().__init__(engine)
        self._analyses = self._collection("analyses")
        self._analysed = self._collection("analysed_shots")
        self._shots = self._collection("shots")
        self._library = self._collection("shot_library")

    async def put_analysis(self, analysis: ShotAnalysis) -> None:
        await self._make_indexes()
        generation = uuid.uuid4().hex
        documents: list[Document] = [
            {"asset_id": analysis.asset_id, "generation": generation, "place": place, **_stored(shot)}
            for place, shot in enumerate(analysis.shots)
        ]
        head = {
            "models": analysis.models,
            "analyzed_at": to_micros(analysis.analyzed_at),
            "generation": generation,
            "shots": len(documents),
        }
        with translated():
            if documents:
                await self._analysed.insert_many(documents, ordered=False)
            old = await self._analyses.find_one_and_replace({"_id": analysis.asset_id}, head, upsert=True)
            if old is not None:  # and not what another writer has put, who has yet to say so
                await self._analysed.delete_many({"asset_id": analysis.asset_id, "generation": old["generation"]})

    async def get_analysis(self, asset_id: str) -> ShotAnalysis | None:
        for _ in range(ATTEMPTS):
            with translated():
                head = await self._analyses.find_one({"_id": asset_id})
                if head is None:
                    return None
                rows = self._analysed.find({"asset_id": asset_id, "generation": head["generation"]}).sort("place", 1)
                shots = tuple([_shot(row) async for row in rows])
            if len(shots) == head["shots"]:
                return ShotAnalysis(asset_id, head["models"], from_micros(head["analyzed_at"]), shots)
        return None

    async def put_shots(self, shots: Sequence[Shot]) -> None:
        documents = [_document(shot) for shot in shots]
        if not documents:
            return
        await self._make_indexes()
        with translated():
            await self._shots.bulk_write(
                [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in documents]
            )
        await self._changed()

    async def get_shots(self, shot_ids: Iterable[str]) -> dict[str, Shot]:
        with translated():
            shots = self._shots.find({"_id": {"$in": list(shot_ids)}}, SHOT)
            return {document["_id"]: _shot(document) async for document in shots}

    async def list_shots(self, shot_filter: ShotFilter, *, offset: int = 0, limit: int | None = None) -> list[Shot]:
        if limit == 0:
            return []  # to the server, 0 is no limit
        with translated():
            shots = self._shots.find(_query(shot_filter), SHOT).sort(ORDER).skip(offset).limit(limit or 0)
            return [_shot(document) async for document in shots]

    async def count_shots(self, shot_filter: ShotFilter) -> int:
        with translated():
            return await self._shots.count_documents(_query(shot_filter))

    async def spans(self, asset_id: str) -> list[ShotSpan]:
        with translated():
            shots = self._shots.find({"asset_id": asset_id}, {"record": 1, "objects": 1})
            return [span_of(shot["_id"], shot["record"], _tags(shot)) async for shot in shots]

    async def set_objects(self, objects: Mapping[str, tuple[Tag, ...] | None]) -> None:
        if not objects:
            return
        with translated():
            changes = [
                UpdateOne({"_id": shot_id}, {"$set": {"objects": _objects(tags)}}) for shot_id, tags in objects.items()
            ]
            changed = await self._shots.bulk_write(changes, ordered=False)
        if changed.matched_count:
            await self._changed()

    async def revision(self) -> int:
        with translated():
            library = await self._library.find_one({"_id": LIBRARY})
        return 0 if library is None else int(library["revision"])

    async def catalogue(self, text_version: str, clip_version: str | None) -> Catalogue:
        with translated():
            rows = [row async for row in self._shots.find({}, SEARCHED).sort("_id", 1)]
        return catalogue_of(
            [ShotLabels(row["_id"], row.get("tone"), row.get("genre"), frozenset(row["tags"])) for row in rows],
            [row["text"] if row["text_version"] == text_version else None for row in rows],
            [row["clip"] if clip_version is not None and row["clip_version"] == clip_version else None for row in rows],
            [None if (tags := _tags(row)) is None else {tag.label: tag.confidence for tag in tags} for row in rows],
        )

    async def delete_shot(self, shot_id: str) -> bool:
        with translated():
            shot = await self._shots.delete_one({"_id": shot_id})
        await self._changed()
        return shot.deleted_count > 0

    async def delete_video(self, asset_id: str) -> int:
        with translated():
            analysis = await self._analyses.delete_one({"_id": asset_id})
            analysed = await self._analysed.delete_many({"asset_id": asset_id})
            shots = await self._shots.delete_many({"asset_id": asset_id})
        if shots.deleted_count:
            await self._changed()
        return analysis.deleted_count + analysed.deleted_count + shots.deleted_count

    async def owner_ids(self) -> AsyncIterator[str]:
        async for asset_id in self._values("analyses", "_id", {"generation": {"$exists": True}}):
            yield asset_id
        for name in ("analysed_shots", "shots"):
            async for asset_id in self._values(name, "asset_id"):
                yield asset_id

    async def _changed(self) -> None:
        # After the change: who reads the number first and the shots then, has seen the change, or reads again.
        with translated():
            await self._library.update_one({"_id": LIBRARY}, {"$inc": {"revision": 1}}, upsert=True)


def _stored(shot: Shot) -> Document:
    return {"record": to_json(shot), **to_blobs(shot)}


def _document(shot: Shot) -> Document:
    labels = labels_of(shot)
    return {
        "_id": shot.shot_id,
        "asset_id": shot.video_asset_id,
        "start_frame": shot.start_frame,
        "stored_at": stored_moment(shot),
        # A movement answers to its first word too: pan left, pan.
        "movement": _beginnings(folded(shot.camera_movement)),
        "tone": labels.emotional_tone,
        "genre": labels.genre,
        "tags": sorted(labels.tags),
        "text_version": shot.text_version,
        "clip_version": shot.clip_version,
        "objects": _objects(shot.objects),
        **_stored(shot),
    }


def _beginnings(words: str) -> list[str]:
    parts = words.split(" ")
    return [" ".join(parts[: count + 1]) for count in range(len(parts))]


def _shot(document: Document) -> Shot:
    return from_row(document["record"], {name: document[name] for name in VECTORS}, _tags(document))


def _objects(tags: tuple[Tag, ...] | None) -> list[Document] | None:
    return None if tags is None else [asdict(tag) for tag in tags]


def _tags(document: Document) -> tuple[Tag, ...] | None:
    objects = document.get("objects")  # one of a version before objects has none
    return None if objects is None else tuple(Tag(**each) for each in objects)


def _query(shot_filter: ShotFilter) -> Document:
    words = {"movement": shot_filter.movement, "tone": shot_filter.emotional_tone, "genre": shot_filter.genre}
    query: dict[str, Any] = {name: folded(word) for name, word in words.items() if word is not None}
    if shot_filter.video_asset_id is not None:
        query["asset_id"] = shot_filter.video_asset_id
    if shot_filter.tags:
        query["tags"] = {"$all": [folded(tag) for tag in shot_filter.tags]}
    if shot_filter.objects:
        query["$and"] = [{"objects.label": label} for label in shot_filter.objects]
    return query
