"""What HTTP/1.1 asks of every response, so that no route has to know: HEAD, Allow, connections that stay in step.

And how fast a server takes new connections.
"""

import socket
from collections.abc import Iterable
from functools import wraps
from typing import Any, Final

import uvicorn
from fastapi import Request
from fastapi.routing import RouteContext
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http import h11_impl, httptools_impl

ACCEPTED_AT_ONCE: Final = 16

_HEAD: Final = "visiongraph.head"


def method_of(request: Request) -> str:
    """Return the method that the client sent: HEAD for a request that ``HeadRequests`` passes on as a GET."""
    return "HEAD" if _HEAD in request.scope else request.method


class Methods:
    """The methods of every path. A path may be that of several routes, each of which answers to its own methods."""

    def __init__(self, routes: Iterable[RouteContext]) -> None:
        self._routes = [
            (compile_path(route.path)[0], route.methods) for route in routes if route.path and route.methods
        ]

    def of(self, scope: Scope) -> list[str]:
        """Return the methods that the path of a request has, in order; none for a path that is no route."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        methods = {method for pattern, own in self._routes if pattern.match(path) for method in own}
        return sorted(methods | {"HEAD"} if "GET" in methods else methods)


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


class Expectations:
    """ASGI middleware that closes connections on which a client waits for ``100 Continue`` and gets a response instead.

    Such a client may send its body or not (RFC 9110, section 10.1.1), so nobody knows where its next request begins.
    The rest of any other body that is not read is dropped by the server, and the connection stays in step.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _waits(scope):
            await self._app(scope, receive, send)
            return
        asked = False

        async def ask() -> Message:
            nonlocal asked
            asked = True
            return await receive()

        async def send_in_step(message: Message) -> None:
            if message["type"] == "http.response.start" and not asked:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self._app(scope, ask, send_in_step)


def keep_what_came() -> None:
    """Let the servers that this process starts give a route all that came of a body before its client left.

    uvicorn drops what it holds then, up to some hundred kilobytes that a resumable upload would have to be sent again.
    """
    for cycle in (httptools_impl.RequestResponseCycle, h11_impl.RequestResponseCycle):
        _keep_what_came_to(cycle)


def _keep_what_came_to(cycle: Any) -> None:
    receive = cycle.receive
    if hasattr(receive, "__wrapped__"):
        return

    @wraps(receive)
    async def receive_all(self: Any) -> Message:
        message: Message = await receive(self)
        if message["type"] == "http.disconnect" and self.body and not self.response_complete:
            body, self.body = bytes(self.body), bytearray()
            return {"type": "http.request", "body": body, "more_body": True}
        return message

    cycle.receive = receive_all


def _waits(scope: Scope) -> bool:
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"])


def accept_many() -> None:
    """Let the servers that this process starts take ``ACCEPTED_AT_ONCE`` new connections in a turn of the event loop.

    uvloop takes one from each listening socket in a turn, and a turn of a busy gateway lasts 10 ms: of 500 clients that
    come at once the last one, or a health check behind them, would wait for seconds before it is even seen. So each
    socket is listened on several times. asyncio's own loop needs no such thing, but takes a quarter more CPU a request.
    """
    startup = uvicorn.Server.startup
    if hasattr(startup, "__wrapped__"):
        return

    @wraps(startup)
    async def listen(self: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        again = [each.dup() for each in sockets or [] for _ in range(ACCEPTED_AT_ONCE - 1)]
        await startup(self, sockets and [*sockets, *again])

    uvicorn.Server.startup = listen  # type: ignore[method-assign]  # Serve makes its server out of our reach
