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
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, cast

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from deployments.serving.messages import unreadable
from deployments.serving.streams import StreamedBytes
from vision.deadlines import request_deadline, time_left
from vision.errors import (
    DeadlineExceeded,
    ProcessingFailed,
    StageError,
    StageOverloaded,
    StageUnavailable,
)
from vision.spans import span
from vision.tracing import Origin, origin, work_for

logger = logging.getLogger("ray.serve")

LOST: Final = (ActorDiedError, ActorUnavailableError)
"""What a call raises whose replica died in the middle; over gRPC Serve cannot tell a dead one from an unreachable."""
AFTER_LOSS_S: Final = 0.2

subject: ContextVar[str] = ContextVar("subject", default="")
"""What the current request works on, such as an asset id; named in the log when a replica dies over it. Set it by
``work_on``."""
MAX_NAMED: Final = 5
MAX_NAME: Final = 96

T = TypeVar("T")
InT = TypeVar("InT")
OutT = TypeVar("OutT")


def work_on(*names: str) -> None:
    """Name what the current request or task works on from here on, for the log; names may be a stranger's words."""
    shown = [name if name.isprintable() and len(name) <= MAX_NAME else ascii(name)[:MAX_NAME] for name in names]
    more = f" and {len(shown) - MAX_NAMED} more" if len(shown) > MAX_NAMED else ""
    subject.set(", ".join(shown[:MAX_NAMED]) + more)


Call = Callable[[list[Any], float | None], Awaitable[list[Any]]]
OpenStream = Callable[[Any, float | None], StreamedBytes]


class Waiting(NamedTuple):
    """An item on its way; ``deadline`` in epoch seconds; ``future`` is done when its caller has left or is late."""

    item: Any
    deadline: float | None
    future: asyncio.Future[Any]
    subject: str
    origin: Origin


