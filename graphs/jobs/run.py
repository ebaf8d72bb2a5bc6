"""One attempt at one job: its function, the lease that is kept while it runs, and what becomes of the job then."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from stores.errors import StoreError
from stores.jobs import Job, JobStore, Json, to_json
from vision.errors import StageError

logger = logging.getLogger("ray.serve")

MESSAGE_LENGTH: Final = 500


class LeaseLost(Exception):
    """The job was cancelled or is somebody else's by now; its function has to end."""


@dataclass(frozen=True)
class Timing:
    """When a run does what, in seconds."""

    lease_s: float = 20.0
    heartbeat_s: float = 2.0
    """Longest time between heartbeats, a third of the lease at most; so long a cancelled job may go on."""
    progress_s: float = 0.5
    """Shortest time between heartbeats, however often progress is told."""
    retry_s: float = 5.0
    """Pause before the second attempt; each further one is four times as long."""


class JobContext:
    """A running job as its function sees it.

    The function runs on the event loop that keeps its lease: what blocks goes to a thread.
    """

    def __init__(self, store: JobStore, job: Job, worker: str) -> None:
        self.job_id = job.job_id
        self.subject = job.subject
        self.payload = job.payload
        self.attempt = job.attempts
        self.checkpoint = job.checkpoint
        """What was saved last, by this attempt or one before it; empty at the very beginning."""
        self.told = (job.progress, job.message)
        """Progress and message as they are now."""
        self.cancelled = False
        """Whether the function is to end soon, for its threads: its coroutine is cancelled at the same time."""
        self.refused = False
        """Whether nothing may be written any more."""
        self._store = store
        self._worker = worker

    def progress(self, share: float, message: str = "") -> None:
        """Tell how much is done, 0-1, and what is being done. Cheap, and may be called in any thread."""
        self.told = (min(float(share), 1.0) if share > 0 else 0.0, _printable(message))

    async def save(self, checkpoint: Json) -> None:
        """Make this the place where the next attempt goes on.

        :raises LeaseLost: nothing was saved.
        """
        if self.refused or not await self._store.save_checkpoint(self.job_id, self._worker, checkpoint):
            self.refused = self.cancelled = True
            raise LeaseLost(f"job {self.job_id} is no longer run here")
        self.checkpoint = checkpoint


JobFunction = Callable[[JobContext], Awaitable[Json]]


class JobRun:
    """An attempt at a job that ``worker`` claimed, when ``time.monotonic()`` was ``claimed_at`` or later."""

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

    async def run(self, stopping: asyncio.Event) -> None:
        """Until the function ends, the job is cancelled, the lease is lost, or ``stopping`` is set."""
        work = asyncio.create_task(self._work())
        lease = asyncio.create_task(self._keep_lease())
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
                lease.result()  # a bug in keeping it: the lease runs out, and the attempt counts
            self._log_stopped(work)
            await self._write(partial(self._store.release, self._job.job_id, self._worker), lease)
        finally:
            for task in (work, lease, end):
                task.cancel()
            await asyncio.gather(work, lease, end, return_exceptions=True)

    async def _work(self) -> Json:
        job = self._job
        logger.info("job %s (%s) attempt %d", job.job_id, job.kind, job.attempts)
        result = await self._function(self._context)
        to_json(result)  # what no store can keep is a failure of the function
        return result

    async def _keep_lease(self) -> None:
        """Ends when the lease is lost, or when cancelling was asked for."""
        told, beaten_at = self._context.told, time.monotonic()
        while True:
            await asyncio.sleep(self._tick_s)
            now, telling = time.monotonic(), self._context.told
            if telling == told and now < beaten_at + self._heartbeat_s:
                continue
            try:
                # Counted from before the call, so that this process never believes in a lease that is over.
                async with asyncio.timeout(self._lease_ends - now):
                    held = await self._store.heartbeat(self._job.job_id, self._worker, *telling, self._timing.lease_s)
            except (StoreError, TimeoutError) as error:
                if time.monotonic() < self._lease_ends:
                    continue
                logger.error("job %s: no heartbeat for a whole lease (%s)", self._job.job_id, error)  # noqa: TRY400
                return
            if not held:
                return
            told, beaten_at, self._lease_ends = telling, now, now + self._timing.lease_s

    def _ending(self, work: asyncio.Task[Json]) -> Callable[[], Awaitable[bool]]:
        """What to write after the function has ended by itself."""
        job, store = self._job, self._store
        failure = asyncio.CancelledError() if work.cancelled() else work.exception()
        if failure is None:
            logger.info("job %s (%s) done", job.job_id, job.kind)
            return partial(store.succeed, job.job_id, self._worker, work.result())
        if isinstance(failure, LeaseLost):
            return partial(store.release, job.job_id, self._worker)
        if isinstance(failure, StageError):
            error = _printable(failure.message)
            logger.warning("job %s (%s) attempt %d: %s", job.job_id, job.kind, job.attempts, error)
            if not failure.retryable:
                return partial(store.fail, job.job_id, self._worker, error)
        else:
            error = f"It failed unexpectedly ({type(failure).__name__}); the log of its worker has the cause."
            logger.error("job %s (%s) attempt %d", job.job_id, job.kind, job.attempts, exc_info=failure)
        pause = self._timing.retry_s * 4 ** (job.attempts - 1)
        return partial(store.retry, job.job_id, self._worker, error, pause)

    async def _write(self, change: Callable[[], Awaitable[bool]], lease: asyncio.Task[None]) -> None:
        """Tried as long as the lease lasts."""
        while True:
            try:
                if not await change():
                    logger.warning("job %s is no longer run here", self._job.job_id)
            except StoreError as error:
                if lease.done():
                    logger.error("job %s is left to the end of its lease: %s", self._job.job_id, error)  # noqa: TRY400
                    return
                await asyncio.sleep(self._tick_s)
            else:
                return

    def _log_stopped(self, work: asyncio.Task[Json]) -> None:
        failure = None if work.cancelled() else work.exception()
        if failure is not None and not isinstance(failure, LeaseLost):
            logger.error("job %s failed while it was stopped", self._job.job_id, exc_info=failure)


def _printable(text: str) -> str:
    """Text that every store takes, and no more of it than a person reads."""
    return text.encode(errors="replace").decode()[:MESSAGE_LENGTH]
