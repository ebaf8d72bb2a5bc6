"""Bounds the memory of what this process decodes at once, and returns what was freed to the system.

Threads wait for their share before anything is decoded. What takes much waits for its turn among its like and leaves a
quarter to the rest, so that ordinary pictures pass it.
"""

import ctypes
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Final

from configs.settings import settings
from vision.deadlines import time_left
from vision.errors import StageOverloaded

LARGE_SHARE: Final = 3 / 4
"""Of all, what large work may take together."""
LARGE: Final = 1 / 8
"""Of all, from where on work is large."""
MOST_WAIT_S: Final = 60.0
"""For work that belongs to no request."""
TRIM_FROM: Final = 64 * 2**20
TRIM_AFTER_S: Final = 3.0


class MemoryBudget:
    """Shares of ``total`` bytes for work; work that takes more than its part has that to itself."""

    def __init__(self, total: int) -> None:
        self._total, self._large = total, int(LARGE_SHARE * total)
        self._used = self._used_by_large = 0
        self._turns = deque[object]()
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, size: int, *, wait: bool = True) -> Iterator[bool]:
        """Hold a share of ``size`` bytes, and yield whether there is one: always, or if one is free at once.

        Raises StageOverloaded when it waits and none comes free before the request ends.
        """
        large = size > LARGE * self._total
        size = min(size, self._large)
        if not self._taken(size, large, wait):
            if wait:
                raise StageOverloaded("Too many large files are being decoded; try again in a few seconds.")
            yield False
            return
        try:
            yield True
        finally:
            with self._changed:
                self._used -= size
                self._used_by_large -= size * large
                self._changed.notify_all()

    def _taken(self, size: int, large: bool, wait: bool) -> bool:
        left = time_left() if wait else 0
        turn = object()

        def free() -> bool:
            if self._used + size > self._total:
                return False
            return not large or (self._turns[0] is turn and self._used_by_large + size <= self._large)

        with self._changed:
            if large:
                self._turns.append(turn)
            try:
                taken = self._changed.wait_for(free, MOST_WAIT_S if left is None else left)
                self._used += size * taken
                self._used_by_large += size * large * taken
            finally:
                if large:
                    self._turns.remove(turn)
                    self._changed.notify_all()
            return taken


@contextmanager
def reserved(size: int, *, wait: bool = True) -> Iterator[bool]:
    """Hold a share of ``VISION_DECODE_BYTES`` of this process, as ``MemoryBudget.reserved``."""
    with _budget().reserved(size, wait=wait) as held:
        yield held
    if size > TRIM_FROM:
        trim_soon()


@cache
def _budget() -> MemoryBudget:
    return MemoryBudget(settings().decode_bytes)


_trim_lock = threading.Lock()
_trim_timer: threading.Timer | None = None


def trim_soon(after_s: float = TRIM_AFTER_S) -> None:
    """Return free memory to the system in a moment: the allocator keeps it, in pieces, for as long as it likes."""
    global _trim_timer
    with _trim_lock:
        if _trim_timer is None:
            _trim_timer = threading.Timer(after_s, _trim_once)
            _trim_timer.daemon = True
            _trim_timer.start()


def _trim_once() -> None:
    global _trim_timer
    with _trim_lock:
        _trim_timer = None
    trim()


def trim() -> None:
    """Return free memory to the system, where the C library is glibc."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
