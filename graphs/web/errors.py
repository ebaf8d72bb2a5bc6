"""Errors of requests, and the one place where an exception becomes a status and a body in the style of its API.

Raised here, beside those of ``vision.errors``::

    StageError
    ├── AssetNotFound       404  unknown asset ids
    │   └── UploadOfOthers  404  an asset to delete that only other clients have uploaded
    ├── IdentityNotFound    404  unknown, deleted or merged identity
    ├── ScopeMissing        403  a key without the scope of what is asked for
    ├── BatchTooLarge       400  more ids than one request may have
    ├── BodyTooSlow         408  a body that stopped, or came at a rate below the limit
    └── StorageUnavailable  503  the asset is being deleted at this moment

Each API package has its own errors. What becomes of any of them: ``failure_of`` says what went wrong, the
``ErrorStyle`` of the API turns that into a response.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from stores.errors import StoreError, disk_error
from vision.errors import ModelNotLoaded, StageError

logger = logging.getLogger("ray.serve")

RETRY_AFTER_S: Final = 2
FAULTS_S: Final = 30.0
MAX_FAULTS: Final = 20
"""Faults of one request that its answer lists."""
MAX_ID: Final = 64
"""Characters of an unknown id that a message shows."""
FAILURES: Final = "visiongraph.failures"
"""Key in the scope of a list of the codes of failures that are answered; copies of the scope share it."""
MAX_PATH: Final = 200
"""Characters of a path without a route that a message shows."""
CODES: Final = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "FILE_TOO_LARGE", 416: "RANGE_NOT_SATISFIABLE"}


class AssetNotFound(StageError):
    """One or more asset ids that were never uploaded, or were deleted."""

    code = "ASSET_NOT_FOUND"
    status = 404

    def __init__(self, asset_ids: list[str]) -> None:
        shown = ", ".join(each[:MAX_ID] or "''" for each in asset_ids[:5])
        shown += f" and {len(asset_ids) - 5} more" if len(asset_ids) > 5 else ""
        super().__init__(f"No asset with id {shown}; upload it first with POST /api/v1/upload-media.")
        self.details: Any = {"asset_ids": asset_ids}


class UploadOfOthers(AssetNotFound):
    """An asset of which the client has no upload to delete."""

    def __init__(self, asset_ids: list[str]) -> None:
        super().__init__(asset_ids)
        names = ", ".join(asset_ids)
        self.message = f"You have no upload of {names}; other clients have, and each of them deletes its own."


class IdentityNotFound(StageError):
    """An identity that was never made, or was deleted or merged into another one."""

    code = "IDENTITY_NOT_FOUND"
    status = 404

    def __init__(self, identity: str) -> None:
        super().__init__(f"There is no identity {identity[:MAX_ID]}; GET /api/v1/identities lists those there are.")


class ScopeMissing(StageError):
    """A key that lacks the scope of a route, or of what is asked of it; ``so``: what that means."""

    code = "FORBIDDEN"
    status = 403

    def __init__(self, scope: str, so: str = "") -> None:
        super().__init__(f"Your key lacks the scope {scope}{so and ', so '}{so}.")
        self.details: Any = {"scope": scope}


class BatchTooLarge(StageError):
    """More ids in one request than the limit."""

    code = "BATCH_TOO_LARGE"
    status = 400

    def __init__(self, given: int, limit: int) -> None:
        super().__init__(f"{given} assets in one request; the limit is {limit}. Send them in several requests.")
        self.details: Any = {"given": given, "limit": limit}


class BodyTooSlow(StageError):
    """A body that stopped, or came at a rate below the limit, after this many bytes."""

    code = "REQUEST_TIMEOUT"
    status = 408

    def __init__(self, size: int) -> None:
        super().__init__(f"The body came too slowly: {size:,} bytes of it are here. Send the request again.")


class StorageUnavailable(StageError):
    """The object or document store cannot be reached."""

    code = "STORAGE_UNAVAILABLE"
    status = 503
    retryable = True


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, independent of any API's style; ``message`` is for the sender of the request."""

    status: int
    code: str
    message: str
    details: Any = None
    retry_after_s: int | None = RETRY_AFTER_S
    """For those that trying again can help; None where it cannot until somebody configures what is missing."""


