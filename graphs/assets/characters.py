"""Routes that say whether assets show the same person, and who is in which."""

from fastapi import APIRouter

from graphs.assets.character_models import (
    ConsistencyAnswer,
    GroupingAnswer,
    GroupingRequest,
    MatchingAnswer,
    MatchingRequest,
    MatchingResult,
)
from graphs.assets.configuration import Configuration
from graphs.assets.grouping import Grouping
from graphs.assets.likeness import Comparison, Likeness, average_percentage
from graphs.assets.matching import failed
from graphs.assets.models import PairRequest
from graphs.assets.verdicts import confidence_level, confidence_score, explanation
from graphs.web.context import Timer
from graphs.web.uploads.library import Library
from stores.records import Asset
from vision.errors import StageError


def characters_router(
    library: Library, comparison: Comparison, grouping: Grouping, configuration: Configuration
) -> APIRouter:
    """validate-consistency, character-matching, group-by-character."""
    router = APIRouter(tags=["assets: characters"])

    @router.post("/validate-consistency")
    async def validate_consistency(request: PairRequest, clock: Timer) -> ConsistencyAnswer:
        """Whether two assets show the same person: by face where both have one, else by the whole picture."""
        assets = await library.get_all([request.asset_id_1, request.asset_id_2])
        likeness = await comparison.pair(assets[request.asset_id_1], assets[request.asset_id_2])
        threshold = (await configuration.read())["similarity_threshold"]
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
        """Which assets show the person of a reference: the largest face there, and the face most like it in each."""
        tested = library.batch(request.test_asset_ids)
        assets = await library.get_all([request.reference_asset_id, *tested])
        reference = assets[request.reference_asset_id]
        found, failures = await comparison.against(reference, (assets[asset_id] for asset_id in tested))
        threshold = (await configuration.read())["similarity_threshold"]
        results = [
            _match(assets[asset_id], found[asset_id], threshold)
            if asset_id in found
            else _unmatched(assets[asset_id], failures[asset_id])
            for asset_id in tested
        ]
        return MatchingAnswer(
            reference_asset_id=reference.asset_id,
            reference_filename=reference.filename,
            similarity_threshold=threshold,
            total_tested=len(tested),
            processed_successfully=len(found),
            same_character_count=sum(bool(result.same_character) for result in results),
            average_similarity=average_percentage(found.values()),
            consistency_results=results,
            processing_time=clock.seconds,
        )

    @router.post("/group-by-character")
    async def group_by_character(request: GroupingRequest, clock: Timer) -> GroupingAnswer:
        """Groups by face, of which an asset with several people is in several; without faces by the whole picture."""
        assets = await library.get_all(library.batch(request.asset_ids))
        groups, failures = await grouping.of(assets, request.similarity_threshold)
        grouped = {asset.asset_id for group in groups for asset in group.assets}
        return GroupingAnswer(
            total_assets=len(assets),
            assets_with_features=len(grouped),
            similarity_threshold=request.similarity_threshold,
            groups_found=len(groups),
            character_groups=groups,
            failed_assets=failed(failures),
            processing_time=clock.seconds,
        )

    return router


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


def _unmatched(asset: Asset, error: StageError) -> MatchingResult:
    return MatchingResult(test_asset_id=asset.asset_id, filename=asset.filename, error=error.message)
