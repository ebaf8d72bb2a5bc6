"""What the photo API says of one picture: independent parts, computed at once, of one decoded image."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import numpy as np

from deployments.people.emotion import Emotion
from deployments.quality.blur import Sharpness
from deployments.quality.brisque import Distortion
from deployments.quality.nima import Ratings
from graphs.photos.labels import aesthetic_label, overall_quality
from graphs.photos.models import (
    Aesthetic,
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
)
from graphs.web.context import Clock, Context, task_group
from graphs.web.images import DecodedImage, ImageDecoder
from vision.embed.embedding import ClipEmbedding
from vision.errors import InvalidInput, ModelNotLoaded
from vision.faces.face import Face

BLUR = "quality/blur"
BRISQUE = "quality/brisque"
NIMA = "quality/nima"
FACES = "people/faces"
EMOTION = "people/emotion"
CLIP = "embed/clip"

T = TypeVar("T")


class PhotoAnalysis:
    """Decodes and analyses single pictures."""

    def __init__(self, context: Context) -> None:
        self._stages = context.stages
        self._pictures = ImageDecoder(context.settings.max_image_pixels)

    async def of(self, data: bytes, image: ImageInput, flags: Flags, clock: Clock) -> PhotoResult:
        """The result of one encoded picture. Raises the first StageError of any part; the other parts are cancelled.

        ``clock`` is the one that started when the picture was asked for.
        """
        async with self._pictures.decoded(data) as picture:
            async with task_group() as group:

                def start(
                    wanted: bool, part: Callable[[DecodedImage], Coroutine[Any, Any, T]]
                ) -> asyncio.Task[T] | None:
                    return group.create_task(part(picture)) if wanted else None

                blur = start(flags.run_blur, self._blur)
                rated = start(flags.run_quality, self._rated)
                emotion = start(flags.run_emotion, self._emotion)
                embedding = start(flags.run_embedding, self._embedding)
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
                processing_time_ms=clock.milliseconds,
            )

    async def _blur(self, picture: DecodedImage) -> Blur:
        found: Sharpness = await self._stages[BLUR](picture.image)
        return Blur(
            laplacian_variance=found.laplacian_variance, is_blurry=found.is_blurry, blur_threshold=found.threshold
        )

    async def _rated(self, picture: DecodedImage) -> tuple[Quality, Aesthetic]:
        async with task_group() as group:
            distortion_task = group.create_task(self._distortion(picture))
            ratings_task = group.create_task(self._stages[NIMA](picture.image))
        distortion = distortion_task.result()
        ratings: Ratings = ratings_task.result()
        if ratings.technical is None or ratings.aesthetic is None:
            missing = "technical" if ratings.technical is None else "aesthetic"
            raise ModelNotLoaded(f"{NIMA} has no {missing} weights; run_quality=false leaves its ratings out.")
        # Labels are of the numbers that are shown.
        brisque, technical = round(distortion.score, 4), round(ratings.technical.mean, 4)
        aesthetic = round(ratings.aesthetic.mean, 4)
        return (
            Quality(
                brisque_score=brisque,
                nima_technical_score=technical,
                overall_quality=overall_quality(brisque, technical),
            ),
            Aesthetic(nima_aesthetic_score=aesthetic, aesthetic_label=aesthetic_label(aesthetic)),
        )

    async def _distortion(self, picture: DecodedImage) -> Distortion:
        try:
            found: Distortion = await self._stages[BRISQUE](picture.image)
        except InvalidInput as error:
            # Too small or of one shade: the picture is fine, and the other parts of it can be had.
            raise InvalidInput(f"{error.message} run_quality=false leaves its quality out.") from None
        return found

    async def _emotion(self, picture: DecodedImage) -> EmotionResult | None:
        faces: tuple[Face, ...] = await self._stages[FACES](picture.image)
        if not faces:
            return None
        emotions: tuple[Emotion, ...] = await self._stages[EMOTION]((picture.image, faces))
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

    async def _embedding(self, picture: DecodedImage) -> EmbeddingResult:
        found: ClipEmbedding = await self._stages[CLIP](picture.image)
        # Eight places are all that a float32 of this size has; more would double the answer.
        vector: list[float] = np.round(found.vector.astype(np.float64), 8).tolist()
        return EmbeddingResult(model=found.model, dimensions=len(vector), vector=vector)


def _region(face: Face) -> Region:
    """The face's box in whole pixels."""
    left, top = round(face.x), round(face.y)
    return Region(x=left, y=top, w=round(face.x + face.width) - left, h=round(face.y + face.height) - top)
