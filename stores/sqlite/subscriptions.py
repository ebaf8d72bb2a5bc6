"""Subscriptions in SQLite."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from stores.records import from_micros, optional_micros, optional_moment, to_micros
from stores.sqlite.engine import SqliteRepository
from stores.subscriptions import SigningSecret, Subscription, Subscriptions

SCHEMA = (
    """CREATE TABLE subscriptions (
        subscription_id TEXT PRIMARY KEY, owner TEXT NOT NULL, url TEXT NOT NULL, events TEXT NOT NULL,
        secrets TEXT NOT NULL, created_at INTEGER NOT NULL, kinds TEXT NOT NULL, description TEXT NOT NULL,
        delivered_at INTEGER, failing_since INTEGER, disabled_at INTEGER, disabled_reason TEXT NOT NULL)
        WITHOUT ROWID""",
)
"""Came with version 12 of the file."""
COLUMNS: Final = tuple(column.name for column in fields(Subscription))
SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM subscriptions "  # noqa: S608 (a constant)
OLDEST: Final = "ORDER BY created_at, subscription_id"


class SqliteSubscriptions(SqliteRepository, Subscriptions):
    """The table ``subscriptions``."""

    async def insert(self, subscription: Subscription) -> None:
        row = _row(subscription)
        sql = f"INSERT INTO subscriptions ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608
        await self._engine.execute(sql, *row.values())

    async def get(self, subscription_id: str) -> Subscription | None:
        rows = await self._engine.read(f"{SELECT} WHERE subscription_id = ?", subscription_id, inline=True)
        return next(map(_subscription, rows), None)

    async def list(self, owner: str | None = None) -> Sequence[Subscription]:
        rows = await self._engine.read(f"{SELECT} WHERE ?1 IS NULL OR owner = ?1 {OLDEST}", owner)
        return [_subscription(row) for row in rows]

    async def set(self, subscription: Subscription, *names: str) -> bool:
        row = _row(subscription)
        changed = ", ".join(f"{name} = ?" for name in names)
        sql = f"UPDATE subscriptions SET {changed} WHERE subscription_id = ?"  # noqa: S608 (names of columns)
        values = [row[name] for name in names]
        return await self._engine.execute(sql, *values, subscription.subscription_id, reserve=True) > 0

    async def delete(self, subscription_id: str) -> bool:
        sql = "DELETE FROM subscriptions WHERE subscription_id = ?"
        return await self._engine.execute(sql, subscription_id, reserve=True) > 0


def _secrets_text(secrets: Sequence[SigningSecret]) -> str:
    return json.dumps([[each.secret, optional_micros(each.expires_at)] for each in secrets])


def _secrets_of(text: str) -> tuple[SigningSecret, ...]:
    return tuple(SigningSecret(secret, optional_moment(until)) for secret, until in json.loads(text))


_TO: Final[Mapping[str, Callable[[Any], Any]]] = {
    "events": json.dumps,
    "kinds": json.dumps,
    "secrets": _secrets_text,
    "created_at": to_micros,
    **dict.fromkeys(("delivered_at", "failing_since", "disabled_at"), optional_micros),
}
_FROM: Final[Mapping[str, Callable[[Any], Any]]] = {
    "events": lambda text: tuple(json.loads(text)),
    "kinds": lambda text: tuple(json.loads(text)),
    "secrets": _secrets_of,
    "created_at": from_micros,
    **dict.fromkeys(("delivered_at", "failing_since", "disabled_at"), optional_moment),
}


def _row(subscription: Subscription) -> dict[str, Any]:
    return {name: _TO.get(name, str)(getattr(subscription, name)) for name in COLUMNS}


def _subscription(row: Sequence[Any]) -> Subscription:
    return Subscription(**{name: _FROM.get(name, str)(value) for name, value in zip(COLUMNS, row, strict=True)})
