"""What is known of every request, and of its answer when that has ended: its id, its route, its caller, its bytes.

The id is that of the header ``X-Request-Id``, or a new one, and comes back in the same header of every answer.
"""

import os
import re
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graphs.web.access import EVERYONE
from graphs.web.access_log import CLIENT_LEFT, Exchange, Outcome
from graphs.web.api import Contracts
from graphs.web.auth import CALLER, OPEN_PATHS
from graphs.web.errors import FAILURES
from vision.spans import Span, begin, parent_of, recording
from vision.tracing import Origin, origin

HEADER: Final = b"x-request-id"
REQUEST_ID: Final = "visiongraph.request_id"
"""Key in the scope of the id of a request whose answer gets it already."""
SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:/=+@-]{1,128}")
"""Ids of clients that are taken over: such as may stand in a log, a header and a URL."""
METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})

Observer = Callable[[Exchange], None]
"""Told of each exchange when it has ended; cheap, as it holds up all others."""


class RequestIds:
    """ASGI middleware that gives every request an id, and its answer the same one.

    The header of the request has that id from here on, in place of one that is not sane.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or REQUEST_ID in scope:
            await self._app(scope, receive, send)
            return
        request_id = id_of(scope["headers"])
        own = (HEADER, request_id)
        scope["headers"] = [*(header for header in scope["headers"] if header[0] != HEADER), own]
        scope[REQUEST_ID] = request_id.decode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), own]}
            await send(message)

        await self._app(scope, receive, send_with_id)


class Requests:
    """ASGI middleware, the outermost one but ``RequestIds``: tells of each exchange when it has ended.

    What is logged meanwhile has the id of the request.
    """

    def __init__(self, app: ASGIApp, contracts: Contracts, observers: Sequence[Observer]) -> None:
        self._app = app
        self._contracts = contracts
        self._observers = observers
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_at, started = time.time(), time.perf_counter()
        status = bytes_in = bytes_out = 0
        waited_s, latency_s = 0.0, None
        whole = False
        outcome: Outcome = "left"

        async def counted_in() -> Message:
            nonlocal bytes_in, waited_s
            asked = time.perf_counter()
            message = await receive()
            if message["type"] == "http.request" and (body := message.get("body")):
                bytes_in += len(body)
                waited_s += time.perf_counter() - asked
            return message

        async def counted_out(message: Message) -> None:
            nonlocal status, bytes_out, whole, latency_s
            if message["type"] == "http.response.start":
                status = message["status"]
                latency_s = max(0.0, time.perf_counter() - started - waited_s)
            await send(message)
            if message["type"] == "http.response.body":
                bytes_out += len(message.get("body", b""))
                whole = not message.get("more_body", False)

        recorded = self._recorded(scope)
        token = origin.set(recorded.origin if recorded else Origin(scope[REQUEST_ID]))
        failures: list[str] = []
        scope[FAILURES] = failures
        self.in_flight += 1
        try:
            await self._app(scope, counted_in, counted_out)
        except CancelledError:
            raise
        except BaseException:
            outcome = "broken"
            raise
        finally:
            self.in_flight -= 1
            origin.reset(token)
            contract = self._contracts.of(scope)
            path = get_route_path(scope)
            caller = scope.get(CALLER)
            method = scope["method"]
            exchange = Exchange(
                request_id=scope[REQUEST_ID],
                method=method if method in METHODS else "OTHER",
                route=contract.route or (path if path in OPEN_PATHS else ""),
                api=contract.api,
                caller=None if caller is EVERYONE else caller,
                status=status or (CLIENT_LEFT if outcome == "left" else 500),
                outcome="sent" if whole else outcome,
                began_at=began_at,
                seconds=time.perf_counter() - started,
                bytes_in=bytes_in,
                bytes_out=bytes_out,
                latency_s=latency_s,
                failure=failures[-1] if failures else "",
            )
            if recorded is not None:
                exchange.trace_id = recorded.trace_id
                recorded.end(_attributes(exchange), str(exchange.status) if exchange.status >= 500 else "")
            for observe in self._observers:
                observe(exchange)

    def _recorded(self, scope: Scope) -> Span | None:
        """Begin the span of a request, under that of its client if it names one; None where spans are not recorded."""
        if not recording():
            return None
        headers = Headers(scope=scope)
        parent = parent_of(scope[REQUEST_ID], headers.get("traceparent", ""), headers.get("tracestate", ""))
        contract, method = self._contracts.of(scope), scope["method"]
        path = get_route_path(scope)
        route = contract.route or (path if path in OPEN_PATHS else "")
        return begin(f"{method if method in METHODS else 'OTHER'} {route}".rstrip(), "server", parent)


def _attributes(exchange: Exchange) -> dict[str, Any]:
    """Return what a span says of a request, by the names of OpenTelemetry where it has them."""
    values = {
        "http.request.method": exchange.method if exchange.method in METHODS else "_OTHER",
        "http.route": exchange.route,
        "http.response.status_code": exchange.status,
        "http.request.body.size": exchange.bytes_in,
        "http.response.body.size": exchange.bytes_out,
        "visiongraph.api": exchange.api,
        "visiongraph.key": exchange.caller.name if exchange.caller else "",
        "visiongraph.outcome": exchange.outcome,
    }
    return {name: value for name, value in values.items() if value != ""}


def id_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the id of a request by its headers: the one that it brings, if that is one and sane, else a new one."""
    given = [value for name, value in headers if name == HEADER]
    return given[0] if len(given) == 1 and SANE_ID.fullmatch(given[0]) else os.urandom(16).hex().encode()


def replace_serves_ids() -> None:
    """Have Serve's server of this process take ids of requests as ``RequestIds`` does, also for its own answers.

    Serve's own middleware sends back whatever it is sent, and fails on a header that is not UTF-8.
    """
    from ray.serve._private import http_util

    http_util.RequestIdMiddleware = RequestIds
