"""Shots in SQLite."""

import json
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import orjson

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
from stores.sqlite.engine import SqliteRepository
from vision.objects.tags import Tag

SCHEMA = (
    """CREATE TABLE shot_analyses (
        asset_id TEXT PRIMARY KEY, models TEXT NOT NULL, analyzed_at INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE analysed_shots (
        asset_id TEXT NOT NULL REFERENCES shot_analyses ON DELETE CASCADE, place INTEGER NOT NULL,
        record TEXT NOT NULL, features BLOB, clip BLOB, text BLOB, PRIMARY KEY (asset_id, place))""",
    """CREATE TABLE shots (
        shot_id TEXT PRIMARY KEY, asset_id TEXT NOT NULL, start_frame INTEGER NOT NULL, stored_at INTEGER NOT NULL,
        movement TEXT NOT NULL, tone TEXT, genre TEXT, tags TEXT NOT NULL, text_version TEXT, clip_version TEXT,
        record TEXT NOT NULL, features BLOB, clip BLOB, text BLOB)""",
    "CREATE INDEX shots_of_asset ON shots (asset_id)",
    # In the order of a page, with all that a filter looks at: rows with their vectors are read for one page only.
    """CREATE INDEX shots_by_time ON shots
        (stored_at DESC, asset_id, start_frame, shot_id, movement, tone, genre, tags)""",
    "CREATE TABLE shot_library (revision INTEGER NOT NULL)",
    "INSERT INTO shot_library VALUES (0)",
)
OBJECTS = (
    # As {label: [confidence, at_once, screen_time]}, longest seen first; NULL where nobody looked.
    "ALTER TABLE shots ADD COLUMN objects TEXT",
    "DROP INDEX shots_by_time",
    """CREATE INDEX shots_by_time ON shots
        (stored_at DESC, asset_id, start_frame, shot_id, movement, tone, genre, tags, objects)""",
)
"""Came with version 16."""
ANALYSIS = """SELECT models, analyzed_at, record, features, clip, text FROM shot_analyses
    LEFT JOIN analysed_shots USING (asset_id) WHERE asset_id = ? ORDER BY place"""
PUT_ANALYSED = "INSERT INTO analysed_shots VALUES (?, ?, ?, ?, ?, ?)"
PUT = "INSERT OR REPLACE INTO shots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
SHOT = f"record, {', '.join(VECTORS)}, objects"
AMONG = f"""SELECT shot_id, {SHOT} FROM shots
    WHERE shot_id IN (SELECT value FROM json_each(?))"""  # noqa: S608 (a constant)
MATCHES = """FROM shots WHERE (?1 IS NULL OR movement = ?1 OR substr(movement, 1, length(?1) + 1) = ?1 || ' ')
    AND (?2 IS NULL OR tone = ?2) AND (?3 IS NULL OR genre = ?3) AND (?4 IS NULL OR asset_id = ?4)
    AND (?5 IS NULL OR json_array_length(?5) = (
        SELECT count(*) FROM json_each(shots.tags) WHERE value IN (SELECT value FROM json_each(?5))))
    AND (?6 IS NULL OR json_array_length(?6) = (
        SELECT count(*) FROM json_each(shots.objects) WHERE key IN (SELECT value FROM json_each(?6))))"""
LIST = f"""SELECT {SHOT} {MATCHES}
    ORDER BY stored_at DESC, asset_id, start_frame, shot_id LIMIT ?7 OFFSET ?8"""
COUNT = f"SELECT count(*) {MATCHES}"
CATALOGUE = """SELECT shot_id, tone, genre, tags, CASE text_version WHEN ? THEN text END,
    CASE clip_version WHEN ? THEN clip END, objects FROM shots ORDER BY shot_id"""
SET_OBJECTS = "UPDATE shots SET objects = ? WHERE shot_id = ?"
CHANGED = "UPDATE shot_library SET revision = revision + 1"
NO_LIMIT = -1


