"""The thresholds that clients may change: stored in the document store, so every gateway sees them."""

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter

from graphs.assets.schemas import (
    ConfigAnswer,
    QualityThreshold,
    QualityThresholdAnswer,
    SimilarityThreshold,
    SimilarityThresholdAnswer,
)
from graphs.web.audit import note
from graphs.web.context import Context, Timer

QUALITY: Final = "quality_threshold"
SIMILARITY: Final = "similarity_threshold"
MIB: Final = 2**20
FORMATS: Final = (
    *("JPG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIC"),
    *("MP4", "MOV", "AVI", "WEBM", "MKV"),
    *("WAV", "MP3", "M4A", "FLAC", "OGG"),
)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """``quality``: below it an image is poor, 0 to 1; ``similarity``: from it on two assets match, 0 to 100."""

    quality: float = 0.5
    similarity: float = 75.0


DEFAULTS: Final = Thresholds()


class Configuration:
    """Reads the thresholds at every request, so that a change takes effect everywhere at once."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self) -> Thresholds:
        """Return those in force, with defaults where nothing was set."""
        stored = await self._context.documents.get_config()
        return Thresholds(stored.get(QUALITY, DEFAULTS.quality), stored.get(SIMILARITY, DEFAULTS.similarity))

    async def change_quality(self, value: float) -> float:
        """Set the threshold of quality and return the previous one."""
        return await self._change(QUALITY, (await self.read()).quality, value)

    async def change_similarity(self, value: float) -> float:
        """Set the threshold of similarity and return the previous one."""
        return await self._change(SIMILARITY, (await self.read()).similarity, value)

    async def _change(self, key: str, previous: float, value: float) -> float:
        await self._context.documents.set_config({key: value})
        note(key, value=value, previous=previous)
        return previous


def configuration_router(context: Context, configuration: Configuration) -> APIRouter:
    """Return the routes config, config/quality-threshold and config/similarity-threshold."""
    router = APIRouter(tags=["assets: configuration"])

    @router.get("/config")
    async def get_config(clock: Timer) -> ConfigAnswer:
        """Return the thresholds and limits in force."""
        thresholds = await configuration.read()
        settings = context.settings
        return ConfigAnswer(
            quality_threshold=thresholds.quality,
            similarity_threshold=thresholds.similarity,
            max_file_size_mb=settings.max_image_bytes / MIB,
            max_video_size_mb=settings.max_video_bytes / MIB,
            max_audio_size_mb=settings.max_audio_bytes / MIB,
            max_image_megapixels=settings.max_image_pixels / 1e6,
            max_batch_size=settings.max_batch_assets,
            request_timeout_seconds=settings.request_timeout_s,
            supported_formats=list(FORMATS),
            processing_time=clock.seconds,
        )

    @router.put("/config/quality-threshold")
    async def put_quality_threshold(request: QualityThreshold, clock: Timer) -> QualityThresholdAnswer:
        """Set the quality below which an image counts as poor (0-1)."""
        previous = await configuration.change_quality(request.threshold)
        return QualityThresholdAnswer(
            quality_threshold=request.threshold,
            previous_threshold=previous,
            updated=True,
            processing_time=clock.seconds,
        )

    @router.put("/config/similarity-threshold")
    async def put_similarity_threshold(request: SimilarityThreshold, clock: Timer) -> SimilarityThresholdAnswer:
        """Set the percentage from which two assets count as a match (0-100)."""
        previous = await configuration.change_similarity(request.threshold)
        return SimilarityThresholdAnswer(
            similarity_threshold=request.threshold,
            previous_threshold=previous,
            updated=True,
            processing_time=clock.seconds,
        )

    return router
