"""The check of a request before anything of it is read: who sent it, and whether they may do what its route does."""

from contextlib import suppress
from copy import deepcopy
from typing import Any, Final

from fastapi import FastAPI
from starlette._utils import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graphs.web.access import ANY_KEY, EVERYONE, Access, Caller, IssuerUnavailable, caller
from graphs.web.api import Contract, Contracts
from graphs.web.errors import Failure, ScopeMissing
from graphs.web.health import HEALTH_PATHS
from stores.errors import StoreError

DOCUMENT: Final = "/openapi.json"
REFUSALS: Final = {"401": "no valid API key", "403": "the key lacks the scope of the route, or is held to other files"}
OPEN_PATHS: Final = HEALTH_PATHS | {"/docs", "/docs/oauth2-redirect", "/redoc", DOCUMENT}
CALLER: Final = "visiongraph.caller"
"""Key in the scope of the ``Caller`` of a request to a service that has keys, also where it may not do what it asks."""
SCHEMES: Final = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
"""OpenAPI's description of how a key is sent; either way will do."""
UNAUTHORIZED: Final = Failure(
    401, "UNAUTHORIZED", "A valid API key is needed, as the header X-API-Key or as Authorization: Bearer."
)
NO_KEYS: Final = Failure(
    401,
    "UNAUTHORIZED",
    "This service has no keys yet and answers others than its own machine only with one. Whoever runs it can make one "
    "with `visiongraph keys create`, or set VISION_OPEN=true to let anyone call.",
)
NO_ISSUER: Final = Failure(
    503, "AUTHENTICATION_UNAVAILABLE", "The issuer of your token does not answer, so it cannot be checked; try again."
)


class KeyCheck:
    """ASGI middleware that lets a request pass whose sender is known and has the scope of its route.

    Where there are no keys of any kind anyone passes. Who is held to labelled files passes to routes of one file, which
    look the label up, and to the upload.
    """

    def __init__(self, app: ASGIApp, access: Access, contracts: Contracts) -> None:
        self._app = app
        self._access = access
        self._contracts = contracts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            if scope.get("path") == DOCUMENT:
                with suppress(StoreError):  # it says what is known
                    await self._access.is_open()
            await self._app(scope, receive, send)
            return
        contract = self._contracts.of(scope)
        found = await self._judged(scope, contract)
        if isinstance(found, Failure):
            challenge = _challenge(found, contract)
            await contract.errors.response(found, challenge)(scope, receive, send)
            return
        answer = send if found is EVERYONE else _to_one(send)
        token = caller.set(found)
        try:
            await self._app(scope, receive, answer)
        finally:
            caller.reset(token)

    async def _judged(self, scope: Scope, contract: Contract) -> Caller | Failure:
        if contract.is_route and not contract.scope:
            return EVERYONE
        try:
            found = await self._found(scope, contract)
            if found is None:
                if not await self._access.is_open():
                    return UNAUTHORIZED
                return NO_KEYS if self._access.refuses_everyone else EVERYONE
        except StoreError as error:
            return Failure(error.status, error.code, error.message)
        except IssuerUnavailable:
            return NO_ISSUER
        if found is not EVERYONE:
            scope[CALLER] = found
        if contract.scope and not found.may(contract.scope):
            lacking = ScopeMissing(contract.scope)
            return Failure(lacking.status, lacking.code, lacking.message, lacking.details)
        if (
            found.labels
            and contract.scope not in ("", ANY_KEY)
            and contract.asset_at is None
            and not contract.takes_labels
        ):
            message = "Your key is held to single files; this route works on more than one."
            return Failure(403, "FORBIDDEN", message, {"labels": sorted(found.labels)})
        return found

    async def _found(self, scope: Scope, contract: Contract) -> Caller | None:
        found = await self._access.caller(scope["headers"])
        if found is not None:
            return found
        asset_id = contract.asset_id(get_route_path(scope))
        return await self._access.caller_of_link(scope["query_string"], scope["method"], asset_id)


def _to_one(send: Send) -> Send:
    """Return a ``send`` of answers that no cache gives to anybody else."""

    async def send_to_one(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, value.replace(b"public", b"private") if name == b"cache-control" else value)
                for name, value in message.get("headers", ())
            ]
        await send(message)

    return send_to_one


def _challenge(failure: Failure, contract: Contract) -> dict[str, str]:
    if failure.status == 401:
        return {"www-authenticate": "Bearer"}
    if failure.status == 403:
        return {"www-authenticate": f'Bearer error="insufficient_scope", scope="{contract.scope}"'}
    return {}


def document_keys(app: FastAPI, access: Access, contracts: Contracts) -> None:
    """Make the OpenAPI document say where a key is needed and which scope, so that /docs asks for one."""
    openapi = app.openapi

    def with_keys() -> dict[str, Any]:
        document = openapi()
        if access.seems_open:
            return document
        document = deepcopy(document)  # there may be no keys any more next time
        document.setdefault("components", {}).setdefault("securitySchemes", {}).update(SCHEMES)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                needed = contracts.at(method.upper(), path).scope
                scopes = [] if needed == ANY_KEY else [needed]
                operation["security"] = [] if path in OPEN_PATHS else [{name: scopes} for name in SCHEMES]
                if needed:
                    _document_refusals(operation["responses"])
        return document

    app.openapi = with_keys  # type: ignore[method-assign]


def _document_refusals(responses: dict[str, Any]) -> None:
    """Add those of ``REFUSALS`` that a route does not document, with the body of its other errors."""
    errors = [response for status, response in responses.items() if status[0] in "45d" and "content" in response]
    for status, text in REFUSALS.items():
        responses.setdefault(status, {**errors[0], "description": text} if errors else {"description": text})
