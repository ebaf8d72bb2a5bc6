"""The caller's side of a stage: many single calls become few remote ones.

A hop between replicas costs several CPU milliseconds, as much as a small model on a batch. So a handle sends at once
while few calls are in flight, and otherwise gathers the items that arrive meanwhile into the next call: no wait at low
load, full batches at high load. Its queue is bounded; beyond it callers get a 429.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from contextvars import Context, ContextVar
from typing import Any, Generic, TypeAlias, TypeVar

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from deployments.serving.streams import StreamedBytes
from vision.errors import (
    DeadlineExceeded,
    ProcessingFailed,
    StageError,
    StageOverloaded,
    StageUnavailable,
)

logger = logging.getLogger("ray.serve")

request_deadline: ContextVar[float | None] = ContextVar("request_deadline", default=None)
"""End of the current request, in epoch seconds; set by the gateway and sent along with every stage call."""

T = TypeVar("T")
InT = TypeVar("InT")
OutT = TypeVar("OutT")


def time_left() -> float | None:
    """Return the seconds until the current request ends, 0 when it is over; None when it has no deadline."""
    deadline = request_deadline.get()
    return None if deadline is None else max(0.0, deadline - time.time())


Call = Callable[[list[Any], float | None], Awaitable[list[Any]]]
OpenStream = Callable[[Any, float | None], StreamedBytes]
Waiting = tuple[Any, float | None, asyncio.Future[Any]]


class StageHandle(Generic[InT, OutT]):
    """Calls one stage, remote or in this process.

    ``call(items, deadline)`` does one call of at most ``max_batch`` items; ``max_in_flight`` calls run concurrently,
    and ``max_pending`` items may wait for one. ``open_stream(item, deadline)`` begins a stream.
    """

    def __init__(
        self,
        key: str,
        call: Call,
        info: Callable[[], Awaitable[dict[str, Any]]],
        open_stream: OpenStream | None = None,
        *,
        max_batch: int = 16,
        max_in_flight: int = 16,
        max_pending: int = 512,
        attempts: int = 3,
    ) -> None:
        self.key = key
        self._call = call
        self._info = info
        self._open_stream = open_stream
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._max_pending = max_pending
        self._attempts = attempts
        self._pending: deque[Waiting] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()

    async def __call__(self, item: InT) -> OutT:
        """Return the stage's result for one item. Raises the StageError of this item, and of no other."""
        if len(self._pending) >= self._max_pending:
            raise StageOverloaded(f"{self.key} has {self._max_pending} requests waiting; try again in a second.")
        deadline = request_deadline.get()
        future: asyncio.Future[OutT] = asyncio.get_running_loop().create_future()
        self._pending.append((item, deadline, future))
        self._send()
        if deadline is None:
            return await future
        try:
            return await asyncio.wait_for(future, max(deadline - time.time(), 0.001))
        except TimeoutError:
            raise DeadlineExceeded(f"{self.key} did not answer in the time this request has.") from None

    async def info(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Return what the stage says about itself, loaded or not, without waking it when it sleeps.

        Raises StageUnavailable, from its cause, when there is no answer within ``timeout_s``; by default within the
        time that the current request has left.
        """
        try:
            return await asyncio.wait_for(self._info(), time_left() if timeout_s is None else timeout_s)
        except StageError:
            raise
        except Exception as error:
            raise StageUnavailable(f"{self.key} does not answer yet; try again in a few seconds.") from error

    async def ready_info(self, blank: InT) -> dict[str, Any]:
        """Return ``info`` of the loaded stage; one that sleeps or lacks weights is first called with ``blank``.

        ``blank`` should be an item that costs little. Raises ModelNotLoaded with the stage's reason, and
        StageUnavailable when it does not answer.
        """
        info = await self.info()
        if not info.get("loaded"):
            await self(blank)
            info = await self.info()
        return info

    async def stream(self, item: InT) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of one item as the stage makes them; close the generator to leave early.

        Raises the StageError that keeps the stage from starting at the first step, before there are any bytes; a later
        StageError ends them.
        """
        if self._open_stream is None:
            raise StageUnavailable(f"{self.key} cannot be streamed from here.")
        deadline, open_stream = request_deadline.get(), self._open_stream

        async def begin() -> tuple[StreamedBytes, bytes | None]:
            chunks = open_stream(item, deadline)
            return chunks, await self._next(chunks, deadline)

        try:
            chunks, chunk = await self._with_retry(begin)
            async with aclosing(chunks):
                while chunk is not None:
                    yield chunk
                    chunk = await self._next(chunks, deadline)
        except StageError:
            raise
        except Exception as error:
            if isinstance(error, (RayActorError, RayServeException)) and not isinstance(error, RayTaskError):
                raise StageUnavailable(f"{self.key} stopped in the middle; try again in a few seconds.") from None
            logger.exception("stream of %s failed", self.key)
            raise ProcessingFailed(f"{self.key} failed on this input.") from None

    async def _next(self, chunks: StreamedBytes, deadline: float | None) -> bytes | None:
        left = None if deadline is None else max(deadline - time.time(), 0.001)
        try:
            chunk = await asyncio.wait_for(anext(chunks, None), left)
        except TimeoutError:
            raise DeadlineExceeded(f"{self.key} did not answer in the time this request has.") from None
        if isinstance(chunk, StageError):
            raise chunk
        return chunk

    def _send(self) -> None:
        while self._pending and len(self._in_flight) < self._max_in_flight:
            batch: list[Waiting] = []
            while self._pending and len(batch) < self._max_batch:
                waiting = self._pending.popleft()
                # The caller left or ran out of time while the item waited: nobody reads the answer.
                if not waiting[2].done():
                    batch.append(waiting)
            if batch:
                # In a new context: Serve cancels what a request started when its client leaves, and this call also
                # serves the others in the batch.
                task = asyncio.create_task(self._run(batch), context=Context())
                self._in_flight.add(task)
                task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._send()

    async def _run(self, batch: list[Waiting]) -> None:
        deadlines = [deadline for _, deadline, _ in batch]
        # The latest one: an item whose own deadline has passed is dropped by its caller.
        latest = None if None in deadlines else max(d for d in deadlines if d is not None)
        try:
            items = [item for item, _, _ in batch]
            results = await self._with_retry(lambda: self._call(items, latest))
        except StageError as error:
            results = [error] * len(batch)
        except asyncio.CancelledError:
            results = [StageUnavailable(f"The call to {self.key} was cancelled; try again.")] * len(batch)
        except BaseException:  # a panic in Rust is no Exception, and the callers wait
            logger.exception("call to %s failed", self.key)
            results = [ProcessingFailed(f"{self.key} failed on this input.")] * len(batch)
        for (_, _, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, StageError):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def _with_retry(self, call: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(1, self._attempts + 1):
            try:
                return await call()
            except BackPressureError:
                raise StageOverloaded(f"{self.key} is at its queue limit; try again in a second.") from None
            except RayTaskError:
                raise
            except (RayActorError, RayServeException) as error:
                # A replica died during the call. Stages are pure, so another replica may repeat it.
                logger.warning("%s unreachable (%s), attempt %d", self.key, type(error).__name__, attempt)
            if attempt < self._attempts:
                await asyncio.sleep(0.1 * attempt)
        raise StageUnavailable(f"{self.key} is restarting; try again in a few seconds.")


AnyHandle: TypeAlias = StageHandle[Any, Any]
