"""Documents in one SQLite file: embedded, durable, shared by all processes of one machine."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

from ops.stores.documents import StoreError
from ops.stores.records import Asset, Features, from_blob, from_micros, to_blob, to_micros
from ops.stores.sqlite_writer import GroupWriter

SCHEMA_VERSION = 1
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
)
ASSET_COLUMNS = [field.name for field in fields(Asset)]
ASSETS = f"SELECT {', '.join(ASSET_COLUMNS)} FROM assets "  # noqa: S608 (a constant)
FEATURES = "SELECT asset_id, model_version, kind, raw, unit, created_at FROM features "
# One bound JSON array in place of many placeholders: no limit on ids, and one cached statement.
AMONG = "asset_id IN (SELECT value FROM json_each(?))"
INLINE_IDS = 64
"""Keyed reads of up to this many ids run on the event loop."""
BUSY_TIMEOUT_S = 30.0
"""How long a write waits for the writers of other processes."""


class SqliteDocuments:
    """``sqlite:///file``; the file, its folder and its schema are made when absent.

    :raises StoreError: the file cannot be opened, or a newer version of this program wrote it.
    """

    type = "sqlite"
    remote = False

    def __init__(self, url: str) -> None:
        path = Path(url.removeprefix("sqlite:///"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = _open(path)
            _prepare(connection)
            self._inline = _open(path, query_only=True)
            self._scans = _open(path, query_only=True)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"sqlite {path}: {error}") from error
        self._writer = GroupWriter(connection)
        self._scanner = ThreadPoolExecutor(1, thread_name_prefix="sqlite-scan")

    @property
    def transactions(self) -> int:
        """Write transactions committed so far by this process."""
        return self._writer.transactions

    async def insert_asset(self, asset: Asset) -> bool:
        names, marks = ", ".join(ASSET_COLUMNS), ", ".join("?" * len(ASSET_COLUMNS))
        sql = f"INSERT INTO assets ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 (constants)
        values = {name: getattr(asset, name) for name in ASSET_COLUMNS}
        values["uploaded_at"] = to_micros(asset.uploaded_at)
        return await self._changed(sql, *values.values())

    async def get_assets(self, asset_ids: Iterable[str]) -> dict[str, Asset]:
        ids = list(asset_ids)
        rows = await self._read(f"{ASSETS} WHERE {AMONG}", json.dumps(ids), inline=len(ids) <= INLINE_IDS)
        return {row[0]: _asset(row) for row in rows}

    async def list_assets(self, after: str = "", limit: int = 1000) -> list[Asset]:
        rows = await self._read(f"{ASSETS} WHERE asset_id > ? ORDER BY asset_id LIMIT ?", after, limit)
        return [_asset(row) for row in rows]

    async def mark_deleting(self, asset_id: str) -> bool:
        return await self._changed("UPDATE assets SET deleting = 1 WHERE asset_id = ?", asset_id)

    async def delete_asset(self, asset_id: str) -> bool:
        return await self._changed("DELETE FROM assets WHERE asset_id = ?", asset_id)

    async def set_asset_error(self, asset_id: str, message: str | None) -> None:
        await self._changed("UPDATE assets SET error_message = ? WHERE asset_id = ?", message, asset_id)

    async def put_features(self, features: Features) -> bool:
        values = (
            features.asset_id,
            features.model_version,
            features.kind,
            to_blob(features.raw),
            to_blob(features.unit),
            to_micros(features.created_at),
        )

        def put(connection: sqlite3.Connection) -> bool:
            # The check is part of the statement, so no other process can flag the asset in between.
            stored = connection.execute(
                """INSERT INTO features (asset_id, model_version, kind, raw, unit, created_at)
                   SELECT ?, ?, ?, ?, ?, ? FROM assets WHERE asset_id = ? AND NOT deleting
                   ON CONFLICT DO UPDATE SET kind = excluded.kind, raw = excluded.raw, unit = excluded.unit,
                   created_at = excluded.created_at, indexed = 0""",
                (*values, features.asset_id),
            ).rowcount
            if stored == 1:
                clear = "UPDATE assets SET error_message = NULL WHERE asset_id = ?"
                connection.execute(clear, (features.asset_id,))
            return stored == 1

        return await self._writer.submit(put)

    async def get_features(self, model_version: str, asset_ids: Iterable[str]) -> dict[str, Features]:
        ids = list(asset_ids)
        sql = f"{FEATURES} WHERE model_version = ? AND {AMONG}"
        rows = await self._read(sql, model_version, json.dumps(ids), inline=len(ids) <= INLINE_IDS)
        return {row[0]: _features(row) for row in rows}

    async def unindexed_features(self, model_version: str, limit: int) -> list[Features]:
        sql = f"{FEATURES} WHERE model_version = ? AND indexed = 0 ORDER BY created_at LIMIT ?"
        return [_features(row) for row in await self._read(sql, model_version, limit)]

    async def unindexed_models(self) -> list[str]:
        rows = await self._read("SELECT DISTINCT model_version FROM features WHERE indexed = 0")
        return [row[0] for row in rows]

    async def mark_indexed(self, features: Iterable[Features]) -> None:
        await self._write_rows(
            "UPDATE features SET indexed = 1 WHERE asset_id = ? AND model_version = ? AND created_at = ?",
            [(item.asset_id, item.model_version, to_micros(item.created_at)) for item in features],
        )

    async def mark_unindexed(self, model_version: str) -> None:
        await self._changed("UPDATE features SET indexed = 0 WHERE model_version = ? AND indexed = 1", model_version)

    async def get_config(self) -> dict[str, float]:
        return dict(await self._read("SELECT name, value FROM config", inline=True))

    async def set_config(self, values: Mapping[str, float]) -> None:
        await self._write_rows(
            "INSERT INTO config VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            list(values.items()),
        )

    async def ping(self) -> None:
        await self._read("SELECT 1 FROM assets LIMIT 1", inline=True)

    async def close(self) -> None:
        await self._writer.close()
        await asyncio.to_thread(self._scanner.shutdown)
        self._inline.close()
        self._scans.close()

    async def _changed(self, sql: str, *values: Any) -> bool:
        return await self._writer.submit(lambda connection: connection.execute(sql, values).rowcount > 0)

    async def _write_rows(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            await self._writer.submit(lambda connection: connection.executemany(sql, rows))

    async def _read(self, sql: str, *values: Any, inline: bool = False) -> list[Any]:
        def fetch(connection: sqlite3.Connection) -> list[Any]:
            with closing(connection.execute(sql, values)) as cursor:
                return cursor.fetchall()

        try:
            if inline:
                # A keyed read takes about 20 µs and in WAL mode waits for no writer: a thread hop costs more.
                return fetch(self._inline)
            return await asyncio.get_running_loop().run_in_executor(self._scanner, fetch, self._scans)
        except (sqlite3.Error, RuntimeError) as error:  # RuntimeError: the store was closed
            raise StoreError(f"sqlite: {error}") from error


def _open(path: Path, *, query_only: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(path, BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if query_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Bring a new file to WAL mode and to this schema; several processes may do so at once.

    :raises StoreError: another version of this program made the file.
    """
    _enter_wal(connection)
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    if version not in (0, SCHEMA_VERSION):
        raise StoreError(f"sqlite: the file has schema {version}, this program knows {SCHEMA_VERSION}")


def _enter_wal(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            # The busy timeout does not cover this change when two processes make it at the same time.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


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
