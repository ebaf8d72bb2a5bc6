"""Images of requests: base64 → encoded bytes → pixels that all stages of a request share."""

import asyncio
from binascii import a2b_base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from deployments.serving.stage import SharedImage, SharedPixels
from deployments.serving.streams import in_time
from vision.errors import InvalidMedia, MediaTooLarge
from vision.images import decode

IMAGES_AT_ONCE: Final = 8
"""Decoded images that one gateway holds: 36 MB each from a telephone, 240 MB at the pixel limit."""
_SLICE: Final = 2**20  # characters; a multiple of 4
_NO_BASE64: Final = "data is no standard base64: A-Z a-z 0-9 + / and padding, without line breaks or a prefix."


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A decoded image as stages take it; ``width`` and ``height`` in pixels, upright."""

    image: SharedImage
    width: int
    height: int


class ImageDecoder:
    """Decodes in threads, a bounded number at once; further images wait, still encoded."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._slots = asyncio.Semaphore(IMAGES_AT_ONCE)

    @asynccontextmanager
    async def decoded(self, data: bytes) -> AsyncIterator[DecodedImage]:
        """Decode an encoded image and keep it until the block ends.

        Raises InvalidMedia, MediaTooLarge, StageOverloaded, and DeadlineExceeded when no slot came free in time.
        """
        await in_time(self._slots.acquire(), "The time ran out before this picture could be decoded.")
        try:
            pixels = await asyncio.to_thread(decode, data, max_pixels=self._max_pixels)
            height, width = pixels.shape[:2]
            yield DecodedImage(SharedPixels(pixels), width, height)
        finally:
            self._slots.release()


def from_base64(data: str, max_bytes: int) -> bytes:
    """Decode standard base64 (RFC 4648, section 4). Raises MediaTooLarge and InvalidMedia.

    The decoder holds the interpreter's lock; a slice at a time leaves the event loop its turns.
    """
    size = len(data) * 3 // 4 - data.count("=", -2)
    if size > max_bytes:
        raise MediaTooLarge(f"This image has {size:,} bytes; the limit is {max_bytes:,}.")
    # The decoder takes padding at the end of any slice; only the last one may have it.
    if len(data) % 4 or "=" in data[:-2]:
        raise InvalidMedia(_NO_BASE64)
    decoded = bytearray()
    try:
        for start in range(0, len(data), _SLICE):
            decoded += a2b_base64(data[start : start + _SLICE], strict_mode=True)
    except ValueError:
        raise InvalidMedia(_NO_BASE64) from None
    return bytes(decoded)
