"""Rate limits: how often one client may call, counted in the cache for all gateways, or in this process without one."""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.settings import Networks, Settings
from graphs.web.api import Contracts, RateLimit
from graphs.web.auth import CALLER, OPEN_PATHS
from graphs.web.errors import FAILURES, Failure
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
HIGH: Final = 10
"""Times as much as usual may a key of the class "high" call."""
REMEMBERED_PEERS: Final = 4096
MAX_ADDRESS: Final = 64
"""Characters of an address with scope, port and brackets."""


class Taken(NamedTuple):
    """Whether there was a token; ``left`` of them, ``wait_s`` seconds to the next one, ``full_s`` to all of them."""

    allowed: bool
    left: int
    wait_s: int
    full_s: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """``token``: microseconds in which one token falls in; ``depth``: microseconds in which an empty bucket fills."""

    token: int
    depth: int

    @classmethod
    def holding(cls, tokens: int, per_minute: int) -> "Bucket":
        """Return a bucket for this many tokens, into which ``per_minute`` fall."""
        token = max(1, MINUTE_US // per_minute)
        return cls(token, token * tokens)

    def taken(self, allowed: bool, until_full: int) -> Taken:
        """Describe a bucket that will be full in ``until_full`` microseconds, the token just taken included."""
        wait = max(0, until_full + self.token - self.depth)
        return Taken(allowed, (self.depth - until_full) // self.token, _seconds(wait), _seconds(until_full))


class Buckets:
    """Buckets by name, full at first. Those in the cache are shared by all gateways and expire once they are full."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._waiting: list[tuple[str, Bucket]] = []
        self._next: asyncio.Task[list[Taken]] | None = None
        self._round_trip = asyncio.Lock()
        self._local = False
        self._full_at: dict[str, int] = {}
        self._sweep_at = LOCAL_BUCKETS

    async def take(self, name: str, bucket: Bucket) -> Taken:
        """Take a token if there is one; from a bucket of this process when the cache does not answer."""
        if self._cache.type == "none":
            return self._take_locally(name, bucket)
        place = len(self._waiting)
        self._waiting.append((name, bucket))
        if self._next is None:
            self._next = asyncio.create_task(self._take_next())
        # A client that leaves takes nothing away from the others of its round.
        return (await asyncio.shield(self._next))[place]

    async def _take_next(self) -> list[Taken]:
        """Do one round trip after the other, each for all that came during the last: bursts need one connection."""
        async with self._round_trip:
            wanted, self._waiting, self._next = self._waiting, [], None
            return await self._take_all(wanted)

    async def _take_all(self, wanted: Sequence[tuple[str, Bucket]]) -> list[Taken]:
        names = [name for name, _ in wanted]
        states = await self._cache.run(TAKE, names, [n for _, bucket in wanted for n in (bucket.token, bucket.depth)])
        if (states is None) != self._local:
            self._local = states is None
            where = "by each gateway on its own: the cache does not answer" if self._local else "in the cache again"
            logger.warning("rate limits are counted %s", where)
        if states is None:
            return [self._take_locally(name, bucket) for name, bucket in wanted]
        pairs = zip(wanted, states[::2], states[1::2], strict=True)
        return [bucket.taken(allowed == 1, until_full) for (_, bucket), allowed, until_full in pairs]

    def _take_locally(self, name: str, bucket: Bucket) -> Taken:
        now = time.monotonic_ns() // 1000
        until_full = max(self._full_at.get(name, 0) - now, 0)
        if until_full + bucket.token > bucket.depth:
            return bucket.taken(False, until_full)
        if len(self._full_at) >= self._sweep_at:
            self._full_at = {other: at for other, at in self._full_at.items() if at > now}
            self._sweep_at = max(LOCAL_BUCKETS, 2 * len(self._full_at))
        self._full_at[name] = now + until_full + bucket.token
        return bucket.taken(True, until_full + bucket.token)


@cache
def bucket_of(limit: RateLimit) -> Bucket:
    """Return the bucket of a rate limit."""
    return Bucket.holding(limit.burst or limit.per_minute, limit.per_minute)


def _seconds(microseconds: int) -> int:
    return -(-microseconds // 1_000_000)


class _Peer(NamedTuple):
    name: str
    trusted: bool


class Clients:
    """Names clients by their address, behind proxies that are trusted; an IPv6 network of 64 bits is one client."""

    def __init__(self, trusted: Networks) -> None:
        self._trusted = trusted
        self._peer = lru_cache(REMEMBERED_PEERS)(self._parse)

    def name(self, scope: Scope) -> str:
        """Return the nearest address that is no trusted proxy, as the proxies before it report in X-Forwarded-For."""
        client = scope.get("client")
        nearest = (client and self._peer(client[0])) or _Peer("unknown", False)
        if nearest.trusted:
            for hop in _forwarded(scope):
                peer = self._peer(hop) if len(hop) <= MAX_ADDRESS else None
                if peer is None:
                    break
                nearest = peer
                if not nearest.trusted:
                    break
        return nearest.name

    def behind_proxy(self, scope: Scope) -> bool:
        """Return whether a request comes from a trusted proxy, so that what it forwards is believed."""
        client = scope.get("client")
        peer = self._peer(client[0]) if client else None
        return peer is not None and peer.trusted

    def _parse(self, text: str) -> _Peer | None:
        address = _address(text.strip())
        if address is None:
            return None
        trusted = any(address in network for network in self._trusted)
        if isinstance(address, IPv6Address) and not trusted:
            return _Peer(str(IPv6Address(int(address) >> 64 << 64)), trusted)
        return _Peer(str(address), trusted)


def _forwarded(scope: Scope) -> Iterator[str]:
    """Yield the hops, the last one first."""
    for name, value in reversed(scope["headers"]):
        if name == b"x-forwarded-for":
            yield from reversed(value.decode("latin-1").split(","))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address, with or without brackets and port; None where it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


class RateLimits:
    """ASGI middleware. A client is its key where keys are needed, else its address.

    Every response says in ``X-RateLimit-Limit`` the requests per minute, in ``-Remaining`` those that may come at once,
    and in ``-Reset`` the seconds until the bucket is full again.
    """

    def __init__(self, app: ASGIApp, settings: Settings, contracts: Contracts, cache: Cache) -> None:
        self._app = app
        self._contracts = contracts
        self._clients = Clients(settings.trusted_proxies)
        self._buckets = Buckets(cache)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        limit = self._contracts.of(scope).rate
        known = scope.get(CALLER)
        if known is not None and known.rate == "unlimited":
            await self._app(scope, receive, send)
            return
        if known is not None and known.rate == "high":
            limit = _raised(limit)
        client = self._clients.name(scope) if known is None else known.name
        taken = await self._buckets.take(f"rate:{limit.name}:{client}", bucket_of(limit))
        headers = _headers(limit, taken)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        if taken.allowed:
            await self._app(scope, receive, send_with_headers)
        else:
            message = f"{limit.per_minute} requests a minute are the limit here; slow down."
            refusal = Failure(429, "RATE_LIMITED", message)
            scope.get(FAILURES, []).append(refusal.code)
            response = self._contracts.errors(scope).response(refusal, {"retry-after": str(taken.wait_s)})
            await response(scope, receive, send_with_headers)


@cache
def _raised(limit: RateLimit) -> RateLimit:
    burst = None if limit.burst is None else HIGH * limit.burst
    return RateLimit(limit.name, HIGH * limit.per_minute, burst)


def _headers(limit: RateLimit, taken: Taken) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-ratelimit-limit", b"%d" % limit.per_minute),
        (b"x-ratelimit-remaining", b"%d" % taken.left),
        (b"x-ratelimit-reset", b"%d" % taken.full_s),
    ]
