"""Token buckets: in the cache for all replicas together, and in this process where there is no cache."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from stores.cache import Cache

logger = logging.getLogger("ray.serve")

# A bucket is one number: the time when it will be full again, in microseconds of the server's clock. A request puts
# that off by as long as one token takes to fall in; one that would put it off by more than an empty bucket takes
# to fill is refused.
TAKE: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local answers = {}
for i, key in ipairs(KEYS) do
    local token, depth = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
    local until_full = math.max(tonumber(redis.call('GET', key) or 0) - now, 0)
    local allowed = 0
    if until_full + token <= depth then
        allowed = 1
        until_full = until_full + token
        redis.call('SET', key, string.format('%.0f', now + until_full), 'PX', math.ceil(until_full / 1000))
    end
    answers[2 * i - 1], answers[2 * i] = allowed, until_full
end
return answers
"""
LOCAL_BUCKETS: Final = 10_000
MINUTE_US: Final = 60_000_000


class Taken(NamedTuple):
    """Whether there was a token. ``left``: tokens still there; ``wait_s``, ``full_s``: seconds to the next, to all."""

    allowed: bool
    left: int
    wait_s: int
    full_s: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """``token``: microseconds that one takes to fall in; ``depth``: those that an empty bucket takes to fill."""

    token: int
    depth: int

    @classmethod
    def holding(cls, tokens: int, per_minute: int) -> "Bucket":
        """A bucket of so many tokens, with so many falling in per minute."""
        token = max(1, MINUTE_US // per_minute)
        return cls(token, token * tokens)

    def taken(self, allowed: bool, until_full: int) -> Taken:
        """``until_full`` in microseconds, after the taking."""
        wait = max(0, until_full + self.token - self.depth)
        return Taken(allowed, (self.depth - until_full) // self.token, _seconds(wait), _seconds(until_full))


class Buckets:
    """Buckets by name, full at first. Those of the cache are for all, and forgotten once they are full."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._waiting: list[tuple[str, Bucket]] = []
        self._next: asyncio.Task[list[Taken]] | None = None
        self._turn = asyncio.Lock()
        self._alone = False
        self._full_at: dict[str, int] = {}
        self._room = LOCAL_BUCKETS

    async def take(self, name: str, bucket: Bucket) -> Taken:
        """Take a token if there is one."""
        if self._cache.type == "none":
            return self._take_here(name, bucket)
        place = len(self._waiting)
        self._waiting.append((name, bucket))
        if self._next is None:
            self._next = asyncio.create_task(self._take_next())
        # A client that leaves takes nothing away from the others of its round.
        return (await asyncio.shield(self._next))[place]

    async def _take_next(self) -> list[Taken]:
        """One round trip after the other, each for all that came during the last: bursts need one connection."""
        async with self._turn:
            asked, self._waiting, self._next = self._waiting, [], None
            return await self._take_all(asked)

    async def _take_all(self, asked: Sequence[tuple[str, Bucket]]) -> list[Taken]:
        names = [name for name, _ in asked]
        found = await self._cache.run(TAKE, names, [n for _, bucket in asked for n in (bucket.token, bucket.depth)])
        if (found is None) != self._alone:
            self._alone = found is None
            where = "by every gateway for itself" if self._alone else "in the cache again"
            logger.warning("rate limits are counted %s", where)
        if found is None:
            return [self._take_here(name, bucket) for name, bucket in asked]
        pairs = zip(asked, found[::2], found[1::2], strict=True)
        return [bucket.taken(allowed == 1, until_full) for (_, bucket), allowed, until_full in pairs]

    def _take_here(self, name: str, bucket: Bucket) -> Taken:
        now = time.monotonic_ns() // 1000
        until_full = max(self._full_at.get(name, 0) - now, 0)
        if until_full + bucket.token > bucket.depth:
            return bucket.taken(False, until_full)
        if len(self._full_at) >= self._room:
            self._full_at = {other: at for other, at in self._full_at.items() if at > now}
            self._room = max(LOCAL_BUCKETS, 2 * len(self._full_at))
        self._full_at[name] = now + until_full + bucket.token
        return bucket.taken(True, until_full + bucket.token)


def _seconds(microseconds: int) -> int:
    return -(-microseconds // 1_000_000)
