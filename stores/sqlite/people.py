"""Traces, objects and identities in SQLite."""

import json
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from stores.people import Identity, ObjectRecord, People, TraceBoxes, TraceRecord, VideoIndex, summary
from stores.records import ClassCount, from_blob, from_micros, tags_by_asset, to_blob, to_micros
from stores.sqlite.engine import SqliteRepository
from vision.objects.tags import Tag

SCHEMA = (
    """CREATE TABLE video_indexes (
        asset_id TEXT PRIMARY KEY, models TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
        fps REAL NOT NULL, frame_count INTEGER NOT NULL, duration REAL NOT NULL, step INTEGER NOT NULL,
        cuts TEXT NOT NULL, trace_count INTEGER NOT NULL, indexed_at INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE traces (
        asset_id TEXT NOT NULL REFERENCES video_indexes ON DELETE CASCADE, trace_id INTEGER NOT NULL,
        first_frame INTEGER NOT NULL, last_frame INTEGER NOT NULL, first_time REAL NOT NULL, last_time REAL NOT NULL,
        face_count INTEGER NOT NULL, identity_uuid TEXT, vector BLOB NOT NULL, boxes BLOB NOT NULL,
        PRIMARY KEY (asset_id, trace_id))""",
    "CREATE INDEX traces_of_identity ON traces (identity_uuid) WHERE identity_uuid IS NOT NULL",
    """CREATE TABLE identities (
        identity_uuid TEXT PRIMARY KEY, name TEXT, models TEXT NOT NULL, vector BLOB NOT NULL, weight REAL NOT NULL,
        reference_ids TEXT NOT NULL, created_at INTEGER NOT NULL) WITHOUT ROWID""",
)
REJECTED_COLUMN = "ALTER TABLE identities ADD COLUMN rejected BLOB NOT NULL DEFAULT x''"
"""Came with version 7."""
OBJECTS = (
    "ALTER TABLE video_indexes ADD COLUMN objects TEXT",
    "ALTER TABLE video_indexes ADD COLUMN object_count INTEGER NOT NULL DEFAULT 0",
    """CREATE TABLE object_tracks (
        asset_id TEXT NOT NULL REFERENCES video_indexes ON DELETE CASCADE, track_id INTEGER NOT NULL,
        label TEXT NOT NULL, first_frame INTEGER NOT NULL, last_frame INTEGER NOT NULL, first_time REAL NOT NULL,
        last_time REAL NOT NULL, sightings INTEGER NOT NULL, confidence REAL NOT NULL, screen_time REAL NOT NULL,
        trace_id INTEGER, boxes BLOB NOT NULL, PRIMARY KEY (asset_id, track_id))""",
    "CREATE INDEX object_tracks_by_label ON object_tracks (label, asset_id)",
)
"""Came with version 14."""
TAGS = (
    """CREATE TABLE film_tags (
        label TEXT NOT NULL, asset_id TEXT NOT NULL REFERENCES video_indexes ON DELETE CASCADE,
        confidence REAL NOT NULL, at_once INTEGER NOT NULL, screen_time REAL NOT NULL, tracks INTEGER NOT NULL,
        PRIMARY KEY (label, asset_id)) WITHOUT ROWID""",
    "CREATE INDEX film_tags_of_asset ON film_tags (asset_id)",
    "DROP INDEX object_tracks_by_label",  # tags are looked up instead, of which a film has one for each class
)
"""Came with version 15."""
INDEX_FIELDS = [field.name for field in fields(VideoIndex)]
INDEX = f"SELECT {', '.join(INDEX_FIELDS)} FROM video_indexes "  # noqa: S608 (a constant)
TRACE_FIELDS = [field.name for field in fields(TraceRecord)]
TRACE_COLUMNS = ", ".join(TRACE_FIELDS)
OBJECT_FIELDS = [field.name for field in fields(ObjectRecord)]
OBJECT_COLUMNS = ", ".join(OBJECT_FIELDS)
PUT_OBJECT = f"""INSERT INTO object_tracks ({OBJECT_COLUMNS}, boxes)
    VALUES ({"?, " * len(OBJECT_FIELDS)}?)"""  # noqa: S608 (a constant)
