"""What a gateway records of its requests, and the gauges that it, or a worker of jobs, sets now and then."""

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from configs.settings import Settings
from deployments.serving.handle import AnyHandle
from deployments.serving.metrics import Growth, count, observe, set_gauge
from graphs.web.access_log import Exchange
from graphs.web.auth import OPEN_PATHS
from graphs.web.context import Context
from graphs.web.requests import Requests
from stores.errors import StoreError

ANSWER_WITHIN_S: Final = 5.0
OTHER: Final = "other"
"""Label of all paths that are no routes, so that nobody makes up labels."""
SERVICE: Final = "service"
"""Label, as an API, of health and documentation."""
REASONS: Final = {"RATE_LIMITED": "rate", "QUOTA_EXCEEDED": "quota"}
"""Why a request got a 429, by the code of the failure."""
EMBEDDED: Final = ("sqlite://", "file://")


class CallMetrics:
    """The calls of a process to its stages: how many items wait for each, and how many were refused."""

    def __init__(self, stages: Mapping[str, AnyHandle]) -> None:
        self._stages = stages
        self._growth = Growth()

    async def publish(self) -> None:
        """Set the gauges, and raise the counters."""
        for key, handle in self._stages.items():
            set_gauge("stage_waiting", handle.waiting, stage=key)
            self._growth.publish("stage_refused", handle.refused, stage=key)


def record_exchange(exchange: Exchange) -> None:
    """Record one request whose answer has ended."""
    route = exchange.route or OTHER
    api = SERVICE if route in OPEN_PATHS else exchange.api or OTHER
    labels = {"api": api, "route": route, "method": exchange.method}
    count("requests", **labels, status=str(exchange.status))
    count("request_bytes", exchange.bytes_in, api=api)
    count("response_bytes", exchange.bytes_out, api=api)
    if exchange.latency_s is not None:
        observe("request_latency_ms", exchange.latency_s * 1000, **labels)
    if exchange.status == 429:
        count("requests_refused", api=api, reason=REASONS.get(exchange.failure, "overload"))


class GatewayMetrics:
    """The gauges of a gateway: its requests, and what all gateways share, its jobs, webhooks and disks."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._calls = CallMetrics(context.stages)
        self._growth = Growth()
        self._kinds: set[str] = set()
        self.requests: Requests | None = None

    async def publish(self) -> None:
        """Set the gauges, and raise the counters that are counted elsewhere."""
        set_gauge("info", 1, version=version("visiongraph"))
        set_gauge("requests_in_flight", self.requests.in_flight if self.requests else 0)
        for (cache, result), number in self._context.lookups.items():
            self._growth.publish("cache_lookups", number, cache=cache, result=result)
        await self._calls.publish()
        await asyncio.gather(self._jobs(), self._webhooks(), self._disks())

    async def _jobs(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                counts = await self._context.jobs.count(finished=False)
        except (StoreError, TimeoutError):  # the metrics of the stores say so
            return
        numbers = {(each.kind, each.status): each for each in counts}
        self._kinds |= {each.kind for each in counts}
        now = datetime.now(UTC)
        for kind in self._kinds:
            for status in ("queued", "running"):
                found = numbers.get((kind, status))
                set_gauge("jobs", found.number if found else 0, kind=kind, status=status)
            queued = numbers.get((kind, "queued"))
            waits = (now - queued.due_at).total_seconds() if queued else 0
            set_gauge("jobs_oldest_queued_seconds", max(waits, 0), kind=kind)

    async def _webhooks(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                subscriptions = await self._context.subscriptions.list()
                waiting = await self._context.deliveries.count(finished=False) if subscriptions else ()
        except (StoreError, TimeoutError):
            return
        disabled = sum(each.disabled_at is not None for each in subscriptions)
        set_gauge("webhooks", len(subscriptions) - disabled, state="enabled")
        set_gauge("webhooks", disabled, state="disabled")
        set_gauge("webhook_waiting", sum(each.number for each in waiting))

    async def _disks(self) -> None:
        for disk, folder in disks(self._context.settings).items():
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    free, size = await asyncio.to_thread(_room, folder)
            except (OSError, TimeoutError):
                continue
            set_gauge("disk_free_bytes", free, disk=disk)
            set_gauge("disk_size_bytes", size, disk=disk)


def disks(settings: Settings) -> dict[str, Path]:
    """Return the folders on disks of this machine, by what is in them: embedded stores, and the spool."""
    urls = {"documents": settings.documents, "objects": settings.objects, "vectors": settings.vectors}
    folders = {
        name: Path(url.partition("://")[2].partition("?")[0]) for name, url in urls.items() if url.startswith(EMBEDDED)
    }
    return folders | {"spool": settings.spool}


def _room(folder: Path) -> tuple[int, int]:
    """Return the free and all bytes of the disk of a folder, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
