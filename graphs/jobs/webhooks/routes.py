"""The routes of webhooks: where the ends of jobs are announced to, and what came of it; under /api/v1/webhooks."""

import asyncio
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, Field

from graphs.jobs.webhooks.deliveries import (
    PING,
    READS,
    WEBHOOK,
    Event,
    enqueue,
    payload_of,
    record_success,
    send,
)
from graphs.jobs.webhooks.schemas import (
    DeliveriesAnswer,
    DeliveryAnswer,
    NewSecret,
    NewWebhook,
    RemovedWebhook,
    WebhookAnswer,
    WebhookChange,
    WebhookRequest,
    WebhooksAnswer,
)
from graphs.web.access import ADMIN, caller
from graphs.web.audit import note
from graphs.web.context import Context
from graphs.web.errors import ScopeMissing
from graphs.web.schemas import WHOLE, error_responses, example
from stores.jobs import Job, JobStatus
from stores.subscriptions import Subscription, new_secret
from vision.errors import StageError

PREFIX: Final = "/api/v1/webhooks"
ERRORS: Final = {
    400: "no JSON, or a URL that nothing is sent to",
    403: "the key has as many webhooks as it may have, or may not read jobs",
    404: "unknown webhook or delivery",
    422: "malformed request",
    429: "too many requests; Retry-After says when to come back",
    503: "the document store does not answer",
    504: "the time of the request ran out; Retry-After says when to come back",
    507: "the disk of the service is full",
}
GRACE_S: Final = 24 * 3600
MOST_GRACE_S: Final = 7 * 24 * 3600
SENDING_S: Final = 60.0
"""After which a test whose gateway died is sent by a worker."""
OWN: Final = "Its owner disabled it."
BY_STATUS: Final[dict[str, JobStatus]] = {
    "waiting": "queued",
    "sending": "running",
    "delivered": "succeeded",
    "failed": "failed",
}


class WebhookNotFound(StageError):
    """A webhook or delivery that was never made, was removed, or is another key's."""

    code = "WEBHOOK_NOT_FOUND"
    status = 404


class TooManyWebhooks(StageError):
    """More webhooks than a key may have."""

    code = "QUOTA_EXCEEDED"
    status = 403


class RotateRequest(BaseModel):
    """For how long the secret before signs as well."""

    model_config = example(grace_s=GRACE_S)
    grace_s: Annotated[int, Field(ge=0, le=MOST_GRACE_S), WHOLE] = GRACE_S


