"""Errors → HTTP: the one place where an exception becomes a status and a body."""

import logging
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from deployments.errors import StageError
from ops.stores.documents import StoreError

logger = logging.getLogger("ray.serve")

RETRY_AFTER_S = 2
CODES = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "FILE_TOO_LARGE"}


def error_response(status: int, code: str, message: str, details: Any = None) -> JSONResponse:
    """The error body of the asset API, with Retry-After where trying again can help."""
    body = {
        "error": {
            "code": code,
            "message": message,
            "details": details,
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
    }
    headers = {"retry-after": str(RETRY_AFTER_S)} if status in (429, 503, 504) else None
    return JSONResponse(body, status_code=status, headers=headers)


def install_error_handlers(app: FastAPI) -> None:
    """Register a handler for every family of errors that can leave a route."""

    async def on_stage_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, StageError)
        return error_response(error.status, error.code, error.message, getattr(error, "details", None))

    async def on_store_error(_: Request, error: Exception) -> Response:
        logger.error("store error: %s", error)
        return error_response(503, "STORAGE_ERROR", "The storage behind this service does not answer; try again soon.")

    async def on_invalid_request(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [{"field": ".".join(map(str, e["loc"])), "problem": e["msg"]} for e in error.errors()]
        first = faults[0]
        message = f"{first['field']}: {first['problem']}" if faults else "The request is malformed."
        return error_response(422, "VALIDATION_ERROR", message, faults)

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = str(error.detail)
        if error.status_code == 404:
            message = f"There is no route {request.method} {request.url.path}; /docs lists them."
        response = error_response(error.status_code, CODES.get(error.status_code, "HTTP_ERROR"), message)
        response.headers.update(error.headers or {})
        return response

    async def on_bug(request: Request, error: Exception) -> Response:
        logger.error("unhandled error in %s %s", request.method, request.url.path, exc_info=error)
        return error_response(500, "PROCESSING_FAILED", "The service failed on this request; its log has the cause.")

    app.add_exception_handler(StageError, on_stage_error)
    app.add_exception_handler(StoreError, on_store_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, on_bug)
