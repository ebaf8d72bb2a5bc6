"""Analysis of pictures, one or a batch: independent parts, computed concurrently, of one decoded image."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np
from fastapi import APIRouter

from deployments.embed.clip import CLIP
from deployments.people.emotion import EMOTION
from deployments.people.faces import FACES
from deployments.quality.blur import BLUR
from deployments.quality.brisque import BRISQUE, Distortion
from deployments.quality.exposure import EXPOSURE
from deployments.quality.nima import NIMA
from deployments.serving.handle import work_on
from graphs.photos.errors import PhotoBatchTooLarge, code_of
from graphs.photos.schemas import (
    API_VERSION,
    Aesthetic,
    AnalyzeAnswer,
    AnalyzeRequest,
    BatchAnalyzeAnswer,
    BatchAnalyzeRequest,
    Blur,
    EmbeddingResult,
    EmotionResult,
    EmotionScores,
    FaceEmotion,
    Flags,
    ImageInput,
    PhotoResult,
    Quality,
    Region,
    aesthetic_label,
    overall_quality,
)
from graphs.web.context import Clock, Context, Timer, task_group
from graphs.web.images import DecodedImage, ImageDecoder, from_base64
from graphs.web.parts import OptionalParts
from vision.errors import InvalidInput, StageError
from vision.faces.face import Face
from vision.quality.exposure import Lighting

T = TypeVar("T")

NO_CLIP: Final = (
    "{clip} is not installed, and {model} serves in its place, whose vectors are not comparable with those of CLIP. "
    "Send accept_fallback=true to have them, or get CLIP with `visiongraph models pull`."
)
NO_CLIP_S: Final = 15.0
"""Seconds for which it is taken as known that another model serves: embeddings that nobody accepts cost time."""


class PhotoAnalysis:
    """Decodes and analyses single pictures."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._decoder = ImageDecoder(context.settings.max_image_pixels)
        self._no_clip = ""
        self._no_clip_until = float("-inf")

    async def of(self, data: bytes, image: ImageInput, flags: Flags, clock: Clock) -> PhotoResult:
        """Analyse one encoded picture. Raises the first StageError of any part and cancels the others.

        ``clock`` started when the picture was requested. A missing model costs its part, unless that was asked for.
        """
        work_on(f"photo {hashlib.sha256(data).hexdigest()}", *filter(None, [image.image_id]))
        parts = OptionalParts()
        async with self._decoder.decoded(data) as picture:
            async with task_group() as group:

                def start(
                    name: str, flag: str, part: Callable[[DecodedImage], Coroutine[Any, Any, T]]
                ) -> asyncio.Task[T | None] | None:
                    if not getattr(flags, flag):
                        return None
                    return group.create_task(parts.of(name, part(picture), named=flags.asks_for(flag)))

                blur = start("blur", "run_blur", self._blur)
                emotion = start("emotion", "run_emotion", self._emotion)
                accepted = flags.accept_fallback
                if accepted is None:
                    accepted = self._context.settings.accept_fallback
                embedding = start(
                    "embedding", "run_embedding", partial(self._embedding, parts=parts, fallback=accepted)
                )
                rated = (
                    group.create_task(self._rated(picture, parts, named=flags.asks_for("run_quality")))
                    if flags.run_quality
                    else None
                )
            quality, aesthetic = rated.result() if rated else (None, None)
            return PhotoResult(
                image_id=image.image_id,
                source_url=image.url,
                width_px=picture.width,
                height_px=picture.height,
                blur=blur.result() if blur else None,
                quality=quality,
                aesthetic=aesthetic,
                emotion=emotion.result() if emotion else None,
                embedding=embedding.result() if embedding else None,
                unavailable=parts.unavailable,
                processing_time_ms=clock.milliseconds,
            )

    async def _blur(self, picture: DecodedImage) -> Blur:
        sharpness = await self._context.stage(BLUR)(picture.image)
        # The verdict is of the number that is shown.
        variance = round(sharpness.laplacian_variance, 4)
        return Blur(
            laplacian_variance=variance,
            is_blurry=variance < sharpness.threshold,
            blur_threshold=sharpness.threshold,
        )

    async def _rated(
        self, picture: DecodedImage, parts: OptionalParts, *, named: bool
    ) -> tuple[Quality | None, Aesthetic | None]:
        async with task_group() as group:
            distortion = group.create_task(parts.of("quality.brisque", self._distortion(picture), named=named))
            ratings = group.create_task(self._ratings(picture, parts, named=named))
            exposure = group.create_task(self._context.stage(EXPOSURE)(picture.image))
        technical, aesthetic = ratings.result()
        return _quality(distortion.result(), technical, exposure.result()), _aesthetic(aesthetic)

    async def _ratings(
        self, picture: DecodedImage, parts: OptionalParts, *, named: bool
    ) -> tuple[float | None, float | None]:
        technical = aesthetic = None
        with parts.optional("quality.nima", "aesthetic", named=named):
            ratings = await self._context.stage(NIMA)(picture.image)
            with parts.optional("quality.nima", named=named):
                technical = round(ratings.of("technical").mean, 4)
            with parts.optional("aesthetic", named=named):
                aesthetic = round(ratings.of("aesthetic").mean, 4)
        return technical, aesthetic

    async def _distortion(self, picture: DecodedImage) -> Distortion:
        try:
            return await self._context.stage(BRISQUE)(picture.image)
        except InvalidInput as error:
            # Too small or of one shade: the picture is fine, and the other parts of it can be had.
            raise InvalidInput(f"{error.message} run_quality=false leaves its quality out.") from None

    async def _emotion(self, picture: DecodedImage) -> EmotionResult | None:
        faces = await self._context.stage(FACES)((picture.image, "boxes"))
        if not faces:
            return None
        emotions = await self._context.stage(EMOTION)((picture.image, faces))
        return EmotionResult(
            faces_detected=len(faces),
            faces=[
                FaceEmotion(
                    dominant_emotion=emotion.dominant,
                    scores=EmotionScores.model_validate(emotion.scores),
                    face_confidence=face.confidence,
                    region=_region(face),
                )
                for face, emotion in zip(faces, emotions, strict=True)
            ],
        )

    async def _embedding(
        self, picture: DecodedImage, *, parts: OptionalParts, fallback: bool
    ) -> EmbeddingResult | None:
        """Return the embedding; None, for the reason in ``parts``, where it is no CLIP's and ``fallback`` is False."""
        if not fallback and time.monotonic() < self._no_clip_until:
            parts.leave_out("embedding", self._no_clip)
            return None
        embedding = await self._context.stage(CLIP)(picture.image)
        if embedding.fallback and not fallback:
            self._no_clip = NO_CLIP.format(clip=self._context.settings.clip_model_name, model=embedding.model)
            self._no_clip_until = time.monotonic() + NO_CLIP_S
            parts.leave_out("embedding", self._no_clip)
            return None
        # Eight places are all that a float32 of this size has; more would double the answer.
        vector: list[float] = np.round(embedding.vector.astype(np.float64), 8).tolist()
        return EmbeddingResult(model=embedding.model, dimensions=len(vector), vector=vector)


