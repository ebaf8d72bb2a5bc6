"""Routes that hold shots and generated pictures against the reference of a character."""

from collections import Counter

from fastapi import APIRouter

from graphs.assets.character_models import (
    ActionSummary,
    ComplianceResult,
    EnforcementAnswer,
    EnforcementRequest,
    ShotsAnswer,
    ShotsRequest,
    ShotValidation,
)
from graphs.assets.configuration import Configuration
from graphs.assets.likeness import Comparison, Likeness, average_percentage
from graphs.assets.verdicts import (
    action_for,
    compliance_recommendation,
    sequence_recommendation,
    sequence_status,
    shot_recommendation,
    shot_status,
)
from graphs.web.context import Timer
from graphs.web.uploads.library import Library
from stores.records import Asset
from vision.errors import StageError


def continuity_router(library: Library, comparison: Comparison, configuration: Configuration) -> APIRouter:
    """validate-shot-consistency, reference-enforcement."""
    router = APIRouter(tags=["assets: characters"])

    @router.post("/validate-shot-consistency")
    async def validate_shot_consistency(request: ShotsRequest, clock: Timer) -> ShotsAnswer:
        """Whether every shot of a sequence shows the person of a reference; an asset may be several of its shots."""
        shots = request.shot_asset_ids
        assets = await library.get_all([request.character_reference_asset_id, *library.batch(shots)])
        reference = assets[request.character_reference_asset_id]
        found, failures = await comparison.against(reference, (assets[asset_id] for asset_id in dict.fromkeys(shots)))
        threshold = (await configuration.read())["similarity_threshold"]
        validations = [
            _shot(index, assets[asset_id], found[asset_id], threshold)
            if asset_id in found
            else _failed_shot(index, assets[asset_id], failures[asset_id])
            for index, asset_id in enumerate(shots)
        ]
        processed = [found[asset_id] for asset_id in shots if asset_id in found]
        consistent = sum(bool(shot.consistent) for shot in validations)
        rate = consistent / len(processed) if processed else 0.0
        return ShotsAnswer(
            character_reference_asset_id=reference.asset_id,
            reference_filename=reference.filename,
            similarity_threshold=threshold,
            total_shots=len(shots),
            processed_shots=len(processed),
            consistent_shots=consistent,
            consistency_rate=round(rate, 4),
            average_similarity=average_percentage(processed),
            sequence_status=sequence_status(rate),
            sequence_recommendation=sequence_recommendation(consistent, len(processed)),
            shot_validations=validations,
            processing_time=clock.seconds,
        )

    @router.post("/reference-enforcement")
    async def reference_enforcement(request: EnforcementRequest, clock: Timer) -> EnforcementAnswer:
        """Which generated assets follow a reference, and what to do with each."""
        generated = library.batch(request.generated_asset_ids)
        assets = await library.get_all([request.master_reference_asset_id, *generated])
        master = assets[request.master_reference_asset_id]
        found, failures = await comparison.against(master, (assets[asset_id] for asset_id in generated))
        threshold = request.compliance_threshold
        results = [
            _compliance(assets[asset_id], found[asset_id], threshold)
            if asset_id in found
            else _failed_compliance(assets[asset_id], failures[asset_id])
            for asset_id in generated
        ]
        actions = Counter(result.action for result in results)
        return EnforcementAnswer(
            master_reference_asset_id=master.asset_id,
            master_filename=master.filename,
            compliance_threshold=threshold,
            total_generated=len(generated),
            processed_successfully=len(found),
            compliant_count=actions["approve"],
            compliance_rate=round(actions["approve"] / len(found), 4) if found else 0.0,
            average_compliance_score=average_percentage(found.values()),
            action_summary=ActionSummary(
                approve=actions["approve"], review=actions["review"], regenerate=actions["regenerate"]
            ),
            compliance_results=results,
            processing_time=clock.seconds,
        )

    return router


def _shot(index: int, asset: Asset, likeness: Likeness, threshold: float) -> ShotValidation:
    return ShotValidation(
        shot_index=index,
        shot_asset_id=asset.asset_id,
        filename=asset.filename,
        consistent=likeness.percentage >= threshold,
        similarity_score=likeness.percentage,
        validation_status=shot_status(likeness.percentage),
        recommendation=shot_recommendation(likeness),
        cosine_similarity=likeness.cosine,
        euclidean_distance=likeness.distance,
        basis=likeness.basis,
    )


def _failed_shot(index: int, asset: Asset, error: StageError) -> ShotValidation:
    return ShotValidation(shot_index=index, shot_asset_id=asset.asset_id, filename=asset.filename, error=error.message)


def _compliance(asset: Asset, likeness: Likeness, threshold: float) -> ComplianceResult:
    return ComplianceResult(
        generated_asset_id=asset.asset_id,
        filename=asset.filename,
        compliant=likeness.percentage >= threshold,
        compliance_score=likeness.percentage,
        recommendation=compliance_recommendation(likeness, threshold),
        action=action_for(likeness.percentage, threshold),
        cosine_similarity=likeness.cosine,
        euclidean_distance=likeness.distance,
        basis=likeness.basis,
    )


def _failed_compliance(asset: Asset, error: StageError) -> ComplianceResult:
    return ComplianceResult(generated_asset_id=asset.asset_id, filename=asset.filename, error=error.message)
