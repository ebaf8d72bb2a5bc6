"""Limits of every request, before any route sees it: a cap on requests at once, a body cap, a deadline."""

import asyncio
import time
from collections.abc import MutableMapping
from contextlib import ExitStack
from tempfile import SpooledTemporaryFile
from typing import Any, Final, Self

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.settings import Settings
from graphs.web.api import Contract, Contracts
from graphs.web.errors import Failure, failure_of
from graphs.web.health import HEALTH_PATHS
from graphs.web.transfers import has_body
from graphs.web.uploads.spool import Spool
from stores.errors import StoreError
from vision.deadlines import request_deadline
from vision.errors import StageError

IN_MEMORY: Final = 128 * 1024
"""Bytes of a body on its way that are held in memory; a larger one is on disk until it is here."""
SMALL: Final = 2**20
"""Bytes of a body that are read and parsed on the event loop."""
BODY_SIZE: Final = "visiongraph.body_size"
"""Key in the scope under which the size of a body stands that is here, in bytes."""


class RequestLimits:
    """ASGI middleware. Serve and its proxy have no body limit, so the cap is here, while the body is read.

    A route is called when the body of its request is here, and then its time begins; so whoever sends slowly has no
    part in anything that is bounded. Routes that read their body themselves are called at once. What is no route is
    answered without a look at the body.
    """

    def __init__(self, app: ASGIApp, settings: Settings, contracts: Contracts, spool: Spool) -> None:
        self._app = app
        self._settings = settings
        self._contracts = contracts
        self._spool = spool
        self._work = _Count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._work.requests >= self._settings.max_requests_at_once and scope["path"] not in HEALTH_PATHS:
            message = f"This gateway is working on {self._work.requests} requests; try again in a moment."
            await self._refuse(Failure(429, "OVERLOADED", message), scope, receive, send)
            return
        contract = self._contracts.of(scope)
        length = content_length(scope)
        if contract.is_route and length > contract.max_body:
            message = _too_large(scope, length, contract.max_body)
            await self._refuse(Failure(413, "FILE_TOO_LARGE", message), scope, receive, send)
            return
        with ExitStack() as held:
            work = held.enter_context(_Work(self._work, self._settings.request_timeout_s))
            arriving = _capped(scope, receive, contract)
            if contract.reads:
                request_deadline.set(None)
                receive = work.beginning(arriving)
            elif contract.is_route and has_body(scope):
                body = held.enter_context(_Body(self._spool, scope))
                try:
                    await body.fill(arriving)
                except (StageError, StoreError, HTTPException, OSError) as error:
                    failure = failure_of(error)
                    if failure.status == 500:
                        raise
                    await self._refuse(failure, scope, receive, send)
                    return
                work.begin()
                receive = body.replayed(receive)
            else:
                work.begin()
                receive = arriving
            await self._app(scope, receive, work.ending(send))

    async def _refuse(self, failure: Failure, scope: Scope, receive: Receive, send: Send) -> None:
        await self._contracts.errors(scope).response(failure)(scope, receive, send)


class _Count:
    """How many requests are being worked on."""

    requests = 0


class _Work:
    """The share of one request in that count, and its time: both begin when its body is here.

    The share ends when the answer begins, since its reader takes what time he likes.
    """

    def __init__(self, count: _Count, timeout_s: float) -> None:
        self._count, self._timeout_s, self._share = count, timeout_s, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        request_deadline.set(None)  # whoever called the application goes on without it

    def begin(self) -> None:
        """Count the request, and set its deadline."""
        self._share = 1
        self._count.requests += 1
        request_deadline.set(time.time() + self._timeout_s)

    def beginning(self, receive: Receive) -> Receive:
        """Return a ``receive`` that begins with the end of the body."""

        async def until_here() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False) and not self._share:
                self.begin()
            return message

        return until_here

    def ending(self, send: Send) -> Send:
        """Return a ``send`` that ends with the beginning of the answer."""

        async def until_answered(message: Message) -> None:
            self._end()
            await send(message)

        return until_answered

    def _end(self) -> None:
        self._count.requests -= self._share
        self._share = 0


class _Body:
    """A body on its way in, in memory or on disk."""

    def __init__(self, spool: Spool, scope: Scope) -> None:
        self._spool, self._scope = spool, scope
        self._file = SpooledTemporaryFile(IN_MEMORY, dir=str(spool.directory))  # noqa: SIM115
        self._size = self._on_disk = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._spool.give_back(self._on_disk)
        self._on_disk = 0

    async def fill(self, receive: Receive) -> None:
        """Receive all of it. Raises what ``receive`` raises, StageOverloaded, and ClientDisconnect."""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece = message.get("body", b"")
            self._size += len(piece)
            if self._size > IN_MEMORY:
                if not self._on_disk:
                    self._spool.directory.mkdir(parents=True, exist_ok=True)
                self._spool.take(self._size - self._on_disk)
                self._on_disk = self._size
            self._file.write(piece)
            more = message.get("more_body", False)
        self._scope[BODY_SIZE] = self._size

    def replayed(self, receive: Receive) -> Receive:
        """Return a ``receive`` that gives all of it at once, then what comes after it."""
        given = False

        async def whole() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            self._file.seek(0)
            body = await asyncio.to_thread(self._file.read) if self._size > SMALL else self._file.read()
            self.__exit__()
            return {"type": "http.request", "body": body, "more_body": False}

        return whole


def _capped(scope: Scope, receive: Receive, contract: Contract) -> Receive:
    received = 0

    async def capped() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > contract.max_body:
                # The only class that FastAPI lets through while it reads a body.
                raise HTTPException(413, _too_large(scope, received, contract.max_body))
        return message

    return capped


def file_too_large(limit: int) -> str:
    """Return the message of a 413 for a file over a limit in bytes: that limit in MB of 2**20 bytes, and what to do."""
    most = f"{limit // 2**20}MB" if limit >= 2**20 else f"{limit:,} bytes"
    return f"File too large. Maximum size: {most}. Send a smaller or more strongly compressed file."


def _too_large(scope: MutableMapping[str, Any], size: int, limit: int) -> str:
    if _header(scope, b"content-type").startswith(b"multipart/"):
        return file_too_large(limit)
    return f"The request has {size:,} bytes or more; this route takes at most {limit:,}."


def content_length(scope: MutableMapping[str, Any]) -> int:
    """Return the bytes of a body as its request announces them, 0 if it does not."""
    # int() refuses a number of thousands of digits, which is no length anyway.
    value = _header(scope, b"content-length")
    return int(value[:19]) if value.isdigit() else 0


def _header(scope: MutableMapping[str, Any], name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")
