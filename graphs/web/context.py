"""What every graph works with: settings, stores and stage handles without globals, task groups, a request's clock."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, TypeVar

from fastapi import Depends

from configs.settings import Settings
from deployments.serving.catalog import DeploymentState, ServeStatus
from deployments.serving.handle import AnyHandle, StageHandle
from deployments.serving.stage import StageRef
from graphs.web.access import Access
from graphs.web.access_log import AccessLog
from graphs.web.fetch import Fetcher, Poster, open_poster
from graphs.web.quick import QuickRoutes
from graphs.web.quotas import Quotas
from graphs.web.recent import RecentFaults
from graphs.web.states import States
from graphs.web.uploads.spool import Spool
from stores.analyses import Analyses
from stores.animals import Animals
from stores.audit import Audit
from stores.cache import Cache
from stores.documents import Documents
from stores.jobs import JobStore
from stores.keys import Keys
from stores.objects import Objects
from stores.open import Stores
from stores.partial_uploads import PartialUploads
from stores.people import People
from stores.shots import Shots
from stores.subscriptions import Subscriptions
from stores.usage import UsageStore
from vision.spans import flush

InT = TypeVar("InT")
OutT = TypeVar("OutT")


@dataclass(frozen=True)
class Context:
    """The outside world of the graphs in one gateway process."""

    settings: Settings
    stages: Mapping[str, AnyHandle]
    stores: Stores
    fetcher: Fetcher
    quick: QuickRoutes = field(default_factory=QuickRoutes)
    started_at: float = field(default_factory=time.monotonic)
    serve: ServeStatus | None = None
    """What Serve says about the replicas, where this is one."""
    recent: RecentFaults = field(default_factory=RecentFaults)
    lookups: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often something was looked up before it is made, by what and where it was: "cache", "store", or "miss"."""

    @cached_property
    def spool(self) -> Spool:
        """The folder of uploads on their way in."""
        largest = max(self.settings.max_video_bytes, self.settings.max_image_bytes, self.settings.max_audio_bytes)
        most = max(self.settings.max_spool_bytes, largest)
        return Spool(self.settings.spool, most, self.settings.disk_reserve_bytes)

    @property
    def objects(self) -> Objects:
        """The object store."""
        return self.stores.objects

    @property
    def documents(self) -> Documents:
        """The document store."""
        return self.stores.documents

    @property
    def jobs(self) -> JobStore:
        """The store of durable jobs."""
        return self.stores.jobs

    @property
    def people(self) -> People:
        """The store of face traces and identities."""
        return self.stores.people

    @property
    def shots(self) -> Shots:
        """The store of shots."""
        return self.stores.shots

    @property
    def analyses(self) -> Analyses:
        """The store of authenticity analyses."""
        return self.stores.analyses

    @property
    def animals(self) -> Animals:
        """The registry of animals."""
        return self.stores.animals

    @property
    def keys(self) -> Keys:
        """The store of API keys."""
        return self.stores.keys

    @property
    def partial_uploads(self) -> PartialUploads:
        """The store of uploads that come in parts."""
        return self.stores.partial_uploads

    @property
    def usage(self) -> UsageStore:
        """The store of what keys use."""
        return self.stores.usage

    @property
    def audit(self) -> Audit:
        """The audit trail."""
        return self.stores.audit

    @property
    def subscriptions(self) -> Subscriptions:
        """The store of subscriptions."""
        return self.stores.subscriptions

    @property
    def deliveries(self) -> JobStore:
        """The store of deliveries to subscriptions."""
        return self.stores.deliveries

    @property
    def cache(self) -> Cache:
        """The cache."""
        return self.stores.cache

    @cached_property
    def access(self) -> Access:
        """Who may call."""
        return Access(self.settings, self.keys)

    @cached_property
    def poster(self) -> Poster:
        """The client that sends events to subscriptions."""
        return open_poster(self.settings)

    @cached_property
    def quotas(self) -> Quotas:
        """How much the client of a request may have."""
        return Quotas(self.settings, self.stores)

    @cached_property
    def states(self) -> States:
        """How the stages and stores are."""
        return States(self.stages, self.stores)

    @cached_property
    def access_log(self) -> AccessLog | None:
        """The access log of this machine; None where there is to be none."""
        config = self.settings
        if config.access_log == "off":
            return None
        return AccessLog(config.logs, config.access_log_bytes, config.access_log_files)

    async def deployments(self) -> Mapping[str, DeploymentState]:
        """Return the state of every deployment, by application.deployment; none without Serve."""
        return {} if self.serve is None else await self.serve.deployments()

    def stage(self, ref: StageRef[InT, OutT]) -> StageHandle[InT, OutT]:
        """Return the handle to a stage of this gateway. Raises KeyError for one that no served API names."""
        return self.stages[ref.key]

    async def close(self) -> None:
        """Close the stores, the connections and the log, and send the spans that are left."""
        self.recent.detach()
        await self.stores.close()
        await self.fetcher.close()
        if "poster" in self.__dict__:
            await self.poster.close()
        if self.access_log is not None:
            self.access_log.close()
        await asyncio.to_thread(flush)


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
        """Return the elapsed seconds, to a tenth of a millisecond."""
        return round(time.perf_counter() - self._started, 4)

    @property
    def milliseconds(self) -> float:
        """Return the elapsed milliseconds, to a tenth."""
        return round((time.perf_counter() - self._started) * 1000, 1)


async def _clock() -> Clock:
    # Asynchronous because FastAPI sends every other dependency through a thread.
    return Clock()


Timer = Annotated[Clock, Depends(_clock)]