def webhooks_router(context: Context) -> APIRouter:
    """Return the routes webhooks."""
    router = APIRouter(prefix="/webhooks", tags=["webhooks"], responses=error_responses(ERRORS))
    subscriptions, deliveries = context.subscriptions, context.deliveries

    async def known(webhook_id: str) -> Subscription:
        found, who = await subscriptions.get(webhook_id), caller.get()
        if found is None or not (found.owner == who.name or who.may(ADMIN)):
            raise WebhookNotFound(f"You have no webhook {webhook_id[:64]}; GET {PREFIX} lists them.")
        return found

    async def known_delivery(webhook_id: str, delivery_id: str) -> Job:
        await known(webhook_id)
        found = await deliveries.get(delivery_id)
        if found is None or found.owner != webhook_id:
            raise WebhookNotFound(f"There is no delivery {delivery_id[:64]} of this webhook, or not any more.")
        return found

    async def answer(subscription: Subscription) -> WebhookAnswer:
        return WebhookAnswer.of(subscription, await deliveries.count_unfinished(subscription.subscription_id))

    @router.post("", status_code=201)
    async def create_webhook(request: WebhookRequest) -> NewWebhook:
        """Have the ends of jobs posted to a URL, signed by Standard Webhooks; the answer has the secret, once."""
        who, most = caller.get(), context.settings.max_webhooks
        url = await context.poster.check(request.url)
        if not who.may(READS):
            raise ScopeMissing(READS, "nothing about jobs is sent for it")
        if len(await subscriptions.list(who.name)) >= most:
            raise _too_many(most)
        made = Subscription(
            subscription_id=secrets.token_hex(16),
            owner=who.name,
            url=url,
            events=_distinct(request.events),
            secrets=(new_secret(),),
            created_at=datetime.now(UTC),
            kinds=_distinct(request.kinds),
            description=request.description,
        )
        await subscriptions.insert(made)
        if len(await subscriptions.list(who.name)) > most:  # several were made at once
            await subscriptions.delete(made.subscription_id)
            raise _too_many(most)
        note(made.subscription_id)
        return NewWebhook(webhook=await answer(made), secret=made.secrets[0].secret)

    @router.get("")
    async def list_webhooks() -> WebhooksAnswer:
        """Your webhooks, oldest first; those of all keys for one with the scope `admin`."""
        who = caller.get()
        found = await subscriptions.list(None if who.may(ADMIN) else who.name)
        return WebhooksAnswer(webhooks=await asyncio.gather(*map(answer, found)))

    @router.get("/{webhook_id}")
    async def get_webhook(webhook_id: str) -> WebhookAnswer:
        """One webhook, and whether events reach it."""
        return await answer(await known(webhook_id))

    @router.patch("/{webhook_id}")
    async def change_webhook(webhook_id: str, request: WebhookChange) -> WebhookAnswer:
        """Change a webhook, disable it, or enable it again; what has ended while it was disabled is not sent."""
        found = await known(webhook_id)
        changes: dict[str, Any] = {}
        if request.url is not None:
            changes |= {"url": await context.poster.check(request.url), "failing_since": None}
        if request.events is not None:
            changes["events"] = _distinct(request.events)
        if request.kinds is not None:
            changes["kinds"] = _distinct(request.kinds)
        if request.description is not None:
            changes["description"] = request.description
        if request.enabled:
            changes |= {"disabled_at": None, "disabled_reason": "", "failing_since": None}
        elif request.enabled is False and found.disabled_at is None:
            changes |= {"disabled_at": datetime.now(UTC), "disabled_reason": OWN}
        if changes and not await subscriptions.set(replace(found, **changes), *changes):
            await known(webhook_id)
        return await answer(replace(found, **changes))

    @router.delete("/{webhook_id}")
    async def delete_webhook(webhook_id: str) -> RemovedWebhook:
        """Remove a webhook with all that waits for it and the records of its deliveries."""
        await known(webhook_id)
        await subscriptions.delete(webhook_id)
        return RemovedWebhook(webhook_id=webhook_id, deliveries=await deliveries.forget_owner(webhook_id))

    @router.post("/{webhook_id}/secret")
    async def rotate_webhook_secret(
        webhook_id: str, request: Annotated[RotateRequest | None, Body()] = None
    ) -> NewSecret:
        """Make a new secret; for a while, by default a day, events are signed with the one before as well."""
        found, now = await known(webhook_id), datetime.now(UTC)
        until = now + timedelta(seconds=(request or RotateRequest()).grace_s)
        # Never more than two: a receiver knows one of them, and an attempt must stay small.
        made, before = new_secret(), replace(found.secrets[0], expires_at=until)
        changed = replace(found, secrets=(made, before) if before.signs(now) else (made,))
        if not await subscriptions.set(changed, "secrets"):
            await known(webhook_id)
        return NewSecret(webhook_id=webhook_id, secret=made.secret, previous_until=until)

    @router.post("/{webhook_id}/ping")
    async def ping_webhook(webhook_id: str) -> DeliveryAnswer:
        """Send an event `webhook.ping` now, once, and say what came of it; works for a disabled webhook, too."""
        found, now = await known(webhook_id), datetime.now(UTC)
        event = Event(id=f"evt_{secrets.token_hex(13)}", type=PING, timestamp=now, data={"webhook_id": webhook_id})
        payload, name = payload_of(event, now, once=True), f"ping-{uuid.uuid4().hex}"
        begun = await deliveries.begin(WEBHOOK, "", event.id, payload, name, SENDING_S, webhook_id)
        assert begun is not None
        outcome, attempt = await send(context, found, payload)
        if outcome.is_success:
            await record_success(context, found)
            await deliveries.succeed(begun.job_id, name, {"attempts": [attempt]})
        else:
            await deliveries.save_checkpoint(begun.job_id, name, {"attempts": [attempt]})
            await deliveries.fail(begun.job_id, name, outcome.error)
        return DeliveryAnswer.of(await known_delivery(webhook_id, begun.job_id))

    @router.get("/{webhook_id}/deliveries")
    async def list_deliveries(
        webhook_id: str,
        status: Literal["waiting", "sending", "delivered", "failed"] | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[str | None, Query(max_length=64, description="``next`` of the page before")] = None,
    ) -> DeliveriesAnswer:
        """Recent deliveries of a webhook with every attempt, newest first."""
        await known(webhook_id)
        last = None if after is None else await known_delivery(webhook_id, after)
        wanted = None if status is None else BY_STATUS[status]
        found = await deliveries.list(owner=webhook_id, status=wanted, after=last, limit=limit + 1)
        page = [DeliveryAnswer.of(each) for each in found[:limit]]
        return DeliveriesAnswer(deliveries=page, next=page[-1].delivery_id if len(found) > limit else None)

    @router.get("/{webhook_id}/deliveries/{delivery_id}")
    async def get_delivery(webhook_id: str, delivery_id: str) -> DeliveryAnswer:
        """One delivery with every attempt."""
        return DeliveryAnswer.of(await known_delivery(webhook_id, delivery_id))

    @router.post("/{webhook_id}/deliveries/{delivery_id}/redeliver", status_code=202)
    async def redeliver(webhook_id: str, delivery_id: str) -> DeliveryAnswer:
        """Send an event once more, as a new delivery with the same event id."""
        before, now = await known_delivery(webhook_id, delivery_id), datetime.now(UTC)
        payload = {name: value for name, value in before.payload.items() if name != "once"} | {"since": now.isoformat()}
        return DeliveryAnswer.of(await enqueue(context, webhook_id, before.subject, payload, uuid.uuid4().hex))

    return router


def _distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def _too_many(most: int) -> TooManyWebhooks:
    return TooManyWebhooks(f"Your key may have {most} webhooks and has as many; DELETE {PREFIX}/{{id}} removes one.")
