"""Durable jobs: long work that one worker at a time may do.

::

    from                     by           to
    -----------------------  -----------  ---------------------------------------------------------------
    none                     submit       queued
    none                     begin        running: a lease for the worker that it is begun by
    failed, cancelled        submit       queued as new: no attempt, no checkpoint
    queued, when due         claim        running: a lease for its worker, one attempt more
    running, lease over      claim        the same for another worker, from the last checkpoint;
                                          failed, if that was the last attempt;
                                          cancelled, if that was requested
    running                  heartbeat    running: the lease starts anew; refused if cancelling was requested
    running                  checkpoint   running
    running                  succeed      succeeded
    running                  fail         failed
    running                  retry        queued, due after a delay; failed, if that was the last attempt;
                                          cancelled, if that was requested
    running                  release      queued before all others, the attempt not counted;
                                          cancelled, if that was requested
    running                  pause        queued, due after a delay, the attempt not counted;
                                          cancelled, if that was requested
    queued                   cancel       cancelled
    running, lease over      cancel       cancelled
    running                  cancel       running: cancelling is requested
    running                  submit       running: cancelling is no longer requested
    any                      forget       none

The methods of ``Job`` are these transitions: each returns the job after it, or None if it does not start from this
state. A backend reads a job, applies one and writes the result as one atomic operation, so of two that race the second
starts from the result of the first.

A worker uses a new name for each claim, so the name is the proof of one lease: heartbeat, checkpoint, succeed, fail,
retry, release and pause are for the worker of the present lease only. A worker that lost it, killed, paused or cut off,
changes nothing once the job was claimed again; until then the lease is still nobody else's, and may be renewed.

Each end of a job is kept with it, in the write that ends it, until somebody has announced it: so it is announced at
least once, whatever dies in between.

Leases are measured by the wall clocks of the machines that share the store. A clock that is wrong by more than a lease
takes the job from a worker that is alive, which costs its work since the last checkpoint.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from stores.records import from_micros, to_micros
from vision.tracing import Origin, origin

MAX_ATTEMPTS: Final = 3
"""How often a job is started before it fails for good."""

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
UNFINISHED: Final[tuple[JobStatus, ...]] = ("queued", "running")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of long work on ``subject``, an asset id for example.

    The same ``kind`` and ``fingerprint`` are the same job. ``payload`` is the input of its function, ``checkpoint``
    where the next attempt resumes, some kB at most, and ``result`` the output: JSON objects.
    """

    job_id: str
    kind: str
    subject: str
    fingerprint: str
    payload: Json
    created_at: datetime
    due_at: datetime
    """When it may be claimed; for a running job the end of its lease."""
    status: JobStatus = "queued"
    progress: float = 0.0
    """0-1."""
    message: str = ""
    started_at: datetime | None = None
    """Start of its last attempt."""
    finished_at: datetime | None = None
    error: str | None = None
    """Why it failed, for the person who submitted it; None in every other state."""
    result: Json | None = None
    attempts: int = 0
    checkpoint: Json = field(default_factory=dict)
    worker: str | None = None
    """Holder of the lease; None unless it runs."""
    cancel_requested: bool = False
    """True only while it runs."""
    owner: str = ""
    """Name of the client that submitted it; empty for anyone, and for this program itself."""
    request_id: str = ""
    """Of the request that submitted it, empty where none did; this and the next two are its ``origin``."""
    traceparent: str = ""
    tracestate: str = ""
    unannounced: list[Json] | None = None
    """Ends of it that were not announced yet, oldest first, see ``as_of``; None where there are none."""

    @property
    def origin(self) -> Origin:
        """The request that submitted it."""
        return Origin(self.request_id, self.traceparent, self.tracestate)

    @property
    def finished(self) -> bool:
        """Whether it has ended, by success, failure or cancelling."""
        return self.status not in ("queued", "running")

    @property
    def lease_until(self) -> datetime | None:
        """When another worker may take it; None unless it runs."""
        return self.due_at if self.status == "running" else None

    def resubmitted(self, new: "Job") -> "Job | None":
        """Return ``new`` after a failure or cancelling; otherwise withdraw a request to cancel."""
        if self.status in ("failed", "cancelled"):
            return replace(new, unannounced=self.unannounced)
        if self.cancel_requested:
            return replace(self, cancel_requested=False, message="")
        return None

    def claimed(self, worker: str, lease_s: float, now: datetime) -> "Job | None":
        """Run for ``worker``, or end: cancelled on request, failed after the last attempt."""
        if self.finished or self.due_at > now:
            return None
        if self.cancel_requested:
            return self._ended("cancelled", now)
        if self.attempts >= MAX_ATTEMPTS:
            return self._ended("failed", now, error=_gave_up("Its worker died."))
        return replace(
            self,
            status="running",
            worker=worker,
            attempts=self.attempts + 1,
            started_at=now,
            due_at=now + timedelta(seconds=lease_s),
        )

    def renewed(self, worker: str, progress: float, message: str, lease_s: float, now: datetime) -> "Job | None":
        """Start the lease anew, unless cancelling was requested."""
        if self.worker != worker or self.cancel_requested:
            return None
        return replace(self, progress=progress, message=message, due_at=now + timedelta(seconds=lease_s))

    def checkpointed(self, worker: str, checkpoint: Json) -> "Job | None":
        """Set where the next attempt resumes."""
        return replace(self, checkpoint=checkpoint) if self.worker == worker else None

    def succeeded(self, worker: str, result: Json, now: datetime) -> "Job | None":
        """End with a result. The work is complete, so a request to cancel comes too late."""
        return self._ended("succeeded", now, progress=1.0, result=result) if self.worker == worker else None

    def failed(self, worker: str, error: str, now: datetime) -> "Job | None":
        """Fail for good."""
        return self._ended("failed", now, error=error) if self.worker == worker else None

    def retried(self, worker: str, error: str, delay_s: float, now: datetime) -> "Job | None":
        """Queue again after a delay if an attempt is left, else fail."""
        if self.worker != worker:
            return None
        if self.cancel_requested:
            return self._ended("cancelled", now)
        if self.attempts >= MAX_ATTEMPTS:
            return self._ended("failed", now, error=_gave_up(error))
        message = f"Attempt {self.attempts} failed, and another one follows. {error}"
        return replace(self, status="queued", worker=None, message=message, due_at=now + timedelta(seconds=delay_s))

    def released(self, worker: str, now: datetime) -> "Job | None":
        """Queue as if this attempt had not been; first in the queue, as it had its turn already."""
        if self.worker != worker:
            return None
        if self.cancel_requested:
            return self._ended("cancelled", now)
        attempts = self.attempts - 1
        return replace(self, status="queued", worker=None, message="", attempts=attempts, due_at=self.created_at)

    def paused(self, worker: str, reason: str, delay_s: float, now: datetime) -> "Job | None":
        """Queue again after a delay as if this attempt had not been; the message says why."""
        released = self.released(worker, now)
        if released is None or released.finished:
            return released
        return replace(released, message=f"Paused. {reason}", due_at=now + timedelta(seconds=delay_s))

    def cancelled(self, now: datetime) -> "Job | None":
        """Cancel at once if nobody works on it, else request that its worker stops at its next heartbeat."""
        if self.finished:
            return None
        if self.status == "queued" or self.due_at <= now:
            return self._ended("cancelled", now)
        return replace(self, cancel_requested=True, message="Being cancelled; its worker stops at the next step.")

    def announced(self, ends: Sequence[Json]) -> "Job":
        """Forget ends that were announced."""
        return replace(self, unannounced=[end for end in self.unannounced or () if end not in ends] or None)

    def as_of(self, end: Json) -> "Job":
        """Return the job as it was at one of its ends that are ``unannounced``; it may have been submitted again."""
        return replace(from_row(to_row(self) | end), unannounced=None)

    def _ended(self, status: JobStatus, now: datetime, **values: Any) -> "Job":
        return replace(self, status=status, finished_at=now, worker=None, cancel_requested=False, message="", **values)


