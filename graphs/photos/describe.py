"""The route that asks a vision language model what it thinks of a picture."""

import asyncio
import base64
import re
from io import BytesIO
from typing import Final
from urllib.parse import SplitResult, urlsplit

from fastapi import APIRouter, Request
from PIL import Image

from deployments.language.describe import DESCRIBE
from graphs.photos.schemas import ReviewAnswer, ReviewRequest
from graphs.web.context import Context, Timer
from graphs.web.uploads.library import ID_LENGTH, Library
from stores.records import Asset
from vision.deadlines import time_left
from vision.errors import InvalidInput
from vision.images import decode
from vision.language.review import Question

MAX_SIDE: Final = 1568
"""Pixels; providers shrink larger pictures to about this before their model sees them."""
JPEG_QUALITY: Final = 85
MARGIN_S: Final = 1.0
"""Seconds of a request that are reserved for its response."""

NO_IMAGE: Final = "image_url must be an http or https URL, or the id or public_url of a stored asset."

_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")
_MEDIA_PATH = re.compile(rf"(?:/api/v1)?/media/([0-9a-f]{{{ID_LENGTH}}})(?:/content|/poster)?")


def add_describe_route(router: APIRouter, context: Context) -> None:
    """Add /analyze/llm."""
    settings, library = context.settings, Library(context)

    async def stored(http: Request, image_url: str) -> Asset | None:
        """Return the asset of this service that an id or URL names, or None."""
        url = _split(image_url)
        ours = not url.scheme or url.netloc == http.url.netloc
        path = url.path.removeprefix(http.scope.get("root_path", ""))
        match = (_ID.fullmatch(image_url) or _MEDIA_PATH.fullmatch(path)) if ours else None
        if match is not None:
            return await library.get(match[match.lastindex or 0])
        last = url.path.rpartition("/")[2]
        if _ID.fullmatch(last):
            # Perhaps a link that this service signed to the bucket, which a provider may not reach.
            link = urlsplit(await context.objects.presign_get(last, settings.presign_ttl_s) or "")
            if (link.scheme, link.netloc, link.path) == (url.scheme, url.netloc, url.path):
                return (await library.known([last])).get(last)
        return None

    async def image_for(http: Request, image_url: str) -> str:
        """Return a URL for the model, a data URL where it needs one.

        Raises InvalidInput, InvalidMedia, AssetNotFound and ImageFetchError.
        """
        asset = await stored(http, image_url)
        if asset is not None:
            picture = await library.picture(asset)
            return await asyncio.to_thread(data_url, picture, settings.max_image_pixels)
        url = _split(image_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise InvalidInput(NO_IMAGE)
        if url.scheme == "https":
            return image_url
        # No provider takes an address without encryption.
        picture = await context.fetcher.fetch(image_url)
        return await asyncio.to_thread(data_url, picture, settings.max_image_pixels)

    @router.post("/analyze/llm")
    async def analyze_llm(request: ReviewRequest, http: Request, clock: Timer) -> ReviewAnswer:
        """A model's review of a picture: score, composition, pose, background, what is good and what is not."""
        image_url = await image_for(http, request.image_url)
        left = time_left()
        answer = await context.stage(DESCRIBE)(
            Question(
                image_url=image_url,
                model=request.model or settings.llm_default_model,
                prompt=request.custom_prompt,
                max_tokens=request.max_tokens or settings.llm_max_tokens,
                timeout_s=max(MARGIN_S, (settings.request_timeout_s if left is None else left) - MARGIN_S),
            )
        )
        return ReviewAnswer(
            ref_id=request.ref_id,
            analysis=answer.review,
            model_used=answer.model,
            tokens_used=answer.tokens,
            processing_ms=clock.milliseconds,
            error=None,
        )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise InvalidInput(NO_IMAGE) from None


def data_url(picture: bytes, max_pixels: int) -> str:
    """Encode a picture as a data URL: JPEG, no side over 1568 pixels. Raises InvalidMedia and MediaTooLarge."""
    image = Image.fromarray(decode(picture, max_pixels=max_pixels, shrink_to=MAX_SIDE // 2))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    file = BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