class SqliteShots(SqliteRepository, Shots):
    """Tables ``shot_analyses``, ``analysed_shots``, ``shots`` and ``shot_library``."""

    async def put_analysis(self, analysis: ShotAnalysis) -> None:
        rows = [
            (analysis.asset_id, place, to_json(shot), *to_blobs(shot).values())
            for place, shot in enumerate(analysis.shots)
        ]
        head = (analysis.asset_id, analysis.models, to_micros(analysis.analyzed_at))

        def put(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM shot_analyses WHERE asset_id = ?", (analysis.asset_id,))
            connection.execute("INSERT INTO shot_analyses VALUES (?, ?, ?)", head)
            connection.executemany(PUT_ANALYSED, rows)

        await self._engine.write(put)

    async def get_analysis(self, asset_id: str) -> ShotAnalysis | None:
        rows = await self._engine.read(ANALYSIS, asset_id)
        if not rows:
            return None
        models, analyzed_at = rows[0][:2]
        shots = tuple(_shot((*row[2:], None)) for row in rows if row[2] is not None)
        return ShotAnalysis(asset_id, models, from_micros(analyzed_at), shots)

    async def put_shots(self, shots: Sequence[Shot]) -> None:
        rows = [_row(shot) for shot in shots]

        def put(connection: sqlite3.Connection) -> None:
            connection.executemany(PUT, rows)
            connection.execute(CHANGED)

        if rows:
            await self._engine.write(put)

    async def get_shots(self, shot_ids: Iterable[str]) -> dict[str, Shot]:
        rows = await self._engine.read(AMONG, json.dumps(list(shot_ids)))
        return {row[0]: _shot(row[1:]) for row in rows}

    async def list_shots(self, shot_filter: ShotFilter, *, offset: int = 0, limit: int | None = None) -> list[Shot]:
        rows = await self._engine.read(LIST, *_conditions(shot_filter), NO_LIMIT if limit is None else limit, offset)
        return [_shot(row) for row in rows]

    async def count_shots(self, shot_filter: ShotFilter) -> int:
        ((count,),) = await self._engine.read(COUNT, *_conditions(shot_filter))
        return int(count)

    async def spans(self, asset_id: str) -> list[ShotSpan]:
        rows = await self._engine.read("SELECT shot_id, record, objects FROM shots WHERE asset_id = ?", asset_id)
        return [span_of(shot_id, record, _tags(objects)) for shot_id, record, objects in rows]

    async def set_objects(self, objects: Mapping[str, tuple[Tag, ...] | None]) -> None:
        rows = [(_objects(tags), shot_id) for shot_id, tags in objects.items()]

        def update(connection: sqlite3.Connection) -> None:
            if connection.executemany(SET_OBJECTS, rows).rowcount:
                connection.execute(CHANGED)

        if rows:
            await self._engine.write(update, reserve=not any(objects.values()))

    async def revision(self) -> int:
        ((revision,),) = await self._engine.read("SELECT revision FROM shot_library", inline=True)
        return int(revision)

    async def catalogue(self, text_version: str, clip_version: str | None) -> Catalogue:
        rows = await self._engine.read(CATALOGUE, text_version, clip_version)
        # By orjson, as there may be 100,000 of them.
        labels = [ShotLabels(row[0], row[1], row[2], frozenset(orjson.loads(row[3]))) for row in rows]
        objects = (None if row[6] is None else orjson.loads(row[6]) for row in rows)
        shown = (each and {label: confidence for label, (confidence, *_) in each.items()} for each in objects)
        return catalogue_of(labels, [row[4] for row in rows], [row[5] for row in rows], shown)

    async def delete_shot(self, shot_id: str) -> bool:
        def delete(connection: sqlite3.Connection) -> bool:
            deleted = connection.execute("DELETE FROM shots WHERE shot_id = ?", (shot_id,)).rowcount > 0
            connection.execute(CHANGED)
            return deleted

        return await self._engine.write(delete, reserve=True)

    async def delete_video(self, asset_id: str) -> int:
        def delete(connection: sqlite3.Connection) -> int:
            ((analysed,),) = connection.execute("SELECT count(*) FROM analysed_shots WHERE asset_id = ?", (asset_id,))
            analyses = connection.execute("DELETE FROM shot_analyses WHERE asset_id = ?", (asset_id,)).rowcount
            shots = connection.execute("DELETE FROM shots WHERE asset_id = ?", (asset_id,)).rowcount
            if shots:
                connection.execute(CHANGED)
            return int(analysed + analyses + shots)

        return await self._engine.write(delete, reserve=True)

    async def owner_ids(self) -> AsyncIterator[str]:
        for (asset_id,) in await self._engine.read(
            "SELECT asset_id FROM shot_analyses UNION SELECT asset_id FROM shots"
        ):
            yield asset_id


def _row(shot: Shot) -> tuple[Any, ...]:
    labels = labels_of(shot)
    return (
        *(shot.shot_id, shot.video_asset_id, shot.start_frame, stored_moment(shot), folded(shot.camera_movement)),
        *(labels.emotional_tone, labels.genre, json.dumps(sorted(labels.tags)), shot.text_version, shot.clip_version),
        *(to_json(shot), *to_blobs(shot).values(), _objects(shot.objects)),
    )


def _shot(row: Sequence[Any]) -> Shot:
    record, *blobs, objects = row
    return from_row(record, dict(zip(VECTORS, blobs, strict=True)), _tags(objects))


def _objects(tags: tuple[Tag, ...] | None) -> str | None:
    if tags is None:
        return None
    seen = {tag.label: (tag.confidence, tag.at_once, tag.screen_time) for tag in tags}
    return json.dumps(seen, separators=(",", ":"))  # it is in an index


def _tags(objects: str | None) -> tuple[Tag, ...] | None:
    return None if objects is None else tuple(Tag(label, *seen) for label, seen in json.loads(objects).items())


def _all_of(words: Iterable[str]) -> str | None:
    """Return the words as JSON, each once, as they are counted; None where a condition holds for all rows."""
    distinct = list(dict.fromkeys(words))
    return json.dumps(distinct) if distinct else None


def _conditions(shot_filter: ShotFilter) -> tuple[str | None, ...]:
    words = (shot_filter.movement, shot_filter.emotional_tone, shot_filter.genre)
    return (
        *(None if word is None else folded(word) for word in words),
        shot_filter.video_asset_id,
        _all_of(map(folded, shot_filter.tags)),
        _all_of(shot_filter.objects),
    )
