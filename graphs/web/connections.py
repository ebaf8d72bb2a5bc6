"""What HTTP/1.1 asks of every response, so that no route has to know: HEAD, and connections that stay in step."""

import asyncio
from contextlib import suppress
from typing import Final

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graphs.web.api import Contracts

DISCARDED_BYTES: Final = 64 * 2**20
"""Bytes of a refused request that the server reads and drops, at least: many clients read no answer before."""
LINGER_S: Final = 3.0
_HEAD: Final = "visiongraph.head"


def method_of(request: Request) -> str:
    """Return the method that the client sent: HEAD for a request that ``HeadRequests`` passes on as a GET."""
    return "HEAD" if _HEAD in request.scope else request.method


class HeadRequests:
    """ASGI middleware that answers HEAD with the status and headers of a GET, on every route.

    Routes whose bodies are long ask ``method_of``, and make none for HEAD.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_headers(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
            elif not message.get("more_body", False):
                await send({"type": "http.response.body", "body": b""})

        # A new scope: the server has to know what was asked, as it must not wait for a body either.
        await self._app({**scope, "method": "GET", _HEAD: True}, receive, send_headers)


class UnreadBodies:
    """ASGI middleware that closes connections on which the rest of a body could be taken for the next request.

    When a response begins before its request was read, the server drops the rest. That is as good as reading it, unless
    the client waits for ``100 Continue`` and may not send it at all, or it is longer than the route takes, or of
    unknown length. Then the connection is closed after the response; the client has ``LINGER_S`` to see that.
    """

    def __init__(self, app: ASGIApp, contracts: Contracts) -> None:
        self._app = app
        self._contracts = contracts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"]) if scope["type"] == "http" else {}
        declared = headers.get(b"content-length", b"")
        length = int(declared[:19]) if declared.isdigit() else None
        if not length and b"transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        limit = max(DISCARDED_BYTES, self._contracts.of(scope).max_body)
        waits = headers.get(b"expect", b"").lower() == b"100-continue"
        received, complete, closing = 0, False, False

        async def count() -> Message:
            nonlocal received, complete
            message = await receive()
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            return message

        async def discard() -> None:
            while not complete and received <= limit:
                await count()

        async def send_in_step(message: Message) -> None:
            nonlocal closing
            if message["type"] == "http.response.start" and not complete:
                closing = (waits and not received) or length is None or length - received > limit
                if closing:
                    message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            elif closing and not message.get("more_body", False):
                await send({**message, "more_body": True})
                with suppress(TimeoutError):
                    await asyncio.wait_for(discard(), LINGER_S)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._app(scope, count, send_in_step)