def _quality(distortion: Distortion | None, technical: float | None, exposure: Lighting) -> Quality | None:
    if distortion is None and technical is None:
        return None
    # The label is of the numbers that are shown.
    brisque = None if distortion is None else round(distortion.score, 4)
    return Quality(
        brisque_score=brisque,
        brisque_model=None if distortion is None else distortion.model_version,
        brisque_outside=[] if distortion is None else list(distortion.outside),
        nima_technical_score=technical,
        exposure=exposure.verdict,
        exposure_score=exposure.score,
        overall_quality=overall_quality(brisque, technical, exposure.verdict),
        based_on=["nima"] if brisque is None else ["brisque"] if technical is None else None,
    )


def _aesthetic(rating: float | None) -> Aesthetic | None:
    return None if rating is None else Aesthetic(nima_aesthetic_score=rating, aesthetic_label=aesthetic_label(rating))


def _region(face: Face) -> Region:
    """Return the box of a face in whole pixels."""
    left, top = round(face.x), round(face.y)
    return Region(x=left, y=top, w=round(face.x + face.width) - left, h=round(face.y + face.height) - top)


logger = logging.getLogger("ray.serve")

FILES_AT_ONCE: Final = 8
"""Encoded pictures of one request in memory: enough to wait for slow hosts concurrently."""
PICTURES_AT_ONCE: Final = 4
"""Decoded pictures of one request: enough to keep every stage busy, half of what the gateway holds in all."""


async def encoded(context: Context, image: ImageInput) -> bytes:
    """Return the file that the request names or holds. Raises ImageFetchError, MediaTooLarge and InvalidMedia."""
    if image.url is not None:
        return await context.fetcher.fetch(image.url)
    assert image.data is not None
    return await asyncio.to_thread(from_base64, image.data, context.settings.max_image_size_bytes)


async def analyze_all(
    context: Context, analysis: PhotoAnalysis, images: Sequence[ImageInput], flags: Flags
) -> list[PhotoResult]:
    """Return one result per image, in order; ``error`` is set on each that failed.

    Errors that are not of an image but of the service, which any other would meet as well, are raised.
    """
    files, pictures = asyncio.Semaphore(FILES_AT_ONCE), asyncio.Semaphore(PICTURES_AT_ONCE)

    async def one(image: ImageInput) -> PhotoResult:
        async with files:
            clock = Clock()
            try:
                data = await encoded(context, image)
                async with pictures:
                    return await analysis.of(data, image, flags, clock)
            except Exception as error:
                if isinstance(error, StageError) and not error.concerns_input:
                    raise
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


def add_analyze_routes(router: APIRouter, context: Context) -> None:
    """Add /analyze and /analyze/batch."""
    analysis = PhotoAnalysis(context)

    @router.post("/analyze")
    async def analyze(request: AnalyzeRequest, clock: Timer) -> AnalyzeAnswer:
        """Sharpness, quality, aesthetics, emotions and embedding of one picture."""
        data = await encoded(context, request.image)
        result = await analysis.of(data, request.image, request, clock)
        return AnalyzeAnswer(api_version=API_VERSION, result=result)

    @router.post("/analyze/batch")
    async def analyze_batch(request: BatchAnalyzeRequest, clock: Timer) -> BatchAnalyzeAnswer:
        """The same for several pictures; one that fails has its error set, and the others their results."""
        limit = context.settings.max_batch_size
        if len(request.images) > limit:
            raise PhotoBatchTooLarge(len(request.images), limit)
        results = await analyze_all(context, analysis, request.images, request)
        failed = sum(result.error is not None for result in results)
        return BatchAnalyzeAnswer(
            api_version=API_VERSION,
            total=len(results),
            succeeded=len(results) - failed,
            failed=failed,
            results=results,
            total_processing_time_ms=clock.milliseconds,
        )
