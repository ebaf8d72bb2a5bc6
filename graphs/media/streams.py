"""Bodies that are made while they are read: bounded, stopped with their reader, and failing before they begin."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from anyio import CancelScope
from fastapi.responses import StreamingResponse
from starlette.types import Send

from deployments.errors import DeadlineExceeded, StageError
from deployments.handle import request_deadline
from ops.stores.documents import StoreError

logger = logging.getLogger("ray.serve")

IDLE_S: Final = 120.0
"""How long a reader may take nothing, before what is made for it stops."""


class Stream(StreamingResponse):
    """The first chunk of a source and what comes after it; the source is closed in any case.

    A source that fails in the middle has the connection cut, so that nobody takes the beginning for the whole.
    """

    def __init__(
        self,
        first: bytes,
        rest: AsyncGenerator[bytes, None],
        media_type: str,
        headers: Mapping[str, str],
        status: int,
    ) -> None:
        super().__init__(rest, status, headers, media_type)
        self._first = first
        self._rest = rest

    async def stream_response(self, send: Send) -> None:
        """Called by Starlette beside the task that waits for the reader to leave."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            chunk = self._first
            while chunk:
                async with asyncio.timeout(IDLE_S):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await anext(self._rest, b"")
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            logger.info("stream cut: its reader took nothing for %.0f s", IDLE_S)
        except (StageError, StoreError) as error:
            logger.warning("stream cut: %s", error)
        finally:
            with CancelScope(shield=True):
                await self._rest.aclose()


async def stream(
    source: AsyncGenerator[bytes, None], media_type: str, headers: Mapping[str, str], status: int = 200
) -> Stream:
    """A response whose first chunk is there. Raises what the source fails with before it, and DeadlineExceeded.

    From then on the request has no deadline: a film is watched for as long as it runs.
    """
    deadline = request_deadline.get()
    request_deadline.set(None)
    try:
        async with asyncio.timeout(None if deadline is None else deadline - time.time()):
            first = await anext(source, b"")
    except TimeoutError:
        raise DeadlineExceeded("The time ran out before this stream could begin.") from None
    return Stream(first, source, media_type, headers, status)
