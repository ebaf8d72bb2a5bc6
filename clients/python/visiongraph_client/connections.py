"""How both clients reach a service: address, key, timeouts, and bodies that are read while they are sent."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx

from visiongraph_client.errors import ConnectionFailed, VisiongraphError
from visiongraph_client.protocol import Call, Slice

URL: Final = "VISIONGRAPH_URL"
KEY: Final = "VISIONGRAPH_KEY"
DEFAULT_URL: Final = "http://127.0.0.1:8000"
TIMEOUT: Final = httpx.Timeout(10.0, read=120.0, write=120.0)
"""Seconds for a connection, between two pieces of an answer, and between two of a body."""


def options(url: str | None, key: str | None, timeout: float | httpx.Timeout) -> dict[str, Any]:
    """Return the arguments of an ``httpx`` client. Raises VisiongraphError for what is no address."""
    base = url or os.environ.get(URL) or DEFAULT_URL
    if not base.startswith(("http://", "https://")):
        raise VisiongraphError(f"{base!r} is no address; give http://host:port or https://host.")
    secret = key or os.environ.get(KEY, "")
    headers = {"user-agent": "visiongraph-client", "tus-resumable": "1.0.0"}
    if secret:
        headers["authorization"] = f"Bearer {secret}"
    return {"base_url": base, "timeout": timeout, "headers": headers}


def content(call: Call[Any]) -> Any:
    """Return the content of a request of a client that blocks."""
    return call.content


def async_content(call: Call[Any]) -> Any:
    """Return the content of a request of a client for asyncio, which reads files in threads."""
    return _read_in_threads(call.content) if isinstance(call.content, Slice) else call.content


async def _read_in_threads(content: Slice) -> AsyncIterator[bytes]:
    chunks = iter(content)
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


@contextmanager
def understood() -> Iterator[None]:
    """Raise errors of connections as ConnectionFailed."""
    try:
        yield
    except httpx.TransportError as error:
        raise ConnectionFailed(str(error) or type(error).__name__) from error
