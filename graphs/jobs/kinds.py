"""The kinds of durable jobs: what each does and which stages it calls; how they are found."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache

from graphs.jobs.runner import JobContext
from graphs.web.api import AnyStageRef, graph_modules
from graphs.web.context import Context
from stores.jobs import Json


@dataclass(frozen=True)
class JobKind:
    """A kind of job. Its function returns the result; ``graphs/jobs/runner.py`` says what else may become of a job."""

    name: str
    function: Callable[[Context, JobContext], Awaitable[Json]]
    stages: tuple[AnyStageRef, ...]


@cache
def find_job_kinds() -> Mapping[str, JobKind]:
    """Return every kind by its name; a package exports its own as ``JOB_KINDS`` from its module ``jobs``."""
    return {kind.name: kind for module in graph_modules("jobs").values() for kind in module.JOB_KINDS}
