"""Bodies that are made while they are read: bounded, stopped with their reader, and failing before they begin."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from anyio import CancelScope
from fastapi.responses import StreamingResponse
from starlette.types import Send

from deployments.serving.handle import request_deadline, time_left
from stores.documents import StoreError
from vision.errors import DeadlineExceeded, StageError

logger = logging.getLogger("ray.serve")

IDLE_S: Final = 120.0
"""How long a reader may take nothing, before what is made for it stops."""


class Stream(StreamingResponse):
    """What a source gives, from its first chunk on; the source is closed when the reader leaves, and in any case.

    What the source fails with before its first chunk is raised, so that it becomes an answer of its own, and so is
    DeadlineExceeded. From then on the request has no deadline: a film is watched for as long as it runs. A source that
    fails later has the connection cut, so that nobody takes the beginning for the whole.
    """

    def __init__(
        self, source: AsyncGenerator[bytes, None], media_type: str, headers: Mapping[str, str], status: int = 200
    ) -> None:
        super().__init__(source, status, headers, media_type)
        self._source = source

    async def stream_response(self, send: Send) -> None:
        """Called by Starlette, beside the task that waits for the reader to leave."""
        try:
            chunk = await self._first()
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._pass_on(chunk, send)
        finally:
            with CancelScope(shield=True):
                await self._source.aclose()

    async def _first(self) -> bytes:
        left = time_left()
        request_deadline.set(None)
        try:
            async with asyncio.timeout(left):
                return await anext(self._source, b"")
        except TimeoutError:
            raise DeadlineExceeded("The time ran out before this stream could begin.") from None

    async def _pass_on(self, chunk: bytes, send: Send) -> None:
        try:
            while chunk:
                async with asyncio.timeout(IDLE_S):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await anext(self._source, b"")
        except TimeoutError:
            logger.info("stream cut: its reader took nothing for %g s", IDLE_S)
        except (StageError, StoreError) as error:
            logger.warning("stream cut: %s", error)
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
