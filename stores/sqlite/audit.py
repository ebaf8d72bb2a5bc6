"""The audit trail in SQLite."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from stores.audit import Audit, AuditEntry, first_id_at
from stores.records import from_micros, to_micros
from stores.sqlite.engine import SqliteRepository

SCHEMA = (
    """CREATE TABLE audit (
        entry_id TEXT PRIMARY KEY, at INTEGER NOT NULL, key_id TEXT NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
        object_id TEXT NOT NULL, result TEXT NOT NULL, details TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX audit_of_object ON audit (object_id, entry_id) WHERE object_id != ''",
)
LIST = """SELECT entry_id, at, key_id, who, action, object_id, result, details FROM audit
    WHERE entry_id >= ? AND entry_id < ? """
NEWEST = "ORDER BY entry_id DESC LIMIT ?"
LAST = "g"
"""Greater than every id."""
OLDEST = "SELECT entry_id FROM audit WHERE entry_id < ? ORDER BY entry_id LIMIT ?"


class SqliteAudit(SqliteRepository, Audit):
    """The table ``audit``."""

    async def append(self, entry: AuditEntry, *, reserve: bool = False) -> None:
        texts = entry.key_id, entry.who, entry.action, entry.object_id, entry.result, json.dumps(dict(entry.details))
        sql = "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        await self._engine.execute(sql, entry.entry_id, to_micros(entry.at), *texts, reserve=reserve)

    async def list(
        self,
        *,
        since: datetime | None = None,
        key: str | None = None,
        object_id: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[AuditEntry]:
        values: list[Any] = ["" if since is None else first_id_at(since), after or LAST]
        conditions = ""
        if key is not None:
            conditions += "AND (key_id = ? OR who = ?) "
            values += [key, key]
        if object_id is not None:
            conditions += "AND object_id = ? "
            # Without it the index of objects could not be used, as it has no empty ones.
            conditions += "AND object_id != '' " if object_id else ""
            values.append(object_id)
        return [_entry(row) for row in await self._engine.read(f"{LIST} {conditions} {NEWEST}", *values, limit)]

    async def delete_before(self, moment: datetime, limit: int) -> int:
        sql = f"DELETE FROM audit WHERE entry_id IN ({OLDEST})"  # noqa: S608 (a constant)
        return await self._engine.execute(sql, first_id_at(moment), limit, reserve=True)


def _entry(row: Sequence[Any]) -> AuditEntry:
    entry_id, at, key_id, who, action, object_id, result, details = row
    return AuditEntry(entry_id, from_micros(at), key_id, who, action, object_id, result, json.loads(details))