class StageHandle(Generic[InT, OutT]):
    """Calls one stage, which is in another process.

    ``call(items, deadline)`` does one call of at most ``max_batch`` items; ``max_in_flight`` calls run concurrently,
    and ``max_pending`` items may wait for one. ``open_stream(item, deadline)`` begins a stream. What the items are for
    is in ``vision.tracing`` meanwhile.
    """

    def __init__(
        self,
        key: str,
        call: Call,
        info: Callable[[], Awaitable[dict[str, Any]]],
        open_stream: OpenStream | None = None,
        close: Callable[[], Awaitable[None]] | None = None,
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
        self._close = close
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._max_pending = max_pending
        self._attempts = attempts
        self.place = "here"
        """Application and deployment of the stage, or ``here`` in this process."""
        self.refused = 0
        """Items that found the queue full, here or at the stage."""
        self._pending: deque[Waiting] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._quarantine = asyncio.Semaphore(1)

    @property
    def waiting(self) -> int:
        """Return how many items wait here for a call."""
        return len(self._pending)

    async def __call__(self, item: InT) -> OutT:
        """Return the stage's result for one item. Raises the StageError of this item, and of no other."""
        with span(self.key, "client") as attributes:
            attributes["visiongraph.stage"] = self.key
            return await self._one(item)

    async def _one(self, item: InT) -> OutT:
        if len(self._pending) >= self._max_pending:
            self.refused += 1
            raise StageOverloaded(f"{self.key} has {self._max_pending} requests waiting; try again in a second.")
        deadline = request_deadline.get()
        future: asyncio.Future[OutT] = asyncio.get_running_loop().create_future()
        self._pending.append(Waiting(item, deadline, future, subject.get(), origin.get()))
        self._send()
        if deadline is None:
            return await future
        try:
            return await asyncio.wait_for(future, max(deadline - time.time(), 0.001))
        except TimeoutError:
            raise DeadlineExceeded(f"{self.key} did not answer in the time this request has.") from None

    async def close(self) -> None:
        """Close a stage that is in this process."""
        if self._close is not None:
            await self._close()

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

    async def loaded_info(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Return ``info``, of a stage that is loading when it is loaded, as soon as that can be.

        Raises StageUnavailable as ``info``, and when it is not loaded in the time that the current request has left.
        """
        info = await self.info(timeout_s)
        if info.get("loading"):
            deadline = request_deadline.get()
            try:
                await asyncio.wait_for(self._with_retry(lambda: self._call([], deadline), _always), time_left())
            except StageError:
                raise
            except Exception as error:
                raise StageUnavailable(f"{self.key} does not answer yet; try again in a few seconds.") from error
            info = await self.info()
        if info.get("loading"):
            raise StageUnavailable(info["error"])
        return info

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
            chunks, chunk = await self._begun(begin)
            async with aclosing(chunks):
                while chunk is not None:
                    yield chunk
                    chunk = await self._next(chunks, deadline)
        except StageError:
            raise
        except Exception as error:
            if isinstance(error, (RayActorError, RayServeException)) and not isinstance(error, RayTaskError):
                raise StageUnavailable(f"{self.key} stopped in the middle; try again in a few seconds.") from None
            logger.exception("%s failed on the stream of %s", self.key, subject.get() or "an unnamed item")
            raise ProcessingFailed(f"{self.key} failed on this input.") from None

    async def _begun(self, begin: Callable[[], Awaitable[T]]) -> T:
        """Begin a stream; when a replica was lost over it once more, with no other suspect beside it."""
        try:
            return await self._with_retry(begin, _always)
        except LOST as error:
            if not _is_loss(error):
                raise
            logger.warning(
                "a replica of %s was lost over the stream of %s", self.key, subject.get() or "an unnamed item"
            )
        async with self._quarantine:
            await asyncio.sleep(AFTER_LOSS_S)
            return await self._with_retry(begin, _always)

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
                if not waiting.future.done():
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
        try:
            results = await self._results(batch)
        except LOST as error:
            logger.warning("a replica of %s was lost over %s (%s)", self.key, _names(batch), type(error).__name__)
            await asyncio.gather(*map(self._retry_alone, batch))
        else:
            _answer(batch, results)

    async def _retry_alone(self, waiting: Waiting) -> None:
        """Send an item that was there when a replica was lost once more: one such item at a time, in no batch."""
        async with self._quarantine:
            await asyncio.sleep(AFTER_LOSS_S)
            if waiting.future.done():
                return
            try:
                results = await self._results([waiting])
            except LOST as error:
                name, kind = _names([waiting]), type(error).__name__
                logger.error("a replica of %s was lost again over %s (%s); it is not tried again", self.key, name, kind)  # noqa: TRY400
                message = (
                    f"{self.key} stopped twice while it worked on this input; try again later, or with another file."
                )
                results = [StageUnavailable(message)]
            _answer([waiting], results)

    async def _results(self, batch: list[Waiting]) -> list[Any]:
        """Return a result or a StageError for each item. Raises one of LOST when a replica was lost over them."""
        work_for(waiting.origin for waiting in batch)
        deadlines = [waiting.deadline for waiting in batch]
        # The latest one: an item whose own deadline has passed is dropped by its caller.
        latest = None if None in deadlines else max(d for d in deadlines if d is not None)
        items = [waiting.item for waiting in batch]

        def wanted() -> bool:
            return not all(waiting.future.done() for waiting in batch)

        try:
            return await self._with_retry(lambda: self._call(items, latest), wanted)
        except StageError as error:
            return [error] * len(batch)
        except asyncio.CancelledError:
            return [StageUnavailable(f"The call to {self.key} was cancelled; try again.")] * len(batch)
        except GeneratorExit:  # its event loop is gone, and with it who waits
            raise
        except BaseException as error:  # a panic in Rust is no Exception, and the callers wait
            if _is_loss(error):
                raise
            logger.exception("call to %s failed", self.key)
            return [ProcessingFailed(f"{self.key} failed on this input.")] * len(batch)

    async def _with_retry(self, call: Callable[[], Awaitable[T]], wanted: Callable[[], bool]) -> T:
        """Call until a replica is reached, as long as somebody waits for the result.

        Raises one of LOST at once: what a replica worked on when it died may have been the cause.
        """
        for attempt in range(1, self._attempts + 1):
            try:
                return await call()
            except BackPressureError:
                self.refused += 1
                raise StageOverloaded(f"{self.key} is at its queue limit; try again in a second.") from None
            except (RayActorError, RayServeException) as error:
                if isinstance(error, (RayTaskError, *LOST)):
                    raise
                logger.warning("%s unreachable (%s), attempt %d", self.key, type(error).__name__, attempt)
            if attempt == self._attempts or not wanted():
                break
            await asyncio.sleep(0.1 * attempt)
        raise StageUnavailable(f"{self.key} is restarting; try again in a few seconds.")


class LocalHandle(StageHandle[InT, OutT]):
    """Calls a stage of this process: a call is a plain await, and what it passes is passed by reference.

    ``max_at_once`` items are in the stage, and ``max_pending`` more may wait for it. A caller that leaves takes its
    item along, if no batch has it yet.
    """

    def __init__(
        self,
        key: str,
        call: Call,
        info: Callable[[], Awaitable[dict[str, Any]]],
        open_stream: OpenStream | None = None,
        close: Callable[[], Awaitable[None]] | None = None,
        *,
        max_at_once: int = 256,
        max_pending: int = 512,
    ) -> None:
        super().__init__(key, call, info, open_stream, close, max_pending=max_pending)
        self._slots = asyncio.Semaphore(max_at_once)
        self._under_way = 0
        self._max_at_once = max_at_once
        self._max_under_way = max_at_once + max_pending

    @property
    def waiting(self) -> int:
        """Return how many items wait for a place in the stage."""
        return max(0, self._under_way - self._max_at_once)

    async def _one(self, item: InT) -> OutT:
        if self._under_way >= self._max_under_way:
            self.refused += 1
            raise StageOverloaded(f"{self.key} has {self._max_pending} requests waiting; try again in a second.")
        deadline = request_deadline.get()
        self._under_way += 1
        try:
            async with asyncio.timeout(None if deadline is None else max(deadline - time.time(), 0.001)), self._slots:
                [result] = await self._call([item], deadline)
        except TimeoutError:
            raise DeadlineExceeded(f"{self.key} did not answer in the time this request has.") from None
        finally:
            self._under_way -= 1
        if isinstance(result, StageError):
            raise result
        return cast(OutT, result)


def _is_loss(error: BaseException) -> bool:
    """Return whether a replica was lost, and not a task failed with such an error as its cause."""
    return isinstance(error, LOST) and not isinstance(error, RayTaskError)


def _always() -> bool:
    """Return True: the caller of a stream waits as long as its generator lives."""
    return True


def _answer(batch: list[Waiting], results: list[Any]) -> None:
    for waiting, result in zip(batch, results, strict=True):
        if waiting.future.done():
            continue
        if isinstance(result, StageError):
            waiting.future.set_exception(result)
        elif (other_version := unreadable(result)) is not None:
            waiting.future.set_exception(other_version)
        else:
            waiting.future.set_result(result)


def _names(batch: list[Waiting]) -> str:
    """Return what the items of a batch are called in the log."""
    return ", ".join(sorted({waiting.subject or f"an unnamed {type(waiting.item).__name__}" for waiting in batch}))


AnyHandle: TypeAlias = StageHandle[Any, Any]
