"""One attempt at the job of one video, in the driver: rows come in, parts and checkpoints go out."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

from graphs.indexing.checkpoint import INFERRED, Checkpoints, check_asset, job_parts
from graphs.indexing.finalize import ASSIGNED, LINKED
from graphs.indexing.inference import MAX_FAILED
from graphs.jobs.runner import JobContext
from graphs.web.context import Context
from ops.bulk.finisher import Order
from ops.bulk.rows import Broken, Found, Grant, Opened, Piece
from stores.jobs import Json
from vision.errors import ProcessingFailed, StageError, StageUnavailable

MOST_DECODERS: Final = 3
"""Decoders that may die of one video in one attempt."""
TOO_DEADLY: Final = "Whatever decodes this video dies of it; export it again as H.264 and AAC."


class Finishers(Protocol):
    """Who makes shots, traces and identities."""

    async def make(self, order: Order) -> StageError | None:
        """Shots and traces."""
        ...

    async def store(self, order: Order) -> Json | StageError:
        """Whose the traces are; stores everything that was made."""
        ...

    async def drop(self, order: Order) -> None:
        """Forget what was made."""
        ...


class OpenFile:
    """A claimed job while its video is in the pipeline; ``run`` is what ``JobRun`` runs.

    ``told`` is called with the frame that was reached, and with all of them.
    """

    def __init__(
        self, context: Context, finishers: Finishers, alone: asyncio.Lock, told: Callable[[int, int], None]
    ) -> None:
        self.attempt = uuid.uuid4().hex
        self.decoded = 0
        """Frames that were decoded in this attempt."""
        self.grant: asyncio.Future[Grant | None] = asyncio.get_running_loop().create_future()
        """What its decoder is told."""
        self._context = context
        self._finishers = finishers
        self._alone = alone
        self._told = told
        self._pieces: asyncio.Queue[Piece | StageError] = asyncio.Queue()
        self._decoders = 0

    def hand_in(self, piece: Piece) -> None:
        """A row of this attempt, in any order."""
        self._pieces.put_nowait(piece)

    def ended(self) -> None:
        """No more rows come."""
        self._pieces.put_nowait(StageUnavailable("The pipeline ended before the video did; it is gone on with."))

    def asked_again(self) -> bool:
        """A decoder asks for this video: the one before died. Whether it may have it."""
        self._decoders += 1
        if self._decoders < MOST_DECODERS:
            return True
        self._pieces.put_nowait(ProcessingFailed(TOO_DEADLY))
        return False

    async def run(self, job: JobContext) -> Json:
        """The function of the job. Raises StageError."""
        started = time.perf_counter()
        async with job_parts(self._context, job) as parts:
            await check_asset(self._context, job.subject)
            done = await parts.count(job)
            start = done * (job.checkpoint["next_frame"] // job.checkpoint["parts"]) if done else 0
            self.grant.set_result(Grant(self.attempt, job.subject, start))
            opened, later = await self._opened()
            frames = len(opened.timeline.times)
            checkpoints = Checkpoints(self._context, job, parts, frames, opened.timeline.facts.fps)
            if await checkpoints.resume() != start:
                raise StageUnavailable("What was kept has changed meanwhile; it is looked at again.")
            async for found in self._in_order(start, frames, later):
                await checkpoints.add(found.end, found.observations, found.candidates)
                self.decoded += found.end - found.first
                self._told(found.end, frames)
            order = Order(job.subject, job.job_id, job.payload, opened.timeline, checkpoints.stored, checkpoints.span)
            result = await self._finish(job, order)
        return result | {"seconds": round(time.perf_counter() - started, 1)}

    async def _finish(self, job: JobContext, order: Order) -> Json:
        job.progress(INFERRED, "Choosing keyframes")
        try:
            await _whole(self._finishers.make(order))
            job.progress(LINKED, "Waiting to tell people apart")
            # Whose a trace is depends on who is known: two at once would make two of one person.
            async with self._alone:
                job.progress(ASSIGNED, "Telling people apart")
                return await _whole(self._finishers.store(order))
        finally:
            await asyncio.shield(self._finishers.drop(order))

    async def _opened(self) -> tuple[Opened, list[Found]]:
        """What the decoder says of the video, and chunks that came before that."""
        later: list[Found] = []
        while True:
            what = await self._next()
            if isinstance(what, Opened):
                return what, later
            later.append(what)

    async def _in_order(self, start: int, frames: int, later: list[Found]) -> AsyncIterator[Found]:
        """Every chunk once; rows overtake each other, and come twice when a worker died."""
        waiting = {found.first: found for found in later}
        failed = sum(found.failed for found in later)
        while start < frames:
            while start not in waiting:
                what = await self._next()
                if isinstance(what, Found) and what.first >= start and what.first not in waiting:
                    waiting[what.first] = what
                    failed += what.failed
            if failed > MAX_FAILED:
                raise ProcessingFailed(f"{failed} frames or windows of this video could not be looked at.")
            found = waiting.pop(start)
            start = found.end
            yield found

    async def _next(self) -> Opened | Found:
        piece = await self._pieces.get()
        if isinstance(piece, StageError):
            raise piece
        if isinstance(piece.what, Broken):
            if isinstance(piece.what.error, StageError):
                raise piece.what.error
            raise RuntimeError(piece.what.error)  # noqa: TRY004 - the log has its cause
        if not isinstance(piece.what, Opened | Found):
            raise TypeError(f"a row of the pipeline's middle came out: {type(piece.what).__name__}")
        return piece.what


async def _whole(asked: Awaitable[Json | StageError | None]) -> Json:
    answer = await asked
    if isinstance(answer, StageError):
        raise answer
    return answer or {}