Step = Callable[[Job], Job | None]
"""One transition."""


class JobCount(NamedTuple):
    """``number`` jobs of a kind and status, of which the first was or is due at ``due_at``."""

    kind: str
    status: JobStatus
    number: int
    due_at: datetime


class JobStore(ABC):
    """Operations on jobs; each is atomic, and durable when it returns. They raise StoreError.

    A backend implements what is abstract.
    """

    announces = True
    """Whether ends of its jobs are kept until they were announced."""

    async def submit(self, kind: str, subject: str, fingerprint: str, payload: Json, owner: str = "") -> Job:
        """Return the job of this kind and fingerprint: queued as new, unless one is queued, running or succeeded.

        A new one is ``owner``'s.
        """
        new = replace(new_job(kind, subject, fingerprint, payload), owner=owner)
        while not await self._insert(new):
            changed = await self._move(new.job_id, lambda job: job.resubmitted(new))
            if job := changed or await self.get(new.job_id):
                return job
        return new

    async def begin(
        self, kind: str, subject: str, fingerprint: str, payload: Json, worker: str, lease_s: float, owner: str = ""
    ) -> Job | None:
        """Submit a job and take it in one step, so that no other worker does; None if it is known already."""
        new = replace(new_job(kind, subject, fingerprint, payload), owner=owner)
        begun = new.claimed(worker, lease_s, datetime.now(UTC))
        return begun if begun is not None and await self._insert(begun) else None

    async def claim(
        self, worker: str, kinds: Collection[str], lease_s: float, without: Collection[str] = ()
    ) -> Job | None:
        """Take a due job of these kinds for ``lease_s`` seconds, of no owner in ``without``; None if there is none.

        ``worker`` must be a name that was never used before.
        """
        for job_id in await self._due(kinds, datetime.now(UTC), without):
            if job := await self.claim_job(job_id, worker, lease_s):
                return job
        return None

    async def claim_job(self, job_id: str, worker: str, lease_s: float) -> Job | None:
        """Take one certain job; None if it is unknown, has ended, is not due, or is held by another worker."""
        job = await self._move(job_id, lambda job: job.claimed(worker, lease_s, datetime.now(UTC)))
        return job if job is not None and job.worker == worker else None

    async def heartbeat(self, job_id: str, worker: str, progress: float, message: str, lease_s: float) -> bool:
        """Start the lease anew; False, changing nothing, if it is lost or cancelling was requested."""
        return await self._applied(
            job_id, lambda job: job.renewed(worker, progress, message, lease_s, datetime.now(UTC))
        )

    async def save_checkpoint(self, job_id: str, worker: str, checkpoint: Json) -> bool:
        """Store where the next attempt resumes; False if the lease is lost."""
        return await self._applied(job_id, lambda job: job.checkpointed(worker, checkpoint))

    async def succeed(self, job_id: str, worker: str, result: Json) -> bool:
        """End the job with its result; False if the lease is lost."""
        return await self._applied(job_id, lambda job: job.succeeded(worker, result, datetime.now(UTC)))

    async def fail(self, job_id: str, worker: str, error: str) -> bool:
        """End the job for good with an error; False if the lease is lost."""
        return await self._applied(job_id, lambda job: job.failed(worker, error, datetime.now(UTC)))

    async def retry(self, job_id: str, worker: str, error: str, delay_s: float) -> bool:
        """Queue the job again after a delay, if an attempt is left; False if the lease is lost."""
        return await self._applied(job_id, lambda job: job.retried(worker, error, delay_s, datetime.now(UTC)))

    async def release(self, job_id: str, worker: str) -> bool:
        """Give the job back unfinished, the attempt not counted; False if the lease is lost."""
        return await self._applied(job_id, lambda job: job.released(worker, datetime.now(UTC)))

    async def pause(self, job_id: str, worker: str, reason: str, delay_s: float) -> bool:
        """Give the job back until a delay is over, the attempt not counted; False if the lease is lost."""
        return await self._applied(job_id, lambda job: job.paused(worker, reason, delay_s, datetime.now(UTC)))

    async def cancel(self, job_id: str) -> Job | None:
        """Return the job, now cancelled, or running with cancelling requested; None if unknown or already ended."""
        return await self._move(job_id, lambda job: job.cancelled(datetime.now(UTC)))

    async def announced(self, job_id: str, ends: Sequence[Json]) -> bool:
        """Forget ends of a job that were announced; False if the job is unknown by now."""
        return await self._applied(job_id, lambda job: job.announced(ends))

    @abstractmethod
    async def get(self, job_id: str) -> Job | None:
        """Return the job; None if the id is unknown."""

    @abstractmethod
    async def list(
        self,
        *,
        status: JobStatus | None = None,
        kind: str | None = None,
        subject: str | None = None,
        owner: str | None = None,
        after: Job | None = None,
        limit: int = 100,
    ) -> Sequence[Job]:
        """Return the jobs that match all given values, latest first, starting behind ``after``."""

    @abstractmethod
    async def list_unannounced(self, limit: int) -> Sequence[Job]:
        """Return some jobs with ends that were not announced."""

    @abstractmethod
    async def count_unfinished(self, owner: str) -> int:
        """Return how many jobs of an owner are queued or running."""

    @abstractmethod
    async def delete_finished(self, before: datetime, limit: int, kind: str | None = None) -> int:
        """Remove jobs, of one kind if given, that ended before a moment; return how many there were."""

    @abstractmethod
    async def count(self, *, finished: bool = True) -> Sequence["JobCount"]:
        """Return how many jobs there are by kind and status; those that have ended only if ``finished``."""

    @abstractmethod
    async def forget(self, subject: str) -> int:
        """Remove every job of a subject and return how many there were; workers of running ones lose their leases."""

    @abstractmethod
    async def forget_owner(self, owner: str) -> int:
        """Remove every job of an owner, as ``forget`` does those of a subject."""

    @abstractmethod
    async def _insert(self, job: Job) -> bool:
        """Store a new job; False, changing nothing, if its id is known."""

    @abstractmethod
    async def _change(self, job_id: str, step: Step) -> Job | None:
        """Apply a transition to the stored job atomically and return the job after it; None if it does not apply.

        It may be applied several times, when several writers race.
        """

    @abstractmethod
    async def _due(self, kinds: Collection[str], now: datetime, without: Collection[str]) -> Sequence[str]:
        """Return ids of some unfinished jobs that are due, of no owner in ``without``, those due longest first."""

    async def _move(self, job_id: str, step: Step) -> Job | None:
        return await self._change(job_id, _with_end(step) if self.announces else step)

    async def _applied(self, job_id: str, step: Step) -> bool:
        return await self._move(job_id, step) is not None


