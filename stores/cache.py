"""The cache: redis-py with Redis, Valkey or the embedded Valkey; its failures never fail a request."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from stores.errors import StoreError, StoreRefused
from stores.observed import Report

log = logging.getLogger(__name__)

SCHEMES = ("redis://", "rediss://", "unix://")
MAX_CONNECTIONS = 8
POOL_WAIT_S = 0.2
CONNECT_TIMEOUT_S = 0.5
REPLY_TIMEOUT_S = 1.0
REFUSED_LOG_S = 60.0
RETRY_AFTER_S = 1.0
"""Time without attempts after a failure."""

T = TypeVar("T")


def features_key(model_version: str, asset_id: str) -> str:
    """Return the key of the features of an asset by one model."""
    return f"features:{model_version}:{asset_id}"


class Cache:
    """``redis://…``, ``rediss://…`` or ``unix://…``; with the empty URL a cache that is always empty.

    While the server cannot be reached, reads miss and writes are dropped, without an exception.

    ``report`` is told of every call that the server was asked for.

    :raises ValueError: the URL is not of one of these forms.
    """

    def __init__(self, url: str, report: Report | None = None) -> None:
        if url and not url.startswith(SCHEMES):
            raise ValueError(f"a cache URL starts with one of {', '.join(SCHEMES)}")
        self.type = "redis" if url else "none"
        self._redis = _connect(url) if url else None
        self._scripts: dict[str, AsyncScript] = {}
        self._address = _address(url)
        self._report = report
        self._down = False
        self._retry_at = 0.0
        self._refused_at = -REFUSED_LOG_S

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values in the order of the keys, None for each miss."""
        redis = self._redis
        if redis is None or not keys:
            return [None] * len(keys)
        values = await self._attempt("get_many", lambda: cast(Awaitable[list[bytes | None]], redis.mget(keys)))
        return [None] * len(keys) if values is None else values

    async def set_many(self, values: Mapping[str, bytes], ttl_s: int) -> None:
        """Store values for ``ttl_s`` seconds."""
        if self._redis is None or not values:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for key, value in values.items():
            pipeline.set(key, value, ex=ttl_s)
        await self._attempt("set_many", pipeline.execute)

    async def delete(self, keys: Sequence[str]) -> bool:
        """Delete keys; False if the server did not confirm it."""
        redis = self._redis
        if redis is None or not keys:
            return True
        return await self._attempt("delete", lambda: redis.delete(*keys)) is not None

    async def run(self, script: str, keys: Sequence[str], args: Sequence[int]) -> Any:
        """Run a Lua script atomically, in one round trip, and return its result; None if no server answers."""
        redis = self._redis
        if redis is None:
            return None
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = redis.register_script(script)
        return await self._attempt("run", lambda: cast(Awaitable[Any], known(keys, args)))

    async def mentions(self, text: str) -> int:
        """Return how many keys name a text; reads all of them. Raises StoreError if no server answers."""
        redis = self._redis
        if redis is None:
            return 0
        wanted = text.encode()
        try:
            return sum([wanted in key async for key in redis.scan_iter(count=1000)])
        except (RedisError, OSError) as error:
            raise StoreError(f"cache {self._address}: {type(error).__name__}") from error

    async def ping(self) -> bool:
        """Return whether the server answers; True without a server."""
        redis = self._redis
        return redis is None or bool(await self._attempt("ping", lambda: redis.ping()))

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()

    async def _attempt(self, operation: str, command: Callable[[], Awaitable[T]]) -> T | None:
        """Return the answer of the server; None while it is down."""
        if self._down:
            if time.monotonic() < self._retry_at:
                return None
            self._retry_at = time.monotonic() + RETRY_AFTER_S  # only this request tries, for all the others
        started, failure = time.perf_counter(), None
        try:
            answer = await command()
        except ResponseError as error:
            failure = StoreRefused.__name__
            # It answers, and reads work: its disk is full, say. Nobody depends on what it does not take.
            if time.monotonic() > self._refused_at + REFUSED_LOG_S:
                log.warning("cache %s refuses a command: %s", self._address, str(error).partition(" ")[0])
                self._refused_at = time.monotonic()
            return None
        except (RedisError, OSError) as error:
            failure = StoreError.__name__
            if not self._down:
                log.warning("cache %s is down (%s); working without it", self._address, type(error).__name__)
            self._down = True
            self._retry_at = time.monotonic() + RETRY_AFTER_S
            return None
        finally:
            if self._report is not None:
                self._report("cache", operation, time.perf_counter() - started, failure)
        if self._down:
            log.info("cache %s answers again", self._address)
            self._down = False
        return answer


def _connect(url: str) -> Redis:
    # The blocking pool makes a burst wait for a connection; the plain one opens ever more, then refuses.
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=POOL_WAIT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=REPLY_TIMEOUT_S,
        # One: for a connection that the server closed while it was idle. Who did not answer in time is not asked again.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    return Redis.from_pool(pool)


def _address(url: str) -> str:
    """Return the address of the server, without the password."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
