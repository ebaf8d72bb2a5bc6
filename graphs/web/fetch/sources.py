"""The encoded bytes of a picture, from its URL or out of the request."""

import asyncio
from binascii import a2b_base64
from typing import Final

from graphs.photos.models import ImageInput
from graphs.web.context import Context
from vision.errors import InvalidMedia, MediaTooLarge

_SLICE: Final = 2**20  # characters; a multiple of 4
_NO_BASE64: Final = "data is no standard base64: A-Z a-z 0-9 + / and padding, without line breaks or a prefix."


async def encoded(context: Context, image: ImageInput) -> bytes:
    """The file that the request names or holds. Raises ImageFetchError, MediaTooLarge and InvalidMedia."""
    if image.url is not None:
        return await context.fetcher.fetch(image.url)
    assert image.data is not None
    return await asyncio.to_thread(from_base64, image.data, context.settings.max_image_size_bytes)


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
