"""Assets, features, faces and configuration in SQLite: embedded, durable, shared by the processes of one machine."""

import json
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import fields
from typing import Any

from stores.documents import Documents
from stores.records import (
    Asset,
    Features,
    PictureFaces,
    from_blob,
    from_face_blobs,
    from_micros,
    to_blob,
    to_micros,
)
from stores.sqlite.engine import SqliteRepository

FACES_TABLE = """CREATE TABLE faces (
    asset_id TEXT NOT NULL REFERENCES assets ON DELETE CASCADE, model_version TEXT NOT NULL,
    places BLOB NOT NULL, vectors BLOB NOT NULL, created_at INTEGER NOT NULL, PRIMARY KEY (asset_id, model_version))"""
SCHEMA = (
    """CREATE TABLE assets (
        asset_id TEXT PRIMARY KEY, filename TEXT NOT NULL, kind TEXT NOT NULL, format TEXT NOT NULL,
        content_type TEXT NOT NULL, file_size INTEGER NOT NULL, uploaded_at INTEGER NOT NULL,
        width INTEGER, height INTEGER, duration REAL, fps REAL, frame_count INTEGER, rotation INTEGER,
        has_audio INTEGER, deleting INTEGER NOT NULL, error_message TEXT) WITHOUT ROWID""",
    """CREATE TABLE features (
        asset_id TEXT NOT NULL REFERENCES assets ON DELETE CASCADE, model_version TEXT NOT NULL,
        kind TEXT NOT NULL, raw BLOB NOT NULL, unit BLOB NOT NULL, created_at INTEGER NOT NULL,
        indexed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (asset_id, model_version))""",
    "CREATE INDEX features_unindexed ON features (model_version, created_at) WHERE indexed = 0",
    "CREATE TABLE config (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID",
    FACES_TABLE,
)
ASSET_COLUMNS = [field.name for field in fields(Asset)]
ASSETS = f"SELECT {', '.join(ASSET_COLUMNS)} FROM assets "  # noqa: S608 (a constant)
FEATURES = "SELECT asset_id, model_version, kind, raw, unit, created_at FROM features "
FACES = "SELECT asset_id, model_version, places, vectors, created_at FROM faces "
# One bound JSON array in place of many placeholders: no limit on ids, and one cached statement.
AMONG = "asset_id IN (SELECT value FROM json_each(?))"
INLINE_IDS = 64
"""Keyed reads of up to this many ids run on the event loop."""


