"""The audit trail: who did what to which object, when, and what came of it. Entries are added and never changed."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from stores.records import to_micros

MAX_TEXT: Final = 300
"""Characters of any text of an entry."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action.

    ``key_id`` is that of a key, an opaque name of another caller, or empty for anyone of an open service and for this
    program itself; ``who`` is for people. ``action`` is a method and the template of a path, or a command.
    ``object_id`` is what was acted upon, ``result`` a status of HTTP or a word; ``details`` are counts and settings,
    never content or secrets.
    """

    entry_id: str
    at: datetime
    key_id: str
    who: str
    action: str
    object_id: str
    result: str
    details: Mapping[str, Any] = field(default_factory=dict)


class Audit(Protocol):
    """Entries in the order of their ids, which is that of time; every write that returned is durable."""

    async def append(self, entry: AuditEntry, *, reserve: bool = False) -> None:
        """Add an entry; one of a delete may use the room that is kept for deletes (``reserve``)."""
        ...

    async def list(
        self,
        *,
        since: datetime | None = None,
        key: str | None = None,
        object_id: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[AuditEntry]:
        """Return entries that match all given values, latest first; ``key`` is an id or a name.

        They start behind the entry ``after``.
        """
        ...

    async def delete_before(self, moment: datetime, limit: int) -> int:
        """Remove the oldest entries before a moment, as their time is over; return how many there were."""
        ...


def entry_id_at(moment: datetime) -> str:
    """Return a new id: 16 hex digits of microseconds since 1970, then 8 random ones."""
    return f"{first_id_at(moment)}{secrets.token_hex(4)}"


def first_id_at(moment: datetime) -> str:
    """Return what all ids from a moment on are not less than."""
    return f"{to_micros(moment):016x}"


def new_entry(
    at: datetime, key_id: str, who: str, action: str, object_id: str, result: str, **details: Any
) -> AuditEntry:
    """Return an entry with a new id; texts are cut to ``MAX_TEXT``."""
    return AuditEntry(
        entry_id_at(at), at, _text(key_id), _text(who), _text(action), _text(object_id), _text(result), details
    )


def _text(text: str) -> str:
    # What cannot be stored as Unicode, and what a terminal would obey, comes from strangers.
    safe = text.encode(errors="replace").decode()[:MAX_TEXT]
    return safe if safe.isprintable() else ascii(safe)[1:-1][:MAX_TEXT]