IDENTITY = "SELECT identity_uuid, name, models, vector, weight, reference_ids, created_at, rejected FROM identities "
IDENTITIES_AMONG = f"{IDENTITY} WHERE identity_uuid IN (SELECT value FROM json_each(?))"  # noqa: S608 (a constant)
REFERRING = """SELECT identity_uuid, reference_ids FROM identities
    WHERE instr(reference_ids, ?1) AND ?1 IN (SELECT value FROM json_each(reference_ids))"""
PUT_INDEX = f"INSERT INTO video_indexes ({', '.join(INDEX_FIELDS)}) VALUES ({', '.join('?' * len(INDEX_FIELDS))})"  # noqa: S608
PUT_IDENTITY = "INSERT OR REPLACE INTO identities VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
AMONG = "asset_id IN (SELECT value FROM json_each(?))"
PUT_TAG = "INSERT INTO film_tags VALUES (?, ?, ?, ?, ?, ?)"
NO_LIMIT = -1
INLINE_IDS: Final = 128
"""Tags of up to this many films are read on the event loop: a page of them."""


def tag_films(connection: sqlite3.Connection) -> None:
    """Tag the films of version 14."""
    indexes = connection.execute("SELECT asset_id FROM video_indexes WHERE object_count > 0").fetchall()
    for (asset_id,) in indexes:
        sql = f"SELECT {OBJECT_COLUMNS} FROM object_tracks WHERE asset_id = ?"  # noqa: S608 (a constant)
        records = [ObjectRecord(*row) for row in connection.execute(sql, (asset_id,))]
        connection.executemany(PUT_TAG, _tag_rows(asset_id, records))


