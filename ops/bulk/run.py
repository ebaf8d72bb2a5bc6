"""Run a bulk index from its driver: claim the job of each video when its turn has come, and see every file to its end.

Each video is the durable job ``index-video`` of the service. So nothing that either of them did is done again, a killed
run is resumed from its checkpoints, and a job that somebody else holds is left to them.
"""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from graphs.indexing.checkpoint import INFERRED, Checkpoints, check_asset, job_parts
from graphs.indexing.finalize import ASSIGNED, LINKED
from graphs.indexing.inference import MAX_FAILED
from graphs.indexing.jobs import plan_index, submit_index
from graphs.jobs.runner import JobContext, JobRun, Timing
from graphs.web.context import Context
from ops.bulk.report import FileReport, Report, State
from ops.bulk.sources import Ingest, Item
from ops.bulk.workers import Failed, FinalizeRequest, Grant, Message, Observed, Opened
from stores.errors import StoreError
from stores.jobs import Job, Json
from stores.records import Asset
from vision.errors import ProcessingFailed, StageError, StageUnavailable

logger = logging.getLogger("ray.serve")

POLL_S: Final = 1.0
MAX_FRUITLESS: Final = 3
"""Consecutive rounds in which no file ends, after which the run fails."""
STATES: Final[Mapping[str, State]] = {"succeeded": "indexed", "failed": "failed", "cancelled": "cancelled"}
REPORTED: Final = ("frames", "shots", "traces", "identities", "objects")
"""Counts of the result of a job."""
MAX_DECODERS: Final = 3
"""Decoders that may die of one video in one attempt."""
DECODERS_DIED: Final = "Every process that decoded this video crashed; export it again as H.264 and AAC."


class PipelineBroken(Exception):
    """The workers cannot continue; the message says why."""


OnRequest = Callable[[int], Awaitable[Grant | None]]
"""Answers a decoder that asks for the item of this number."""


class Pipeline(Protocol):
    """Decodes videos and observes their frames."""

    def rows(self, numbers: Sequence[int], on_request: OnRequest) -> AsyncGenerator[Message, None]:
        """Yield the messages of the items of these numbers; ``on_request`` grants the decoding of each."""
        ...

    async def drop(self, attempt: str) -> None:
        """Stop the rows of an attempt, which are no longer wanted."""
        ...


class Finalizers(Protocol):
    """Make shots, traces and identities."""

    async def draft(self, request: FinalizeRequest) -> StageError | None:
        """Make shots and traces."""
        ...

    async def store(self, request: FinalizeRequest) -> Json | StageError:
        """Assign identities to the traces, store everything, and return the result of the job."""
        ...

    async def drop(self, request: FinalizeRequest) -> None:
        """Drop the draft."""
        ...


class Monitor(Protocol):
    """Receives the progress of a run."""

    def start(self, count: int) -> None:
        """Begin a run of so many files."""
        ...

    def frame(self, item: Item, reached: int, frames: int) -> None:
        """Show that a video is observed up to this frame."""
        ...

    def file_done(self, report: FileReport) -> None:
        """Show the result of a file."""
        ...

    def message(self, text: str) -> None:
        """Show a message."""
        ...


