"""Durable jobs: long work that one worker at a time may do; ``open_jobs`` picks the backend.

``job_states.py`` has the states and what leads from one to another.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from stores import job_states as states
from stores.job import Job, JobStatus, Json, new_job
from stores.job_states import Step

__all__ = ["Job", "JobStatus", "JobStore", "Json"]


class JobStore(ABC):
    """Operations on jobs; each is atomic, and durable when it returns. They raise StoreError.

    A backend brings what is abstract.
    """

    type: str

    async def submit(self, kind: str, subject: str, fingerprint: str, payload: Json) -> Job:
        """The job of this kind and fingerprint: as it is while queued, running or succeeded, else queued as new."""
        new = new_job(kind, subject, fingerprint, payload)
        while not await self._insert(new):
            changed = await self._change(new.job_id, lambda job: states.submit(job, new))
            if found := changed or await self.get(new.job_id):
                return found
        return new

    async def claim(self, worker: str, kinds: Collection[str], lease_s: float) -> Job | None:
        """Take a job of these kinds that is due for ``lease_s`` seconds; None when there is none.

        ``worker`` must be a name that was never used before.
        """
        for job_id in await self._due(kinds, datetime.now(UTC)):
            if job := await self.claim_job(job_id, worker, lease_s):
                return job
        return None

    async def claim_job(self, job_id: str, worker: str, lease_s: float) -> Job | None:
        """``claim`` of one certain job; None where it is unknown, has ended, is not due, or is held by somebody."""
        job = await self._change(job_id, lambda job: states.claim(job, worker, lease_s, datetime.now(UTC)))
        return job if job is not None and job.worker == worker else None

    async def heartbeat(self, job_id: str, worker: str, progress: float, message: str, lease_s: float) -> bool:
        """Begin the lease anew; False, changing nothing, when it is lost or cancelling was asked for."""
        return await self._applied(
            job_id, lambda job: states.heartbeat(job, worker, progress, message, lease_s, datetime.now(UTC))
        )

    async def save_checkpoint(self, job_id: str, worker: str, checkpoint: Json) -> bool:
        """Where the next attempt shall go on; False when the lease is lost."""
        return await self._applied(job_id, lambda job: states.checkpoint(job, worker, checkpoint))

    async def succeed(self, job_id: str, worker: str, result: Json) -> bool:
        """The end of the work; False when the lease is lost."""
        return await self._applied(job_id, lambda job: states.succeed(job, worker, result, datetime.now(UTC)))

    async def fail(self, job_id: str, worker: str, error: str) -> bool:
        """Give it up for good; False when the lease is lost."""
        return await self._applied(job_id, lambda job: states.fail(job, worker, error, datetime.now(UTC)))

    async def retry(self, job_id: str, worker: str, error: str, delay_s: float) -> bool:
        """Have it tried again after a pause, if an attempt is left; False when the lease is lost."""
        return await self._applied(job_id, lambda job: states.retry(job, worker, error, delay_s, datetime.now(UTC)))

    async def release(self, job_id: str, worker: str) -> bool:
        """Give it back unfinished, through no fault of its own; False when the lease is lost."""
        return await self._applied(job_id, lambda job: states.release(job, worker, datetime.now(UTC)))

    async def cancel(self, job_id: str) -> Job | None:
        """The job after this: cancelled, or running with cancelling asked for. None: unknown, or finished before."""
        return await self._change(job_id, lambda job: states.cancel(job, datetime.now(UTC)))

    @abstractmethod
    async def get(self, job_id: str) -> Job | None:
        """The job; None when the id is unknown."""

    @abstractmethod
    async def list(
        self,
        *,
        status: JobStatus | None = None,
        kind: str | None = None,
        subject: str | None = None,
        after: Job | None = None,
        limit: int = 100,
    ) -> Sequence[Job]:
        """Jobs that are all of what is given, the youngest first; those behind ``after`` in this order."""

    @abstractmethod
    async def forget(self, subject: str) -> int:
        """Remove every job of a subject, running ones too, whose workers lose their leases; how many there were."""

    @abstractmethod
    async def ping(self) -> None:
        """Raise StoreError unless the store answers."""

    @abstractmethod
    async def close(self) -> None:
        """Write what was submitted, then close the store."""

    @abstractmethod
    async def _insert(self, job: Job) -> bool:
        """Store a new job; False, changing nothing, when its id is known."""

    @abstractmethod
    async def _change(self, job_id: str, step: Step) -> Job | None:
        """Apply a step to the job as it is, atomically: the job after it, None when it does not apply.

        It may be applied several times, to see which of several writers comes first.
        """

    @abstractmethod
    async def _due(self, kinds: Collection[str], now: datetime) -> Sequence[str]:
        """Ids of some unfinished jobs that are due, the longest first."""

    async def _applied(self, job_id: str, step: Step) -> bool:
        return await self._change(job_id, step) is not None
