"""Shots in MongoDB.

Without transactions over several documents, the shots of a new analysis are written first, under a generation of their
own; then the one document of the video names that generation, and the older one is removed.
"""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from pymongo import ReplaceOne

from stores.mongo.engine import Document, MongoStore, translated
from stores.records import from_micros, to_micros
from stores.shot_rows import VECTORS, catalogue_of, from_row, labels_of, stored_moment, to_blobs, to_json
from stores.shots import Analysis, Catalogue, Shot, ShotFilter, ShotLabels, Shots, folded

TRIES = 5
"""Of reading an analysis that is replaced meanwhile."""
ORDER = [("stored_at", -1), ("asset_id", 1), ("start_frame", 1), ("_id", 1)]
LIBRARY = "library"
SHOT = {"record": 1, **dict.fromkeys(VECTORS, 1)}
SEARCHED = {"tone": 1, "genre": 1, "tags": 1, "text": 1, "text_version": 1, "clip": 1, "clip_version": 1}


class MongoShots(MongoStore, Shots):
    """Collections ``analyses``, ``analysed_shots``, ``shots`` and ``shot_library`` of the documents' database."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._analyses = self._database["analyses"]
        self._analysed = self._database["analysed_shots"]
        self._shots = self._database["shots"]
        self._library = self._database["shot_library"]
        self._indexed = False

    async def put_analysis(self, analysis: Analysis) -> None:
        await self._make_indexes()
        generation = uuid.uuid4().hex
        documents: list[Document] = [
            {"asset_id": analysis.asset_id, "generation": generation, "place": place, **_values(shot)}
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

    async def get_analysis(self, asset_id: str) -> Analysis | None:
        for _ in range(TRIES):
            with translated():
                head = await self._analyses.find_one({"_id": asset_id})
                if head is None:
                    return None
                rows = self._analysed.find({"asset_id": asset_id, "generation": head["generation"]}).sort("place", 1)
                shots = tuple([_shot(row) async for row in rows])
            if len(shots) == head["shots"]:
                return Analysis(asset_id, head["models"], from_micros(head["analyzed_at"]), shots)
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
            found = self._shots.find({"_id": {"$in": list(shot_ids)}}, SHOT)
            return {document["_id"]: _shot(document) async for document in found}

    async def list_shots(self, wanted: ShotFilter, *, offset: int = 0, limit: int | None = None) -> list[Shot]:
        if limit == 0:
            return []  # to the server, 0 is no limit
        with translated():
            found = self._shots.find(_query(wanted), SHOT).sort(ORDER).skip(offset).limit(limit or 0)
            return [_shot(document) async for document in found]

    async def count_shots(self, wanted: ShotFilter) -> int:
        with translated():
            return await self._shots.count_documents(_query(wanted))

    async def revision(self) -> int:
        with translated():
            found = await self._library.find_one({"_id": LIBRARY})
        return 0 if found is None else int(found["revision"])

    async def catalogue(self, text_version: str, clip_version: str | None) -> Catalogue:
        with translated():
            rows = [row async for row in self._shots.find({}, SEARCHED).sort("_id", 1)]
        return catalogue_of(
            [ShotLabels(row["_id"], row.get("tone"), row.get("genre"), frozenset(row["tags"])) for row in rows],
            [row["text"] if row["text_version"] == text_version else None for row in rows],
            [row["clip"] if clip_version is not None and row["clip_version"] == clip_version else None for row in rows],
        )

    async def delete_shot(self, shot_id: str) -> bool:
        with translated():
            gone = await self._shots.delete_one({"_id": shot_id})
        await self._changed()
        return gone.deleted_count > 0

    async def delete_video(self, asset_id: str) -> None:
        with translated():
            await self._analyses.delete_one({"_id": asset_id})
            await self._analysed.delete_many({"asset_id": asset_id})
            gone = await self._shots.delete_many({"asset_id": asset_id})
        if gone.deleted_count:
            await self._changed()

    async def _changed(self) -> None:
        # After the change: who reads the number first and the shots then, has seen the change, or reads again.
        with translated():
            await self._library.update_one({"_id": LIBRARY}, {"$inc": {"revision": 1}}, upsert=True)

    async def _make_indexes(self) -> None:
        if not self._indexed:
            with translated():
                await self._analysed.create_index([("asset_id", 1), ("generation", 1), ("place", 1)], unique=True)
                await self._shots.create_index("asset_id")
                await self._shots.create_index(ORDER)
            self._indexed = True


def _values(shot: Shot) -> Document:
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
        **_values(shot),
    }


def _beginnings(words: str) -> list[str]:
    parts = words.split(" ")
    return [" ".join(parts[: count + 1]) for count in range(len(parts))]


def _shot(document: Document) -> Shot:
    return from_row(document["record"], {name: document[name] for name in VECTORS})


def _query(wanted: ShotFilter) -> Document:
    words = {"movement": wanted.movement, "tone": wanted.emotional_tone, "genre": wanted.genre}
    query: dict[str, Any] = {name: folded(word) for name, word in words.items() if word is not None}
    if wanted.video_asset_id is not None:
        query["asset_id"] = wanted.video_asset_id
    if wanted.tags:
        query["tags"] = {"$all": [folded(tag) for tag in wanted.tags]}
    return query
