"""What can go wrong, as classes.

::

    VisiongraphError
    ├── ConnectionFailed        the service cannot be reached, or the connection broke
    ├── UploadInterrupted       an upload that can be resumed
    ├── JobFailed               a job ended without a result
    ├── WaitTimeout             a job was not done in the time given
    ├── InvalidSignature        a request to a receiver of webhooks that the service has not sent
    └── ApiError                the service answered with an error
        ├── InvalidRequest      400, 413, 415, 422: the request or the file is not what the route takes
        ├── AccessDenied        401, 403: no key, or one that may not do this
        ├── NotFound            404, 410
        ├── Conflict            409, 412, 423
        ├── RateLimited         429: too many requests
        └── ServiceUnavailable  500 and above: the service failed, or a model or store of it is away
"""

import json
from typing import Any

import httpx


class VisiongraphError(Exception):
    """Base of all errors of this package; its text is for people."""


class ConnectionFailed(VisiongraphError):
    """The service cannot be reached, or the connection broke."""


class UploadInterrupted(VisiongraphError):
    """An upload that went no further, although it was tried again; ``upload_id`` resumes it."""

    def __init__(self, message: str, upload_id: str) -> None:
        super().__init__(message)
        self.upload_id = upload_id


class JobFailed(VisiongraphError):
    """A job ended without a result; ``status`` is ``failed`` or ``cancelled``."""

    def __init__(self, message: str, job_id: str, status: str) -> None:
        super().__init__(message)
        self.job_id, self.status = job_id, status


class WaitTimeout(VisiongraphError):
    """A job was not done in the time given; it goes on."""


class InvalidSignature(VisiongraphError):
    """A request to a receiver of webhooks that the service has not sent, or not now."""


class ApiError(VisiongraphError):
    """An error that the service answered with.

    ``message`` is that of the service, ``code`` its name of the error, ``request_id`` what its log knows the request
    by, ``retry_after_s`` the seconds after which it may be sent again.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Any = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{message} ({code}, {status}{f', request {request_id}' if request_id else ''})")
        self.status, self.code, self.message, self.details = status, code, message, details
        self.request_id, self.retry_after_s = request_id, retry_after_s


class InvalidRequest(ApiError):
    """The request or the file is not what the route takes."""


class AccessDenied(ApiError):
    """There is no key, or one that may not do this."""


class NotFound(ApiError):
    """There is no such thing, or not for this key."""


class Conflict(ApiError):
    """The state of the thing does not allow it."""


class RateLimited(ApiError):
    """Too many requests."""


class ServiceUnavailable(ApiError):
    """The service failed, or a model or a store of it is away."""


_CLASSES: dict[int, type[ApiError]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    410: NotFound,
    409: Conflict,
    412: Conflict,
    423: Conflict,
    429: RateLimited,
}


def api_error(response: httpx.Response) -> ApiError:
    """Return the error of a response that has been read, whichever API it is of."""
    status = response.status_code
    kind = _CLASSES.get(status, ServiceUnavailable if status >= 500 else InvalidRequest)
    code, message, details = _said(response)
    retry = response.headers.get("retry-after", "")
    return kind(
        status,
        code,
        message,
        details=details,
        request_id=response.headers.get("x-request-id"),
        retry_after_s=float(retry) if retry.isdigit() else None,
    )


def _said(response: httpx.Response) -> tuple[str, str, Any]:
    """Return code, message and details of the body of an error; each API has its own form."""
    name = response.reason_phrase or f"status {response.status_code}"
    try:
        body = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return "HTTP_ERROR", response.text[:200].strip() or name, None
    if not isinstance(body, dict):
        return "HTTP_ERROR", name, body
    error = body.get("error", body)
    if isinstance(error, dict):
        message = error.get("message") or error.get("detail") or name
        return str(error.get("code", "HTTP_ERROR")), str(message), error.get("details")
    if "message" in body:
        return str(error), str(body["message"]), body.get("details")
    return str(body.get("code", "HTTP_ERROR")), str(error), body.get("details")
