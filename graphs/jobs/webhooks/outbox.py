"""The outbox: announces the ends of jobs to subscriptions, and delivers what is due, beside the jobs themselves.

The end of a job is kept with the job, in the write that ends it. Here it becomes a delivery for each subscription that
wants it, and is forgotten after that; who dies in between leaves it to be announced once more, as the same deliveries.
Any number of workers may do so at once.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Never

from graphs.jobs.kinds import find_job_kinds
from graphs.jobs.runner import JobRunner, Timing
from graphs.jobs.webhooks.deliveries import WEBHOOK, deliver, disable, enqueue, event_of, payload_of
from graphs.web.context import Context
from stores.errors import StoreError
from stores.jobs import Job
from stores.subscriptions import Subscription
from vision.tracing import origin

logger = logging.getLogger("ray.serve")

POLL_S: Final = 1.0
BATCH: Final = 50
"""Jobs between two looks at the subscriptions."""
AT_ONCE: Final = 16
PER_SUBSCRIPTION: Final = 4
"""Deliveries of one process at once, so that a receiver that is slow leaves places to the others."""
CLAIM_S: Final = (0.2, 4.0)
TIMING: Final = Timing(lease_s=30.0, heartbeat_s=10.0)
MOST_WAITING: Final = 10_000
"""Deliveries of a subscription that may wait; one with more is disabled."""
CLEAN_S: Final = 3600.0
ROWS: Final = 1000


class Outbox:
    """Announces and delivers from ``start`` to ``stop``."""

    def __init__(
        self,
        context: Context,
        *,
        poll_s: float = POLL_S,
        claim_s: tuple[float, float] = CLAIM_S,
        timing: Timing = TIMING,
    ) -> None:
        self._context = context
        self._poll_s = poll_s
        self._runner = JobRunner(
            context.deliveries,
            {WEBHOOK: partial(deliver, context)},
            at_once=AT_ONCE,
            per_owner=PER_SUBSCRIPTION,
            poll_s=claim_s,
            timing=timing,
        )
        self._announcing: asyncio.Task[Never] | None = None

    def start(self) -> None:
        """Begin to announce and to deliver."""
        self._runner.start()
        self._announcing = asyncio.create_task(self._announce_regularly())

    async def stop(self) -> None:
        """Release what is being delivered, and end."""
        if self._announcing is not None:
            self._announcing.cancel()
        await self._runner.stop()

    def check_health(self) -> None:
        """Raise RuntimeError when this has ended without being stopped."""
        self._runner.check_health()
        if self._announcing is not None and self._announcing.done() and not self._announcing.cancelled():
            raise RuntimeError("ends of jobs are not announced any more") from self._announcing.exception()

    async def _announce_regularly(self) -> Never:
        clean_at, failing = time.monotonic(), False
        while True:
            number = 0
            try:
                number = await announce(self._context)
                if time.monotonic() >= clean_at:
                    await self._clean()
                    clean_at = time.monotonic() + CLEAN_S
            except StoreError as error:
                if not failing:
                    logger.warning("ends of jobs cannot be announced: %s", error)
                failing = True
            else:
                failing = False
            if number:
                self._runner.wake()
            await asyncio.sleep(0 if number == BATCH else self._poll_s)

    async def _clean(self) -> None:
        """Remove records of deliveries whose time is over."""
        days = self._context.settings.keep_deliveries_days
        before = datetime.now(UTC) - timedelta(days=days)
        while days and await self._context.deliveries.delete_finished(before, ROWS) == ROWS:
            pass


async def announce(context: Context) -> int:
    """Make deliveries of the ends of some jobs; return of how many. Raises StoreError."""
    jobs = await context.jobs.list_unannounced(BATCH)
    if not jobs:
        return 0
    wanting = {each.subscription_id: each for each in await context.subscriptions.list() if each.disabled_at is None}
    waiting = {name: await context.deliveries.count_unfinished(name) for name in wanting}
    for job in jobs:
        for end in job.unannounced or ():
            for name, subscription in list(wanting.items()):
                if waiting[name] >= MOST_WAITING:
                    del wanting[name]
                    await disable(context, subscription, f"{MOST_WAITING:,} deliveries wait for its receiver.")
                else:
                    waiting[name] += await _announce_to(context, subscription, job.as_of(end))
        if not await context.jobs.announced(job.job_id, job.unannounced or ()):
            # Its subject was deleted meanwhile, perhaps before the deliveries were made.
            await context.deliveries.forget(job.subject)
    return len(jobs)


async def _announce_to(context: Context, subscription: Subscription, ended: Job) -> bool:
    """Make the delivery of the end of a job if the subscription wants it; return whether it does."""
    event = event_of(ended)
    kind = find_job_kinds().get(ended.kind)
    is_upkeep = kind is not None and kind.hourly is not None
    if not subscription.wants(event.type, ended.kind) or (is_upkeep and ended.kind not in subscription.kinds):
        return False
    token = origin.set(ended.origin)
    try:
        await enqueue(context, subscription.subscription_id, ended.subject, payload_of(event, datetime.now(UTC)))
    finally:
        origin.reset(token)
    return True
