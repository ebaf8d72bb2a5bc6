"""API keys in SQLite."""

import json
import secrets as random
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from configs.quotas import Quota
from stores.keys import LINKS, SIGNING_BYTES, ApiKey, Keys, KeySecret, RateClass
from stores.records import from_micros, optional_micros, optional_moment, to_micros
from stores.sqlite.engine import SqliteRepository

SCHEMA = (
    """CREATE TABLE keys (
        key_id TEXT PRIMARY KEY, name TEXT NOT NULL, scopes TEXT NOT NULL, secrets TEXT NOT NULL,
        created_at INTEGER NOT NULL, rate TEXT NOT NULL, labels TEXT NOT NULL, expires_at INTEGER,
        revoked_at INTEGER) WITHOUT ROWID""",
    "CREATE TABLE signing (name TEXT PRIMARY KEY, secret BLOB NOT NULL) WITHOUT ROWID",
)
QUOTAS = ("ALTER TABLE keys ADD COLUMN quota TEXT NOT NULL DEFAULT '{}'",)


class SqliteKeys(SqliteRepository, Keys):
    """The tables ``keys`` and ``signing``."""

    async def insert(self, key: ApiKey) -> bool:
        inserted = await self._engine.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            *(key.key_id, key.name, json.dumps(key.scopes), _to_json(key.secrets), to_micros(key.created_at)),
            *(key.rate, json.dumps(key.labels), optional_micros(key.expires_at), optional_micros(key.revoked_at)),
            json.dumps(dict(key.quota)),
        )
        return inserted > 0

    async def get_all(self) -> list[ApiKey]:
        return [_key(row) for row in await self._engine.read("SELECT * FROM keys ORDER BY created_at, key_id")]

    async def revoke(self, key_id: str, moment: datetime) -> bool:
        sql = "UPDATE keys SET revoked_at = ? WHERE key_id = ? AND revoked_at IS NULL"
        return await self._engine.execute(sql, to_micros(moment), key_id, reserve=True) > 0

    async def set_secrets(self, key_id: str, secrets: Sequence[KeySecret]) -> bool:
        sql = "UPDATE keys SET secrets = ? WHERE key_id = ? AND revoked_at IS NULL"
        return await self._engine.execute(sql, _to_json(secrets), key_id, reserve=True) > 0

    async def set_limits(self, key_id: str, rate: RateClass, quota: Quota) -> bool:
        sql = "UPDATE keys SET rate = ?, quota = ? WHERE key_id = ? AND revoked_at IS NULL"
        return await self._engine.execute(sql, rate, json.dumps(dict(quota)), key_id, reserve=True) > 0

    async def signing_secret(self) -> bytes:
        def made(connection: sqlite3.Connection) -> bytes:
            fresh = random.token_bytes(SIGNING_BYTES)
            connection.execute("INSERT INTO signing VALUES (?, ?) ON CONFLICT DO NOTHING", (LINKS, fresh))
            (secret,) = connection.execute("SELECT secret FROM signing WHERE name = ?", (LINKS,)).fetchone()
            return bytes(secret)

        rows = await self._engine.read("SELECT secret FROM signing WHERE name = ?", LINKS)
        return bytes(rows[0][0]) if rows else await self._engine.write(made, reserve=True)


def _key(row: Sequence[Any]) -> ApiKey:
    key_id, name, scopes, secrets, created_at, rate, labels, expires_at, revoked_at, quota = row
    return ApiKey(
        key_id=key_id,
        name=name,
        scopes=tuple(json.loads(scopes)),
        secrets=tuple(KeySecret(digest, optional_moment(until)) for digest, until in json.loads(secrets)),
        created_at=from_micros(created_at),
        rate=rate,
        labels=tuple(json.loads(labels)),
        expires_at=optional_moment(expires_at),
        revoked_at=optional_moment(revoked_at),
        quota=json.loads(quota),
    )


def _to_json(secrets: Sequence[KeySecret]) -> str:
    return json.dumps([[each.digest, optional_micros(each.expires_at)] for each in secrets])
