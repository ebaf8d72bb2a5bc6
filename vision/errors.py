"""Errors that cross from a stage to its caller and keep their class on the way.

A stage returns a ``StageError`` in the place of the one item that failed; the handle raises it for
that caller alone. The gateway maps the class to the error body of the API the request came by.
"""

from typing import ClassVar


class StageError(Exception):
    """Base of everything a stage may answer instead of a result.

    ``message`` is written for the person who sent the request: what was wrong, what to do next.
    """

    code: ClassVar[str] = "PROCESSING_FAILED"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(StageError):
    """The input can be read but not processed (wrong shape, wrong kind, too few items)."""

    code = "INVALID_INPUT"
    status = 400


class InvalidMedia(StageError):
    """The bytes are no readable image, video or audio of a supported format."""

    code = "INVALID_FILE_FORMAT"
    status = 400


class MediaTooLarge(StageError):
    """More bytes or more pixels than the limits allow."""

    code = "FILE_TOO_LARGE"
    status = 413


class MediaNotFound(StageError):
    """The object store has nothing under the key."""

    code = "ASSET_NOT_FOUND"
    status = 404


class ModelNotLoaded(StageError):
    """The stage has no verified weights, so it gives no answer."""

    code = "MODEL_NOT_LOADED"
    status = 503
    retryable = False


class StageUnavailable(StageError):
    """No replica of the stage could be reached; it is restarting or was never deployed."""

    code = "STAGE_UNAVAILABLE"
    status = 503
    retryable = True


class StageOverloaded(StageError):
    """The stage's queue is full."""

    code = "OVERLOADED"
    status = 429
    retryable = True


class DeadlineExceeded(StageError):
    """The request's time ran out before the stage answered."""

    code = "DEADLINE_EXCEEDED"
    status = 504
    retryable = True


class ProcessingFailed(StageError):
    """The stage failed in a way it did not foresee; the log of its replica has the cause."""
