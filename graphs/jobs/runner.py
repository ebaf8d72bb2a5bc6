"""Runs durable jobs of a store: claims them one by one and sees each attempt to its end.

What becomes of a job whose function

- returns: it succeeded, with that result;
- raises a StageError that passes by itself (``retryable``), or anything unforeseen: it is queued again, to be retried
  after a pause, or failed when that was its last attempt;
- raises TryLater: it is queued until that delay is over, and the attempt is not counted;
- raises StoreError because a store is full or may not be written to: it pauses, and the attempt is not counted;
- raises another StoreError: it is queued again as well, with the reason;
- raises another StageError: it failed at once with that message, as the same input would fail again;
- is stopped because the job was cancelled: it is cancelled;
- is stopped because this process ends: it is queued again, and the attempt is not counted;
- is stopped because the lease is lost: nothing more is written from here.

A process that dies writes nothing at all: its leases expire, and the next attempt resumes from the checkpoint. So a
function must be able to repeat what it did since its last checkpoint. ``stores/jobs.py`` has all the states.
"""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from deployments.serving.handle import work_on
from deployments.serving.metrics import count
from stores.errors import StoreError, StoreFull, StoreReadOnly, StoreRefused, disk_error
from stores.jobs import MAX_ATTEMPTS, Job, JobStore, Json, to_json
from vision.errors import StageError
from vision.spans import span
from vision.tracing import origin

logger = logging.getLogger("ray.serve")

POLL_S: Final = (0.2, 2.0)
MESSAGE_LENGTH: Final = 500
PAUSES: Final = 6
"""A job that waits for room is tried again after so many times ``retry_s``."""


class LeaseLost(Exception):
    """The job was cancelled, or another worker has it now; its function has to end."""


class TryLater(Exception):
    """The job is to be queued until ``delay_s`` seconds are over, as if this attempt had not been."""

    def __init__(self, reason: str, delay_s: float) -> None:
        super().__init__(reason)
        self.delay_s = delay_s


@dataclass(frozen=True)
class Timing:
    """Intervals of an attempt, in seconds."""

    lease_s: float = 20.0
    heartbeat_s: float = 2.0
    """Longest time between heartbeats, at most a third of the lease; a cancelled job runs on for as long."""
    progress_s: float = 0.5
    """Shortest time between heartbeats, however often progress is reported."""
    retry_s: float = 5.0
    """Pause before the second attempt; each later pause is four times as long."""


class JobContext:
    """A running job as its function sees it.

    The function runs on the event loop that renews its lease: what blocks belongs in a thread.
    """

    def __init__(self, store: JobStore, job: Job, worker: str) -> None:
        self.job_id = job.job_id
        self.kind = job.kind
        self.subject = job.subject
        self.owner = job.owner
        self.payload = job.payload
        self.attempt = job.attempts
        self.checkpoint = job.checkpoint
        """What was saved last, by this attempt or an earlier one; empty before the first save."""
        self.reported = (job.progress, job.message)
        """Progress, 0-1, and message as they are now."""
        self.cancelled = False
        """Whether the function has to end, for its threads to see: its coroutine is cancelled at the same time."""
        self.refused = False
        """Whether the lease is gone, so that nothing may be written any more."""
        self._store = store
        self._worker = worker

    def progress(self, share: float, message: str = "") -> None:
        """Report how much is done, 0-1, and what is being done. Cheap; any thread may call it."""
        self.reported = (min(float(share), 1.0) if share > 0 else 0.0, _printable(message))

    def looked_at(self, frames: int) -> None:
        """Count frames of a video that the job has looked at."""
        count("job_frames", frames, kind=self.kind)

    async def save(self, checkpoint: Json) -> None:
        """Save the checkpoint from which the next attempt resumes. Raises LeaseLost when nothing was saved."""
        if self.refused or not await self._store.save_checkpoint(self.job_id, self._worker, checkpoint):
            self.refused = self.cancelled = True
            raise LeaseLost(f"job {self.job_id} is no longer run here")
        self.checkpoint = checkpoint


JobFunction = Callable[[JobContext], Awaitable[Json]]


