"""What every graph is built with: settings, stores and stage handles. No globals, so tests build their own."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from fastapi import Depends

from configs.settings import Settings
from deployments.serving.handle import AnyHandle, StageHandle
from deployments.serving.stage import StageRef
from graphs.web.fetch import Fetcher
from stores.analyses import Analyses
from stores.animals import Animals
from stores.cache import Cache
from stores.documents import Documents
from stores.jobs import JobStore
from stores.objects import Objects
from stores.people import People
from stores.shots import Shots

InT = TypeVar("InT")
OutT = TypeVar("OutT")


@dataclass(frozen=True)
class Context:
    """The outside world of the graphs in one gateway process."""

    settings: Settings
    stages: Mapping[str, AnyHandle]
    objects: Objects
    documents: Documents
    jobs: JobStore
    people: People
    shots: Shots
    analyses: Analyses
    animals: Animals
    cache: Cache
    fetcher: Fetcher
    started_at: float = field(default_factory=time.monotonic)

    def stage(self, ref: StageRef[InT, OutT]) -> StageHandle[InT, OutT]:
        """Return the handle to a stage of this gateway. Raises KeyError for one that no served API names."""
        return self.stages[ref.key]

    async def close(self) -> None:
        """Close the stores and connections."""
        await self.objects.close()
        await self.documents.close()
        await self.jobs.close()
        await self.people.close()
        await self.shots.close()
        await self.analyses.close()
        await self.animals.close()
        await self.cache.close()
        await self.fetcher.close()


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Run tasks in asyncio's TaskGroup; its first failure is raised alone, so that an error handler knows its class.

    A failure, or leaving early, cancels the tasks that still run.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


class Clock:
    """Time since a request's handler began."""

    __slots__ = ("_started",)

    def __init__(self) -> None:
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Elapsed seconds, to a tenth of a millisecond."""
        return round(time.perf_counter() - self._started, 4)

    @property
    def milliseconds(self) -> float:
        """Elapsed milliseconds, to a tenth."""
        return round((time.perf_counter() - self._started) * 1000, 1)


async def _clock() -> Clock:
    # Asynchronous because FastAPI sends every other dependency through a thread.
    return Clock()


Timer = Annotated[Clock, Depends(_clock)]
