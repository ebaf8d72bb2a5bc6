"""Deliveries: what is sent to a subscription, and what becomes of it.

A delivery is a durable job of the store ``deliveries``: its owner is the subscription, its subject that of the job that
has ended, and its payload has the bytes that are sent, the same ones at each attempt. It ends when the receiver has
answered 2xx, has gone, or when a day is over. Of the receiver's answer nothing is kept but its status.
"""

import hashlib
import logging
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from deployments.serving.metrics import count
from graphs.jobs.runner import JobContext, TryLater
from graphs.jobs.schemas import JobAnswer
from graphs.jobs.webhooks.signing import signed_headers
from graphs.web.context import Context
from graphs.web.fetch import Outcome
from stores.audit import new_entry
from stores.errors import StoreError
from stores.jobs import Job, Json
from stores.records import to_micros
from stores.subscriptions import EventType, Subscription
from vision.errors import StageError

logger = logging.getLogger("ray.serve")

WEBHOOK: Final = "webhook"
"""The kind of these jobs."""
READS: Final = "jobs:read"
"""Scope that the maker of a subscription must have, then as now."""
EVENTS: Final[dict[str, EventType]] = {
    "succeeded": "job.succeeded",
    "failed": "job.failed",
    "cancelled": "job.cancelled",
}
"""Types of events by what has become of the job."""
PING: Final = "webhook.ping"
MAX_BYTES: Final = 20_000
"""Of an event, as Standard Webhooks recommends; the result of the job is left out of a larger one."""
FIRST_PAUSE_S: Final = 5.0
GROWTH: Final = 4.0
LONGEST_PAUSE_S: Final = 6 * 3600.0
JITTER: Final = 0.2
"""By which a pause is shorter or longer, so that receivers that come back are not met by all at once."""
GIVE_UP: Final = timedelta(days=1)
DISABLE: Final = timedelta(days=3)
"""A subscription that has had no success for as long is disabled by the next delivery that is given up."""
STORE_PAUSE_S: Final = 30.0
RECORD_S: Final = 60.0
"""How exact ``delivered_at`` of a subscription is; a busy one need not be written to at each delivery."""
GONE: Final = 410


class Event(BaseModel):
    """The body that a receiver gets."""

    id: str = Field(description="the same at every attempt, also in the header webhook-id")
    type: EventType | Literal["webhook.ping"]
    timestamp: datetime = Field(description="when it happened")
    data: dict[str, Any] = Field(description="the job as `GET /api/v1/jobs/{job_id}` answers it, as it has ended")
    result_omitted: bool = Field(
        default=False,
        description="whether `result` of the job is missing as it is large; only there where it is",
        exclude_if=lambda omitted: not omitted,
    )


class Undeliverable(StageError):
    """A delivery that no further attempt is made at; the message says why."""

    code = "WEBHOOK_UNDELIVERABLE"
    status = 410


def event_of(job: Job) -> Event:
    """Return the event of a job that has ended, the same one whenever it is made."""
    assert job.finished_at is not None
    digest = hashlib.sha256(f"{job.job_id}\0{to_micros(job.finished_at)}".encode()).hexdigest()
    data = JobAnswer.of(job).model_dump(mode="json")
    event = Event(id=f"evt_{digest[:26]}", type=EVENTS[job.status], timestamp=job.finished_at, data=data)
    if len(event.model_dump_json().encode()) <= MAX_BYTES:
        return event
    return event.model_copy(update={"data": data | {"result": None}, "result_omitted": True})


def payload_of(event: Event, now: datetime, **more: Any) -> Json:
    """Return the payload of the delivery of an event."""
    job_id = event.data.get("job_id")
    return {
        "event_id": event.id,
        "type": event.type,
        "job_id": job_id,
        "body": event.model_dump_json(),
        "since": now.isoformat(),
        **more,
    }


async def enqueue(context: Context, subscription_id: str, subject: str, payload: Json, again: str = "") -> Job:
    """Return the delivery of an event, due at once; the same one however often this is done, unless ``again``."""
    fingerprint = ".".join(filter(None, (payload["event_id"], subscription_id, again)))
    return await context.deliveries.submit(WEBHOOK, subject, fingerprint, payload, subscription_id)


async def deliver(context: Context, job: JobContext) -> Json:
    """Make one attempt at a delivery; return all attempts when it has succeeded.

    Raises TryLater, and Undeliverable when it was the last one.
    """
    try:
        return await _deliver(context, job)
    except StoreError as error:
        raise TryLater(error.message, STORE_PAUSE_S) from error


