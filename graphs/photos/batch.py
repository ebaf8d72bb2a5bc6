"""Many pictures in one request: a few at once, one that fails beside others that do not."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from graphs.photos.analysis import PhotoAnalysis
from graphs.photos.errors import code_of
from graphs.photos.models import Flags, ImageInput, PhotoResult
from graphs.web.context import Clock, Context, task_group
from graphs.web.images import from_base64
from vision.errors import StageError

logger = logging.getLogger("ray.serve")

FILES_AT_ONCE: Final = 8
"""Encoded pictures of one request at hand: enough that slow hosts are waited for together."""
PICTURES_AT_ONCE: Final = 4
"""Decoded ones: keeps every stage busy, and is half of what the gateway holds for all requests."""


async def encoded(context: Context, image: ImageInput) -> bytes:
    """Return the file that the request names or holds. Raises ImageFetchError, MediaTooLarge and InvalidMedia."""
    if image.url is not None:
        return await context.fetcher.fetch(image.url)
    assert image.data is not None
    return await asyncio.to_thread(from_base64, image.data, context.settings.max_image_size_bytes)


async def analyze_all(
    context: Context, analysis: PhotoAnalysis, images: Sequence[ImageInput], flags: Flags
) -> list[PhotoResult]:
    """One result per image, in order; ``error`` is set on those that failed, each for itself."""
    files, pictures = asyncio.Semaphore(FILES_AT_ONCE), asyncio.Semaphore(PICTURES_AT_ONCE)

    async def one(image: ImageInput) -> PhotoResult:
        async with files:
            clock = Clock()
            try:
                data = await encoded(context, image)
                async with pictures:
                    return await analysis.of(data, image, flags, clock)
            except Exception as error:
                return _failed(image, error, clock)

    async with task_group() as group:
        tasks = [group.create_task(one(image)) for image in images]
    return [task.result() for task in tasks]


def _failed(image: ImageInput, error: Exception, clock: Clock) -> PhotoResult:
    if isinstance(error, StageError):
        reason = f"{code_of(error)[1]}: {error.message}"
    else:
        logger.error("unhandled error in a batch", exc_info=error)
        reason = "internal_error: The service failed on this image; its log has the cause."
    return PhotoResult(
        image_id=image.image_id,
        source_url=image.url,
        width_px=None,
        height_px=None,
        processing_time_ms=clock.milliseconds,
        error=reason,
    )
