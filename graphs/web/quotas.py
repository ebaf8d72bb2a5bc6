"""Quotas: how much the key of a request may store, have worked on at once, and have judged in a day.

Where a limit is passed the answer says what is used and what the limit is: 403 for what is stored, which no waiting
makes less, and 429 with Retry-After for the rest.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from configs.quotas import RESOURCES, Resource
from configs.settings import Settings
from graphs.web.access import EVERYONE, Caller, caller
from stores.jobs import Job, Json, job_id_of
from stores.open import Stores
from stores.usage import STORED, Amounts, Taken
from vision.errors import StageError

FORM_BYTES: Final = 64 * 1024
"""Of a form around its file, at most; what is sent is judged before it is known how many there are."""
STORING_S: Final = 600.0
STORING_S_PER_BYTE: Final = 2e-6
"""How long a file may take to be stored, at 0.5 MB/s to a bucket, before whoever does it is taken for dead."""
SUBMITTING_S: Final = 60.0
SPARE_S: Final = 60.0
HELD_S: Final = 0.5
"""How long is waited for what others hold before more is refused: it may come to nothing, or be counted twice."""
POLL_S: Final = 0.02
JOB_RETRY_S: Final = 30
"""Nobody knows when a job ends; asking twice a minute costs nothing."""


class QuotaExceeded(StageError):
    """More than the key may have at once or in a day; time cures it."""

    code = "QUOTA_EXCEEDED"
    status = 429

    def __init__(self, resource: Resource, used: int, limit: int, requested: int = 1) -> None:
        now = datetime.now(UTC)
        free_at = _tomorrow(now) if resource == "videos" else None
        self.retry_after_s = JOB_RETRY_S if free_at is None else max(1, round((free_at - now).total_seconds()))
        super().__init__(_message(resource, used, limit, requested, free_at))
        self.details: Any = {
            "resource": resource,
            "used": used,
            "limit": limit,
            "requested": requested,
            "free_at": None if free_at is None else free_at.isoformat().replace("+00:00", "Z"),
        }

    @property
    def concerns_input(self) -> bool:
        """Return False: with more room the same file would do."""
        return False


class StorageQuotaExceeded(QuotaExceeded):
    """More than the key may store; only deleting cures it, or a larger quota."""

    status = 403


@dataclass(slots=True)
class Storing:
    """What came of storing a file: whether it is one more of the client's; None while nobody knows."""

    added: bool | None = None


@dataclass(slots=True)
class Removing:
    """How many bytes of the client's file were removed; None while nobody knows."""

    size: int | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """What a key uses of one resource; ``limit`` is None without one, ``resets_at`` when the count begins anew."""

    resource: Resource
    used: int
    limit: int | None
    resets_at: datetime | None


