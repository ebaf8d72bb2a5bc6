"""Batches paced by the worker: the items that arrive while one batch runs are the next one.

``serve.batch`` closes a batch by size or by time, even while an earlier one still runs. Sixteen clients of a CPU model
that takes 25 ms per image got batches of 1.6 on average from it; a wait long enough to fill them would delay a single
caller by as much. Here a single caller is served at once, and the busier the worker, the fuller its batches.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, cast

from vision.tracing import Origin, origin, work_for

Run = Callable[[list[Any], list[float]], Awaitable[list[Any]]]


class _Waiting(NamedTuple):
    """An item that waits for its batch, since ``time.perf_counter()`` was ``since``."""

    item: Any
    deadline: float
    future: asyncio.Future[Any]
    origin: Origin
    since: float


class Batcher:
    """Feeds batches to ``run(items, deadlines)`` in order of arrival, ``at_once`` of them concurrently.

    ``on_wait`` is told for how many seconds each item of a batch has waited for it. ``vision.tracing.origins`` says
    meanwhile what the items are for.

    A batch has at most ``max_size`` items. One that is not full waits up to ``wait_s`` seconds for items that were
    announced, and for nothing else: those keep the processor busy meanwhile, and a fuller batch costs less per item.
    """

    def __init__(self, run: Run, max_size: int, wait_s: float, on_wait: Callable[[float], None] | None = None) -> None:
        self.max_size = max_size
        self.wait_s = wait_s
        self.at_once = 1
        self._run = run
        self._on_wait = on_wait
        self._waiting: deque[_Waiting] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._announced = 0
        self._arrival = asyncio.Event()

    @contextmanager
    def announced(self) -> Iterator[None]:
        """Announce an item that is being prepared, for as long as the context lasts."""
        self._announced += 1
        try:
            yield
        finally:
            self._announced -= 1
            self._arrival.set()

    async def submit(self, item: Any, deadline: float) -> Any:
        """Return the result of one item. Raises what ``run`` raised for its batch."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, deadline, future, origin.get(), time.perf_counter()))
        if len(self._workers) < self.at_once:
            self._workers.add(asyncio.create_task(self._work()))
        self._arrival.set()
        return await future

    async def _work(self) -> None:
        try:
            await self._drain()
        finally:
            # Here and not in a callback: an item that arrived between the two would count on a worker that has ended.
            self._workers.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _drain(self) -> None:
        while self._waiting:
            await self._gather()
            batch: list[_Waiting] = []
            while self._waiting and len(batch) < self.max_size:
                waiting = self._waiting.popleft()
                # An item whose caller left while it waited takes no place.
                if not waiting.future.done():
                    batch.append(waiting)
            if batch:
                await self._answer(batch)

    async def _gather(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self.wait_s
        while self._announced and len(self._waiting) < self.max_size and (left := until - loop.time()) > 0:
            self._arrival.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrival.wait(), left)

    async def _answer(self, batch: list[_Waiting]) -> None:
        if self._on_wait is not None:
            now = time.perf_counter()
            for waiting in batch:
                self._on_wait(now - waiting.since)
        work_for(each.origin for each in batch)
        try:
            results = await self._run([each.item for each in batch], [each.deadline for each in batch])
        except GeneratorExit:  # its event loop is gone, and with it who waits
            raise
        except BaseException as error:  # a panic in Rust is no Exception, and the callers wait
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
            return
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(result)
