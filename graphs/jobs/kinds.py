"""The kinds of durable jobs: what each does and which stages it calls; how they are found, and submitted every hour."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final, Never

from configs.settings import Settings
from graphs.jobs.runner import JobContext
from graphs.web.api import AnyStageRef, graph_modules
from graphs.web.context import Context
from stores.errors import StoreError
from stores.jobs import JobStore, Json, job_id_of

logger = logging.getLogger("ray.serve")

AWAY_S: Final = 60.0
"""After which a store that did not answer is asked again."""


@dataclass(frozen=True)
class JobKind:
    """A kind of job. Its function returns the result; ``graphs/jobs/runner.py`` says what else may become of a job."""

    name: str
    function: Callable[[Context, JobContext], Awaitable[Json]]
    stages: tuple[AnyStageRef, ...]
    hourly: Callable[[Settings], bool] | None = None
    """Whether workers submit it for every hour; None: never, somebody else does."""


@cache
def find_job_kinds() -> Mapping[str, JobKind]:
    """Return every kind by its name; a package exports its own as ``JOB_KINDS`` from its module ``jobs``."""
    return {kind.name: kind for module in graph_modules("jobs").values() for kind in module.JOB_KINDS}


async def submit_hourly(jobs: JobStore, kinds: Sequence[str]) -> Never:
    """Submit a job of each kind for every hour, the same one in all processes, until this is cancelled.

    Its subject is the hour, of UTC, and its payload ``{"at": when it was submitted}``.
    """
    while True:
        now = datetime.now(UTC)
        hour = f"{now:%Y-%m-%dT%H}"
        pause = (now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1) - now).total_seconds()
        try:
            for kind in kinds:
                # One that failed or was cancelled is not submitted again.
                if await jobs.get(job_id_of(kind, hour)) is None:
                    await jobs.submit(kind, hour, hour, {"at": now.isoformat()})
        except StoreError as error:
            logger.warning("cannot submit the jobs of this hour: %s", error)
            pause = min(pause, AWAY_S)
        await asyncio.sleep(pause)
