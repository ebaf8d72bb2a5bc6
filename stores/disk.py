"""The disk under an embedded store, of which some room is kept free: deleting has to work when nothing else does.

Two things keep it. What makes the disk fuller is refused while less than the reserve is free, so that small writes and
deletes have that room. And a file of that size, at most, lies beside a database: when others have filled the disk to
the last byte, it is given up for a delete, and made again once there is room for it and the reserve.
"""

import logging
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from stores.errors import StoreError, StoreFull, StoreReadOnly, disk_error

log = logging.getLogger(__name__)

SHARE: Final = 32
"""A reserve is at most this part of its disk: 1/32."""
BALLAST_BYTES: Final = 16 * 2**20
RESERVE_INODES: Final = 256
PROBE_BYTES: Final = 4096
RESTORE_S: Final = 1.0
"""Time between attempts to make the ballast again."""

_full: Final[set[Path]] = set()
"""Folders whose disk this process has said to be full, so that it says so once."""


class Disk:
    """The disk of a folder, which need not exist yet; ``ballast`` names the file of the reserve, if it has one."""

    def __init__(self, folder: Path, reserve_bytes: int, *, ballast: str = "") -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._ballast = folder / ballast if ballast else None
        self._restore_at = 0.0

    def require(self, more: int = 0) -> None:
        """Raise StoreFull if less than the reserve would be free after ``more`` bytes."""
        try:
            self._check(more)
        except StoreFull as error:
            if not more and self._folder not in _full:
                log.warning("%s; what needs more room is refused", error)
                _full.add(self._folder)
            raise
        if self._folder in _full:
            log.info("%s: there is room again", self._folder)
            _full.discard(self._folder)

    def check(self) -> None:
        """Raise StoreFull or StoreReadOnly if the disk takes nothing more."""
        self.require()
        # Also for root, to whom a folder without permissions is open but a read-only disk is not.
        if self._folder.exists() and not os.access(self._folder, os.W_OK):
            raise StoreReadOnly(f"{self._folder}: it may not be written to")

    def fault(self, text: str) -> StoreError | None:
        """Return why a small file cannot be written here, None if it can; ``text`` is what failed."""
        probe = self._folder / f".{uuid.uuid4().hex}"
        try:
            with probe.open("xb") as file:
                file.write(bytes(PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            known = disk_error(str(self._folder), error)
            return None if known is None else type(known)(f"{text} ({error.strerror})")
        finally:
            with suppress(OSError):
                probe.unlink()
        return None

    def release(self) -> bool:
        """Give up the ballast for what must be written now; False if there is none."""
        if self._ballast is None:
            return False
        try:
            self._ballast.unlink()
        except OSError:
            return False
        self._restore_at = time.monotonic() + RESTORE_S
        log.warning("%s: full; deletes use the room kept for them", self._folder)
        return True

    def restore(self) -> None:
        """Make the ballast if it is missing and there is room for it and the reserve."""
        if self._ballast is None or self._ballast.exists() or time.monotonic() < self._restore_at:
            return
        self._restore_at = time.monotonic() + RESTORE_S
        room = self._room()
        size = min(BALLAST_BYTES, room.reserve)
        if not size or room.free < size + room.reserve:
            return
        new = self._ballast.with_name(f"{self._ballast.name}.{uuid.uuid4().hex[:8]}")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
            new.replace(self._ballast)
        except OSError:  # no room after all, or a disk that cannot promise any
            new.unlink(missing_ok=True)

    @property
    def reserve_bytes(self) -> int:
        """Return the bytes that are kept free."""
        return self._room().reserve

    @property
    def ballast_bytes(self) -> int:
        """Return the size of the ballast."""
        return min(BALLAST_BYTES, self.reserve_bytes) if self._ballast else 0

    def _check(self, more: int) -> None:
        if not self._reserve_bytes:
            return
        try:
            self.restore()
            room = self._room()
            wanted = room.reserve + more
            if self._ballast is not None and not self._ballast.exists():
                wanted += min(BALLAST_BYTES, room.reserve)
        except OSError as error:
            raise disk_error(str(self._folder), error) or StoreError(f"{self._folder}: {error.strerror}") from error
        if room.free < wanted:
            raise StoreFull(f"{self._folder}: {room.free // 2**10} kB free, {wanted // 2**10} kB wanted")
        if room.free_inodes < min(RESERVE_INODES, room.inodes // SHARE):
            raise StoreFull(f"{self._folder}: {room.free_inodes} inodes free")

    def _room(self) -> "_Room":
        folder = self._folder
        while True:  # the nearest folder that there is
            try:
                status = os.statvfs(folder)
            except (FileNotFoundError, NotADirectoryError):
                folder = folder.parent
            else:
                break
        reserve = min(self._reserve_bytes, status.f_blocks * status.f_frsize // SHARE)
        return _Room(status.f_bavail * status.f_frsize, reserve, status.f_favail, status.f_files)


class _Room(NamedTuple):
    """Free bytes and those kept free; free and all inodes, both 0 where a disk does not count them."""

    free: int
    reserve: int
    free_inodes: int
    inodes: int
