"""Errors of the photo API, and the codes of its contract."""

from typing import Any, Final

from graphs.web.errors import ErrorStyle, Failure
from vision import errors
from vision.errors import StageError


class PhotoBatchTooLarge(StageError):
    """More images in one request than MAX_BATCH_SIZE."""

    code = "BATCH_TOO_LARGE"
    status = 422

    def __init__(self, given: int, limit: int) -> None:
        super().__init__(f"{given} images in one request; the limit is {limit}. Send them in several requests.")
        self.details: Any = {"given": given, "limit": limit}


class ClusteringError(StageError):
    """Embeddings that cannot be clustered."""

    code = "CLUSTERING_ERROR"
    status = 422


CODES: Final[dict[type[StageError], tuple[int, str]]] = {
    errors.InvalidInput: (422, "validation_error"),
    errors.InvalidMedia: (422, "image_decode_error"),
    errors.MediaTooLarge: (413, "image_too_large"),
    errors.ModelNotLoaded: (503, "model_not_ready"),
    errors.StageUnavailable: (503, "model_not_ready"),
    errors.ProcessingFailed: (500, "internal_error"),
}
"""Statuses and codes that the contract names; any other error keeps its status, and its code in lower case."""


def code_of(error: StageError) -> tuple[int, str]:
    """Return the (status, code) of an error in the photo API."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return error.status, error.code.lower()


def _body(failure: Failure) -> Any:
    body = {"error": failure.code.lower(), "message": failure.message}
    return body if failure.details is None else {**body, "detail": failure.details}


STYLE: Final = ErrorStyle(_body, {kind.code: code for kind, code in CODES.items()})
