"""A bulk run in this process: the workers of the pipeline without Ray, over real stores, with dummies as models."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from graphs.web.context import Context
from ops.bulk.actors import DecodeVideos, FindCuts, LookAtFrames, Models
from ops.bulk.finisher import Finisher, Order
from ops.bulk.report import FileReport
from ops.bulk.rows import Grant, Piece, piece_of
from ops.bulk.run import Answer
from ops.bulk.sources import Item
from stores.jobs import Json
from tests.dummies.stages import find
from vision.errors import StageError


class LocalDesk:
    """Answers in the event loop, for decoders on threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answer: Answer, dropped: set[str]) -> None:
        self._loop = loop
        self._answer = answer
        self._dropped = dropped

    def ask(self, number: int) -> Grant | None:
        async def asked() -> Grant | None:
            return await self._answer(number)

        return asyncio.run_coroutine_threadsafe(asked(), self._loop).result(60)

    def wanted(self, attempt: str) -> bool:
        return attempt not in self._dropped


class LocalPipeline:
    """One decoder, one item after the other. ``shuffled``: rows come out of order, each of them twice.

    ``break_after``: so many rows the first round has.
    """

    def __init__(self, *, shuffled: bool = False, break_after: int | None = None) -> None:
        self._models = Models(find)
        self._shuffled = shuffled
        self.break_after = break_after
        self.rounds: list[list[int]] = []
        self.granted: list[Grant] = []
        self._dropped: set[str] = set()

    async def drop(self, attempt: str) -> None:
        self._dropped.add(attempt)

    async def rows(self, numbers: Sequence[int], answer: Answer) -> AsyncGenerator[Piece, None]:
        self.rounds.append(list(numbers))
        loop, limit, count = asyncio.get_running_loop(), self.break_after, 0
        self.break_after = None

        async def noted(number: int) -> Grant | None:
            grant = await answer(number)
            self.granted += [] if grant is None else [grant]
            return grant

        with ThreadPoolExecutor(1) as thread:
            look, cut = await loop.run_in_executor(thread, self._workers)
            decode = DecodeVideos(LocalDesk(loop, noted, self._dropped))
            try:
                for number in numbers:
                    pieces = await loop.run_in_executor(thread, self._pieces, decode, look, cut, number)
                    for piece in reversed(pieces * 2) if self._shuffled else pieces:
                        if limit is not None and count >= limit:
                            return
                        count += 1
                        yield piece
                        await asyncio.sleep(0.01)  # what was found is kept meanwhile
            finally:
                look.close()
                cut.close()

    def _workers(self) -> tuple[LookAtFrames, FindCuts]:
        return LookAtFrames(self._models), FindCuts(self._models)

    @staticmethod
    def _pieces(decode: DecodeVideos, look: LookAtFrames, cut: FindCuts, number: int) -> list[Piece]:
        rows = decode({"number": np.array([number])})
        return [piece_of(cut(look(each))) for each in rows]


class LocalFinisher:
    """A Finisher in this process."""

    def __init__(self) -> None:
        self.finisher = Finisher(Models(find))
        self.failing: list[StageError] = []
        """What the next ones end in."""

    async def make(self, order: Order) -> StageError | None:
        return self.failing.pop(0) if self.failing else await self.finisher.make(order)

    async def store(self, order: Order) -> Json | StageError:
        return await self.finisher.store(order)

    async def drop(self, order: Order) -> None:
        await self.finisher.drop(order.job_id)

    async def close(self) -> None:
        context: Context | None = self.finisher._context
        if context is not None:
            await context.close()


class Log:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.files: list[FileReport] = []
        self.texts: list[str] = []
        self.reached: dict[str, int] = {}
        self.count = 0

    def begins(self, count: int) -> None:
        self.count = count

    def frame(self, item: Item, reached: int, frames: int) -> None:
        assert reached <= frames
        self.reached[item.filename] = reached

    def ended(self, report: FileReport) -> None:
        self.files.append(report)

    def says(self, text: str) -> None:
        self.texts.append(text)
