"""The kinds of durable jobs, and the function that does each."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from graphs.context import Context
from graphs.indexing import video
from ops.jobs import JobContext
from ops.stores.jobs import Json

JobKind = Callable[[Context, JobContext], Awaitable[Json]]
"""What it returns is the result of the job. ``ops/jobs.py`` says what else may come of it."""

JOB_KINDS: Final[Mapping[str, JobKind]] = {
    video.KIND: video.index_video,
    video.SHOTS_KIND: video.analyze_shots,
}
