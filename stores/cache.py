"""The cache: redis-py against Redis, Valkey or the embedded Valkey; never a reason for a request to fail."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

SCHEMES = ("redis://", "rediss://", "unix://")
MAX_CONNECTIONS = 8
POOL_WAIT_S = 0.2
CONNECT_TIMEOUT_S = 0.5
REPLY_TIMEOUT_S = 1.0
REST_S = 1.0
"""How long a cache that failed is left alone."""

T = TypeVar("T")


class Cache:
    """``redis://…``, ``rediss://…`` or ``unix://…``; with the empty URL a cache that never holds anything.

    While the server cannot be reached reads miss and writes are dropped: no method raises for that.

    :raises ValueError: the URL is not of one of these forms.
    """

    def __init__(self, url: str) -> None:
        if url and not url.startswith(SCHEMES):
            raise ValueError(f"a cache URL starts with one of {', '.join(SCHEMES)}")
        self.type = "redis" if url else "none"
        self._redis = _connect(url) if url else None
        self._scripts: dict[str, AsyncScript] = {}
        self._place = _place(url)
        self._down = False
        self._rest_until = 0.0

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values in the order of the keys, None for each that is not there."""
        redis = self._redis
        if redis is None or not keys:
            return [None] * len(keys)
        values = await self._attempt(lambda: cast(Awaitable[list[bytes | None]], redis.mget(keys)))
        return [None] * len(keys) if values is None else values

    async def set_many(self, values: Mapping[str, bytes], ttl_s: int) -> None:
        """Keep the values for ``ttl_s`` seconds."""
        if self._redis is None or not values:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for key, value in values.items():
            pipeline.set(key, value, ex=ttl_s)
        await self._attempt(pipeline.execute)

    async def delete(self, keys: Sequence[str]) -> bool:
        """True once no reader can be given these keys again; False when the server did not say so."""
        redis = self._redis
        if redis is None or not keys:
            return True
        return await self._attempt(lambda: redis.delete(*keys)) is not None

    async def run(self, script: str, keys: Sequence[str], args: Sequence[int]) -> Any:
        """What a Lua script answers, atomic and in one round trip; None when there is no server to answer."""
        redis = self._redis
        if redis is None:
            return None
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = redis.register_script(script)
        return await self._attempt(lambda: cast(Awaitable[Any], known(keys, args)))

    async def ping(self) -> bool:
        """True when the server answers, and when there is none to ask."""
        redis = self._redis
        return redis is None or bool(await self._attempt(lambda: redis.ping()))

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()

    async def _attempt(self, command: Callable[[], Awaitable[T]]) -> T | None:
        """The answer of the server; None while it is down or resting."""
        if self._down:
            if time.monotonic() < self._rest_until:
                return None
            self._rest_until = time.monotonic() + REST_S  # this request alone finds out for all the others
        try:
            answer = await command()
        except (RedisError, OSError) as error:
            if not self._down:
                log.warning("cache %s is down (%s); working without it", self._place, type(error).__name__)
            self._down = True
            self._rest_until = time.monotonic() + REST_S
            return None
        if self._down:
            log.info("cache %s answers again", self._place)
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
        retry=Retry(NoBackoff(), 1),  # one: for a connection the server closed while it was idle
    )
    return Redis.from_pool(pool)


def _place(url: str) -> str:
    """Where the server is, without the password."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
