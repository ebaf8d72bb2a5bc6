"""Errors that a stage passes to its caller, which keep their class on the way.

A stage returns a ``StageError`` in place of the item that failed; the handle raises it for that caller alone. The
gateway turns the class into the error body of the API that was called.
"""

from importlib import import_module
from typing import Any, ClassVar


class StageError(Exception):
    """Base of everything that a stage may return instead of a result.

    ``message`` is written for the person who sent the request: what was wrong and what to do next.
    """

    code: ClassVar[str] = "PROCESSING_FAILED"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        # A process of the version before may not know this class: it is told the ones that this is derived from.
        bases = [kind for kind in type(self).__mro__ if issubclass(kind, StageError)]
        return _restored, (tuple((kind.__module__, kind.__qualname__) for kind in bases), self.__dict__)

    @property
    def concerns_input(self) -> bool:
        """Return whether this input alone failed; otherwise the service did, and other inputs would fail as well."""
        return not self.retryable


class InvalidInput(StageError):
    """The input can be read but not processed (wrong shape, wrong kind, too few items)."""

    code = "INVALID_INPUT"
    status = 400


class InvalidMedia(StageError):
    """The bytes are not a readable image, video or audio of a supported format."""

    code = "INVALID_FILE_FORMAT"
    status = 400


class MediaTooLarge(StageError):
    """More bytes or more pixels than the limits allow."""

    code = "FILE_TOO_LARGE"
    status = 413


class MediaNotFound(StageError):
    """The object store has no object with this key."""

    code = "ASSET_NOT_FOUND"
    status = 404


class ModelNotLoaded(StageError):
    """The stage has no verified weights, so it cannot answer.

    The first line of ``message`` is for everybody; more lines say to operators why each source of weights failed. It is
    ``optional`` where it lacks what an operator may leave out, such as a provider's key; that is no fault.
    """

    code = "MODEL_NOT_LOADED"
    status = 503

    def __init__(self, message: str, *, optional: bool = False) -> None:
        super().__init__(message)
        self.optional = optional

    @property
    def reason(self) -> str:
        """Return what is missing and what to do about it, in one line."""
        return self.message.partition("\n")[0]

    @property
    def concerns_input(self) -> bool:
        """Return False: no input can be processed without the model."""
        return False


class StageUnavailable(StageError):
    """No replica of the stage could be reached, or it is still loading; it is starting, restarting or not deployed."""

    code = "STAGE_UNAVAILABLE"
    status = 503
    retryable = True


class StageOverloaded(StageError):
    """The stage's queue is full."""

    code = "OVERLOADED"
    status = 429
    retryable = True


class DeadlineExceeded(StageError):
    """The deadline of the request passed before the stage answered."""

    code = "DEADLINE_EXCEEDED"
    status = 504
    retryable = True


class ProcessingFailed(StageError):
    """The stage failed unexpectedly; the log of its replica has the cause."""


def _restored(names: tuple[tuple[str, str], ...], state: dict[str, Any]) -> StageError:
    """Return an error of the first of these classes (module, name) that there is, with this state."""
    for module, name in names:
        try:
            kind = getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
        if isinstance(kind, type) and issubclass(kind, StageError):
            error = kind.__new__(kind, state["message"])
            Exception.__init__(error, state["message"])
            error.__dict__.update(state)
            return error
    return StageError(state["message"])
