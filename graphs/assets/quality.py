"""Routes that measure the quality and the composition of assets."""

from typing import TypedDict

from fastapi import APIRouter

from graphs.assets.configuration import Configuration
from graphs.assets.features import FeatureSource
from graphs.assets.schemas import (
    AssetRef,
    BatchQualityAnswer,
    BatchRequest,
    BatchStatistics,
    ColorAnalysis,
    CompositionAnalysis,
    CompositionAnswer,
    CompositionRequest,
    EnhancedAnalysis,
    FeatureStatistics,
    ImageDimensions,
    MetricsAnswer,
    QualityAnswer,
    QualityResult,
    SymmetryScore,
)
from graphs.assets.scores import (
    Measures,
    Quality,
    batch_statistics,
    diversity_score,
    feature_statistics,
    overall_quality,
)
from graphs.web.context import Timer, task_group
from graphs.web.errors import AssetNotFound
from graphs.web.parts import OptionalParts
from graphs.web.uploads.library import Library
from stores.records import Asset, Features
from vision.errors import StageError


def quality_router(
    library: Library, feature_source: FeatureSource, measures: Measures, configuration: Configuration
) -> APIRouter:
    """Return the routes analyze-quality, analyze-image-metrics, batch-quality-check and analyze-image-composition."""
    router = APIRouter(tags=["assets: quality"])

    async def features_of(asset: Asset) -> Features:
        return (await feature_source.one(asset))[0]

    @router.post("/analyze-quality")
    async def analyze_quality(request: AssetRef, clock: Timer) -> QualityAnswer:
        """Measure the technical quality of a picture by NIMA, BRISQUE and sharpness, and statistics of its features."""
        asset, parts = await library.get(request.asset_id), OptionalParts()
        async with task_group() as group:
            measuring = group.create_task(measures.quality(asset, parts))
            embedding = group.create_task(parts.of("features", features_of(asset)))
            configured = group.create_task(configuration.read())
        quality, features = measuring.result(), embedding.result()
        threshold = configured.result().quality
        return QualityAnswer(
            asset_id=asset.asset_id,
            quality_score=quality.score,
            based_on=quality.based_on,
            **_described(features),
            quality_threshold=threshold,
            passes_threshold=_passes(quality, threshold),
            nima_technical_score=quality.technical,
            brisque_score=quality.brisque,
            brisque_model=quality.brisque_model,
            brisque_outside=list(quality.outside),
            sharpness_score=quality.sharpness,
            confidence=quality.confidence,
            model_version=None if features is None else features.model_version,
            unavailable=parts.unavailable,
            processing_time=clock.seconds,
        )

    @router.post("/analyze-image-metrics")
    async def analyze_image_metrics(request: AssetRef, clock: Timer) -> MetricsAnswer:
        """Measure sharpness, lighting and composition of a picture, with one score over all."""
        asset, parts = await library.get(request.asset_id), OptionalParts()
        async with task_group() as group:
            measuring = group.create_task(measures.everything(asset, parts))
            embedding = group.create_task(parts.of("features", features_of(asset)))
        quality, lighting, framing = measuring.result()
        features = embedding.result()
        return MetricsAnswer(
            asset_id=asset.asset_id,
            sharpness_score=quality.sharpness,
            lighting_quality=round(lighting.score, 4),
            composition_score=round(framing.composition.score, 4),
            overall_quality=overall_quality(quality.score, lighting.score, framing.composition.score),
            dinov3_quality=None if features is None else diversity_score(features.raw),
            quality_score=quality.score,
            confidence=quality.confidence,
            based_on=quality.based_on,
            unavailable=parts.unavailable,
            processing_time=clock.seconds,
        )

    @router.post("/batch-quality-check")
    async def batch_quality_check(request: BatchRequest, clock: Timer) -> BatchQualityAnswer:
        """Measure the quality of many assets; those that fail, unknown ones too, have an error in place of scores."""
        ids = library.batch(request.asset_ids)
        assets, parts = await library.known(ids), OptionalParts()
        async with task_group() as group:
            measuring = group.create_task(measures.qualities(assets.values(), parts))
            embedding = group.create_task(parts.of("features", feature_source.many(assets.values())))
            configured = group.create_task(configuration.read())
        qualities, unmeasured = measuring.result()
        embedded = embedding.result()
        features, unembedded = ({}, {}) if embedded is None else embedded
        threshold = configured.result().quality
        failures = unembedded | unmeasured
        results = [
            _scored(assets[asset_id], qualities[asset_id], features.get(asset_id), threshold)
            if asset_id in qualities and (embedded is None or asset_id in features)
            else _failed(asset_id, assets.get(asset_id), failures.get(asset_id) or AssetNotFound([asset_id]))
            for asset_id in ids
        ]
        failed = sum(result.error is not None for result in results)
        scores = [result.quality_score for result in results if result.quality_score is not None]
        statistics = batch_statistics(scores)
        return BatchQualityAnswer(
            total_assets=len(ids),
            processed_successfully=len(ids) - failed,
            failed_assets=failed,
            quality_results=results,
            batch_statistics=BatchStatistics.model_validate(statistics) if statistics else None,
            quality_threshold=threshold,
            based_on=next((quality.based_on for quality in qualities.values() if quality.based_on is not None), None),
            unavailable=parts.unavailable,
            processing_time=clock.seconds,
        )

    @router.post("/analyze-image-composition")
    async def analyze_image_composition(request: CompositionRequest, clock: Timer) -> CompositionAnswer:
        """Measure shot size, angle, framing, symmetry, colours and balance of a picture."""
        asset, parts = await library.get(request.asset_id), OptionalParts()
        named = "extract_features" in request.model_fields_set
        async with task_group() as group:
            measuring = group.create_task(measures.framing(asset, parts))
            embedding = (
                group.create_task(parts.of("features", features_of(asset), named=named))
                if request.extract_features
                else None
            )
        framing = measuring.result()
        features = embedding.result() if embedding else None
        composition = framing.composition
        return CompositionAnswer(
            asset_id=asset.asset_id,
            filename=asset.filename,
            image_dimensions=ImageDimensions(width=framing.width, height=framing.height),
            composition_analysis=CompositionAnalysis(
                shot_size=composition.shot_size,
                shot_angle=composition.shot_angle,
                framing=composition.framing,
                # Rounding would leave nothing of a narrow strip.
                aspect_ratio=round(composition.aspect_ratio, 4) or composition.aspect_ratio,
            ),
            enhanced_analysis=EnhancedAnalysis(
                rule_of_thirds_score=round(composition.rule_of_thirds, 4),
                symmetry_score=SymmetryScore(
                    horizontal_symmetry=round(composition.horizontal_symmetry, 4),
                    vertical_symmetry=round(composition.vertical_symmetry, 4),
                    overall_symmetry=round(composition.overall_symmetry, 4),
                ),
                depth_of_field=round(composition.depth_of_field, 4),
                color_analysis=ColorAnalysis(
                    color_diversity=round(composition.color_diversity, 4),
                    dominant_hue=None if composition.dominant_hue is None else round(composition.dominant_hue, 2),
                    color_balance=round(composition.color_balance, 4),
                    warm_cool_ratio=round(composition.warm_cool_ratio, 4),
                ),
                edge_density=round(composition.edge_density, 4),
                composition_balance=round(composition.balance, 4),
            ),
            composition_score=round(composition.score, 4),
            faces_detected=framing.faces,
            features=None if features is None else features.raw.tolist(),
            composition_tags=list(composition.tags),
            unavailable=parts.unavailable,
            processing_time=clock.seconds,
        )

    return router


def _scored(asset: Asset, quality: Quality, features: Features | None, threshold: float) -> QualityResult:
    return QualityResult(
        asset_id=asset.asset_id,
        filename=asset.filename,
        quality_score=quality.score,
        confidence=quality.confidence,
        **_described(features),
        passes_threshold=_passes(quality, threshold),
    )


class _Described(TypedDict):
    diversity_score: float | None
    feature_statistics: FeatureStatistics | None


def _described(features: Features | None) -> _Described:
    if features is None:
        return {"diversity_score": None, "feature_statistics": None}
    statistics = FeatureStatistics.model_validate(feature_statistics(features.raw))
    return {"diversity_score": diversity_score(features.raw), "feature_statistics": statistics}


def _passes(quality: Quality, threshold: float) -> bool | None:
    return None if quality.score is None else quality.score >= threshold


def _failed(asset_id: str, asset: Asset | None, error: StageError) -> QualityResult:
    return QualityResult(asset_id=asset_id, filename=asset.filename if asset else None, error=error.message)
