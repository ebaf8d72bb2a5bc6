"""What a receiver of webhooks does first: find out whether the service has sent what came (Standard Webhooks 1.0)."""

import base64
import hmac
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from visiongraph_client import models
from visiongraph_client.errors import InvalidSignature

PREFIX: Final = "whsec_"
TOLERANCE_S: Final = 300.0
VERSION: Final = "v1"


class Headers(Protocol):
    """Headers of a request, of any framework: pairs of name and value."""

    def items(self) -> Iterable[tuple[str, str]]: ...


class WebhookEvent(BaseModel):
    """An event; ``id`` is the same at every attempt, so who has seen it may leave it."""

    model_config = ConfigDict(extra="allow")

    id: str
    type: str
    timestamp: datetime
    data: dict[str, Any]
    result_omitted: bool = False

    @property
    def job(self) -> models.JobAnswer | None:
        """Return the job that has ended; None for an event that is of none, such as a ping."""
        return models.JobAnswer.model_validate(self.data) if self.type.startswith("job.") else None


def verify_webhook(
    secret: str, headers: Headers, body: bytes | str, *, tolerance_s: float = TOLERANCE_S, now: float | None = None
) -> WebhookEvent:
    """Return the event of a request that the service has sent. ``body`` is what came, byte for byte.

    :param secret: that of the webhook, ``whsec_…``
    :param tolerance_s: by how many seconds the time of the request may differ from ``now``, by default this moment
    :raises InvalidSignature: somebody else has sent it, it was altered, or it is old.
    """
    data = body.encode() if isinstance(body, str) else body
    values = {name.lower(): value for name, value in headers.items()}
    try:
        event_id, sent_at, signatures = (values[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise InvalidSignature(f"The header {error.args[0]} is missing.") from None
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        raise InvalidSignature("The secret is none: it is whsec_ and base64.") from None
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) < 12):
        raise InvalidSignature("The header webhook-timestamp is no number.")
    seconds = int(sent_at)
    if abs((time.time() if now is None else now) - seconds) > tolerance_s:
        raise InvalidSignature("The request is too old, or the clock of this machine is wrong.")
    wanted = base64.b64encode(hmac.digest(key, f"{event_id}.{sent_at}.".encode() + data, "sha256"))
    given = [each.partition(",") for each in signatures.split(" ")]
    if not any(version == VERSION and hmac.compare_digest(text.encode(), wanted) for version, _, text in given):
        raise InvalidSignature("No signature of the request is one with this secret.")
    try:
        return WebhookEvent.model_validate_json(data)
    except ValidationError as error:
        raise InvalidSignature("The body is no event.") from error