class JobRun:
    """One attempt at a job that ``worker`` claimed when ``time.monotonic()`` was ``claimed_at`` or later."""

    def __init__(
        self, store: JobStore, job: Job, function: JobFunction, worker: str, claimed_at: float, timing: Timing
    ) -> None:
        self._store = store
        self._job = job
        self._function = function
        self._worker = worker
        self._timing = timing
        self._lease_ends = claimed_at + timing.lease_s
        self._heartbeat_s = min(timing.heartbeat_s, timing.lease_s / 3)
        self._tick_s = min(timing.progress_s, self._heartbeat_s)
        self._context = JobContext(store, job, worker)
        self.owner = job.owner

    async def run(self, stopping: asyncio.Event) -> None:
        """Run the function until it ends, the job is cancelled, the lease is lost, or ``stopping`` is set."""
        token = origin.set(self._job.origin)
        work = asyncio.create_task(self._work())
        lease = asyncio.create_task(self._renew_lease())
        end = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({work, lease, end}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await self._write(self._ending(work), lease)
                return
            self._context.cancelled, self._context.refused = True, lease.done()
            work.cancel()
            await asyncio.wait({work})
            if lease.done():
                lease.result()  # raises for a bug in renewing it: the lease expires, and the attempt counts
            self._log_stopped(work)
            self._count("stopped")
            await self._write(partial(self._store.release, self._job.job_id, self._worker), lease)
        finally:
            for task in (work, lease, end):
                task.cancel()
            await asyncio.gather(work, lease, end, return_exceptions=True)
            origin.reset(token)

    async def _work(self) -> Json:
        job = self._job
        logger.info("job %s (%s) attempt %d", job.job_id, job.kind, job.attempts)
        work_on(job.subject)  # this is a task of its own
        with span(f"job {job.kind}", "consumer") as attributes:
            attributes |= {"visiongraph.job_id": job.job_id, "visiongraph.attempt": job.attempts}
            result = await self._function(self._context)
        to_json(result)  # what no store can keep is a failure of the function
        return result

    async def _renew_lease(self) -> None:
        """Renew the lease until it is lost or cancelling was asked for."""
        sent, sent_at = self._context.reported, time.monotonic()
        while True:
            await asyncio.sleep(self._tick_s)
            now, reported = time.monotonic(), self._context.reported
            if reported == sent and now < sent_at + self._heartbeat_s:
                continue
            try:
                # Counted from before the call, so that this process never believes in a lease that is over.
                async with asyncio.timeout(self._lease_ends - now):
                    held = await self._store.heartbeat(self._job.job_id, self._worker, *reported, self._timing.lease_s)
            except (StoreError, TimeoutError) as error:
                if time.monotonic() < self._lease_ends:
                    continue
                logger.error("job %s: no heartbeat for a whole lease (%s)", self._job.job_id, error)  # noqa: TRY400
                return
            if not held:
                return
            sent, sent_at, self._lease_ends = reported, now, now + self._timing.lease_s

    def _ending(self, work: asyncio.Task[Json]) -> Callable[[], Awaitable[bool]]:
        """Return what to write after the function has ended by itself."""
        job, store = self._job, self._store
        failure = asyncio.CancelledError() if work.cancelled() else work.exception()
        if failure is None:
            logger.info("job %s (%s) done", job.job_id, job.kind)
            self._count("succeeded")
            return partial(store.succeed, job.job_id, self._worker, work.result())
        if isinstance(failure, LeaseLost):
            self._count("stopped")
            return partial(store.release, job.job_id, self._worker)
        if isinstance(failure, TryLater):
            self._count("paused")
            return partial(store.pause, job.job_id, self._worker, str(failure), failure.delay_s)
        if isinstance(failure, OSError):
            failure = disk_error("spool", failure) or failure
        if isinstance(failure, (StoreFull, StoreReadOnly, StoreRefused)):
            logger.warning("job %s (%s) pauses: %s", job.job_id, job.kind, failure)
            self._count("paused")
            return partial(store.pause, job.job_id, self._worker, failure.message, PAUSES * self._timing.retry_s)
        if isinstance(failure, StoreError):
            error = failure.message
            logger.warning("job %s (%s) attempt %d: %s", job.job_id, job.kind, job.attempts, failure)
        elif isinstance(failure, StageError):
            error = _printable(failure.message)
            logger.warning("job %s (%s) attempt %d: %s", job.job_id, job.kind, job.attempts, error)
            if not failure.retryable:
                self._count("failed")
                return partial(store.fail, job.job_id, self._worker, error)
        else:
            error = f"It failed unexpectedly ({type(failure).__name__}); the log of its worker has the cause."
            logger.error("job %s (%s) attempt %d", job.job_id, job.kind, job.attempts, exc_info=failure)
        self._count("retried" if job.attempts < MAX_ATTEMPTS else "failed")
        pause = self._timing.retry_s * 4 ** (job.attempts - 1)
        return partial(store.retry, job.job_id, self._worker, error, pause)

    def _count(self, outcome: str) -> None:
        count("job_attempts", kind=self._job.kind, outcome=outcome)

    async def _write(self, change: Callable[[], Awaitable[bool]], lease: asyncio.Task[None]) -> None:
        """Write a change, retried for as long as the lease lasts."""
        while True:
            try:
                if not await change():
                    logger.warning("job %s is no longer run here", self._job.job_id)
            except StoreError as error:
                if lease.done():
                    logger.error("job %s stays as it is until its lease expires: %s", self._job.job_id, error)  # noqa: TRY400
                    return
                await asyncio.sleep(self._tick_s)
            else:
                return

    def _log_stopped(self, work: asyncio.Task[Json]) -> None:
        failure = None if work.cancelled() else work.exception()
        if failure is not None and not isinstance(failure, LeaseLost):
            logger.error("job %s failed while it was stopped", self._job.job_id, exc_info=failure)


class JobRunner:
    """Runs jobs of these kinds, ``at_once`` at a time, from ``start`` to ``stop``; ``per_owner`` of one owner at most.

    ``poll_s`` are the shortest and the longest pause between two polls: pauses double while there is no work.
    """

    def __init__(
        self,
        store: JobStore,
        kinds: Mapping[str, JobFunction],
        *,
        at_once: int = 1,
        per_owner: int | None = None,
        poll_s: tuple[float, float] = POLL_S,
        timing: Timing | None = None,
    ) -> None:
        self._store = store
        self._kinds = dict(kinds)
        self._at_once = at_once
        self._per_owner = at_once + 1 if per_owner is None else per_owner
        self._running: Counter[str] = Counter()
        """How many jobs run by owner."""
        self._claiming = asyncio.Lock()
        """One claim at a time, as each depends on what runs."""
        self._poll_s = poll_s
        self._timing = timing or Timing()
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._slots: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to poll for work."""
        self._slots = asyncio.create_task(self._run_slots())

    async def stop(self) -> None:
        """Release the jobs that run, and end."""
        self._stopping.set()
        self._woken.set()
        if self._slots is not None:
            await self._slots

    def wake(self) -> None:
        """Poll now rather than after the pause."""
        self._woken.set()

    def check_health(self) -> None:
        """Raise RuntimeError when the runner has ended without being stopped."""
        if self._slots is not None and self._slots.done() and not self._stopping.is_set():
            raise RuntimeError("the job runner has ended") from self._slots.exception()

    async def _run_slots(self) -> None:
        async with asyncio.TaskGroup() as slots:
            for _ in range(self._at_once):
                slots.create_task(self._run_one_by_one())

    async def _run_one_by_one(self) -> None:
        shortest, longest = self._poll_s
        pause = shortest
        failing = False
        while not self._stopping.is_set():
            try:
                run = await self._claim()
            except StoreError as error:
                if not failing:
                    logger.warning("cannot poll for jobs: %s", error)
                run, pause, failing = None, longest, True
            else:
                if failing:
                    logger.info("jobs can be polled for again")
                failing = False
            if run is not None:
                self._woken.set()  # there may be more, for another slot
                await run.run(self._stopping)
                self._running[run.owner] -= 1
                self._running += Counter()  # without those that have none any more
                pause = shortest
            elif await self._woken_within(pause):
                pause = shortest
            else:
                pause = min(2 * pause, longest)

    async def _claim(self) -> JobRun | None:
        # A name for this claim alone: it proves who holds the lease, even against an older claim of this process.
        worker, claimed_at = f"{self._name}-{uuid.uuid4().hex[:12]}", time.monotonic()
        async with self._claiming:
            busy = [owner for owner, number in self._running.items() if number >= self._per_owner]
            job = await self._store.claim(worker, self._kinds, self._timing.lease_s, busy)
            if job is None:
                return None
            self._running[job.owner] += 1
        return JobRun(self._store, job, self._kinds[job.kind], worker, claimed_at, self._timing)

    async def _woken_within(self, pause: float) -> bool:
        if self._stopping.is_set():
            return True
        try:
            async with asyncio.timeout(pause):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


def _printable(text: str) -> str:
    """Return text that every store takes, cut to what a person reads."""
    return text.encode(errors="replace").decode()[:MESSAGE_LENGTH]
