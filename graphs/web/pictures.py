"""Encoded bytes → one decoded picture that all stages of a request look at."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from deployments.serving.handle import time_left
from deployments.serving.shared import SharedImage, share
from vision.errors import DeadlineExceeded
from vision.images import decode

PICTURES_AT_ONCE: Final = 8
"""Decoded pictures at hand in one gateway: 36 MB each from a telephone, 240 MB at the pixel limit."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image as stages take it; ``width`` and ``height`` in pixels, upright."""

    image: SharedImage
    width: int
    height: int


class Pictures:
    """Decodes in threads, a bounded number at once; further ones wait, still encoded."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._room = asyncio.Semaphore(PICTURES_AT_ONCE)

    @asynccontextmanager
    async def opened(self, data: bytes) -> AsyncIterator[Picture]:
        """The picture, kept until the block ends.

        Raises InvalidMedia, MediaTooLarge, StageOverloaded, and DeadlineExceeded when its turn never came.
        """
        await self._enter()
        try:
            pixels = await asyncio.to_thread(decode, data, max_pixels=self._max_pixels)
            height, width = pixels.shape[:2]
            image = await share(pixels)
            del pixels  # the object store has its own copy
            yield Picture(image, width, height)
        finally:
            self._room.release()

    async def _enter(self) -> None:
        try:
            async with asyncio.timeout(time_left()):
                await self._room.acquire()
        except TimeoutError:
            raise DeadlineExceeded("The time ran out before this picture could be decoded.") from None
