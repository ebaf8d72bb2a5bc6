"""The API of durable jobs: the progress and result of long work, cancelling it, and webhooks that tell of its end.

Under /api/v1/jobs and /api/v1/webhooks.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.responses import Response

from graphs.jobs.events import HEADERS, JobEvents
from graphs.jobs.schemas import JobAnswer, JobsAnswer
from graphs.jobs.webhooks.routes import webhooks_router
from graphs.web.api import Api, RateLimit, RouteLimits
from graphs.web.context import Context
from graphs.web.files import Stream
from graphs.web.schemas import Responses, error_responses
from stores.jobs import Job, JobStatus
from vision.errors import StageError

PREFIX: Final = "/api/v1/jobs"
ERRORS: Final = {
    404: "unknown job id",
    409: "the job has finished already",
    422: "malformed request",
    429: "too many requests; Retry-After says when to come back",
    503: "the store of jobs does not answer",
    504: "the time of the request ran out; Retry-After says when to come back",
    507: "the disk of the service is full",
}


EVENTS: Final[Responses] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "events `job`, each a job"}
}


class JobNotFound(StageError):
    """A job that was never submitted, or was removed with what it worked on."""

    code = "JOB_NOT_FOUND"
    status = 404


class JobFinished(StageError):
    """Cancelling a job that has ended."""

    code = "JOB_FINISHED"
    status = 409


def _router(context: Context) -> APIRouter:
    router = APIRouter()
    router.include_router(_jobs_router(context))
    router.include_router(webhooks_router(context))
    return router


def _jobs_router(context: Context) -> APIRouter:
    router = APIRouter(prefix="/jobs", tags=["jobs"], responses=error_responses(ERRORS))

    events = JobEvents[JobAnswer]()

    async def known(job_id: str) -> Job:
        job = await context.jobs.get(job_id)
        if job is None:
            raise JobNotFound(f"There is no job {job_id}; GET {PREFIX} lists them.")
        return job

    @router.get("")
    async def list_jobs(
        status: JobStatus | None = None,
        kind: str | None = None,
        subject: Annotated[str | None, Query(description="what the jobs work on, an asset id for example")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[str | None, Query(description="``next`` of the page before")] = None,
    ) -> JobsAnswer:
        """Jobs that match all given filters, newest first."""
        last = None if after is None else await known(after)
        # One more than the limit shows whether there is a next page.
        jobs = await context.jobs.list(status=status, kind=kind, subject=subject, after=last, limit=limit + 1)
        page = jobs[:limit]
        return JobsAnswer(jobs=[JobAnswer.of(job) for job in page], next=page[-1].job_id if len(jobs) > limit else None)

    @router.get("/{job_id}")
    async def get_job(job_id: str) -> JobAnswer:
        """State, progress and result of a job."""
        return JobAnswer.of(await known(job_id))

    @router.get("/{job_id}/events", response_class=Response, responses=EVENTS)
    async def job_events(job_id: str) -> Response:
        """The job as ``get_job`` returns it, now and at every change until it has ended, as server-sent events."""
        await known(job_id)

        async def look() -> JobAnswer:
            return JobAnswer.of(await known(job_id))

        return Stream(events.of(look, lambda job: job.finished_at is not None), "text/event-stream", HEADERS)

    @router.delete("/{job_id}", responses={202: {"model": JobAnswer, "description": "running; it stops soon"}})
    async def cancel_job(job_id: str, response: Response) -> JobAnswer:
        """Cancel a job: 200 when it is cancelled at once, 202 when its worker has to stop first."""
        job = await context.jobs.cancel(job_id)
        if job is None:
            finished = await known(job_id)
            raise JobFinished(f"The job is {finished.status} already; only a queued or running one can be cancelled.")
        response.status_code = 202 if job.status == "running" else 200
        return JobAnswer.of(job)

    return router


SENDING: Final = RouteLimits(RateLimit("webhooks", 60))
"""Of routes that look a receiver up, or send to it."""
API: Final = Api(
    title="Jobs: progress and cancelling of long work, webhooks",
    router=_router,
    prefixes=("/api/v1",),
    rate=lambda _: RateLimit("jobs", 600),  # clients ask every second for the progress of theirs
    routes=dict.fromkeys(("create_webhook", "change_webhook", "ping_webhook", "redeliver"), SENDING),
)
