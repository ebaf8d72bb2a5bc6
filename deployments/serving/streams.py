"""From threads to the event loop: blocking calls, and bytes that a generator makes on a thread of its own."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import Executor
from contextlib import closing, suppress
from contextvars import copy_context
from typing import TypeVar

from vision.deadlines import request_deadline, time_left
from vision.errors import DeadlineExceeded, ProcessingFailed, StageError
from vision.tracing import origin

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

CHUNKS_AHEAD = 8
"""Chunks that a generator may be ahead of its reader."""

ByteGenerator = Generator[bytes, None, None]
StreamedBytes = AsyncGenerator[bytes | StageError, None]
"""A StageError comes last, in place of what is missing."""


async def on_thread(pool: Executor, function: Callable[..., T], *args: object) -> T:
    """Return or raise what a blocking function does on a thread of the pool, in the context of the caller.

    A StopIteration becomes a RuntimeError: an asyncio future accepts none, and whoever awaited it would wait for ever.
    """

    def call() -> T:
        try:
            return function(*args)
        except StopIteration as error:
            raise RuntimeError("StopIteration was raised on a thread") from error

    return await asyncio.get_running_loop().run_in_executor(pool, copy_context().run, call)


async def in_time(
    work: Awaitable[T],
    message: str = "The time of this request ended before its file was read.",
    share: float = 1.0,
) -> T:
    """Return or raise what is awaited; raise DeadlineExceeded when a share of the time of the request is over.

    What is awaited is cancelled then; a thread may still end.
    """
    left = time_left()
    try:
        async with asyncio.timeout(None if left is None else share * left):
            return await work
    except TimeoutError:
        raise DeadlineExceeded(message) from None


class ByteStream:
    """Runs the generator that ``make()`` returns on a thread; created on the event loop and read there, once.

    The generator waits for a slow reader, and is closed on its thread when the reader leaves or ``deadline`` (epoch
    seconds) passes. That happens at its next chunk, so it should yield one, if only an empty one, every few
    milliseconds.
    """

    def __init__(self, key: str, make: Callable[[], ByteGenerator], deadline: float) -> None:
        self._key = key
        self._make = make
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._origin = origin.get()
        self._chunks: asyncio.Queue[bytes | StageError | None] = asyncio.Queue()
        self._slots = threading.Semaphore(CHUNKS_AHEAD)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"{key}-stream", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Return whether the thread is still alive."""
        return self._thread.is_alive()

    async def read(self) -> StreamedBytes:
        """Yield the chunks as they come; close it to leave early."""
        try:
            while (chunk := await self._next()) is not None:
                yield chunk
                if isinstance(chunk, StageError):
                    return
                self._slots.release()
        finally:
            self.leave()

    def leave(self) -> None:
        """Close the generator, at its next chunk."""
        self._left.set()
        self._slots.release()

    async def _next(self) -> bytes | StageError | None:
        try:
            return await asyncio.wait_for(self._chunks.get(), self._seconds_left())
        except TimeoutError:
            self.leave()
            return self._late()

    def _work(self) -> None:
        last: StageError | None = None
        request_deadline.set(None if self._deadline == float("inf") else self._deadline)
        origin.set(self._origin)
        try:
            with closing(self._make()) as chunks:
                for chunk in chunks:
                    if not self._enqueue(chunk):
                        break
        except StageError as error:
            last = error
        except BaseException:  # a panic in Rust is no Exception
            logger.exception("%s failed on a stream", self._key)
            last = ProcessingFailed(f"{self._key} failed on this input.")
        with suppress(RuntimeError):  # the loop is closed, so nobody waits
            self._loop.call_soon_threadsafe(self._chunks.put_nowait, last)

    def _enqueue(self, chunk: bytes) -> bool:
        """Queue a chunk when a slot is free; return False when nobody reads any more."""
        if chunk:
            self._slots.acquire(timeout=self._seconds_left())
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
