"""Limits of every request, before any route sees it: a cap on requests at once, a body cap, a deadline."""

import time
from collections.abc import MutableMapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.settings import Settings
from deployments.serving.handle import request_deadline
from graphs.web.api import Contracts
from graphs.web.errors import Failure
from graphs.web.health import HEALTH_PATHS


class RequestLimits:
    """ASGI middleware. Serve and its proxy have no body limit, so the cap is here, while the body is read."""

    def __init__(self, app: ASGIApp, settings: Settings, contracts: Contracts) -> None:
        self._app = app
        self._settings = settings
        self._contracts = contracts
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._active >= self._settings.max_requests_at_once and scope["path"] not in HEALTH_PATHS:
            message = f"This gateway is working on {self._active} requests; try again in a moment."
            await self._refuse(Failure(429, "OVERLOADED", message), scope, receive, send)
            return
        self._active += 1
        try:
            await self._limited(scope, receive, send)
        finally:
            self._active -= 1

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        contract = self._contracts.of(scope)
        limit = contract.max_body
        length = _content_length(scope)
        if length > limit:
            await self._refuse(Failure(413, "FILE_TOO_LARGE", _too_large(scope, length, limit)), scope, receive, send)
            return
        # An upload takes as long as its sender's line needs; its time begins when it has arrived.
        request_deadline.set(time.time() + self._settings.request_timeout_s if contract.timed else None)
        received = 0

        async def capped() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > limit:
                    # The only class that FastAPI lets through while it reads a body.
                    raise HTTPException(413, _too_large(scope, received, limit))
            return message

        await self._app(scope, capped, send)

    async def _refuse(self, failure: Failure, scope: Scope, receive: Receive, send: Send) -> None:
        await self._contracts.errors(scope).response(failure)(scope, receive, send)


def file_too_large(limit: int) -> str:
    """Return the message of a 413 for a file over a limit in bytes: that limit in MB of 2**20 bytes, and what to do."""
    most = f"{limit // 2**20}MB" if limit >= 2**20 else f"{limit:,} bytes"
    return f"File too large. Maximum size: {most}. Send a smaller or more strongly compressed file."


def _too_large(scope: MutableMapping[str, Any], size: int, limit: int) -> str:
    if _header(scope, b"content-type").startswith(b"multipart/"):
        return file_too_large(limit)
    return f"The request has {size:,} bytes or more; this route takes at most {limit:,}."


def _content_length(scope: MutableMapping[str, Any]) -> int:
    # int() refuses a number of thousands of digits, which is no length anyway.
    value = _header(scope, b"content-length")
    return int(value[:19]) if value.isdigit() else 0


def _header(scope: MutableMapping[str, Any], name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")
