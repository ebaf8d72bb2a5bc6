"""Bodies on their way in and answers on their way out: how slow they may be, and how many there may be at once.

Whoever sends or reads nothing costs memory and a connection, and with enough of them everybody else's. So the time that
a transfer waits for its client is bounded, by a bucket: it holds ``body_idle_s`` seconds, waiting empties it, and each
``body_min_bytes_per_s`` bytes put a second back. A sender may pause for as long as that, and may be as slow as that
rate for ever. When too many transfers are under way, the slowest of the client that has most of them makes room.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable
from typing import Final, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.settings import Settings
from graphs.web.api import Contracts
from graphs.web.errors import BodyTooSlow, Failure
from graphs.web.rates import Clients
from vision.memory import trim_soon

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

SLOW_S: Final = 1.0
"""Seconds for which a transfer has kept us waiting before it may have to make room for another."""
MOST_DRAINED: Final = 16 * 2**20
"""Bytes of a body that nobody wants which are read, at its rate, before the server is left to drop the others."""
LARGE_BODY: Final = 4 * 2**20
"""Bytes of a body after which free memory is returned: the allocator keeps blocks of up to 32 MiB for the next one."""
_SLICE: Final = 256 * 1024


class _Transfer:
    """One direction of one request; ``waited``: seconds spent waiting for the client, ``size``: bytes so far.

    Without a ``rate`` any bytes fill its bucket.
    """

    __slots__ = ("_idle_s", "_left_s", "_rate", "_since", "_timeout", "client", "size", "waited")

    def __init__(self, client: str, idle_s: float, rate: float) -> None:
        self.client, self.size, self.waited = client, 0, 0.0
        self._idle_s = self._left_s = idle_s
        self._rate = rate
        self._timeout: asyncio.Timeout | None = None
        self._since = 0.0

    async def wait(self, step: Awaitable[T]) -> T:
        """Return what a step of the transfer gives. Raises TimeoutError when the client is too slow or makes room."""
        clock = asyncio.get_running_loop().time
        self._since = clock()
        try:
            async with asyncio.timeout(self._left_s) as self._timeout:
                return await step
        finally:
            self._timeout = None
            waited = clock() - self._since
            self.waited += waited
            self._left_s -= waited

    def add(self, size: int) -> None:
        """Count bytes that came or went."""
        self.size += size
        self._left_s = min(self._idle_s, self._left_s + size / self._rate) if self._rate else self._idle_s

    def waits(self, now: float) -> float:
        """Return the seconds for which the client has kept us waiting by ``now``; 0 when it does not at present."""
        return self.waited + now - self._since if self._timeout is not None else 0.0

    def cut(self) -> None:
        """End the present step with TimeoutError."""
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(0)


class Transfers:
    """ASGI middleware, the outermost one: bounds all transfers of a gateway, and closes connections that stay behind.

    A body that is too slow makes ``receive`` raise BodyTooSlow, and the answer to it closes the connection. A client
    that does not read its answer loses the connection. An answer that comes before the end of the body is sent at once,
    and what still comes is dropped under the same bounds; so the connection stays in step, or ends.
    """

    def __init__(self, app: ASGIApp, settings: Settings, contracts: Contracts) -> None:
        self._app = app
        self._settings = settings
        self._contracts = contracts
        self._clients = Clients(settings.trusted_proxies)
        self._under_way: set[_Transfer] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = None
        if has_body(scope):
            body = self._body(scope)
            if not self._has_room():
                message = f"{len(self._under_way)} requests are being sent to this gateway; try again in a moment."
                refusal = self._contracts.errors(scope).response(Failure(429, "OVERLOADED", message), _CLOSE)
                await refusal(scope, receive, send)
                return
            self._under_way.add(body)
        exchange = _Exchange(scope, receive, send, body, self._answer(scope), self._under_way)
        try:
            # Only a cancellation gets out of whatever has begun to answer without being taken for a bug.
            async with asyncio.timeout(None) as exchange.whole:
                await self._app(scope, exchange.receive, exchange.send)
        except (ClientDisconnect, asyncio.CancelledError) as error:
            if not exchange.arrived:
                logger.debug("%s %s: its client left %s", scope["method"], scope["path"], exchange.progress)
            if isinstance(error, asyncio.CancelledError):
                raise
        except TimeoutError:
            if not exchange.stalled:
                raise
            logger.info("%s %s: cut, its client did not read the answer", scope["method"], scope["path"])
        finally:
            self._under_way.discard(exchange.answer)
            if body is not None:
                self._under_way.discard(body)
                if body.size >= LARGE_BODY:
                    trim_soon()

    def _body(self, scope: Scope) -> _Transfer:
        settings = self._settings
        return _Transfer(self._clients.name(scope), settings.body_idle_s, settings.body_min_bytes_per_s)

    def _answer(self, scope: Scope) -> _Transfer:
        # The buffers on the way to a reader let tens of kilobytes through at once, or nothing for a while.
        return _Transfer(self._clients.name(scope), self._settings.reader_idle_s, 0)

    def _has_room(self) -> bool:
        if len(self._under_way) < self._settings.max_transfers_at_once:
            return True
        now = asyncio.get_running_loop().time()
        waits = {transfer: transfer.waits(now) for transfer in self._under_way}
        slow = [transfer for transfer, seconds in waits.items() if seconds > SLOW_S]
        if not slow:
            return False
        clients = Counter(transfer.client for transfer in self._under_way)
        worst = max(slow, key=lambda transfer: (clients[transfer.client], -transfer.size / waits[transfer]))
        self._under_way.discard(worst)
        worst.cut()
        return True


class _Exchange:
    """``receive`` and ``send`` of one request; ``arrived``: its body, if any, is here as a whole."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        body: _Transfer | None,
        answer: _Transfer,
        under_way: set[_Transfer],
    ) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._body, self.answer, self._under_way = body, answer, under_way
        self.arrived = body is None
        self.stalled = False
        self.whole: asyncio.Timeout | None = None
        self._closes = False

    @property
    def progress(self) -> str:
        """Return how much of the body had come, for the log."""
        return f"after {self._body.size if self._body else 0:,} bytes of its body"

    async def receive(self) -> Message:
        """Return the next part of the request. Raises BodyTooSlow."""
        if self._body is None or self.arrived:
            return await self._receive()
        try:
            message = await self._body.wait(self._receive())
        except TimeoutError:
            self._closes = True
            raise BodyTooSlow(self._body.size) from None
        if message["type"] == "http.request":
            self._body.add(len(message.get("body", b"")))
            self.arrived = not message.get("more_body", False)
        if self.arrived:
            self._under_way.discard(self._body)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; one whose reader stalls cancels the request."""
        if message["type"] == "http.response.start":
            if self._closes:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            elif not self.arrived:
                headers = message.get("headers", ())
                self._closes = any(name == b"connection" and value == b"close" for name, value in headers)
        if message["type"] != "http.response.body":
            await self._sent(message)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if more:
            self._under_way.add(self.answer)
        for start in range(0, len(body) - _SLICE, _SLICE):
            await self._sent({**message, "body": body[start : start + _SLICE], "more_body": True})
        rest = body[max(0, (len(body) - 1) // _SLICE * _SLICE) :]
        if more or self.arrived or self._closes:
            await self._sent({**message, "body": rest})
            return
        await self._sent({**message, "body": rest, "more_body": True})
        if await self._drained():
            await self._sent({"type": "http.response.body", "body": b"", "more_body": False})

    async def _sent(self, message: Message) -> None:
        try:
            await self.answer.wait(self._send(message))
        except TimeoutError:
            self.stalled = True
            assert self.whole is not None
            self.whole.reschedule(0)
            await asyncio.Event().wait()
        self.answer.add(len(message.get("body", b"")))

    async def _drained(self) -> bool:
        """Read the rest of the body; return False when it is too slow, and the connection should end instead."""
        assert self._body is not None
        most = self._body.size + MOST_DRAINED
        try:
            while not self.arrived and self._body.size < most:
                if (await self.receive())["type"] == "http.disconnect":
                    return False
        except BodyTooSlow:
            return False
        return True


def has_body(scope: Scope) -> bool:
    """Return whether a request has a body, of known length or not (RFC 9112, section 6.3)."""
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
            return True
    return False


_CLOSE: Final = {"connection": "close"}
