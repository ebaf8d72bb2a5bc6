"""Rate limits: how often one client may call, in kinds of requests that the contract of each API tells apart."""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.settings import Settings
from graphs.web.auth import CLIENT, OPEN_PATHS
from graphs.web.buckets import Bucket, Buckets, Taken
from graphs.web.clients import Clients
from graphs.web.contracts import Contracts, RateLimit
from graphs.web.errors import Failure
from stores.cache import Cache


class RateLimits:
    """ASGI middleware. A client is its key where keys are needed, else its address.

    Every answer tells in ``X-RateLimit-Limit`` the requests a minute, in ``-Remaining`` those that may come at once,
    and in ``-Reset`` the seconds until nothing is used up any more.
    """

    def __init__(self, app: ASGIApp, settings: Settings, contracts: Contracts, cache: Cache) -> None:
        self._app = app
        self._contracts = contracts
        self._clients = Clients(settings.trusted_proxies)
        self._buckets = Buckets(cache)
        rules = [(contract.paths, limit) for contract in contracts.all for limit in contract.limits(settings)]
        self._limits = [(limit, _bucket(limit)) for _, limit in rules]
        patterns = (rf"((?=\S+ {paths}){limit.routes}\Z)" for paths, limit in rules)
        self._routes = re.compile("|".join(patterns), re.DOTALL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        limit, bucket = self._limit(scope)
        client = scope.get(CLIENT) or self._clients.name(scope)
        taken = await self._buckets.take(f"rate:{limit.name}:{client}", bucket)
        headers = _headers(limit, taken)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        if taken.allowed:
            await self._app(scope, receive, told)
        else:
            refused = self._contracts.errors(scope["path"]).response(
                Failure(429, "RATE_LIMITED", f"{limit.per_minute} requests a minute are the limit here; slow down."),
                {"retry-after": str(taken.wait_s)},
            )
            await refused(scope, receive, told)

    def _limit(self, scope: Scope) -> tuple[RateLimit, Bucket]:
        found = self._routes.match(f"{scope['method']} {scope['path']}")
        assert found is not None
        assert found.lastindex is not None
        return self._limits[found.lastindex - 1]


def _bucket(limit: RateLimit) -> Bucket:
    return Bucket.holding(limit.burst or limit.per_minute, limit.per_minute)


def _headers(limit: RateLimit, taken: Taken) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-ratelimit-limit", b"%d" % limit.per_minute),
        (b"x-ratelimit-remaining", b"%d" % taken.left),
        (b"x-ratelimit-reset", b"%d" % taken.full_s),
    ]
