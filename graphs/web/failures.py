"""Errors → HTTP: the one place where an exception becomes a status and a body, in the words of its API."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from stores.documents import StoreError
from vision.errors import StageError

logger = logging.getLogger("ray.serve")

RETRY_AFTER_S: Final = 2
MOST_FAULTS: Final = 20
"""Of one request that are told."""
CODES: Final = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "FILE_TOO_LARGE"}


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, before any API has put it into its own words; ``message`` is for the sender of the request."""

    status: int
    code: str
    message: str
    details: Any = None


@dataclass(frozen=True)
class ErrorStyle:
    """How one API tells its failures: the body, and (status, code) where it has words of its own for a code."""

    body: Callable[[Failure], Any]
    words: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    def response(self, failure: Failure, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The answer, with Retry-After where trying again can help."""
        status, code = self.words.get(failure.code, (failure.status, failure.code))
        retry = {"retry-after": str(RETRY_AFTER_S)} if status in (429, 503, 504) else {}
        body = self.body(replace(failure, status=status, code=code))
        return JSONResponse(body, status_code=status, headers={**retry, **(headers or {})})


def _coded(failure: Failure) -> Any:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    error = {"code": failure.code, "message": failure.message, "details": failure.details, "timestamp": now}
    return {"error": error}


CODED: Final = ErrorStyle(_coded)
"""``{"error": {"code", "message", "details", "timestamp"}}``: the asset API, and paths of no API."""


def failure_of(error: Exception) -> Failure:
    """Any exception that can leave a route; what it says is fit for clients."""
    if isinstance(error, StageError):
        return Failure(error.status, error.code, error.message, getattr(error, "details", None))
    if isinstance(error, StoreError):
        message = "The storage behind this service does not answer; try again soon."
        return Failure(503, "STORAGE_ERROR", message)
    if isinstance(error, RequestValidationError):
        first = error.errors()[:MOST_FAULTS]
        faults = [{"field": ".".join(map(str, e["loc"])), "problem": e["msg"]} for e in first]
        message = f"{faults[0]['field']}: {faults[0]['problem']}" if faults else "The request is malformed."
        return Failure(422, "VALIDATION_ERROR", message, faults)
    if isinstance(error, HTTPException):
        return Failure(error.status_code, CODES.get(error.status_code, "HTTP_ERROR"), str(error.detail))
    return Failure(500, "PROCESSING_FAILED", "The service failed on this request; its log has the cause.")


def install_error_handlers(app: FastAPI, style_of: Callable[[str], ErrorStyle] = lambda _: CODED) -> None:
    """Register a handler for every family of errors that can leave a route; ``style_of`` a path is how it answers."""

    async def answer(request: Request, error: Exception) -> Response:
        failure = failure_of(error)
        if isinstance(error, StoreError):
            logger.error("store error: %s", error)
        elif isinstance(error, HTTPException) and error.status_code == 404:
            route = f"{request.method} {request.url.path}"
            failure = replace(failure, message=f"There is no route {route}; /docs lists them.")
        headers = error.headers if isinstance(error, HTTPException) else None
        return style_of(request.url.path).response(failure, headers)

    async def on_bug(request: Request, error: Exception) -> Response:
        logger.error("unhandled error in %s %s", request.method, request.url.path, exc_info=error)
        return await answer(request, error)

    for family in (StageError, StoreError, RequestValidationError, HTTPException):
        app.add_exception_handler(family, answer)
    app.add_exception_handler(Exception, on_bug)
