"""The kinds of durable jobs, and the function that does each."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from graphs.indexing import jobs
from graphs.jobs.runner import JobContext
from graphs.web.context import Context
from stores.jobs import Json

JobKind = Callable[[Context, JobContext], Awaitable[Json]]
"""What it returns is the result of the job. ``graphs/jobs/runner.py`` says what else may come of it."""

JOB_KINDS: Final[Mapping[str, JobKind]] = {
    jobs.KIND: jobs.index_video,
    jobs.SHOTS_KIND: jobs.analyze_shots,
}
