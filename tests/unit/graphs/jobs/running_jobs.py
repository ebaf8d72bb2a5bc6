"""A store of jobs that can be away, and what the tests of the runner ask of it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from graphs.jobs.runner import JobContext, JobRunner
from stores.errors import StoreError
from stores.jobs import Job, JobStatus
from stores.sqlite.database import SqliteDatabase
from stores.sqlite.jobs import SqliteJobs
from tests.waiting import until

Run = Callable[..., JobRunner]


class Jobs(SqliteJobs):
    """A store that can be away, and that counts heartbeats."""

    away: tuple[str, ...] = ()
    """Operations that fail."""
    heartbeats = 0

    def __init__(self, url: str) -> None:
        self._database = SqliteDatabase(Path(url.removeprefix("sqlite:///")))
        super().__init__(self._database.engine)
        self.refused: list[str] = []
        """Calls that failed."""

    async def claim(self, *args: Any) -> Job | None:
        return await self._reached("claim", super().claim(*args))

    async def heartbeat(self, *args: Any) -> bool:
        self.heartbeats += 1
        return await self._reached("heartbeat", super().heartbeat(*args))

    async def succeed(self, *args: Any) -> bool:
        return await self._reached("succeed", super().succeed(*args))

    async def release(self, *args: Any) -> bool:
        return await self._reached("release", super().release(*args))

    async def close(self) -> None:
        await self._database.close()

    async def _reached(self, name: str, call: Any) -> Any:
        if name in self.away:
            call.close()
            self.refused.append(name)
            raise StoreError("the store is away")
        return await call


async def submit(jobs: Jobs, number: int = 1, **payload: Any) -> str:
    return (await jobs.submit("index", f"file {number}", f"{number}", payload)).job_id


async def finished(jobs: Jobs, job_id: str, status: JobStatus) -> Job:
    """The job in this state, in which it must arrive."""

    async def look() -> Job | None:
        job = await jobs.get(job_id)
        assert job is not None
        assert job.status == status or not job.finished, job
        return job if job.status == status else None

    return await until(look)  # type: ignore[no-any-return]


def refused(jobs: Jobs, name: str, times: int = 1) -> Callable[[], Awaitable[bool]]:
    """Whether so many calls failed, as a condition to wait for."""

    async def look() -> bool:
        return jobs.refused.count(name) >= times

    return look


async def for_ever(_: JobContext) -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}
