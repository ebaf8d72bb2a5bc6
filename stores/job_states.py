"""The states of a job and what leads from one to another, for every backend.

::

    from                     by           to
    -----------------------  -----------  ---------------------------------------------------------------
    none                     submit       queued
    failed, cancelled        submit       queued as new: no attempt, no checkpoint
    queued, when due         claim        running: a lease for its worker, one attempt more
    running, lease over      claim        the same for another worker, from the last checkpoint;
                                          failed, where that was the last attempt;
                                          cancelled, where that was asked for
    running                  heartbeat    running: the lease begins anew; refused where cancelling was asked for
    running                  checkpoint   running
    running                  succeed      succeeded
    running                  fail         failed
    running                  retry        queued, due after a pause; failed, where that was the last attempt;
                                          cancelled, where that was asked for
    running                  release      queued before all others, the attempt not counted;
                                          cancelled, where that was asked for
    queued                   cancel       cancelled
    running, lease over      cancel       cancelled
    running                  cancel       running: cancelling is asked for
    running                  submit       running: cancelling is no longer asked for
    any                      forget       none

Each function below is one of these lines: the job after it, or None where it does not start from this state. A
backend reads, applies one and writes as one atomic operation, so of two that race one starts from what the other
made.

A worker gives a new name with each claim, so the name is the proof of one lease: heartbeat, checkpoint, succeed, fail,
retry and release are for the worker of the present lease only. Who lost it, killed, paused or cut off, changes nothing
any more once the job was claimed again; until then the lease is still nobody else's, and may be renewed.

Leases are told by the wall clocks of the machines that share the store. A clock that is wrong by more than a lease has
a living worker's job taken from it, which costs its work since the last checkpoint.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from stores.job import Job, JobStatus, Json

MAX_ATTEMPTS: Final = 3
"""How often a job is begun before it fails for good."""

Step = Callable[[Job], Job | None]


def submit(job: Job, new: Job) -> Job | None:
    """Queued as ``new`` after a failure or cancelling; otherwise a wish to cancel is taken back."""
    if job.status in ("failed", "cancelled"):
        return new
    if job.cancel_requested:
        return replace(job, cancel_requested=False, message="")
    return None


def claim(job: Job, worker: str, lease_s: float, now: datetime) -> Job | None:
    """Running for ``worker``; or the end of a job that nobody will begin again."""
    if job.finished or job.due_at > now:
        return None
    if job.cancel_requested:
        return _ended(job, "cancelled", now)
    if job.attempts >= MAX_ATTEMPTS:
        return _ended(job, "failed", now, error=_gave_up("Its worker died."))
    return replace(
        job,
        status="running",
        worker=worker,
        attempts=job.attempts + 1,
        started_at=now,
        due_at=now + timedelta(seconds=lease_s),
    )


def heartbeat(job: Job, worker: str, progress: float, message: str, lease_s: float, now: datetime) -> Job | None:
    """The lease begins anew."""
    if job.worker != worker or job.cancel_requested:
        return None
    return replace(job, progress=progress, message=message, due_at=now + timedelta(seconds=lease_s))


def checkpoint(job: Job, worker: str, reached: Json) -> Job | None:
    """Where the next attempt shall go on."""
    return replace(job, checkpoint=reached) if job.worker == worker else None


def succeed(job: Job, worker: str, result: Json, now: datetime) -> Job | None:
    """Done. The work is complete, so that cancelling it comes too late."""
    return _ended(job, "succeeded", now, progress=1.0, result=result) if job.worker == worker else None


def fail(job: Job, worker: str, error: str, now: datetime) -> Job | None:
    """Failed for good."""
    return _ended(job, "failed", now, error=error) if job.worker == worker else None


def retry(job: Job, worker: str, error: str, delay_s: float, now: datetime) -> Job | None:
    """Queued after a pause, if an attempt is left."""
    if job.worker != worker:
        return None
    if job.cancel_requested:
        return _ended(job, "cancelled", now)
    if job.attempts >= MAX_ATTEMPTS:
        return _ended(job, "failed", now, error=_gave_up(error))
    message = f"Attempt {job.attempts} failed, and another one follows. {error}"
    return replace(job, status="queued", worker=None, message=message, due_at=now + timedelta(seconds=delay_s))


def release(job: Job, worker: str, now: datetime) -> Job | None:
    """Queued as if this attempt had not been; first in the queue, as it had its turn already."""
    if job.worker != worker:
        return None
    if job.cancel_requested:
        return _ended(job, "cancelled", now)
    return replace(job, status="queued", worker=None, message="", attempts=job.attempts - 1, due_at=job.created_at)


def cancel(job: Job, now: datetime) -> Job | None:
    """Cancelled at once where nobody works on it, else at its worker's next heartbeat."""
    if job.finished:
        return None
    if job.status == "queued" or job.due_at <= now:
        return _ended(job, "cancelled", now)
    return replace(job, cancel_requested=True, message="Being cancelled; its worker stops at the next step.")


def _ended(job: Job, status: JobStatus, now: datetime, **values: Any) -> Job:
    return replace(job, status=status, finished_at=now, worker=None, cancel_requested=False, message="", **values)


def _gave_up(error: str) -> str:
    return f"Gave up after {MAX_ATTEMPTS} attempts. {error}"
