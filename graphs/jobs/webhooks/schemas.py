"""What clients send and see of webhooks and their deliveries."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, StringConstraints

from graphs.web.fetch.poster import MAX_URL
from graphs.web.schemas import Flag, example
from stores.jobs import Job
from stores.subscriptions import EventType, Subscription

ALL_EVENTS: Final[tuple[EventType, ...]] = ("job.succeeded", "job.failed", "job.cancelled")
WEBHOOK_1: Final = "5d1e0f9a7c3b48e29f60c4a1b7d25e83"
"""An id for examples."""

Url = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_URL)]
Events = Annotated[list[EventType], Field(min_length=1, max_length=8)]
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
Kinds = Annotated[list[Kind], Field(max_length=32)]
Description = Annotated[str, StringConstraints(max_length=200)]

URL: Final = "https://… that events are posted to, without user and password"
KINDS: Final = "kinds of the jobs that it is about, such as index-video; none for all but those of upkeep"


class WebhookRequest(BaseModel):
    """A receiver and what it is to be told of."""

    model_config = example(url="https://hooks.example/visiongraph", events=["job.succeeded", "job.failed"], kinds=[])
    url: Url = Field(description=URL)
    events: Events = Field(default_factory=lambda: list(ALL_EVENTS))
    kinds: Kinds = Field(default_factory=list, description=KINDS)
    description: Description = Field(default="", description="for people")


class WebhookChange(BaseModel):
    """What is to be changed of a webhook; what is absent or null stays as it is."""

    model_config = example(enabled=True)
    url: Url | None = Field(default=None, description=URL)
    events: Events | None = None
    kinds: Kinds | None = Field(default=None, description=KINDS)
    description: Description | None = None
    enabled: Flag | None = Field(default=None, description="true also enables one that was disabled")


class WebhookAnswer(BaseModel):
    """One webhook; its secret is in no answer but those that make one."""

    model_config = example(
        webhook_id=WEBHOOK_1,
        url="https://hooks.example/visiongraph",
        events=["job.succeeded", "job.failed"],
        kinds=[],
        description="",
        owner="3f2a9c01b4d7",
        created_at="2026-01-15T12:00:00Z",
        enabled=True,
        disabled_at=None,
        disabled_reason=None,
        delivered_at="2026-01-15T12:00:10Z",
        failing_since=None,
        waiting=0,
    )
    webhook_id: str
    url: str
    events: list[EventType]
    kinds: list[str]
    description: str
    owner: str = Field(description="id of the key that made it; empty where there were no keys")
    created_at: datetime
    enabled: bool
    disabled_at: datetime | None
    disabled_reason: str | None = Field(description="why nothing is sent to it")
    delivered_at: datetime | None = Field(description="of a recent success, to a minute")
    failing_since: datetime | None = Field(description="first failure since the last success; null where there is none")
    waiting: int = Field(description="deliveries that are under way, or will be tried again")

    @classmethod
    def of(cls, subscription: Subscription, waiting: int) -> "WebhookAnswer":
        """Return what clients see of a subscription."""
        return cls(
            webhook_id=subscription.subscription_id,
            url=subscription.url,
            events=list(subscription.events),
            kinds=list(subscription.kinds),
            description=subscription.description,
            owner=subscription.owner,
            created_at=subscription.created_at,
            enabled=subscription.disabled_at is None,
            disabled_at=subscription.disabled_at,
            disabled_reason=subscription.disabled_reason or None,
            delivered_at=subscription.delivered_at,
            failing_since=subscription.failing_since,
            waiting=waiting,
        )


class NewWebhook(BaseModel):
    """A new webhook, and the secret that its events are signed with."""

    webhook: WebhookAnswer
    secret: str = Field(description="whsec_…; keep it, it is shown once")


class NewSecret(BaseModel):
    """A new secret of a webhook; until ``previous_until`` events are signed with the one before as well."""

    model_config = example(
        webhook_id=WEBHOOK_1,
        secret="whsec_…",  # noqa: S106 (an example)
        previous_until="2026-01-16T12:00:00Z",
    )
    webhook_id: str
    secret: str = Field(description="whsec_…; keep it, it is shown once")
    previous_until: datetime


class WebhooksAnswer(BaseModel):
    """The webhooks of the key, oldest first; those of all keys for one with the scope ``admin``."""

    webhooks: list[WebhookAnswer]


class RemovedWebhook(BaseModel):
    """A webhook that was removed with the records of its deliveries."""

    webhook_id: str
    deliveries: int


class AttemptAnswer(BaseModel):
    """One attempt at a delivery."""

    at: datetime
    status: int | None = Field(description="of the receiver's answer; null where there was none")
    error: str = Field(description="why it failed; empty where it did not")
    seconds: float


class DeliveryAnswer(BaseModel):
    """One delivery; of what the receiver answered, only the status is kept."""

    model_config = example(
        delivery_id="c0a1f8e27d5b4c639e8f7a6b5c4d3e2f",
        event_id="evt_0c5f8d2b7a914e36a1d0c9b8e7",
        type="job.succeeded",
        job_id="0b1f5e8a64c2d7f3a9e01c4b7d2f6a85",
        status="waiting",
        created_at="2026-01-15T12:00:09Z",
        finished_at=None,
        next_attempt_at="2026-01-15T12:00:15Z",
        error=None,
        attempts=[{"at": "2026-01-15T12:00:10Z", "status": 500, "error": "it answered 500", "seconds": 0.12}],
    )
    delivery_id: str
    event_id: str = Field(description="webhook-id of what is sent; a delivery that is repeated has the same")
    type: EventType | Literal["webhook.ping"]
    job_id: str | None
    status: Literal["waiting", "sending", "delivered", "failed"]
    created_at: datetime
    finished_at: datetime | None
    next_attempt_at: datetime | None = Field(description="only where it waits")
    error: str | None = Field(description="why it failed")
    attempts: list[AttemptAnswer]

    @classmethod
    def of(cls, delivery: Job) -> "DeliveryAnswer":
        """Return what clients see of a delivery."""
        attempts: list[Any] = (delivery.result or delivery.checkpoint).get("attempts", [])
        return cls(
            delivery_id=delivery.job_id,
            event_id=delivery.payload["event_id"],
            type=delivery.payload["type"],
            job_id=delivery.payload["job_id"],
            status=STATUSES[delivery.status],
            created_at=delivery.created_at,
            finished_at=delivery.finished_at,
            next_attempt_at=delivery.due_at if delivery.status == "queued" else None,
            error=delivery.error,
            attempts=[AttemptAnswer.model_validate(each) for each in attempts],
        )


STATUSES: Final[dict[str, Literal["waiting", "sending", "delivered", "failed"]]] = {
    "queued": "waiting",
    "running": "sending",
    "succeeded": "delivered",
    "failed": "failed",
    "cancelled": "failed",
}


class DeliveriesAnswer(BaseModel):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryAnswer]
    next: str | None = Field(description="``after`` of the next page; null where there is none")