def _with_end(step: Step) -> Step:
    """Return a transition that keeps the end of a job with it, in the same write."""

    def moved(job: Job) -> Job | None:
        after = step(job)
        if after is None or job.finished or not after.finished:
            return after
        row = to_row(after)
        return replace(after, unannounced=[*(job.unannounced or ()), {name: row[name] for name in _END}])

    return moved


def new_job(kind: str, subject: str, fingerprint: str, payload: Json) -> Job:
    """Return a job of the present request, due at once, that was never started."""
    now = datetime.now(UTC)
    by = origin.get()._asdict()
    return Job(job_id_of(kind, fingerprint), kind, subject, fingerprint, payload, created_at=now, due_at=now, **by)


def job_id_of(kind: str, fingerprint: str) -> str:
    """Return the id of the job of this kind and fingerprint."""
    return hashlib.sha256(f"{kind}\0{fingerprint}".encode()).hexdigest()[:32]


COLUMNS: Final = tuple(column.name for column in fields(Job))
_TIMES = ("created_at", "due_at", "started_at", "finished_at")
_JSON = ("payload", "checkpoint", "result", "unannounced")
_END = (
    *("status", "progress", "message", "created_at", "started_at", "finished_at", "error", "result", "owner"),
    "request_id",
)
"""Columns of an end."""