class Quotas:
    """Holds what the client of the request takes, see ``stores.usage``. Its methods raise StoreError."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self._settings, self._stores = settings, stores
        self._locks: dict[str, asyncio.Lock] = {}

    async def room(self, size: int) -> int | None:
        """Return how many bytes the client may still store, None for any number.

        ``size``: bytes that its file has at least. Raises StorageQuotaExceeded.
        """
        who = caller.get()
        if not any(each in who.limits for each in STORED):
            return None
        used = await self._used(who)
        wanted: Amounts = {"files": 1, "bytes": max(1, size)}
        for resource, amount in wanted.items():
            limit = who.limits.get(resource)
            if limit is not None and used[resource] + amount > limit:
                raise StorageQuotaExceeded(resource, used[resource], limit, amount)
        limit = who.limits.get("bytes")
        return None if limit is None else limit - used["bytes"]

    @asynccontextmanager
    async def storing(self, size: int) -> AsyncIterator[Storing]:
        """Hold the bytes of a file while it is stored. Raises StorageQuotaExceeded."""
        who, storing = caller.get(), Storing()
        if not any(each in who.limits for each in STORED):
            if who is not EVERYONE:
                await self._stores.usage.forget_sum(who.name)
            yield storing
            return
        lasts = timedelta(seconds=STORING_S + STORING_S_PER_BYTE * size)
        hold = await self._take(who, {"bytes": size, "files": 1}, lasts)
        change: Amounts | None = None
        try:
            yield storing
            if storing.added is not None:
                change = {"bytes": size, "files": 1} if storing.added else {}
        finally:
            await self._settle(who, hold, change)

    @asynccontextmanager
    async def removing(self) -> AsyncIterator[Removing]:
        """Account for the client's file that is removed in the block."""
        who, removing = caller.get(), Removing()
        lasts = timedelta(seconds=STORING_S)
        hold = None if who is EVERYONE else await self._stores.usage.mark_change(who.name, lasts)
        try:
            yield removing
        finally:
            if hold is not None:
                size = removing.size
                change: Amounts | None = {} if size == 0 else {"bytes": -size, "files": -1} if size else None
                await self._settle(who, hold, change)

    async def submit(self, kind: str, subject: str, fingerprint: str, payload: Json) -> Job:
        """Submit a job of the client, see ``JobStore.submit``; one that is known costs nothing.

        Raises QuotaExceeded.
        """
        who, jobs = caller.get(), self._stores.jobs
        known = await jobs.get(job_id_of(kind, fingerprint)) if "jobs" in who.limits else None
        if "jobs" not in who.limits or (known is not None and known.status not in ("failed", "cancelled")):
            return await jobs.submit(kind, subject, fingerprint, payload, who.name)
        hold = await self._take(who, {"jobs": 1}, timedelta(seconds=SUBMITTING_S))
        try:
            return await jobs.submit(kind, subject, fingerprint, payload, who.name)
        finally:
            await self._settle(who, hold, {})

    async def refuse_video(self) -> None:
        """Raise QuotaExceeded when the client may not have a video judged now, before one is read."""
        who = caller.get()
        if "videos" in who.limits or "jobs" in who.limits:
            used = await self._used(who)
            over = [each for each in _JUDGING if used[each] + 1 > who.limits.get(each, used[each] + 1)]
            if over:
                raise QuotaExceeded(over[0], used[over[0]], who.limits[over[0]])

    @asynccontextmanager
    async def judging_video(self) -> AsyncIterator[None]:
        """Count a video that is judged, and hold a place of heavy work; one that fails is not counted.

        Raises QuotaExceeded.
        """
        who = caller.get()
        if who is EVERYONE:
            yield
            return
        lasts = timedelta(seconds=self._settings.analysis_timeout_s + SPARE_S)
        hold, change = await self._take(who, _JUDGING, lasts), _NOTHING
        try:
            yield
        except BaseException:
            change = {"videos": -1}
            raise
        finally:
            await self._settle(who, hold, change)

    async def usage(self) -> list[Use]:
        """Return what the client uses of everything."""
        who = caller.get()
        return await usage_of(self._stores, who.name, who.limits)

    async def _used(self, who: Caller) -> Amounts:
        return await _used(self._stores, who.name)

    async def _take(self, who: Caller, amounts: Amounts, lasts: timedelta) -> str:
        give_up = time.monotonic() + HELD_S
        while True:
            # One at a time in this process, as each decides on what the one before it left.
            async with self._locks.setdefault(who.name, asyncio.Lock()):
                taken = await _take(self._stores, who, amounts, lasts)
            if taken.hold is not None or not taken.held or time.monotonic() > give_up:
                break
            await asyncio.sleep(POLL_S)
        if taken.hold is None:
            assert taken.over is not None
            kind = StorageQuotaExceeded if taken.over in STORED else QuotaExceeded
            raise kind(taken.over, taken.used[taken.over], who.limits[taken.over], amounts[taken.over])
        return taken.hold

    async def _settle(self, who: Caller, hold: str, change: Amounts | None) -> None:
        # Also when the client has left; what it cannot do now is done when the hold is over.
        await asyncio.shield(self._stores.usage.settle(who.name, hold, change))


_NOTHING: Final[Amounts] = {}
_JUDGING: Final[Amounts] = {"videos": 1, "jobs": 1}


async def usage_of(stores: Stores, owner: str, limits: Mapping[Resource, int]) -> list[Use]:
    """Return what an owner uses of everything. Raises StoreError."""
    used, resets_at = await _used(stores, owner), _tomorrow(datetime.now(UTC))
    return [Use(each, used[each], limits.get(each), resets_at if each == "videos" else None) for each in RESOURCES]


async def within(body: AsyncIterator[bytes], room: int | None) -> AsyncIterator[bytes]:
    """Yield a body. Raises StorageQuotaExceeded as soon as its file must have more bytes than there is ``room`` for."""
    size = 0
    async for chunk in body:
        size += len(chunk)
        if room is not None and size - FORM_BYTES > room:
            limit = caller.get().limits["bytes"]
            raise StorageQuotaExceeded("bytes", limit - room, limit, size - FORM_BYTES)
        yield chunk


async def _used(stores: Stores, owner: str) -> Amounts:
    return await stores.usage.used(owner, *_counts(stores, owner))


async def _take(stores: Stores, who: Caller, amounts: Amounts, lasts: timedelta) -> Taken:
    return await stores.usage.take(who.name, amounts, who.limits, lasts, *_counts(stores, who.name))


def _counts(stores: Stores, owner: str) -> tuple[Any, Any]:
    async def stored() -> Amounts:
        files, size = await stores.documents.uploaded_by(owner)
        return {"bytes": size, "files": files}

    async def working() -> Amounts:
        return {"jobs": await stores.jobs.count_unfinished(owner)}

    return stored, working


def _tomorrow(now: datetime) -> datetime:
    return (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)


def _message(resource: Resource, used: int, limit: int, requested: int, free_at: datetime | None) -> str:
    match resource:
        case "bytes":
            return (
                f"Your key may store {limit:,} bytes and has stored {used:,}; this file has {requested:,} or more. "
                "Delete files with DELETE /api/v1/media/{asset_id}, or ask for a larger quota."
            )
        case "files":
            return (
                f"Your key may store {limit:,} files and has stored {used:,}. "
                "Delete files with DELETE /api/v1/media/{asset_id}, or ask for a larger quota."
            )
        case "videos":
            return (
                f"Your key may have {limit:,} videos judged a day and has had {used:,}; "
                f"the count begins anew at {free_at:%Y-%m-%dT%H:%M:%SZ}."
            )
        case "jobs":
            return (
                f"Your key may have {limit:,} jobs at once and has {used:,}; "
                "try again when one of them has ended (GET /api/v1/jobs), or cancel one."
            )
