"""Accounts of what keys use in SQLite."""

from stores.sqlite.engine import SqliteRepository
from stores.usage import Account, UsageStore, from_json, to_json

SCHEMA = (
    """CREATE TABLE accounts (
        owner TEXT PRIMARY KEY, revision INTEGER NOT NULL, record TEXT NOT NULL) WITHOUT ROWID""",
)
FIRST = "INSERT INTO accounts VALUES (?, 1, ?) ON CONFLICT DO NOTHING"
NEXT = "UPDATE accounts SET record = ?, revision = revision + 1 WHERE owner = ? AND revision = ?"


class SqliteUsage(SqliteRepository, UsageStore):
    """The table ``accounts``."""

    async def _read(self, owner: str) -> tuple[Account | None, int]:
        rows = await self._engine.read("SELECT revision, record FROM accounts WHERE owner = ?", owner, inline=True)
        return next(((from_json(owner, record), revision) for revision, record in rows), (None, 0))

    async def _write(self, account: Account, revision: int) -> bool:
        # Small, and changed in place: whoever deletes to make room has to account for it.
        if revision:
            return await self._engine.execute(NEXT, to_json(account), account.owner, revision, reserve=True) > 0
        return await self._engine.execute(FIRST, account.owner, to_json(account)) > 0
