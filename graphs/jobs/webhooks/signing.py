"""Signatures of events, by Standard Webhooks 1.0 (standardwebhooks.com): HMAC-SHA256 of id, time and body."""

import base64
import hmac
from collections.abc import Sequence
from datetime import datetime

from stores.subscriptions import SECRET_PREFIX, SigningSecret


def signed_headers(secrets: Sequence[SigningSecret], event_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers of an attempt at ``at``: what is signed beside the body, and a signature by each secret."""
    seconds = int(at.timestamp())
    signatures = [_signature(each.secret, event_id, seconds, body) for each in secrets if each.signs(at)]
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(signatures),
    }


def _signature(secret: str, event_id: str, seconds: int, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{event_id}.{seconds}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"