class VideoAttempt:
    """One attempt at a claimed job: messages of the pipeline come in, parts and checkpoints go out.

    ``run`` is the function of ``JobRun``. ``on_progress`` is called with the frames that are done and all frames.
    ``assigning`` is held while identities are assigned.
    """

    def __init__(
        self,
        context: Context,
        finalizers: Finalizers,
        assigning: asyncio.Lock,
        on_progress: Callable[[int, int], None],
    ) -> None:
        self.id = uuid.uuid4().hex
        self.decoded = 0
        """Frames decoded in this attempt."""
        self.grant: asyncio.Future[Grant | None] = asyncio.get_running_loop().create_future()
        """The answer to its decoder."""
        self._context = context
        self._finalizers = finalizers
        self._assigning = assigning
        self._on_progress = on_progress
        self._messages: asyncio.Queue[Message | StageError] = asyncio.Queue()
        self._decoders = 0

    def receive(self, message: Message) -> None:
        """Take a message of this attempt; they come in any order."""
        self._messages.put_nowait(message)

    def pipeline_ended(self) -> None:
        """Fail, so that another attempt resumes: no more messages come."""
        self._messages.put_nowait(StageUnavailable("The pipeline ended before the video did; the job resumes."))

    def grant_again(self) -> bool:
        """Return whether another decoder may take this video, since the one before died."""
        self._decoders += 1
        if self._decoders < MAX_DECODERS:
            return True
        self._messages.put_nowait(ProcessingFailed(DECODERS_DIED))
        return False

    async def run(self, job: JobContext) -> Json:
        """Run the job. Raises StageError."""
        started, plan = time.perf_counter(), await plan_index(self._context, job)
        cuts = None if plan.index is None else plan.index.cuts
        objects = None if plan.objects is None else plan.objects.version
        async with job_parts(self._context, job, plan.what) as parts:
            await check_asset(self._context, job.subject)
            done = await parts.count(job)
            start = done * (job.checkpoint["next_frame"] // job.checkpoint["parts"]) if done else 0
            self.grant.set_result(Grant(self.id, job.subject, start, objects is not None, cuts))
            opened, early = await self._opened()
            frames = len(opened.timeline.times)
            checkpoints = Checkpoints(self._context, job, parts, frames, opened.timeline.facts.fps)
            if await checkpoints.resume() != start:
                raise StageUnavailable("The stored parts of this index changed meanwhile; the job resumes.")
            async for chunk in self._in_order(start, frames, early):
                await checkpoints.add(chunk.end, chunk.observations, chunk.candidates)
                self.decoded += chunk.end - chunk.first
                self._on_progress(chunk.end, frames)
            stored, span = checkpoints.stored, checkpoints.span
            request = FinalizeRequest(
                *(job.subject, job.job_id, job.payload, opened.timeline, stored, span),
                *(plan.what, objects, plan.index),
            )
            result = await self._finalize(job, request)
        if unavailable := job.payload.get("unavailable"):
            result = result | {"unavailable": unavailable}
        return result | {"seconds": round(time.perf_counter() - started, 1)}

    async def _finalize(self, job: JobContext, request: FinalizeRequest) -> Json:
        job.progress(INFERRED, "Choosing keyframes")
        try:
            await _checked(self._finalizers.draft(request))
            job.progress(LINKED, "Waiting to tell people apart")
            # An identity depends on those that are known: two videos at once would make two of one person.
            async with self._assigning:
                job.progress(ASSIGNED, "Telling people apart")
                return await _checked(self._finalizers.store(request))
        finally:
            await asyncio.shield(self._finalizers.drop(request))

    async def _opened(self) -> tuple[Opened, list[Observed]]:
        """Return the timeline of the video, and chunks that arrived before it."""
        early: list[Observed] = []
        while True:
            content = await self._next()
            if isinstance(content, Opened):
                return content, early
            early.append(content)

    async def _in_order(self, start: int, frames: int, early: list[Observed]) -> AsyncIterator[Observed]:
        """Yield every chunk once; rows overtake each other, and come twice when a worker died."""
        waiting = {chunk.first: chunk for chunk in early}
        failed = sum(chunk.failed for chunk in early)
        while start < frames:
            while start not in waiting:
                content = await self._next()
                if isinstance(content, Observed) and content.first >= start and content.first not in waiting:
                    waiting[content.first] = content
                    failed += content.failed
            if failed > MAX_FAILED:
                raise ProcessingFailed(f"{failed} frames or windows of this video could not be processed.")
            chunk = waiting.pop(start)
            start = chunk.end
            yield chunk

    async def _next(self) -> Opened | Observed:
        message = await self._messages.get()
        if isinstance(message, StageError):
            raise message
        content = message.content
        if isinstance(content, Failed):
            if isinstance(content.error, StageError):
                raise content.error
            raise RuntimeError(content.error)  # noqa: TRY004 - the log has its cause
        if not isinstance(content, Opened | Observed):
            raise TypeError(f"the pipeline returned a row of its middle: {type(content).__name__}")
        return content


async def _checked(call: Awaitable[Json | StageError | None]) -> Json:
    result = await call
    if isinstance(result, StageError):
        raise result
    return result or {}


class BulkRun:
    """Indexes the items; ``run`` may be called once."""

    def __init__(
        self,
        context: Context,
        items: Sequence[Item],
        pipeline: Pipeline,
        finalizers: Finalizers,
        monitor: Monitor,
        timing: Timing | None = None,
    ) -> None:
        self._context = context
        self._items = items
        self._pipeline = pipeline
        self._finalizers = finalizers
        self._monitor = monitor
        self._timing = timing or Timing()
        self._name = f"{socket.gethostname()}-{os.getpid()}-bulk"
        self._ingest = Ingest(context, items)
        self._stopping = asyncio.Event()
        self._assigning = asyncio.Lock()
        self._attempts: dict[int, VideoAttempt] = {}
        self._by_id: dict[str, VideoAttempt] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._owners: dict[str, int] = {}
        self._jobs: dict[int, tuple[Asset, str]] = {}
        self._reports: dict[int, FileReport] = {}
        self._decoded: dict[int, int] = {}
        self._created_at = time.monotonic()
        self._first_row_at: float | None = None
        self._broken: PipelineBroken | None = None

    async def run(self, stopping: asyncio.Event) -> Report:
        """Run until every file has ended, or ``stopping`` is set; jobs that are running then are given back."""
        self._monitor.start(len(self._items))
        stop = asyncio.create_task(self._stop_with(stopping))
        try:
            await self._rounds()
        finally:
            self._stopping.set()
            await asyncio.gather(*self._running.values(), return_exceptions=True)
            stop.cancel()
            await self._ingest.close()
        return self.report()

    def report(self) -> Report:
        """Return the results so far."""
        for number in range(len(self._items)):
            if number not in self._reports:
                self._report(number, "unfinished", reason="The run was stopped.", shown=False)
        now = time.monotonic()
        started = now if self._first_row_at is None else self._first_row_at
        files = [self._reports[number] for number in range(len(self._items))]
        return Report((), files, now - started, started - self._created_at)

    @property
    def share(self) -> tuple[float, str]:
        """The done share of the run, 0-1, and as text."""
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
            if fruitless == MAX_FRUITLESS:
                raise self._broken or PipelineBroken(f"It ended {MAX_FRUITLESS} times without finishing a file.")
            left = await self._left()

    async def _round(self, numbers: Sequence[int]) -> None:
        rows = self._pipeline.rows(numbers, self._grant)
        feeding = asyncio.create_task(self._feed(rows))
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({feeding, stop}, return_when=asyncio.FIRST_COMPLETED)
            if feeding.done():
                feeding.result()
        except PipelineBroken as error:
            self._broken = error
            self._monitor.message(f"The pipeline broke: {error}")
        except BaseException:
            self._stopping.set()
            raise
        finally:
            for task in (feeding, stop):
                task.cancel()
            await asyncio.gather(feeding, stop, return_exceptions=True)
            if not self._stopping.is_set():  # else the attempts give back their jobs themselves
                for attempt in self._attempts.values():
                    attempt.pipeline_ended()
            await asyncio.gather(*self._running.values())

    async def _feed(self, rows: AsyncGenerator[Message, None]) -> None:
        async with aclosing(rows):
            async for message in rows:
                # The row passed all workers, so all have started.
                self._first_row_at = self._first_row_at or time.monotonic()
                attempt = self._by_id.get(message.attempt)
                if attempt is not None:
                    attempt.receive(message)

    async def _left(self) -> list[int]:
        """Return the items that are left, once the first of them can resume."""
        reported = False
        if any(number not in self._jobs for number in range(len(self._items)) if number not in self._reports):
            await self._pause(self._timing.retry_s)  # it could not be read, or no decoder reached it
        while not self._stopping.is_set():
            left = [number for number in range(len(self._items)) if number not in self._reports]
            due = [number not in self._jobs or await self._check_job(number) for number in left]
            left = [number for number in left if number not in self._reports]
            if any(due) or not left:
                return left
            if not reported:
                self._monitor.message(f"Waiting for {len(left)} files that are retried or with another worker.")
                reported = True
            await self._pause(POLL_S)
        return []

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _grant(self, number: int) -> Grant | None:
        """Return the grant to decode an item, or None where there is nothing to decode."""
        if self._stopping.is_set() or number in self._reports:
            return None
        if (attempt := self._attempts.get(number)) is not None:
            return await asyncio.shield(attempt.grant) if attempt.grant_again() else None
        if number in self._running:
            return None  # its attempt is over, and its result is being read
        try:
            asset = await self._ingest.asset(number)
        except StageError as error:
            if error.retryable:
                self._monitor.message(f"{self._items[number].name} is retried later: {error.message}")
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
            self._job_ended(number, job, before=True)
            return None
        return await self._claim(number, job)

    async def _claim(self, number: int, job: Job) -> Grant | None:
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
                self._job_ended(number, now)
                return None
            if self._stopping.is_set() or now.status != "running" or now.lease_until != lease_over:
                return None  # a live worker has it, or it waits for its next attempt: a later round takes it
            # Left by a killed run, if nobody renews it until it ends.
            await asyncio.sleep(POLL_S)
        attempt = VideoAttempt(
            self._context,
            self._finalizers,
            self._assigning,
            lambda done, frames: self._monitor.frame(item, done, frames),
        )
        self._attempts[number] = self._by_id[attempt.id] = attempt
        run = JobRun(store, claimed, attempt.run, worker, asked_at, self._timing)
        self._running[number] = asyncio.create_task(self._run_job(number, attempt, run))
        return await asyncio.shield(attempt.grant)

    async def _run_job(self, number: int, attempt: VideoAttempt, run: JobRun) -> None:
        try:
            await self._run_attempt(number, attempt, run)
            await self._check_job(number)
        finally:
            del self._running[number]

    async def _run_attempt(self, number: int, attempt: VideoAttempt, run: JobRun) -> None:
        try:
            await run.run(self._stopping)
        finally:
            if not attempt.grant.done():
                attempt.grant.set_result(None)
            del self._attempts[number], self._by_id[attempt.id]
            self._decoded[number] = self._decoded.get(number, 0) + attempt.decoded
            await self._pipeline.drop(attempt.id)

    async def _check_job(self, number: int) -> bool:
        """Report the job if it has ended; else return whether its next attempt is due."""
        try:
            job = await self._context.jobs.get(self._jobs[number][1])
        except StoreError as error:
            logger.warning("cannot read job %s: %s", self._jobs[number][1], error)
            return False
        if job is None or job.finished:
            self._job_ended(number, job)
            return False
        return job.due_at <= datetime.now(UTC)

    def _job_ended(self, number: int, job: Job | None, *, before: bool = False) -> None:
        asset = self._jobs[number][0]
        if job is None:
            self._report(number, "failed", asset, reason="The file was deleted while it was being indexed.")
            return
        state: State = "skipped" if before and job.status == "succeeded" else STATES[job.status]
        reason = "The job was cancelled." if job.status == "cancelled" else job.error
        result: dict[str, Any] = job.result or {}
        values: dict[str, Any] = {name: result.get(name, 0) for name in REPORTED}
        values |= {"reason": reason, "job_id": job.job_id, "attempts": job.attempts}
        self._report(number, state, asset, **values)

    def _report(
        self, number: int, state: State, asset: Asset | None = None, *, shown: bool = True, **values: Any
    ) -> None:
        if asset is not None:
            values |= {"asset_id": asset.asset_id, "seconds": asset.duration or 0.0}
        values = {"name": self._items[number].name, "decoded": self._decoded.get(number, 0), **values}
        self._reports[number] = FileReport(state=state, **values)
        if shown:
            self._monitor.file_done(self._reports[number])
