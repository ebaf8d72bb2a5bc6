"""A bulk run as its driver sees it: claims the job of each video when its turn has come, and sees all to their end.

Each video is the durable job ``index-video`` that the service has too. So what either of them did is not done again,
what a killed run left is gone on with from its checkpoint, and a job that somebody else holds is left to them.
"""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from graphs.indexing.jobs import submit_index
from graphs.jobs.run import JobRun, Timing
from graphs.web.context import Context
from ops.bulk.file import Finishers, OpenFile
from ops.bulk.intake import Intake
from ops.bulk.report import FileReport, Report, State
from ops.bulk.rows import Grant, Piece
from ops.bulk.sources import Item
from stores.documents import StoreError
from stores.jobs import Job
from stores.records import Asset
from vision.errors import StageError

logger = logging.getLogger("ray.serve")

POLL_S: Final = 1.0
FRUITLESS: Final = 3
"""Rounds in a row that bring no file to its end, after which the run does."""
STATES: Final[Mapping[str, State]] = {"succeeded": "indexed", "failed": "failed", "cancelled": "cancelled"}


class PipelineBroken(Exception):
    """The workers cannot go on; the message says why."""


Answer = Callable[[int], Awaitable[Grant | None]]


class Pipeline(Protocol):
    """Decodes and looks."""

    def rows(self, numbers: Sequence[int], answer: Answer) -> AsyncGenerator[Piece, None]:
        """What is found in the items of these numbers, for as long as there is more; ``answer`` gives leave to each."""
        ...

    async def drop(self, attempt: str) -> None:
        """Nobody waits for the rows of an attempt any more."""
        ...


class Watcher(Protocol):
    """Is told how far the run is."""

    def begins(self, count: int) -> None:
        """So many files there are."""
        ...

    def frame(self, item: Item, reached: int, frames: int) -> None:
        """A video was looked at up to this frame."""
        ...

    def ended(self, report: FileReport) -> None:
        """A file came to its end."""
        ...

    def says(self, text: str) -> None:
        """Something that a person should know."""
        ...


