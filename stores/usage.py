"""What each key holds and uses, so that no quota is passed, however many replicas take from it at once.

What a key has stored is known by the assets, and what works for it by the jobs; an account only keeps the sum of the
first, what is on its way (holds), and how many videos were judged today. A backend keeps one small record of each owner
and replaces it on the condition that nobody has since it was read; whoever comes second decides again on what the first
left. So:

- Something is held before it is stored, and settled after it. A process that was killed in between leaves its hold,
  which counts until its time is over; then the sum is thought unknown, and counted from the assets again.
- The sum is also unknown at first, when it is older than ``BELIEVED``, and when somebody changed uploads without an
  account of it.
- Counting takes a while. It is believed only when nothing was on its way at its beginning and nothing came until its
  end; else it may have seen some of what is held, and counts it twice for once, so that it errs to the safe side.
"""

import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from configs.quotas import RESOURCES, Resource
from stores.records import from_micros, optional_micros, optional_moment, to_micros

BELIEVED: Final = timedelta(hours=6)
"""How long a sum is added to before it is counted again."""
STORED: Final[tuple[Resource, ...]] = ("bytes", "files")
Amounts = Mapping[Resource, int]
Count = Callable[[], Awaitable[Amounts]]


@dataclass(frozen=True, slots=True)
class Hold:
    """What is on its way, and until when whoever has begun it is believed to be alive."""

    amounts: Amounts
    until: datetime


