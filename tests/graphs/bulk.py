"""A bulk run in this process: the workers of the pipeline without Ray, over real stores, with dummies as models."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from graphs.web.context import Context
from ops.bulk.report import FileReport
from ops.bulk.run import OnRequest
from ops.bulk.sources import Item
from ops.bulk.workers import (
    DecodeVideos,
    Finalizer,
    FinalizeRequest,
    Grant,
    InferCuts,
    InferFrames,
    InferObjects,
    Message,
    Row,
    StageSetup,
    from_row,
)
from stores.jobs import Json
from tests.dummies.stages import find
from vision.errors import StageError

Worker = InferObjects | InferFrames | InferCuts


class LocalMailbox:
    """Answers in the event loop, for decoders on threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_request: OnRequest, dropped: set[str]) -> None:
        self._loop = loop
        self._on_request = on_request
        self._dropped = dropped

    def request(self, number: int) -> Grant | None:
        async def asked() -> Grant | None:
            return await self._on_request(number)

        return asyncio.run_coroutine_threadsafe(asked(), self._loop).result(60)

    def is_wanted(self, attempt: str) -> bool:
        return attempt not in self._dropped


class LocalPipeline:
    """One decoder, one item after the other. ``shuffled``: rows come out of order, each of them twice.

    ``break_after``: so many rows the first round has. ``objects``: whether there are workers for them.
    """

    def __init__(self, *, shuffled: bool = False, break_after: int | None = None, objects: bool = False) -> None:
        self._setup = StageSetup(find, objects=objects)
        self._shuffled = shuffled
        self.break_after = break_after
        self.rounds: list[list[int]] = []
        self.granted: list[Grant] = []
        self._dropped: set[str] = set()

    async def drop(self, attempt: str) -> None:
        self._dropped.add(attempt)

    async def rows(self, numbers: Sequence[int], on_request: OnRequest) -> AsyncGenerator[Message, None]:
        self.rounds.append(list(numbers))
        loop, limit, count = asyncio.get_running_loop(), self.break_after, 0
        self.break_after = None

        async def noted(number: int) -> Grant | None:
            grant = await on_request(number)
            self.granted += [] if grant is None else [grant]
            return grant

        with ThreadPoolExecutor(1) as thread:
            workers = await loop.run_in_executor(thread, self._workers)
            decode = DecodeVideos(LocalMailbox(loop, noted, self._dropped))
            try:
                for number in numbers:
                    messages = await loop.run_in_executor(thread, self._messages, decode, workers, number)
                    for message in reversed(messages * 2) if self._shuffled else messages:
                        if limit is not None and count >= limit:
                            return
                        count += 1
                        yield message
                        await asyncio.sleep(0.01)  # observations are stored meanwhile
            finally:
                for worker in workers:
                    worker.close()

    def _workers(self) -> list[Worker]:
        objects = [InferObjects(self._setup)] if self._setup.objects else []
        return [*objects, InferFrames(self._setup), InferCuts(self._setup)]

    @staticmethod
    def _messages(decode: DecodeVideos, workers: Sequence[Worker], number: int) -> list[Message]:
        rows: Iterable[Row] = decode({"number": np.array([number])})
        for worker in workers:
            rows = map(worker, rows)
        return [from_row(row) for row in rows]


class LocalFinalizer:
    """A Finalizer in this process."""

    def __init__(self, *, objects: bool = False) -> None:
        self.finalizer = Finalizer(StageSetup(find, objects=objects))
        self.failing: list[StageError] = []
        """What the next ones end in."""

    async def draft(self, request: FinalizeRequest) -> StageError | None:
        return self.failing.pop(0) if self.failing else await self.finalizer.draft(request)

    async def store(self, request: FinalizeRequest) -> Json | StageError:
        return await self.finalizer.store(request)

    async def drop(self, request: FinalizeRequest) -> None:
        await self.finalizer.drop(request.job_id)

    async def close(self) -> None:
        context: Context | None = self.finalizer._context
        if context is not None:
            await context.close()


class Log:
    """A monitor that records."""

    def __init__(self) -> None:
        self.files: list[FileReport] = []
        self.texts: list[str] = []
        self.reached: dict[str, int] = {}
        self.count = 0

    def start(self, count: int) -> None:
        self.count = count

    def frame(self, item: Item, reached: int, frames: int) -> None:
        assert reached <= frames
        self.reached[item.filename] = reached

    def file_done(self, report: FileReport) -> None:
        self.files.append(report)

    def message(self, text: str) -> None:
        self.texts.append(text)
