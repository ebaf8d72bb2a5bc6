"""Client of the vision APIs of a visiongraph service."""

from visiongraph_client.async_client import AsyncClient
from visiongraph_client.client import Client
from visiongraph_client.errors import (
    AccessDenied,
    ApiError,
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    InvalidSignature,
    JobFailed,
    NotFound,
    RateLimited,
    ServiceUnavailable,
    UploadInterrupted,
    VisiongraphError,
    WaitTimeout,
)
from visiongraph_client.protocol import Retries
from visiongraph_client.transfers import Progress, Stored
from visiongraph_client.webhooks import WebhookEvent, verify_webhook

__all__ = [
    "AccessDenied",
    "ApiError",
    "AsyncClient",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "InvalidRequest",
    "InvalidSignature",
    "JobFailed",
    "NotFound",
    "Progress",
    "RateLimited",
    "Retries",
    "ServiceUnavailable",
    "Stored",
    "UploadInterrupted",
    "VisiongraphError",
    "WaitTimeout",
    "WebhookEvent",
    "verify_webhook",
]
