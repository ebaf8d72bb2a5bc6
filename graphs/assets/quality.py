"""Routes that judge the quality of assets."""

from fastapi import APIRouter

from graphs.assets.configuration import Configuration
from graphs.assets.features import FeatureSource
from graphs.assets.measures import Measures, Quality
from graphs.assets.models import AssetRef, BatchRequest
from graphs.assets.quality_models import (
    BatchQualityAnswer,
    BatchStatistics,
    FeatureStatistics,
    MetricsAnswer,
    QualityAnswer,
    QualityResult,
)
from graphs.assets.scores import batch_statistics, diversity_score, feature_statistics, overall_quality
from graphs.web.context import Timer, task_group
from graphs.web.errors import AssetNotFound
from graphs.web.uploads.library import Library
from stores.records import Asset, Features
from vision.errors import StageError


def quality_router(
    library: Library, features: FeatureSource, measures: Measures, configuration: Configuration
) -> APIRouter:
    """analyze-quality, analyze-image-metrics, batch-quality-check."""
    router = APIRouter(tags=["assets: quality"])

    @router.post("/analyze-quality")
    async def analyze_quality(request: AssetRef, clock: Timer) -> QualityAnswer:
        """Technical quality of a picture by NIMA, BRISQUE and sharpness, beside statistics of its features."""
        asset = await library.get(request.asset_id)
        async with task_group() as group:
            measuring = group.create_task(measures.quality(asset))
            embedding = group.create_task(features.one(asset))
            configured = group.create_task(configuration.read())
        quality, (found, _) = measuring.result(), embedding.result()
        threshold = configured.result()["quality_threshold"]
        return QualityAnswer(
            asset_id=asset.asset_id,
            quality_score=quality.score,
            diversity_score=diversity_score(found.raw),
            feature_statistics=FeatureStatistics.model_validate(feature_statistics(found.raw)),
            quality_threshold=threshold,
            passes_threshold=quality.score >= threshold,
            nima_technical_score=quality.technical,
            brisque_score=quality.brisque,
            sharpness_score=quality.sharpness,
            model_version=found.model_version,
            processing_time=clock.seconds,
        )

    @router.post("/analyze-image-metrics")
    async def analyze_image_metrics(request: AssetRef, clock: Timer) -> MetricsAnswer:
        """Sharpness, lighting and composition of a picture, and one score over all."""
        asset = await library.get(request.asset_id)
        async with task_group() as group:
            measuring = group.create_task(measures.everything(asset))
            embedding = group.create_task(features.one(asset))
        quality, lighting, framing = measuring.result()
        return MetricsAnswer(
            asset_id=asset.asset_id,
            sharpness_score=quality.sharpness,
            lighting_quality=round(lighting.score, 4),
            composition_score=round(framing.composition.score, 4),
            overall_quality=overall_quality(quality.score, lighting.score, framing.composition.score),
            dinov3_quality=diversity_score(embedding.result()[0].raw),
            quality_score=quality.score,
            processing_time=clock.seconds,
        )

    @router.post("/batch-quality-check")
    async def batch_quality_check(request: BatchRequest, clock: Timer) -> BatchQualityAnswer:
        """Quality of many assets; those that fail, unknown ones too, say why, and the others have their scores."""
        ids = library.batch(request.asset_ids)
        assets = await library.known(ids)
        async with task_group() as group:
            measuring = group.create_task(measures.qualities(assets.values()))
            embedding = group.create_task(features.many(assets.values()))
            configured = group.create_task(configuration.read())
        qualities, unmeasured = measuring.result()
        found, unembedded = embedding.result()
        threshold = configured.result()["quality_threshold"]
        failures = unembedded | unmeasured
        results = [
            _scored(assets[asset_id], qualities[asset_id], found[asset_id], threshold)
            if asset_id in qualities and asset_id in found
            else _failed(asset_id, assets.get(asset_id), failures.get(asset_id) or AssetNotFound([asset_id]))
            for asset_id in ids
        ]
        scores = [result.quality_score for result in results if result.quality_score is not None]
        statistics = batch_statistics(scores)
        return BatchQualityAnswer(
            total_assets=len(ids),
            processed_successfully=len(scores),
            failed_assets=len(ids) - len(scores),
            quality_results=results,
            batch_statistics=BatchStatistics.model_validate(statistics) if statistics else None,
            quality_threshold=threshold,
            processing_time=clock.seconds,
        )

    return router


def _scored(asset: Asset, quality: Quality, features: Features, threshold: float) -> QualityResult:
    return QualityResult(
        asset_id=asset.asset_id,
        filename=asset.filename,
        quality_score=quality.score,
        diversity_score=diversity_score(features.raw),
        feature_statistics=FeatureStatistics.model_validate(feature_statistics(features.raw)),
        passes_threshold=quality.score >= threshold,
    )


def _failed(asset_id: str, asset: Asset | None, error: StageError) -> QualityResult:
    return QualityResult(asset_id=asset_id, filename=asset.filename if asset else None, error=error.message)