class SqliteDocuments(SqliteRepository, Documents):
    """Tables ``assets``, ``features``, ``faces`` and ``config``."""

    async def insert_asset(self, asset: Asset) -> bool:
        names, marks = ", ".join(ASSET_COLUMNS), ", ".join("?" * len(ASSET_COLUMNS))
        sql = f"INSERT INTO assets ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 (constants)
        values = {name: getattr(asset, name) for name in ASSET_COLUMNS}
        values["uploaded_at"] = to_micros(asset.uploaded_at)
        return await self._engine.execute(sql, *values.values()) > 0

    async def get_assets(self, asset_ids: Iterable[str]) -> dict[str, Asset]:
        ids = list(asset_ids)
        rows = await self._engine.read(f"{ASSETS} WHERE {AMONG}", json.dumps(ids), inline=len(ids) <= INLINE_IDS)
        return {row[0]: _asset(row) for row in rows}

    async def list_assets(self, after: str = "", limit: int = 1000) -> list[Asset]:
        rows = await self._engine.read(f"{ASSETS} WHERE asset_id > ? ORDER BY asset_id LIMIT ?", after, limit)
        return [_asset(row) for row in rows]

    async def mark_deleting(self, asset_id: str) -> bool:
        return await self._engine.execute("UPDATE assets SET deleting = 1 WHERE asset_id = ?", asset_id) > 0

    async def delete_asset(self, asset_id: str) -> bool:
        return await self._engine.execute("DELETE FROM assets WHERE asset_id = ?", asset_id) > 0

    async def set_asset_error(self, asset_id: str, message: str | None) -> None:
        await self._engine.execute("UPDATE assets SET error_message = ? WHERE asset_id = ?", message, asset_id)

    async def put_features(self, features: Features) -> bool:
        # The check is part of the statement, so no other process can flag the asset in between.
        return await self._put_of_asset(
            """INSERT INTO features (asset_id, model_version, created_at, kind, raw, unit)
               SELECT ?, ?, ?, ?, ?, ? FROM assets WHERE asset_id = ? AND NOT deleting
               ON CONFLICT DO UPDATE SET kind = excluded.kind, raw = excluded.raw, unit = excluded.unit,
               created_at = excluded.created_at, indexed = 0""",
            features,
            features.kind,
            to_blob(features.raw),
            to_blob(features.unit),
        )

    async def get_features(self, model_version: str, asset_ids: Iterable[str]) -> dict[str, Features]:
        ids = list(asset_ids)
        sql = f"{FEATURES} WHERE model_version = ? AND {AMONG}"
        rows = await self._engine.read(sql, model_version, json.dumps(ids), inline=len(ids) <= INLINE_IDS)
        return {row[0]: _features(row) for row in rows}

    async def unindexed_features(self, model_version: str, limit: int) -> list[Features]:
        sql = f"{FEATURES} WHERE model_version = ? AND indexed = 0 ORDER BY created_at LIMIT ?"
        return [_features(row) for row in await self._engine.read(sql, model_version, limit)]

    async def unindexed_models(self) -> list[str]:
        rows = await self._engine.read("SELECT DISTINCT model_version FROM features WHERE indexed = 0")
        return [row[0] for row in rows]

    async def mark_indexed(self, features: Iterable[Features]) -> None:
        await self._engine.execute_many(
            "UPDATE features SET indexed = 1 WHERE asset_id = ? AND model_version = ? AND created_at = ?",
            [(item.asset_id, item.model_version, to_micros(item.created_at)) for item in features],
        )

    async def mark_unindexed(self, model_version: str) -> None:
        sql = "UPDATE features SET indexed = 0 WHERE model_version = ? AND indexed = 1"
        await self._engine.execute(sql, model_version)

    async def put_faces(self, faces: PictureFaces) -> bool:
        return await self._put_of_asset(
            """INSERT INTO faces (asset_id, model_version, created_at, places, vectors)
               SELECT ?, ?, ?, ?, ? FROM assets WHERE asset_id = ? AND NOT deleting
               ON CONFLICT DO UPDATE SET places = excluded.places, vectors = excluded.vectors,
               created_at = excluded.created_at""",
            faces,
            to_blob(faces.places),
            to_blob(faces.vectors),
        )

    async def get_faces(self, model_version: str, asset_ids: Iterable[str]) -> dict[str, PictureFaces]:
        ids = list(asset_ids)
        sql = f"{FACES} WHERE model_version = ? AND {AMONG}"
        rows = await self._engine.read(sql, model_version, json.dumps(ids), inline=len(ids) <= INLINE_IDS)
        return {row[0]: _faces(row) for row in rows}

    async def get_config(self) -> dict[str, float]:
        return dict(await self._engine.read("SELECT name, value FROM config", inline=True))

    async def set_config(self, values: Mapping[str, float]) -> None:
        await self._engine.execute_many(
            "INSERT INTO config VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            list(values.items()),
        )

    async def owner_ids(self) -> AsyncIterator[str]:
        # Whoever has features or faces has a record: they reference it.
        for (asset_id,) in await self._engine.read("SELECT asset_id FROM features UNION SELECT asset_id FROM faces"):
            yield asset_id

    async def _put_of_asset(self, sql: str, item: Features | PictureFaces, *values: Any) -> bool:
        """Store a record of an asset and clear the asset's error; False if the asset is unknown or being deleted."""

        def put(connection: sqlite3.Connection) -> bool:
            key = (item.asset_id, item.model_version, to_micros(item.created_at))
            stored = connection.execute(sql, (*key, *values, item.asset_id)).rowcount
            if stored == 1:
                clear = "UPDATE assets SET error_message = NULL WHERE asset_id = ?"
                connection.execute(clear, (item.asset_id,))
            return stored == 1

        return await self._engine.write(put)


def _asset(row: tuple[Any, ...]) -> Asset:
    values = dict(zip(ASSET_COLUMNS, row, strict=True))
    values["uploaded_at"] = from_micros(values["uploaded_at"])
    values["deleting"] = bool(values["deleting"])
    if values["has_audio"] is not None:
        values["has_audio"] = bool(values["has_audio"])
    return Asset(**values)


def _features(row: tuple[Any, ...]) -> Features:
    asset_id, model_version, kind, raw, unit, created_at = row
    return Features(asset_id, model_version, kind, from_blob(raw), from_blob(unit), from_micros(created_at))


def _faces(row: tuple[Any, ...]) -> PictureFaces:
    asset_id, model_version, places, vectors, created_at = row
    return PictureFaces(asset_id, model_version, *from_face_blobs(places, vectors), from_micros(created_at))
