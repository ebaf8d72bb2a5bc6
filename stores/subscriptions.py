"""Subscriptions: where the ends of jobs are announced to, by whom that was asked for, and the secrets that sign it."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 (no secret)
"""What every secret begins with, as Standard Webhooks has it."""
SECRET_BYTES: Final = 32
EventType = Literal["job.succeeded", "job.failed", "job.cancelled"]


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """One secret of a subscription as its owner has it; ``expires_at``: None for as long as the subscription lives."""

    secret: str = field(repr=False)
    expires_at: datetime | None = None

    def signs(self, now: datetime) -> bool:
        """Return whether deliveries are signed with it."""
        return self.expires_at is None or now < self.expires_at


@dataclass(frozen=True, slots=True)
class Subscription:
    """One receiver of events.

    ``owner`` is the opaque name of the client that made it. ``kinds`` are those of the jobs that it is about, none for
    all. ``secrets``: the newest first; they are stored as they are, as signing needs them. ``failing_since`` is when
    the first delivery failed after the last one that did not. ``disabled_at``: nothing is sent from then on, and
    ``disabled_reason`` says why.
    """

    subscription_id: str
    owner: str
    url: str
    events: tuple[EventType, ...]
    secrets: tuple[SigningSecret, ...]
    created_at: datetime
    kinds: tuple[str, ...] = ()
    description: str = ""
    delivered_at: datetime | None = None
    failing_since: datetime | None = None
    disabled_at: datetime | None = None
    disabled_reason: str = ""

    def wants(self, event: str, kind: str) -> bool:
        """Return whether an event of a job of this kind is sent to it."""
        return self.disabled_at is None and event in self.events and (not self.kinds or kind in self.kinds)


class Subscriptions(Protocol):
    """Subscriptions in the order in which they were made; every write that returned is durable. Raises StoreError."""

    async def insert(self, subscription: Subscription) -> None:
        """Add a new subscription."""
        ...

    async def get(self, subscription_id: str) -> Subscription | None:
        """Return a subscription, None for an unknown id."""
        ...

    async def list(self, owner: str | None = None) -> Sequence[Subscription]:
        """Return the subscriptions of an owner, by default of all."""
        ...

    async def set(self, subscription: Subscription, *names: str) -> bool:
        """Store these fields of a subscription, and no others; False if there is none."""
        ...

    async def delete(self, subscription_id: str) -> bool:
        """Remove a subscription; False if there is none."""
        ...


def new_secret() -> SigningSecret:
    """Return a new secret, to be shown once."""
    return SigningSecret(SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())
