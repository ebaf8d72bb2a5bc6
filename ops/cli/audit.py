"""visiongraph audit: who did what to which object, when, and what came of it."""

import asyncio
import getpass
import json
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from configs.settings import settings
from stores.audit import Audit, AuditEntry, new_entry
from stores.open import Stores

PAGE: Final = 1000
"""Entries that are removed in one step."""
UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """Read 30m, 12h or 90d. Raises typer.BadParameter."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    if match is None:
        raise typer.BadParameter("write it as 30m, 12h or 90d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def moment(text: str) -> datetime:
    """Read 12h, 90d, or a moment such as 2026-01-15 or 2026-01-15T12:00Z. Raises typer.BadParameter."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        return datetime.now(UTC) - duration(text)
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def audit(
    since: Annotated[
        datetime | None, typer.Option(parser=moment, help="12h or 90d ago, or 2026-01-15[T12:00Z]; default: ever.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Id or name of the key that did it.")] = None,
    object_id: Annotated[str | None, typer.Option("--object", help="What it was done to, such as an asset id.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many of the latest.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    keep: Annotated[
        timedelta | None, typer.Option(parser=duration, help="Remove what is older, such as 365d, and read nothing.")
    ] = None,
) -> None:
    """Read the audit trail, latest first."""
    if keep is not None:
        typer.echo(f"{asyncio.run(_remove_older(keep))} entries removed")
        return

    async def read() -> list[AuditEntry]:
        stores = Stores.open(settings())
        try:
            return await stores.audit.list(since=since, key=key, object_id=object_id, limit=limit)
        finally:
            await stores.close()

    entries = asyncio.run(read())
    if as_json:
        for entry in entries:
            typer.echo(json.dumps({**asdict(entry), "at": f"{entry.at:%Y-%m-%dT%H:%M:%S.%fZ}"}))
        return
    key_id, acted_upon = Column("key", no_wrap=True), Column("object", no_wrap=True)
    table = Table("when (UTC)", "who", key_id, "what", acted_upon, "result", "", box=None)
    for entry in entries:
        details = json.dumps(dict(entry.details)) if entry.details else ""
        texts = (entry.who, entry.key_id, entry.action, entry.object_id, entry.result, details)
        table.add_row(f"{entry.at:%Y-%m-%d %H:%M:%S}", *map(Text, texts))
    Console(soft_wrap=True).print(table)


async def _remove_older(keep: timedelta) -> int:
    """Remove entries whose time is over, and say so in the trail; return how many there were."""
    stores, removed = Stores.open(settings()), 0
    try:
        while count := await stores.audit.delete_before(datetime.now(UTC) - keep, PAGE):
            removed += count
        await record(stores.audit, "audit keep", "", removed=removed, days=keep / timedelta(days=1))
    finally:
        await stores.close()
    return removed


async def record(trail: Audit, action: str, object_id: str, **details: Any) -> None:
    """Write what a command of this program did. Raises StoreError."""
    who = f"operator {getpass.getuser()}"
    await trail.append(new_entry(datetime.now(UTC), "", who, action, object_id, "done", **details), reserve=True)
