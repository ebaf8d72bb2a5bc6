"""What the tests of job stores do all the time."""

from typing import Any

from stores.jobs import Job, JobStore

LONG, OVER = 60.0, -1.0
"""Seconds of a lease that outlives its test, and of one that is over as soon as it is given."""


async def submit(jobs: JobStore, number: int = 1, **values: Any) -> Job:
    asked = {"kind": "index", "subject": f"file {number}", "fingerprint": f"file {number}, model 1", "payload": {}}
    return await jobs.submit(**asked | values)


async def claim(jobs: JobStore, worker: str, lease_s: float = LONG) -> Job:
    """The job that the worker gets; there must be one."""
    job = await jobs.claim(worker, ["index"], lease_s)
    assert job is not None
    assert (job.status, job.worker) == ("running", worker)
    return job


async def nothing_due(jobs: JobStore) -> bool:
    return await jobs.claim("somebody", ["index"], LONG) is None


async def now_of(jobs: JobStore, job: Job) -> Job:
    current = await jobs.get(job.job_id)
    assert current is not None
    return current
