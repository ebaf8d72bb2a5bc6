"""JSON bodies: large requests read a few at a time and parsed off the event loop, responses written by orjson."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final

import orjson
from fastapi import HTTPException, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from deployments.serving.handle import time_left
from vision.errors import DeadlineExceeded

SMALL: Final = 2**20
LARGE_AT_ONCE: Final = 8
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
    """Return a route class whose routes together hold at most ``LARGE_AT_ONCE`` bodies over 1 MiB; others wait unread.

    Such a route raises DeadlineExceeded when its body has not arrived by the end of the request's time.
    """
    admission = asyncio.Semaphore(LARGE_AT_ONCE)

    class LargeBodyRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                large = _LargeRequest(request.scope, request.receive)
                async with AsyncExitStack() as held:
                    try:
                        async with asyncio.timeout(time_left()):
                            if _may_be_large(request):
                                await held.enter_async_context(admission)
                            await large.body()
                    except TimeoutError:
                        raise DeadlineExceeded("The request's time ran out before its body arrived.") from None
                    except ClientDisconnect:
                        raise HTTPException(400, "The client left before its body arrived.") from None
                    return await handler(large)

            return handle

    return LargeBodyRoute


def _parse(body: bytes) -> Any:
    # Brackets grow thirtyfold when they become lists. Those inside strings count too; our requests have few of them.
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise HTTPException(413, f"The request has more than {MAX_VALUES:,} values; send it in several requests.")
    return orjson.loads(body)


def _may_be_large(request: Request) -> bool:
    length = request.headers.get("content-length", "")
    return not length.isdecimal() or int(length[:19]) > SMALL