class BulkRun:
    """Indexes the items once; ``run`` may be called once."""

    def __init__(
        self,
        context: Context,
        items: Sequence[Item],
        pipeline: Pipeline,
        finishers: Finishers,
        watcher: Watcher,
        timing: Timing | None = None,
    ) -> None:
        self._context = context
        self._items = items
        self._pipeline = pipeline
        self._finishers = finishers
        self._watcher = watcher
        self._timing = timing or Timing()
        self._name = f"{socket.gethostname()}-{os.getpid()}-bulk"
        self._intake = Intake(context, items)
        self._stopping = asyncio.Event()
        self._alone = asyncio.Lock()
        self._open: dict[int, OpenFile] = {}
        self._by_attempt: dict[str, OpenFile] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._owners: dict[str, int] = {}
        self._jobs: dict[int, tuple[Asset, str]] = {}
        self._reports: dict[int, FileReport] = {}
        self._decoded: dict[int, int] = {}
        self._made = time.monotonic()
        self._began: float | None = None
        self._broken: PipelineBroken | None = None

    async def run(self, stopping: asyncio.Event) -> Report:
        """Until every file has come to an end, or ``stopping`` is set. What is running is then given back."""
        self._watcher.begins(len(self._items))
        stop = asyncio.create_task(self._stop_with(stopping))
        try:
            await self._rounds()
        finally:
            self._stopping.set()
            await asyncio.gather(*self._running.values(), return_exceptions=True)
            stop.cancel()
            await self._intake.close()
        return self.report()

    def report(self) -> Report:
        """What came of it so far."""
        for number in range(len(self._items)):
            if number not in self._reports:
                self._report(number, "unfinished", reason="The run was stopped.", told=False)
        now = time.monotonic()
        began = now if self._began is None else self._began
        files = [self._reports[number] for number in range(len(self._items))]
        return Report((), files, now - began, began - self._made)

    @property
    def share(self) -> tuple[float, str]:
        """How much of the run is done, 0-1, and in words."""
        done, all_ = len(self._reports), max(1, len(self._items))
        return done / all_, f"{done} of {len(self._items)} files"

    async def _stop_with(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._stopping.set()

    async def _rounds(self) -> None:
        left, fruitless = list(range(len(self._items))), 0
        while left and not self._stopping.is_set():
            before = len(self._reports)
            await self._round(left)
            fruitless = 0 if len(self._reports) > before else fruitless + 1
            if fruitless == FRUITLESS:
                raise self._broken or PipelineBroken("It ended again and again without a file coming to its end.")
            left = await self._left()

    async def _round(self, numbers: Sequence[int]) -> None:
        rows = self._pipeline.rows(numbers, self._answer)
        feeding = asyncio.create_task(self._feed(rows))
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({feeding, stop}, return_when=asyncio.FIRST_COMPLETED)
            if feeding.done():
                feeding.result()
        except PipelineBroken as error:
            self._broken = error
            self._watcher.says(f"The pipeline broke: {error}")
        except BaseException:
            self._stopping.set()
            raise
        finally:
            for task in (feeding, stop):
                task.cancel()
            await asyncio.gather(feeding, stop, return_exceptions=True)
            if not self._stopping.is_set():  # else they give back their jobs by themselves
                for file in self._open.values():
                    file.ended()
            await asyncio.gather(*self._running.values())

    async def _feed(self, rows: AsyncGenerator[Piece, None]) -> None:
        async with aclosing(rows):
            async for piece in rows:
                self._began = self._began or time.monotonic()  # it came through all workers, so they are all up
                file = self._by_attempt.get(piece.attempt)
                if file is not None:
                    file.hand_in(piece)

    async def _left(self) -> list[int]:
        """Items that are to be gone on with, once the first of them can be."""
        told = False
        if any(number not in self._jobs for number in range(len(self._items)) if number not in self._reports):
            await self._pause(self._timing.retry_s)  # it could not be read, or nobody could come to it
        while not self._stopping.is_set():
            left = [number for number in range(len(self._items)) if number not in self._reports]
            due = [number not in self._jobs or await self._look_at(number) for number in left]
            left = [number for number in left if number not in self._reports]
            if any(due) or not left:
                return left
            if not told:
                self._watcher.says(f"Waiting for {len(left)} files that are tried again or are with another worker.")
                told = True
            await self._pause(POLL_S)
        return []

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _answer(self, number: int) -> Grant | None:
        """Leave to decode an item; None where there is nothing to decode."""
        if self._stopping.is_set() or number in self._reports:
            return None
        if (file := self._open.get(number)) is not None:
            return await asyncio.shield(file.grant) if file.asked_again() else None
        if number in self._running:
            return None  # its attempt is over, and what became of it is being looked up
        try:
            asset = await self._intake.asset(number)
        except StageError as error:
            if error.retryable:
                self._watcher.says(f"{self._items[number].name} is left for later: {error.message}")
                return None
            self._report(number, "failed", reason=error.message)
            return None
        owner = self._owners.setdefault(asset.asset_id, number)
        if owner != number:
            self._report(number, "duplicate", asset, reason=f"The same as {self._items[owner].name}.")
            return None
        job = await submit_index(self._context, asset)
        self._jobs[number] = (asset, job.job_id)
        if job.finished:
            self._ended(number, job, before=True)
            return None
        return await self._begun(number, job)

    async def _begun(self, number: int, job: Job) -> Grant | None:
        store, item = self._context.jobs, self._items[number]
        lease_over = job.lease_until
        while True:
            # A name for this claim alone: it is the proof of the lease.
            worker, asked_at = f"{self._name}-{uuid.uuid4().hex[:12]}", time.monotonic()
            claimed = await store.claim_job(job.job_id, worker, self._timing.lease_s)
            if claimed is not None:
                break
            now = await store.get(job.job_id)
            if now is None or now.finished:
                self._ended(number, now)
                return None
            if self._stopping.is_set() or now.status != "running" or now.lease_until != lease_over:
                return None  # it is somebody's who lives, or waits for its next attempt: a later round sees to it
            # Left by a run that was killed, if nobody renews it until it ends.
            await asyncio.sleep(POLL_S)
        file = OpenFile(
            self._context, self._finishers, self._alone, lambda reached, all_: self._watcher.frame(item, reached, all_)
        )
        self._open[number] = self._by_attempt[file.attempt] = file
        run = JobRun(store, claimed, file.run, worker, asked_at, self._timing)
        self._running[number] = asyncio.create_task(self._see_through(number, file, run))
        return await asyncio.shield(file.grant)

    async def _see_through(self, number: int, file: OpenFile, run: JobRun) -> None:
        try:
            await self._attempt(number, file, run)
            await self._look_at(number)
        finally:
            del self._running[number]

    async def _attempt(self, number: int, file: OpenFile, run: JobRun) -> None:
        try:
            await run.run(self._stopping)
        finally:
            if not file.grant.done():
                file.grant.set_result(None)
            del self._open[number], self._by_attempt[file.attempt]
            self._decoded[number] = self._decoded.get(number, 0) + file.decoded
            await self._pipeline.drop(file.attempt)

    async def _look_at(self, number: int) -> bool:
        """Report a job that has ended; else whether it is due."""
        try:
            job = await self._context.jobs.get(self._jobs[number][1])
        except StoreError as error:
            logger.warning("cannot look at job %s: %s", self._jobs[number][1], error)
            return False
        if job is None or job.finished:
            self._ended(number, job)
            return False
        return job.due_at <= datetime.now(UTC)

    def _ended(self, number: int, job: Job | None, *, before: bool = False) -> None:
        asset = self._jobs[number][0]
        if job is None:
            self._report(number, "failed", asset, reason="The file was deleted while it was being indexed.")
            return
        state: State = "skipped" if before and job.status == "succeeded" else STATES[job.status]
        reason = "The job was cancelled." if job.status == "cancelled" else job.error
        found: dict[str, Any] = job.result or {}
        values: dict[str, Any] = {name: found.get(name, 0) for name in ("frames", "shots", "traces", "identities")}
        values |= {"reason": reason, "job_id": job.job_id, "attempts": job.attempts}
        self._report(number, state, asset, **values)

    def _report(
        self, number: int, state: State, asset: Asset | None = None, *, told: bool = True, **values: Any
    ) -> None:
        if asset is not None:
            values |= {"asset_id": asset.asset_id, "seconds": asset.duration or 0.0}
        values = {"name": self._items[number].name, "decoded": self._decoded.get(number, 0), **values}
        self._reports[number] = FileReport(state=state, **values)
        if told:
            self._watcher.ended(self._reports[number])
