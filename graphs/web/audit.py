"""The audit trail of requests: who asked for which change, of what, and what came of it.

An entry is durable before its answer is sent, so whoever has an answer is in the trail. It has ids, counts and a
status; nothing of a body, a query or a header.
"""

import asyncio
import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from starlette._utils import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.settings import Settings
from graphs.web.access import ADMIN, caller
from graphs.web.api import Contract, Contracts
from graphs.web.requests import REQUEST_ID
from stores.audit import Audit, new_entry
from stores.errors import StoreError

logger = logging.getLogger("ray.serve")

READING: Final = ("GET", "HEAD", "OPTIONS")
WAIT_S: Final = 3.0
"""How long an answer waits for its entry; a store that does not answer must not hold up what is done already."""
FAULTS_S: Final = 30.0
FAILED: Final = "failed"
LEFT: Final = "client left"
"""Results of requests that came to no answer."""


@dataclass(slots=True)
class _Note:
    object_id: str = ""
    details: dict[str, Any] = field(default_factory=dict)


_note: ContextVar[_Note | None] = ContextVar("note", default=None)


def note(object_id: str = "", **details: Any) -> None:
    """Add to the entry of the current request, if it has one: what it acts upon, unless its path says so; counts."""
    current = _note.get()
    if current is not None:
        current.object_id = current.object_id or object_id
        current.details.update(details)


class AuditTrail:
    """ASGI middleware that writes an entry for every request that may change something; with ``all`` for reads of files
    too.
    """

    def __init__(self, app: ASGIApp, settings: Settings, contracts: Contracts, audit: Audit) -> None:
        self._app = app
        self._reads = settings.audit == "all"
        self._contracts = contracts
        self._audit = audit
        self._lost, self._said_at = 0, -FAULTS_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._is_audited(scope["method"], self._contracts.of(scope)):
            await self._app(scope, receive, send)
            return
        written, current = False, _Note()
        token = _note.set(current)

        async def send_after_entry(message: Message) -> None:
            nonlocal written
            if message["type"] == "http.response.start" and not written:
                written = True
                await self._write(scope, current, str(message["status"]))
            await send(message)

        try:
            await self._app(scope, receive, send_after_entry)
        except BaseException as error:
            if not written:
                left = isinstance(error, asyncio.CancelledError)
                await asyncio.shield(self._write(scope, current, LEFT if left else FAILED))
            raise
        finally:
            _note.reset(token)

    def _is_audited(self, method: str, contract: Contract) -> bool:
        if method in READING:
            return self._reads and contract.asset_at is not None
        return contract.scope.endswith(":write") or contract.scope == ADMIN

    async def _write(self, scope: Scope, current: _Note, result: str) -> None:
        contract, who, method = self._contracts.of(scope), caller.get(), scope["method"]
        named = _named(contract.route, get_route_path(scope)) or current.object_id
        entry = new_entry(
            datetime.now(UTC),
            who.name,
            who.key_name,
            f"{method} {contract.route}",
            named,
            result,
            request_id=scope.get(REQUEST_ID, ""),
            **current.details,
        )
        try:
            async with asyncio.timeout(WAIT_S):
                await self._audit.append(entry, reserve=method == "DELETE")
        except (StoreError, TimeoutError) as error:
            self._lost += 1
            if time.monotonic() > self._said_at + FAULTS_S:
                logger.error("%d entries of the audit trail are lost: %s", self._lost, error or "no answer")  # noqa: TRY400
                self._said_at, self._lost = time.monotonic(), 0


def _named(template: str, path: str) -> str:
    """Return what a path names by its parameters, several with a slash between them."""
    places = zip(template.split("/"), path.split("/"), strict=False)
    return "/".join(value for name, value in places if name.startswith("{"))