@dataclass(frozen=True)
class ErrorStyle:
    """How one API reports failures: the body, and (status, code) for codes that its contract names differently."""

    body: Callable[[Failure], Any]
    codes: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    def response(self, failure: Failure, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """Return the response, with Retry-After where trying again can help."""
        status, code = self.codes.get(failure.code, (failure.status, failure.code))
        helps = status in (429, 503, 504) and failure.retry_after_s is not None
        retry = {"retry-after": str(failure.retry_after_s)} if helps else {}
        body = self.body(replace(failure, status=status, code=code))
        return JSONResponse(body, status_code=status, headers={**retry, **(headers or {})})


def _coded(failure: Failure) -> Any:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    error = {"code": failure.code, "message": failure.message, "details": failure.details, "timestamp": now}
    return {"error": error}


CODED: Final = ErrorStyle(_coded)
"""``{"error": {"code", "message", "details", "timestamp"}}``: the asset API, and paths of no API."""


def failure_of(error: Exception) -> Failure:
    """Return what clients may know about any exception that can leave a route."""
    if isinstance(error, StageError):
        # A stage that has no weights looks for them again by itself; a key has to be set by somebody.
        unset = isinstance(error, ModelNotLoaded) and error.optional
        retry_after_s = None if unset else getattr(error, "retry_after_s", RETRY_AFTER_S)
        return Failure(error.status, error.code, error.message, getattr(error, "details", None), retry_after_s)
    if isinstance(error, StoreError):
        return Failure(error.status, error.code, error.message)
    if isinstance(error, OSError) and (known := disk_error("spool", error)):
        return failure_of(known)
    if isinstance(error, RequestValidationError):
        first = error.errors()[:MAX_FAULTS]
        faults = [{"field": ".".join(map(str, e["loc"])), "problem": e["msg"]} for e in first]
        message = f"{faults[0]['field']}: {faults[0]['problem']}" if faults else "The request is malformed."
        return Failure(422, "VALIDATION_ERROR", message, faults)
    if isinstance(error, HTTPException):
        code = CODES.get(error.status_code, "HTTP_ERROR")
        return Failure(error.status_code, code, _form_fault(error) or str(error.detail))
    return Failure(500, "PROCESSING_FAILED", "The service failed on this request; its log has the cause.")


class _StoreFaults:
    """Logs the first failure of each kind, then how many there were, once in ``FAULTS_S`` seconds."""

    def __init__(self) -> None:
        self._since: dict[type[StoreError], tuple[float, int]] = {}

    def log(self, error: StoreError) -> None:
        now, (said_at, more) = time.monotonic(), self._since.get(type(error), (-FAULTS_S, 0))
        if now < said_at + FAULTS_S:
            self._since[type(error)] = (said_at, more + 1)
            return
        self._since[type(error)] = (now, 0)
        logger.error("store error: %s%s", error, f" (and {more} more before)" if more else "")


def _form_fault(error: BaseException | None) -> str | None:
    """Return what was wrong with a form that the framework could not parse; None for any other error."""
    while error is not None and not isinstance(error, FormParserError):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    if "header" in str(error):
        return "A part of the form has too many headers or too long ones; send shorter names of files and parts."
    return "The multipart body is broken; build it with an HTTP library's form upload."


def install_error_handlers(
    app: FastAPI,
    style_of: Callable[[Scope], ErrorStyle] = lambda _: CODED,
    methods_of: Callable[[Scope], list[str]] = lambda _: [],
) -> None:
    """Register a handler for every family of errors that can leave a route.

    ``style_of`` maps a request to a style, ``methods_of`` to the methods of its path.
    """

    faults = _StoreFaults()

    async def answer(request: Request, error: Exception) -> Response:
        failure = failure_of(error)
        if isinstance(error, StoreError):
            faults.log(error)
        elif isinstance(error, HTTPException) and error.status_code == 404:
            path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
            route = f"{request.method} {path[:MAX_PATH]}"
            failure = replace(failure, message=f"There is no route {route}; /docs lists them.")
        request.scope.get(FAILURES, []).append(failure.code)
        headers = error.headers if isinstance(error, HTTPException) else None
        if failure.status == 405 and (methods := methods_of(request.scope)):
            headers = {"allow": ", ".join(methods)}  # the router names those of one of the routes only
            message = f"There is no {request.method} of this path; it has {headers['allow']}."
            failure = replace(failure, message=message)
        return style_of(request.scope).response(failure, headers)

    async def on_bug(request: Request, error: Exception) -> Response:
        logger.error("unhandled error in %s %s", request.method, request.scope["path"], exc_info=error)
        return await answer(request, error)

    async def on_system_error(request: Request, error: Exception) -> Response:
        known = disk_error("spool", error) if isinstance(error, OSError) else None
        return await (on_bug(request, error) if known is None else answer(request, known))

    app.add_exception_handler(OSError, on_system_error)
    for family in (StageError, StoreError, RequestValidationError, HTTPException):
        app.add_exception_handler(family, answer)
    app.add_exception_handler(Exception, on_bug)
