"""What takes several requests: waiting for a job, and lists that come in pages."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from visiongraph_client.errors import JobFailed, WaitTimeout
from visiongraph_client.models import IdentitiesAnswer, JobAnswer, JobsAnswer, LibraryAnswer, LibraryPage, TracesAnswer
from visiongraph_client.protocol import Call, Flow, Found, Pause, Retries, ask

POLL_S: Final = (0.25, 5.0)
OnJob = Callable[[JobAnswer], Any]


def wait(job_id: str, retries: Retries, timeout_s: float | None, on_progress: OnJob | None) -> Flow[JobAnswer]:
    """Return a job once it has succeeded. Raises JobFailed and WaitTimeout."""
    give_up = None if timeout_s is None else time.monotonic() + timeout_s
    pause, said = POLL_S[0], None
    while True:
        call = Call[JobAnswer]("GET", "/api/v1/jobs/{job_id}", JobAnswer, at={"job_id": job_id})
        job: JobAnswer = yield from ask(call, retries)
        if on_progress is not None and (job.status, job.progress, job.message) != said:
            on_progress(job)
        moved, said = said is None or said[1] != job.progress, (job.status, job.progress, job.message)
        if job.status == "succeeded":
            return job
        if job.status in ("failed", "cancelled"):
            raise JobFailed(job.error or f"The job was {job.status}.", job_id, job.status)
        pause = POLL_S[0] if moved else min(POLL_S[1], 1.5 * pause)
        if give_up is not None and time.monotonic() + pause > give_up:
            raise WaitTimeout(f"Job {job_id} is {job.status} after {timeout_s:g} s: {job.progress:.0%}. {job.message}")
        yield Pause(pause)


def jobs(retries: Retries, filters: Mapping[str, Any]) -> Flow[None]:
    """Find all jobs."""
    return _pages(Call("GET", "/api/v1/jobs", JobsAnswer, query=filters), "jobs", retries)


def assets(retries: Retries, filters: Mapping[str, Any]) -> Flow[None]:
    """Find all assets."""
    return _pages(Call("GET", "/api/v1/assets", LibraryPage, query=filters), "assets", retries)


def identities(retries: Retries) -> Flow[None]:
    """Find everybody who is known."""
    return _pages(Call("GET", "/api/v1/identities", IdentitiesAnswer), "identities", retries)


def traces(retries: Retries, file_uuid: str) -> Flow[None]:
    """Find the traces of a video."""
    call = Call[TracesAnswer]("GET", "/api/v1/file/{file_uuid}/traces", TracesAnswer, at={"file_uuid": file_uuid})
    return _pages(call, "traces", retries)


def shots(retries: Retries, filters: Mapping[str, Any]) -> Flow[None]:
    """Find the shots of the library, whose pages have numbers."""
    number, last = 1, 1
    while number <= last:
        call = Call[LibraryAnswer]("GET", "/api/v1/shot-library", LibraryAnswer, query={**filters, "page": number})
        page: LibraryAnswer = yield from ask(call, retries)
        yield Found(page.shots)
        number, last = number + 1, page.pagination.total_pages


def _pages(call: Call[Any], items: str, retries: Retries) -> Flow[None]:
    """Find the ``items`` of all pages of a list that says where its next page begins."""
    while True:
        page: Any = yield from ask(call, retries)
        yield Found(getattr(page, items))
        if page.next is None:
            return
        call = replace(call, query={**call.query, "after": page.next})
