"""API keys: who may call, decided before anything of a request is read."""

import hashlib
import hmac
from contextvars import ContextVar
from typing import Any, Final

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from configs.settings import Settings
from graphs.web.api import Contracts
from graphs.web.errors import Failure
from graphs.web.health import HEALTH_PATHS
from stores.uploads import ANYONE

OPEN_PATHS: Final = HEALTH_PATHS | {"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"}
CLIENT: Final = "visiongraph.client"
"""Key in the scope under which the client stands: a digest of its API key, never the key."""
request_client: ContextVar[str] = ContextVar("request_client", default=ANYONE)
"""The same of the request that is answered; ``ANYONE`` where no keys are set, and outside of requests."""
SCHEMES: Final = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
"""OpenAPI's description of how a key is sent; either way will do."""
UNAUTHORIZED: Final = Failure(
    401, "UNAUTHORIZED", "A valid API key is needed, as the header X-API-Key or as Authorization: Bearer."
)


class KeyCheck:
    """ASGI middleware that lets a request pass whose ``X-API-Key`` or ``Authorization: Bearer`` has one of the keys."""

    def __init__(self, app: ASGIApp, settings: Settings, contracts: Contracts) -> None:
        self._app = app
        self._contracts = contracts
        self._keys = [_digest(key.encode()) for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            name = self._client(scope)
            if name is None:
                style = self._contracts.errors(scope)
                await style.response(UNAUTHORIZED, {"www-authenticate": "Bearer"})(scope, receive, send)
                return
            scope[CLIENT] = name
            token = request_client.set(name)
            try:
                await self._app(scope, receive, send)
            finally:
                request_client.reset(token)
            return
        await self._app(scope, receive, send)

    def _client(self, scope: Scope) -> str | None:
        for name, value in scope["headers"]:
            if name == b"x-api-key":
                digest = _digest(value.strip())
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                digest = _digest(value[7:].strip())
            else:
                continue
            # Digests have one length, and all are compared: the time it takes says nothing about any key.
            if sum(hmac.compare_digest(digest, key) for key in self._keys):
                return digest.hex()
        return None


def clients(settings: Settings) -> frozenset[str]:
    """Return the names of all clients that there can be: one for each API key, or ``ANYONE`` where no keys are set."""
    return frozenset(_digest(key.encode()).hex() for key in settings.api_keys) or frozenset({ANYONE})


def document_keys(app: FastAPI) -> None:
    """Make the OpenAPI document say where a key is needed, so that /docs asks for one."""
    openapi = app.openapi

    def with_keys() -> dict[str, Any]:
        document = openapi()
        document.setdefault("components", {}).setdefault("securitySchemes", {}).update(SCHEMES)
        document["security"] = [{name: []} for name in SCHEMES]
        for path in OPEN_PATHS & document["paths"].keys():
            for operation in document["paths"][path].values():
                operation["security"] = []
        return document

    app.openapi = with_keys  # type: ignore[method-assign]


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()
