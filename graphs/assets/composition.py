"""The route that says how a picture is composed."""

from fastapi import APIRouter

from graphs.assets.features import FeatureSource
from graphs.assets.measures import Measures
from graphs.assets.quality_models import (
    ColorAnalysis,
    CompositionAnalysis,
    CompositionAnswer,
    CompositionRequest,
    EnhancedAnalysis,
    ImageDimensions,
    SymmetryScore,
)
from graphs.web.context import Timer, task_group
from graphs.web.uploads.library import Library


def composition_router(library: Library, features: FeatureSource, measures: Measures) -> APIRouter:
    """analyze-image-composition."""
    router = APIRouter(tags=["assets: quality"])

    @router.post("/analyze-image-composition")
    async def analyze_image_composition(request: CompositionRequest, clock: Timer) -> CompositionAnswer:
        """Shot size, angle, framing, symmetry, colours and balance of a picture."""
        asset = await library.get(request.asset_id)
        async with task_group() as group:
            measuring = group.create_task(measures.framing(asset))
            embedding = group.create_task(features.one(asset)) if request.extract_features else None
        framing = measuring.result()
        found = framing.composition
        return CompositionAnswer(
            asset_id=asset.asset_id,
            filename=asset.filename,
            image_dimensions=ImageDimensions(width=framing.width, height=framing.height),
            composition_analysis=CompositionAnalysis(
                shot_size=found.shot_size,
                shot_angle=found.shot_angle,
                framing=found.framing,
                aspect_ratio=round(found.aspect_ratio, 4) or found.aspect_ratio,  # of a strip, rounding leaves nothing
            ),
            enhanced_analysis=EnhancedAnalysis(
                rule_of_thirds_score=round(found.rule_of_thirds, 4),
                symmetry_score=SymmetryScore(
                    horizontal_symmetry=round(found.horizontal_symmetry, 4),
                    vertical_symmetry=round(found.vertical_symmetry, 4),
                    overall_symmetry=round(found.overall_symmetry, 4),
                ),
                depth_of_field=round(found.depth_of_field, 4),
                color_analysis=ColorAnalysis(
                    color_diversity=round(found.color_diversity, 4),
                    dominant_hue=None if found.dominant_hue is None else round(found.dominant_hue, 2),
                    color_balance=round(found.color_balance, 4),
                    warm_cool_ratio=round(found.warm_cool_ratio, 4),
                ),
                edge_density=round(found.edge_density, 4),
                composition_balance=round(found.balance, 4),
            ),
            composition_score=round(found.score, 4),
            faces_detected=framing.faces,
            features=embedding.result()[0].raw.tolist() if embedding else None,
            composition_tags=list(found.tags),
            processing_time=clock.seconds,
        )

    return router