@dataclass(frozen=True, slots=True)
class Account:
    """The record of one owner; ``stored`` is None while it has to be counted, ``day`` is that of ``videos``."""

    owner: str
    stored: Amounts | None = None
    counted_at: datetime | None = None
    day: str = ""
    videos: int = 0
    holds: Mapping[str, Hold] = field(default_factory=dict)

    def at(self, now: datetime) -> "Account":
        """Return it as of now: without what was given up, with the videos of today."""
        holds = {name: hold for name, hold in self.holds.items() if hold.until > now}
        gone = [hold for name, hold in self.holds.items() if name not in holds]
        today = day_of(now)
        unknown = self.counted_at is None or now - self.counted_at > BELIEVED or any(map(_stores, gone))
        return replace(
            self,
            stored=None if unknown else self.stored,
            holds=holds,
            day=today,
            videos=self.videos if self.day == today else 0,
        )

    def held(self, resource: Resource) -> int:
        """Return how much of a resource is on its way."""
        return sum(hold.amounts.get(resource, 0) for hold in self.holds.values())

    def settled(self, name: str, change: Amounts) -> "Account":
        """End a hold, and add what came of it: bytes and files, or less than none; videos are given back."""
        hold = self.holds.get(name)
        holds = {other: each for other, each in self.holds.items() if other != name}
        videos = max(0, self.videos + change.get("videos", 0))
        if hold is None and any(change.get(each) for each in STORED):
            return replace(self, stored=None, videos=videos)  # it was given up, and perhaps counted since
        stored = self.stored
        if stored is not None:
            stored = {each: max(0, stored.get(each, 0) + change.get(each, 0)) for each in STORED}
        return replace(self, stored=stored, holds=holds, videos=videos)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a request for more came to: ``hold`` is its name, or None if a limit of ``over`` forbids it.

    ``used`` is what was used before, ``held`` how much of that which is over is on its way.
    """

    hold: str | None
    used: Amounts
    over: Resource | None = None
    held: int = 0


class UsageStore(ABC):
    """Accounts by owner; a write that returned is durable. Methods raise StoreError."""

    async def take(
        self, owner: str, amounts: Amounts, limits: Amounts, lasts: timedelta, stored: Count, working: Count
    ) -> Taken:
        """Hold amounts unless a limit would be passed, for all who take at the same time.

        ``stored`` counts bytes and files of the owner, ``working`` its unfinished jobs. Videos are counted at once.
        """
        while True:
            before, revision = await self._read(owner)
            account = (before or Account(owner)).at(datetime.now(UTC))
            account, used = await self._used(account, amounts, stored, working)
            for resource, amount in amounts.items():
                if amount > 0 and used[resource] + amount > limits.get(resource, used[resource] + amount):
                    if before is not None and before.counted_at != account.counted_at:
                        await self._write(account, revision)  # what was counted need not be again
                    return Taken(None, used, resource, account.held(resource))
            name = uuid.uuid4().hex
            hold = Hold(amounts, datetime.now(UTC) + lasts)
            taken = replace(
                account, holds={**account.holds, name: hold}, videos=account.videos + amounts.get("videos", 0)
            )
            if await self._write(taken, revision):
                return Taken(name, used)

    async def settle(self, owner: str, hold: str, change: Amounts | None) -> None:
        """End a hold; ``change``: bytes and files that are stored now or no more, videos that were not judged.

        With None nobody knows, and what is stored will be counted.
        """
        while True:
            before, revision = await self._read(owner)
            if before is None:
                return
            after = before.settled(hold, change or {})
            if await self._write(replace(after, stored=None) if change is None else after, revision):
                return

    async def mark_change(self, owner: str, lasts: timedelta) -> str | None:
        """Say that uploads of an owner are about to be removed; None, and nothing is to be settled, without account."""
        while True:
            before, revision = await self._read(owner)
            if before is None:
                return None
            name = uuid.uuid4().hex
            account = before.at(datetime.now(UTC))
            hold = Hold({"bytes": 0}, datetime.now(UTC) + lasts)
            if await self._write(replace(account, holds={**account.holds, name: hold}), revision):
                return name

    async def forget_sum(self, owner: str) -> None:
        """Have what an owner stored counted again before it is used next."""
        while True:
            before, revision = await self._read(owner)
            if before is None or before.stored is None or await self._write(replace(before, stored=None), revision):
                return

    async def used(self, owner: str, stored: Count, working: Count) -> Amounts:
        """Return what an owner uses of every resource, what is on its way included."""
        before, _ = await self._read(owner)
        account = (before or Account(owner)).at(datetime.now(UTC))
        return (await self._used(account, dict.fromkeys(RESOURCES, 1), stored, working))[1]

    async def _used(
        self, account: Account, wanted: Amounts, stored: Count, working: Count
    ) -> tuple[Account, dict[Resource, int]]:
        """Return the account, counted if need be, and what is used of the resources that are wanted."""
        used: dict[Resource, int] = {"videos": account.videos}
        if any(each in wanted for each in STORED):
            if account.stored is None:
                counted = await stored()
                if not any(map(_stores, account.holds.values())):
                    account = replace(account, stored=counted, counted_at=datetime.now(UTC))
            else:
                counted = account.stored
            used |= {each: counted.get(each, 0) + account.held(each) for each in STORED}
        if "jobs" in wanted:
            used["jobs"] = (await working()).get("jobs", 0) + account.held("jobs")
        return account, used

    @abstractmethod
    async def _read(self, owner: str) -> tuple[Account | None, int]:
        """Return an account and its revision; 0 if there is none."""

    @abstractmethod
    async def _write(self, account: Account, revision: int) -> bool:
        """Replace an account of this revision, or make the first one; False if it has another by now."""


def day_of(moment: datetime) -> str:
    """Return the day of UTC, such as 2026-01-15."""
    return f"{moment.astimezone(UTC):%Y-%m-%d}"


def to_json(account: Account) -> str:
    """Return the stored form of an account, but for its owner."""
    holds = {name: [dict(hold.amounts), to_micros(hold.until)] for name, hold in account.holds.items()}
    stored = None if account.stored is None else dict(account.stored)
    values = {"stored": stored, "counted_at": optional_micros(account.counted_at)}
    return json.dumps({**values, "day": account.day, "videos": account.videos, "holds": holds})


def from_json(owner: str, text: str) -> Account:
    """Return the account of ``to_json``."""
    values = json.loads(text)
    holds = {name: Hold(amounts, from_micros(until)) for name, (amounts, until) in values["holds"].items()}
    counted_at = optional_moment(values["counted_at"])
    return Account(owner, values["stored"], counted_at, values["day"], values["videos"], holds)


def _stores(hold: Hold) -> bool:
    return any(each in hold.amounts for each in STORED)