async def _deliver(context: Context, job: JobContext) -> Json:
    subscription = await context.subscriptions.get(job.owner)
    if subscription is None:
        raise Undeliverable("The webhook was deleted.")
    if subscription.disabled_at is not None:
        raise Undeliverable(f"The webhook is disabled. {subscription.disabled_reason}")
    if reason := await refusal_of(context, subscription):
        await disable(context, subscription, reason)
        raise Undeliverable(reason)
    outcome, attempt = await send(context, subscription, job.payload)
    attempts = [*job.checkpoint.get("attempts", ()), attempt]
    if outcome.is_success:
        await record_success(context, subscription)
        return {"attempts": attempts}
    await job.save({"attempts": attempts})
    pause = pause_after(len(attempts), outcome, datetime.fromisoformat(job.payload["since"]), datetime.now(UTC))
    await _record_failure(context, subscription, outcome, is_last=pause is None)
    if pause is None or job.payload.get("once") or outcome.status == GONE:
        raise Undeliverable(f"Given up after {len(attempts)} attempts: {outcome.error}.")
    raise TryLater(outcome.error, pause)


def pause_after(attempts: int, outcome: Outcome, since: datetime, now: datetime) -> float | None:
    """Return the seconds to the next attempt after so many, None when the time for them is over.

    Pauses grow by ``GROWTH`` up to ``LONGEST_PAUSE_S``, and are never shorter than the receiver asks for; the last
    attempt is made when ``GIVE_UP`` is over.
    """
    left = (since + GIVE_UP - now).total_seconds()
    if left <= 0:
        return None
    pause = FIRST_PAUSE_S
    for _ in range(attempts - 1):
        pause = min(GROWTH * pause, LONGEST_PAUSE_S)
    pause *= random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 (no secret)
    return min(max(pause, outcome.retry_after_s or 0.0), left)


async def send(context: Context, subscription: Subscription, payload: Json) -> tuple[Outcome, Json]:
    """Send an event once; return what came of it, and that as its record."""
    at, body = datetime.now(UTC), str(payload["body"]).encode()
    headers = signed_headers(subscription.secrets, payload["event_id"], at, body)
    outcome = await context.poster.post(subscription.url, body, headers)
    count("webhook_attempts", outcome="delivered" if outcome.is_success else "failed")
    record = {"at": at.isoformat(), "status": outcome.status, "error": outcome.error, "seconds": outcome.seconds}
    return outcome, record


async def refusal_of(context: Context, subscription: Subscription) -> str:
    """Return why nothing may be sent for the maker of a subscription any more; empty where it may."""
    maker = await context.access.named(subscription.owner)
    if maker is None:
        return "Whoever made it may not call any more: the key was revoked or has expired."
    if maker.labels or not maker.may(READS):
        return f"The key that made it lacks the scope {READS}."
    return ""


async def record_success(context: Context, subscription: Subscription) -> None:
    """Record that a delivery has succeeded."""
    now, before = datetime.now(UTC), subscription.delivered_at
    if subscription.failing_since or before is None or (now - before).total_seconds() > RECORD_S:
        changed = replace(subscription, delivered_at=now, failing_since=None)
        await context.subscriptions.set(changed, "delivered_at", "failing_since")


async def _record_failure(context: Context, subscription: Subscription, outcome: Outcome, *, is_last: bool) -> None:
    now = datetime.now(UTC)
    if outcome.status == GONE:
        await disable(context, subscription, "Its receiver answered 410 Gone.")
    elif subscription.failing_since is None:
        await context.subscriptions.set(replace(subscription, failing_since=now), "failing_since")
    elif is_last and now - subscription.failing_since > DISABLE:
        days = (now - subscription.failing_since).days
        await disable(context, subscription, f"No delivery has succeeded for {days} days: {outcome.error}.")
    if is_last or outcome.status == GONE:
        count("webhook_attempts", outcome="given_up")


async def disable(context: Context, subscription: Subscription, reason: str) -> None:
    """Send nothing to a subscription any more, until its owner enables it again."""
    changed = replace(subscription, disabled_at=datetime.now(UTC), disabled_reason=reason)
    if not await context.subscriptions.set(changed, "disabled_at", "disabled_reason"):
        return
    logger.warning("webhook %s is disabled: %s", subscription.subscription_id, reason)
    if context.settings.audit != "none":
        entry = new_entry(
            datetime.now(UTC), "", WEBHOOK, "webhook disabled", subscription.subscription_id, "done", reason=reason
        )
        await context.audit.append(entry, reserve=True)