def to_json(value: Json | list[Json]) -> str:
    """Return the stored form of payloads, checkpoints, results and ends.

    :raises TypeError: it is not JSON.
    :raises ValueError: a number in it is not finite.
    """
    return json.dumps(value, allow_nan=False)


def to_row(job: Job) -> dict[str, Any]:
    """Return the stored form of a job by column: numbers, text and None. Raises as ``to_json`` does."""
    row = {name: getattr(job, name) for name in COLUMNS}
    row |= {name: to_micros(row[name]) for name in _TIMES if row[name] is not None}
    return row | {name: to_json(row[name]) for name in _JSON if row[name] is not None}


def from_row(row: dict[str, Any]) -> Job:
    """Return the job of ``to_row``."""
    row = row | {"cancel_requested": bool(row["cancel_requested"])}
    row |= {name: from_micros(row[name]) for name in _TIMES if row[name] is not None}
    row |= {name: json.loads(row[name]) for name in _JSON if row.get(name) is not None}
    return Job(**{name: value for name, value in row.items() if name in COLUMNS})  # a later version may know more


def changes(before: Job, after: Job) -> dict[str, Any]:
    """Return the columns in which two jobs differ, with the stored values of the second."""
    old, new = to_row(before), to_row(after)
    return {name: value for name, value in new.items() if value != old[name]}


def _gave_up(error: str) -> str:
    return f"Gave up after {MAX_ATTEMPTS} attempts. {error}"
