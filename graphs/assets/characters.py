"""Routes about characters: whether assets show the same person, who is in which, and how closely shots follow one."""

from collections import Counter
from typing import TypedDict

from fastapi import APIRouter

from graphs.assets.character_schemas import (
    ActionSummary,
    ComplianceResult,
    ConsistencyAnswer,
    EnforcementAnswer,
    EnforcementRequest,
    GroupingAnswer,
    GroupingRequest,
    MatchingAnswer,
    MatchingRequest,
    MatchingResult,
    ShotsAnswer,
    ShotsRequest,
    ShotValidation,
)
from graphs.assets.configuration import Configuration
from graphs.assets.grouping import Grouping
from graphs.assets.likeness import (
    Comparison,
    Likeness,
    action_for,
    average_percentage,
    compliance_recommendation,
    confidence_level,
    confidence_score,
    explanation,
    sequence_recommendation,
    sequence_status,
    shot_recommendation,
    shot_status,
)
from graphs.assets.schemas import PairRequest, failed_assets
from graphs.web.context import Timer
from graphs.web.uploads.library import Library
from stores.records import Asset
from vision.errors import StageError


def characters_router(
    library: Library, comparison: Comparison, grouping: Grouping, configuration: Configuration
) -> APIRouter:
    """Return the routes that compare and group characters, and those that check shots and pictures against one."""
    router = APIRouter(tags=["assets: characters"])

    @router.post("/validate-consistency")
    async def validate_consistency(request: PairRequest, clock: Timer) -> ConsistencyAnswer:
        """Check whether two assets show the same person: by face where both have one, else by the whole picture."""
        assets = await library.get_all([request.asset_id_1, request.asset_id_2])
        likeness = await comparison.pair(assets[request.asset_id_1], assets[request.asset_id_2])
        threshold = (await configuration.read()).similarity
        score = confidence_score(likeness, threshold)
        return ConsistencyAnswer(
            asset_id_1=request.asset_id_1,
            asset_id_2=request.asset_id_2,
            same_character=likeness.percentage >= threshold,
            similarity_score=likeness.percentage,
            similarity_threshold=threshold,
            confidence_level=confidence_level(score),
            confidence_score=score,
            explanation=explanation(likeness, threshold),
            cosine_similarity=likeness.cosine,
            euclidean_distance=likeness.distance,
            basis=likeness.basis,
            processing_time=clock.seconds,
        )

    @router.post("/character-matching")
    async def character_matching(request: MatchingRequest, clock: Timer) -> MatchingAnswer:
        """Find the assets that show the person of a reference: its largest face against the most alike of each."""
        tested = library.batch(request.test_asset_ids)
        reference, assets, unknown = await library.find_with(request.reference_asset_id, tested)
        likenesses, failures = await comparison.against(reference, assets.values())
        failures |= unknown
        threshold = (await configuration.read()).similarity
        results = [
            _match(assets[asset_id], likenesses[asset_id], threshold)
            if asset_id in likenesses
            else MatchingResult(test_asset_id=asset_id, **_failed(assets.get(asset_id), failures[asset_id]))
            for asset_id in tested
        ]
        return MatchingAnswer(
            reference_asset_id=reference.asset_id,
            reference_filename=reference.filename,
            similarity_threshold=threshold,
            total_tested=len(tested),
            processed_successfully=len(likenesses),
            same_character_count=sum(bool(result.same_character) for result in results),
            average_similarity=average_percentage(likenesses.values()),
            consistency_results=results,
            processing_time=clock.seconds,
        )

    @router.post("/group-by-character")
    async def group_by_character(request: GroupingRequest, clock: Timer) -> GroupingAnswer:
        """Group assets by face, those with several people in several groups; without faces by the whole picture."""
        wanted = library.batch(request.asset_ids)
        assets, unknown = await library.find(wanted)
        threshold = request.similarity_threshold
        if threshold is None:
            threshold = (await configuration.read()).similarity
        groups, failures = await grouping.group(assets, threshold)
        grouped = {asset.asset_id for group in groups for asset in group.assets}
        return GroupingAnswer(
            total_assets=len(wanted),
            assets_with_features=len(grouped),
            similarity_threshold=threshold,
            groups_found=len(groups),
            character_groups=groups,
            failed_assets=failed_assets(wanted, failures | unknown),
            processing_time=clock.seconds,
        )

    @router.post("/validate-shot-consistency")
    async def validate_shot_consistency(request: ShotsRequest, clock: Timer) -> ShotsAnswer:
        """Check whether every shot of a sequence shows the person of a reference; an asset may be several shots."""
        shots = request.shot_asset_ids
        reference, assets, unknown = await library.find_with(request.character_reference_asset_id, library.batch(shots))
        likenesses, failures = await comparison.against(reference, assets.values())
        failures |= unknown
        threshold = (await configuration.read()).similarity
        validations = [
            _shot(index, assets[asset_id], likenesses[asset_id], threshold)
            if asset_id in likenesses
            else ShotValidation(
                shot_index=index, shot_asset_id=asset_id, **_failed(assets.get(asset_id), failures[asset_id])
            )
            for index, asset_id in enumerate(shots)
        ]
        processed = [likenesses[asset_id] for asset_id in shots if asset_id in likenesses]
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
        """Check which generated assets follow a reference, and recommend what to do with each."""
        generated = library.batch(request.generated_asset_ids)
        master, assets, unknown = await library.find_with(request.master_reference_asset_id, generated)
        likenesses, failures = await comparison.against(master, assets.values())
        failures |= unknown
        threshold = request.compliance_threshold
        results = [
            _compliance(assets[asset_id], likenesses[asset_id], threshold)
            if asset_id in likenesses
            else ComplianceResult(generated_asset_id=asset_id, **_failed(assets.get(asset_id), failures[asset_id]))
            for asset_id in generated
        ]
        actions = Counter(result.action for result in results)
        return EnforcementAnswer(
            master_reference_asset_id=master.asset_id,
            master_filename=master.filename,
            compliance_threshold=threshold,
            total_generated=len(generated),
            processed_successfully=len(likenesses),
            compliant_count=actions["approve"],
            compliance_rate=round(actions["approve"] / len(likenesses), 4) if likenesses else 0.0,
            average_compliance_score=average_percentage(likenesses.values()),
            action_summary=ActionSummary(
                approve=actions["approve"], review=actions["review"], regenerate=actions["regenerate"]
            ),
            compliance_results=results,
            processing_time=clock.seconds,
        )

    return router


class _Failed(TypedDict):
    filename: str | None
    error: str


def _failed(asset: Asset | None, error: StageError) -> _Failed:
    """Return what a result has of an asset that could not be compared."""
    return {"filename": asset.filename if asset else None, "error": error.message}


def _match(asset: Asset, likeness: Likeness, threshold: float) -> MatchingResult:
    score = confidence_score(likeness, threshold)
    return MatchingResult(
        test_asset_id=asset.asset_id,
        filename=asset.filename,
        same_character=likeness.percentage >= threshold,
        similarity_score=likeness.percentage,
        confidence_level=confidence_level(score),
        confidence_score=score,
        explanation=explanation(likeness, threshold),
        cosine_similarity=likeness.cosine,
        euclidean_distance=likeness.distance,
        basis=likeness.basis,
    )


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