class SqlitePeople(SqliteRepository, People):
    """Tables ``video_indexes``, ``traces``, ``object_tracks``, ``film_tags`` and ``identities``."""

    async def put_index(
        self,
        index: VideoIndex,
        traces: Sequence[tuple[TraceRecord, TraceBoxes]],
        objects: Sequence[tuple[ObjectRecord, TraceBoxes]] = (),
    ) -> None:
        head = (
            *(index.asset_id, index.models, index.width, index.height, index.fps, index.frame_count, index.duration),
            *(index.step, json.dumps(index.cuts), index.trace_count, to_micros(index.indexed_at)),
            *(index.objects, index.object_count),
        )
        rows = [(*_trace_row(trace), boxes.packed()) for trace, boxes in traces]
        tracks = [_object_row(each) for each in objects]
        tags = _tag_rows(index.asset_id, [record for record, _ in objects])

        def put(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM video_indexes WHERE asset_id = ?", (index.asset_id,))
            connection.execute(PUT_INDEX, head)
            connection.executemany("INSERT INTO traces VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            connection.executemany(PUT_OBJECT, tracks)
            connection.executemany(PUT_TAG, tags)

        await self._engine.write(put)

    async def put_objects(self, index: VideoIndex, objects: Sequence[tuple[ObjectRecord, TraceBoxes]]) -> bool:
        values = (index.objects, index.object_count, index.asset_id, to_micros(index.indexed_at))
        tracks = [_object_row(each) for each in objects]
        tags = _tag_rows(index.asset_id, [record for record, _ in objects])

        def put(connection: sqlite3.Connection) -> bool:
            update = "UPDATE video_indexes SET objects = ?, object_count = ? WHERE asset_id = ? AND indexed_at = ?"
            if not connection.execute(update, values).rowcount:
                return False
            for table in ("object_tracks", "film_tags"):
                connection.execute(f"DELETE FROM {table} WHERE asset_id = ?", (index.asset_id,))  # noqa: S608
            connection.executemany(PUT_OBJECT, tracks)
            connection.executemany(PUT_TAG, tags)
            return True

        return await self._engine.write(put)

    async def list_objects(
        self,
        asset_id: str,
        *,
        after: int = -1,
        limit: int | None = None,
        labels: Sequence[str] = (),
        least: float = 0.0,
    ) -> list[ObjectRecord]:
        sql = f"""SELECT {OBJECT_COLUMNS} FROM object_tracks WHERE asset_id = ? AND track_id > ? AND confidence >= ?
            AND (? OR label IN (SELECT value FROM json_each(?))) ORDER BY track_id LIMIT ?"""  # noqa: S608 (a constant)
        count = NO_LIMIT if limit is None else limit
        rows = await self._engine.read(sql, asset_id, after, least, not labels, json.dumps(list(labels)), count)
        return [ObjectRecord(*row) for row in rows]

    async def count_objects(self, asset_id: str) -> dict[str, int]:
        sql = "SELECT label, count(*) FROM object_tracks WHERE asset_id = ? GROUP BY label ORDER BY label"
        return dict(await self._engine.read(sql, asset_id))

    async def get_object(self, asset_id: str, track_id: int) -> tuple[ObjectRecord, TraceBoxes] | None:
        sql = f"""SELECT {OBJECT_COLUMNS}, boxes FROM object_tracks
            WHERE asset_id = ? AND track_id = ?"""  # noqa: S608 (a constant)
        rows = await self._engine.read(sql, asset_id, track_id)
        return next(((ObjectRecord(*row[:-1]), TraceBoxes.unpacked(row[-1])) for row in rows), None)

    async def film_tags(self, asset_ids: Iterable[str]) -> dict[str, tuple[Tag, ...]]:
        sql = f"""SELECT asset_id, label, confidence, at_once, screen_time
            FROM video_indexes LEFT JOIN film_tags USING (asset_id) WHERE objects IS NOT NULL AND {AMONG}
            ORDER BY screen_time DESC, confidence DESC, label"""  # noqa: S608 (constants)
        ids = list(asset_ids)
        return tags_by_asset(await self._engine.read(sql, json.dumps(ids), inline=len(ids) <= INLINE_IDS))

    async def films_with(self, labels: Sequence[str], least: float = 0.0) -> set[str]:
        return await self._having_all("film_tags", labels, least)

    async def films_of(self, identity_uuids: Sequence[str]) -> set[str]:
        sql = "SELECT DISTINCT asset_id FROM traces WHERE identity_uuid IN (SELECT value FROM json_each(?))"
        return {row[0] for row in await self._engine.read(sql, json.dumps(list(identity_uuids)))}

    async def objects_in(self, asset_ids: Sequence[str], labels: Sequence[str]) -> list[ObjectRecord]:
        sql = f"""SELECT {OBJECT_COLUMNS} FROM object_tracks WHERE {AMONG}
            AND label IN (SELECT value FROM json_each(?)) ORDER BY asset_id, track_id"""  # noqa: S608 (constants)
        rows = await self._engine.read(sql, json.dumps(list(asset_ids)), json.dumps(list(labels)))
        return [ObjectRecord(*row) for row in rows]

    async def traces_in(self, asset_ids: Sequence[str], identity_uuids: Sequence[str]) -> list[TraceRecord]:
        sql = f"""SELECT {TRACE_COLUMNS} FROM traces WHERE {AMONG}
            AND +identity_uuid IN (SELECT value FROM json_each(?)) ORDER BY asset_id, trace_id"""  # noqa: S608 (constants)
        rows = await self._engine.read(sql, json.dumps(list(asset_ids)), json.dumps(list(identity_uuids)))
        return [_trace(row) for row in rows]

    async def count_classes(self, without: Collection[str] = ()) -> tuple[list[ClassCount], int]:
        ids = json.dumps(list(without))
        sql = f"""SELECT label, count(*), sum(tracks), sum(screen_time) FROM film_tags
            WHERE NOT {AMONG} GROUP BY label ORDER BY label"""  # noqa: S608 (constants)
        rows = await self._engine.read(sql, ids)
        seen = f"SELECT count(*) FROM video_indexes WHERE objects IS NOT NULL AND NOT {AMONG}"  # noqa: S608 (constants)
        ((looked_at,),) = await self._engine.read(seen, ids)
        return [ClassCount(*row) for row in rows], int(looked_at)

    async def get_index(self, asset_id: str) -> VideoIndex | None:
        rows = await self._engine.read(f"{INDEX} WHERE asset_id = ?", asset_id, inline=True)
        return next(map(_index, rows), None)

    async def old_indexes(self, before: datetime, after: str = "", limit: int = 1000) -> list[str]:
        sql = "SELECT asset_id FROM video_indexes WHERE asset_id > ? AND indexed_at < ? ORDER BY asset_id LIMIT ?"
        return [row[0] for row in await self._engine.read(sql, after, to_micros(before), limit)]

    async def delete_index(self, asset_id: str) -> int:
        def delete(connection: sqlite3.Connection) -> int:
            ((traces,),) = connection.execute("SELECT count(*) FROM traces WHERE asset_id = ?", (asset_id,))
            ((objects,),) = connection.execute("SELECT count(*) FROM object_tracks WHERE asset_id = ?", (asset_id,))
            indexes = connection.execute("DELETE FROM video_indexes WHERE asset_id = ?", (asset_id,)).rowcount
            return int(indexes + traces + objects)

        return await self._engine.write(delete, reserve=True)

    async def forget_reference(self, asset_id: str) -> int:
        # Most assets are no photo of anybody, and a read waits for nobody.
        if not await self._engine.read(REFERRING, asset_id):
            return 0

        def forget(connection: sqlite3.Connection) -> int:
            rows = connection.execute(REFERRING, (asset_id,)).fetchall()
            for identity_uuid, references in rows:
                left = json.dumps([each for each in json.loads(references) if each != asset_id])
                update = "UPDATE identities SET reference_ids = ? WHERE identity_uuid = ?"
                connection.execute(update, (left, identity_uuid))
            return len(rows)

        return await self._engine.write(forget, reserve=True)

    async def list_traces(
        self, asset_id: str, *, after: int = -1, limit: int | None = None, identity_uuid: str | None = None
    ) -> list[TraceRecord]:
        sql = f"""SELECT {TRACE_COLUMNS} FROM traces WHERE asset_id = ? AND trace_id > ?
            AND (? IS NULL OR identity_uuid = ?) ORDER BY trace_id LIMIT ?"""  # noqa: S608 (a constant)
        count = NO_LIMIT if limit is None else limit
        return [
            _trace(row) for row in await self._engine.read(sql, asset_id, after, identity_uuid, identity_uuid, count)
        ]

    async def list_appearances(
        self, identity_uuid: str, *, after: tuple[str, int] = ("", 0), limit: int | None = None
    ) -> list[TraceRecord]:
        sql = f"""SELECT {TRACE_COLUMNS} FROM traces WHERE identity_uuid = ? AND (asset_id, trace_id) > (?, ?)
            ORDER BY asset_id, trace_id LIMIT ?"""  # noqa: S608 (a constant)
        count = NO_LIMIT if limit is None else limit
        return [_trace(row) for row in await self._engine.read(sql, identity_uuid, *after, count)]

    async def longest_traces(self, identity_uuids: Iterable[str]) -> dict[str, tuple[str, int]]:
        # Beside MAX the other columns are those of the row that has it: SQLite promises that.
        sql = """SELECT identity_uuid, asset_id, trace_id, MAX(face_count) FROM traces
            WHERE identity_uuid IN (SELECT value FROM json_each(?)) GROUP BY identity_uuid"""
        return {row[0]: (row[1], row[2]) for row in await self._engine.read(sql, json.dumps(list(identity_uuids)))}

    async def get_trace(self, asset_id: str, trace_id: int) -> tuple[TraceRecord, TraceBoxes] | None:
        sql = f"SELECT {TRACE_COLUMNS}, boxes FROM traces WHERE asset_id = ? AND trace_id = ?"  # noqa: S608 (a constant)
        rows = await self._engine.read(sql, asset_id, trace_id)
        return next(((_trace(row[:-1]), TraceBoxes.unpacked(row[-1])) for row in rows), None)

    async def set_identities(self, asset_id: str, identities: Mapping[int, str | None]) -> None:
        await self._engine.execute_many(
            "UPDATE traces SET identity_uuid = ? WHERE asset_id = ? AND trace_id = ?",
            [(identity_uuid, asset_id, trace_id) for trace_id, identity_uuid in identities.items()],
        )

    async def put_identity(self, identity: Identity) -> None:
        await self._engine.execute(PUT_IDENTITY, *_identity_row(identity))

    async def get_identities(self, identity_uuids: Iterable[str]) -> dict[str, Identity]:
        rows = await self._engine.read(IDENTITIES_AMONG, json.dumps(list(identity_uuids)))
        return {row[0]: _identity(row) for row in rows}

    async def list_identities(self, *, after: str = "", limit: int | None = None) -> list[Identity]:
        sql = f"{IDENTITY} WHERE identity_uuid > ? ORDER BY identity_uuid LIMIT ?"
        return [_identity(row) for row in await self._engine.read(sql, after, NO_LIMIT if limit is None else limit)]

    async def merge_identities(self, kept: Identity, merged: str) -> None:
        def merge(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE traces SET identity_uuid = ? WHERE identity_uuid = ?", (kept.identity_uuid, merged)
            )
            connection.execute(PUT_IDENTITY, _identity_row(kept))
            connection.execute("DELETE FROM identities WHERE identity_uuid = ?", (merged,))

        await self._engine.write(merge)

    async def split_identity(self, kept: Identity, new: Identity, traces: Sequence[tuple[str, int]]) -> None:
        def split(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE traces SET identity_uuid = ? WHERE asset_id = ? AND trace_id = ? AND identity_uuid = ?",
                [(new.identity_uuid, *trace, kept.identity_uuid) for trace in traces],
            )
            connection.executemany(PUT_IDENTITY, [_identity_row(kept), _identity_row(new)])

        await self._engine.write(split)

    async def delete_identity(self, identity_uuid: str) -> bool:
        def delete(connection: sqlite3.Connection) -> bool:
            connection.execute("UPDATE traces SET identity_uuid = NULL WHERE identity_uuid = ?", (identity_uuid,))
            deleted = connection.execute("DELETE FROM identities WHERE identity_uuid = ?", (identity_uuid,))
            return deleted.rowcount > 0

        return await self._engine.write(delete, reserve=True)

    async def owner_ids(self) -> AsyncIterator[str]:
        # All traces and objects have one.
        for (asset_id,) in await self._engine.read("SELECT asset_id FROM video_indexes"):
            yield asset_id


def _object_row(each: tuple[ObjectRecord, TraceBoxes]) -> tuple[Any, ...]:
    record, boxes = each
    return (*(getattr(record, name) for name in OBJECT_FIELDS), boxes.packed())


def _tag_rows(asset_id: str, objects: Sequence[ObjectRecord]) -> list[tuple[Any, ...]]:
    return [
        (tag.label, asset_id, tag.confidence, tag.at_once, tag.screen_time, tracks) for tag, tracks in summary(objects)
    ]


def _trace_row(trace: TraceRecord) -> tuple[Any, ...]:
    return (
        *(trace.asset_id, trace.trace_id, trace.first_frame, trace.last_frame, trace.first_time, trace.last_time),
        *(trace.face_count, trace.identity_uuid, to_blob(trace.vector)),
    )


def _trace(row: Sequence[Any]) -> TraceRecord:
    values = dict(zip(TRACE_FIELDS, row, strict=True))
    return TraceRecord(**values | {"vector": from_blob(values["vector"])})


def _index(row: Sequence[Any]) -> VideoIndex:
    values = dict(zip(INDEX_FIELDS, row, strict=True))
    stored = {"cuts": tuple(json.loads(values["cuts"])), "indexed_at": from_micros(values["indexed_at"])}
    return VideoIndex(**values | stored)


def _identity_row(identity: Identity) -> tuple[Any, ...]:
    return (
        *(identity.identity_uuid, identity.name, identity.models, to_blob(identity.vector), identity.weight),
        *(json.dumps(identity.references), to_micros(identity.created_at), to_blob(identity.rejected)),
    )


def _identity(row: Sequence[Any]) -> Identity:
    identity_uuid, name, models, blob, weight, references, created_at, rejected = row
    vector, moment = from_blob(blob), from_micros(created_at)
    return Identity(
        *(identity_uuid, name, models, vector, weight, tuple(json.loads(references)), moment),
        rejected=from_blob(rejected).reshape(-1, len(vector)),
    )
