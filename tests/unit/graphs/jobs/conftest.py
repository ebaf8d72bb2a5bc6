"""A store of jobs and runners on it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from graphs.jobs.runner import JobFunction, JobRunner, Timing
from tests.unit.graphs.jobs.running_jobs import Jobs, Run

PROMPT = Timing(heartbeat_s=0.02, progress_s=0.01, retry_s=0.01)
"""A lease that outlives its test, and no waiting for anything else."""
POLL_S = (0.01, 0.05)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/documents.sqlite"


@pytest.fixture
async def jobs(url: str) -> AsyncIterator[Jobs]:
    store = Jobs(url)
    yield store
    await store.close()


@pytest.fixture
async def run(jobs: Jobs) -> AsyncIterator[Run]:
    """Starts a runner of one function, which ends with the test."""
    runners = []

    def start(function: JobFunction, timing: Timing = PROMPT, **options: Any) -> JobRunner:
        runner = JobRunner(jobs, {"index": function}, timing=timing, **{"poll_s": POLL_S, **options})
        runner.start()
        runners.append(runner)
        return runner

    yield start
    for runner in runners:
        await runner.stop()
