"""Bytes that a generator makes on a thread of its own, for a reader on the event loop."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing, suppress

from vision.errors import DeadlineExceeded, ProcessingFailed, StageError

logger = logging.getLogger("ray.serve")

CHUNKS_AHEAD = 8
"""How far the generator may be ahead of its reader."""

ByteGenerator = Generator[bytes, None, None]
StreamedBytes = AsyncGenerator[bytes | StageError, None]
"""A StageError comes last, in place of what is missing."""


class ByteStream:
    """Runs ``make()`` and what it gives on a thread; to be made on the event loop and read there, once.

    The generator waits for a slow reader, and is closed on its thread when the reader leaves or ``deadline`` (epoch
    seconds) passes: at its next chunk, so it should give one, if only an empty one, every few milliseconds.
    """

    def __init__(self, key: str, make: Callable[[], ByteGenerator], deadline: float) -> None:
        self._key = key
        self._make = make
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[bytes | StageError | None] = asyncio.Queue()
        self._room = threading.Semaphore(CHUNKS_AHEAD)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"{key}-stream", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the thread still has to end."""
        return self._thread.is_alive()

    async def read(self) -> StreamedBytes:
        """The chunks, as they come. Close it to leave early."""
        try:
            while (chunk := await self._next()) is not None:
                yield chunk
                if isinstance(chunk, StageError):
                    return
                self._room.release()
        finally:
            self.leave()

    def leave(self) -> None:
        """Have the generator closed."""
        self._left.set()
        self._room.release()

    async def _next(self) -> bytes | StageError | None:
        try:
            return await asyncio.wait_for(self._chunks.get(), self._seconds_left())
        except TimeoutError:
            self.leave()
            return self._late()

    def _work(self) -> None:
        last: StageError | None = None
        try:
            with closing(self._make()) as chunks:
                for chunk in chunks:
                    if not self._hand_over(chunk):
                        break
        except StageError as error:
            last = error
        except BaseException:  # a panic in Rust is no Exception
            logger.exception("%s failed on a stream", self._key)
            last = ProcessingFailed(f"{self._key} failed on this input.")
        with suppress(RuntimeError):  # the loop is closed, so nobody waits
            self._loop.call_soon_threadsafe(self._chunks.put_nowait, last)

    def _hand_over(self, chunk: bytes) -> bool:
        """Queue a chunk when there is room; False when it is not wanted any more."""
        if chunk:
            self._room.acquire(timeout=self._seconds_left())
        if self._left.is_set():
            return False
        if self._seconds_left() == 0:
            raise self._late()
        if chunk:
            self._loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)
        return True

    def _seconds_left(self) -> float | None:
        return None if self._deadline == float("inf") else max(self._deadline - time.time(), 0.0)

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"{self._key} was not done in the time this request has.")
