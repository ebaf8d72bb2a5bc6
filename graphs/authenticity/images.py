"""Judges pictures on disk, one at a time of each request."""

import asyncio

from graphs.authenticity.answers import image_answer
from graphs.authenticity.findings import PictureFindings
from graphs.authenticity.heatmap import heat_map
from graphs.authenticity.models import ImageAnswer
from graphs.authenticity.pictures import look
from graphs.authenticity.results import Results
from graphs.authenticity.uploads import Handed
from graphs.web.context import Clock, Context
from graphs.web.images import ImageDecoder
from vision.forensics.compression import luma_table
from vision.images import decode


class ImageAnalysis:
    """Decodes, judges and keeps the answer."""

    def __init__(self, context: Context, results: Results) -> None:
        self._context = context
        self._results = results
        self._pictures = ImageDecoder(context.settings.max_image_pixels)

    async def of(self, handed: Handed, clock: Clock) -> ImageAnswer:
        """The answer, kept. Raises the errors of decoding, of overload, and ModelNotLoaded when nothing answers."""
        data = await asyncio.to_thread(handed.path.read_bytes)
        limit = self._context.settings.max_image_pixels
        async with self._pictures.decoded(data) as picture:
            table = await asyncio.to_thread(luma_table, data, limit)
            found = await look(self._context, picture.image, table)
        answer = image_answer(handed, found, clock)
        await self._results.keep(answer.analysis_id, answer, await asyncio.to_thread(_drawn, data, limit, found))
        return answer


def _drawn(data: bytes, max_pixels: int, found: PictureFindings) -> bytes:
    return heat_map(decode(data, max_pixels=max_pixels), found)
