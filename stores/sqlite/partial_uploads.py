"""Uploads in parts, in SQLite."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from stores.partial_uploads import Part, PartialUpload, PartialUploads, Usage
from stores.records import from_micros, optional_micros, optional_moment, to_micros
from stores.sqlite.engine import SqliteRepository

SCHEMA = (
    """CREATE TABLE partial_uploads (
        upload_id TEXT PRIMARY KEY, owner TEXT NOT NULL, length INTEGER NOT NULL, metadata TEXT NOT NULL,
        label TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, received INTEGER NOT NULL,
        parts TEXT NOT NULL, holder TEXT NOT NULL, held_until INTEGER, asset_id TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX partial_uploads_owner ON partial_uploads (owner) WHERE asset_id = ''",
    "CREATE INDEX partial_uploads_expiry ON partial_uploads (expires_at)",
)
INSERT = "INSERT INTO partial_uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
USAGE = """SELECT count(*), coalesce(sum(length), 0) FROM partial_uploads
    WHERE owner = ? AND asset_id = '' AND expires_at >= ?"""
HOLD = """UPDATE partial_uploads SET holder = ?, held_until = ?
    WHERE upload_id = ? AND (? OR holder = '' OR held_until <= ?)"""
APPEND = """UPDATE partial_uploads
    SET received = received + ?, parts = json_insert(parts, '$[#]', json_array(?, ?)), expires_at = ?
    WHERE upload_id = ? AND holder = ? AND received = ?"""


class SqlitePartialUploads(SqliteRepository, PartialUploads):
    """The table ``partial_uploads``."""

    async def insert(self, upload: PartialUpload) -> None:
        await self._engine.execute(
            INSERT,
            *(upload.upload_id, upload.owner, upload.length, upload.metadata, upload.label),
            *(to_micros(upload.created_at), to_micros(upload.expires_at), upload.offset, json.dumps(upload.parts)),
            *(upload.holder, optional_micros(upload.held_until), upload.asset_id),
        )

    async def get(self, upload_id: str) -> PartialUpload | None:
        rows = await self._engine.read("SELECT * FROM partial_uploads WHERE upload_id = ?", upload_id, inline=True)
        return next(map(_upload, rows), None)

    async def usage(self, owner: str, now: datetime) -> Usage:
        ((count, size),) = await self._engine.read(USAGE, owner, to_micros(now), inline=True)
        return Usage(count, size)

    async def hold(self, upload_id: str, holder: str, now: datetime, until: datetime, *, force: bool = False) -> bool:
        values = holder, to_micros(until), upload_id, force, to_micros(now)
        return await self._engine.execute(HOLD, *values, reserve=True) > 0

    async def renew(self, upload_id: str, holder: str, until: datetime) -> bool:
        sql = "UPDATE partial_uploads SET held_until = ? WHERE upload_id = ? AND holder = ?"
        return await self._engine.execute(sql, to_micros(until), upload_id, holder, reserve=True) > 0

    async def append(self, upload_id: str, holder: str, offset: int, part: Part, expires_at: datetime) -> bool:
        values = part.size, part.key, part.size, to_micros(expires_at), upload_id, holder, offset
        return await self._engine.execute(APPEND, *values) > 0

    async def finish(self, upload_id: str, holder: str, asset_id: str) -> bool:
        sql = "UPDATE partial_uploads SET asset_id = ?, parts = '[]' WHERE upload_id = ? AND holder = ?"
        return await self._engine.execute(sql, asset_id, upload_id, holder, reserve=True) > 0

    async def release(self, upload_id: str, holder: str) -> None:
        sql = "UPDATE partial_uploads SET holder = '', held_until = NULL WHERE upload_id = ? AND holder = ?"
        await self._engine.execute(sql, upload_id, holder, reserve=True)

    async def delete(self, upload_id: str) -> bool:
        sql = "DELETE FROM partial_uploads WHERE upload_id = ?"
        return await self._engine.execute(sql, upload_id, reserve=True) > 0

    async def forget_asset(self, asset_id: str) -> int:
        return await self._engine.execute("DELETE FROM partial_uploads WHERE asset_id = ?", asset_id, reserve=True)

    async def expired(self, now: datetime, limit: int) -> Sequence[str]:
        sql = "SELECT upload_id FROM partial_uploads WHERE expires_at < ? ORDER BY expires_at LIMIT ?"
        return [row[0] for row in await self._engine.read(sql, to_micros(now), limit, inline=True)]


def _upload(row: Sequence[Any]) -> PartialUpload:
    upload_id, owner, length, metadata, label, created_at, expires_at, offset, parts, holder, until, asset_id = row
    return PartialUpload(
        upload_id=upload_id,
        owner=owner,
        length=length,
        metadata=metadata,
        label=label,
        created_at=from_micros(created_at),
        expires_at=from_micros(expires_at),
        offset=offset,
        parts=tuple(Part(*each) for each in json.loads(parts)),
        holder=holder,
        held_until=optional_moment(until),
        asset_id=asset_id,
    )
