"""JSON bodies: large requests parsed a few at a time and off the event loop, responses written by orjson."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final

import orjson
from fastapi import HTTPException, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from graphs.web.admission import Admission
from graphs.web.limits import BODY_SIZE, SMALL

LARGE_AT_ONCE: Final = 8
LARGE_WAITING: Final = 256
MAX_VALUES: Final = 8_000_000
"""Values of one body; this many numbers, or half as many empty lists, take about 0.3 GB."""


class JsonResponse(Response):
    """A response whose content may hold numpy arrays, which never become Python lists, and datetimes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z)


class _LargeRequest(Request):
    """A request whose body is parsed by orjson, in a thread when it is large. Raises HTTPException (413)."""

    async def json(self) -> Any:
        body = await self.body()
        return orjson.loads(body) if len(body) <= SMALL else await asyncio.to_thread(_parse, body)


def large_body_route() -> type[APIRoute]:
    """Return a route class whose routes together hold at most ``LARGE_AT_ONCE`` bodies over 1 MiB in memory.

    Others wait on disk, where they are whole. Such a route raises StageOverloaded when its turn does not come in the
    request's time.
    """
    admission = Admission("large requests", LARGE_AT_ONCE, LARGE_WAITING)

    class LargeBodyRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                large = _LargeRequest(request.scope, request.receive)
                async with AsyncExitStack() as held:
                    if request.scope.get(BODY_SIZE, 0) > SMALL:
                        await held.enter_async_context(admission.slot())
                    await large.body()
                    return await handler(large)

            return handle

    return LargeBodyRoute


def _parse(body: bytes) -> Any:
    # Brackets grow thirtyfold when they become lists. Those inside strings count too; our requests have few of them.
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise HTTPException(413, f"The request has more than {MAX_VALUES:,} values; send it in several requests.")
    return orjson.loads(body)
