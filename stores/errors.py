"""Errors of all stores, of which the gateway makes answers and the job runner makes pauses.

::

    StoreError           503  it does not answer, or refused the operation
    ├── StoreFull        507  there is no room
    ├── StoreReadOnly    503  it may not be written to
    ├── StoreDamaged     503  reading or writing fails in the device
    └── StoreRefused     503  it refuses the credentials of this service
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final


class StoreError(Exception):
    """A store cannot be reached or refused the operation; the text names the store, never its secrets.

    ``status``, ``code`` and ``message`` are what clients are told, ``reason`` is what ``/health`` shows.
    """

    reason: ClassVar[str] = "does not answer"

    status: ClassVar[int] = 503
    code: ClassVar[str] = "STORAGE_ERROR"
    message: ClassVar[str] = "The storage behind this service does not answer; try again soon."


class StoreFull(StoreError):
    """There is no room: no bytes, no inodes, or the quota is used up."""

    reason = "is full"
    status = 507
    code = "STORAGE_FULL"
    message = (
        "The disk of this service is full; nothing was stored. Delete what is no longer needed, or try again later."
    )


class StoreReadOnly(StoreError):
    """The store may not be written to, by its permissions or as a whole."""

    reason = "is read-only"
    message = (
        "The storage of this service is read-only; nothing was stored. Its operator has to make it writable, "
        "then try again."
    )


class StoreDamaged(StoreError):
    """The device below the store fails."""

    reason = "fails to read or write"
    message = "The storage of this service fails to read or write; its operator has to look at the disk."


class StoreRefused(StoreError):
    """The store answers, but not to this service."""

    reason = "refuses this service"
    message = "The storage behind this service refuses it; its operator has to check the credentials."


NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_CLASSES: Final[dict[int, type[StoreError]]] = {
    **dict.fromkeys(NO_ROOM, StoreFull),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), StoreReadOnly),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.EUCLEAN), StoreDamaged),
}


def disk_error(place: str, error: OSError) -> StoreError | None:
    """Return what an error of the system says about the disk under ``place``; None if it says nothing of it."""
    kind = _CLASSES.get(error.errno or 0)
    return None if kind is None else kind(f"{place}: {error.strerror}")


@contextmanager
def disk_errors(place: str) -> Iterator[None]:
    """Raise errors of a disk as StoreError, and all others as they are."""
    try:
        yield
    except OSError as error:
        translated = disk_error(place, error)
        if translated is None:
            raise
        raise translated from error
