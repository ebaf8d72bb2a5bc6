"""Routes that compare assets: pairs, candidates, matrices and search."""

from collections.abc import Iterable, Mapping

from fastapi import APIRouter

from graphs.assets.configuration import Configuration
from graphs.assets.features import FeatureSource
from graphs.assets.models import (
    BatchRequest,
    BestMatchAnswer,
    BestMatchRequest,
    FailedAsset,
    Match,
    MatrixAnswer,
    MatrixCell,
    MatrixRow,
    PairRequest,
    SearchAnswer,
    SearchHit,
    SearchRequest,
    SimilarityAnswer,
)
from graphs.assets.nearest import search
from graphs.assets.similarity import Similarity, between, certainty, matrix, rank
from graphs.web.context import Context, Timer
from graphs.web.uploads.library import Library
from stores.records import Asset
from vision.errors import StageError


def failed(failures: Mapping[str, StageError]) -> list[FailedAsset]:
    """Assets without features, with the reasons, as answers list them."""
    return [FailedAsset(asset_id=asset_id, error=error.message) for asset_id, error in failures.items()]


def matching_router(
    context: Context, library: Library, features: FeatureSource, configuration: Configuration
) -> APIRouter:
    """calculate-similarity, find-best-match, batch-similarity, semantic-search."""
    router = APIRouter(tags=["assets: similarity"])

    @router.post("/calculate-similarity")
    async def calculate_similarity(request: PairRequest, clock: Timer) -> SimilarityAnswer:
        """How alike two assets look, in per cent: (cosine + 1)·50, so 50 means unrelated."""
        assets = await library.get_all([request.asset_id_1, request.asset_id_2])
        found, failures = await features.many(assets.values())
        for error in failures.values():
            raise error
        similarity = between(found[request.asset_id_1], found[request.asset_id_2])
        threshold = (await configuration.read())["similarity_threshold"]
        return SimilarityAnswer(
            asset_id_1=request.asset_id_1,
            asset_id_2=request.asset_id_2,
            similarity_percentage=similarity.percentage,
            cosine_similarity=similarity.cosine,
            euclidean_distance=similarity.distance,
            confidence=certainty(similarity.percentage, threshold, 0, 100),
            model_version=found[request.asset_id_1].model_version,
            processing_time=clock.seconds,
        )

    @router.post("/find-best-match")
    async def find_best_match(request: BestMatchRequest, clock: Timer) -> BestMatchAnswer:
        """Candidates ranked by similarity to a reference."""
        candidates = library.batch(request.candidate_asset_ids)
        assets = await library.get_all([request.reference_asset_id, *candidates])
        reference, found, failures = await features.against(
            assets[request.reference_asset_id], (assets[asset_id] for asset_id in candidates)
        )
        ranked = [
            Match(
                asset_id=asset_id,
                filename=assets[asset_id].filename,
                similarity_percentage=similarity.percentage,
                cosine_similarity=similarity.cosine,
                euclidean_distance=similarity.distance,
            )
            for asset_id, similarity in rank(reference, found)
        ]
        return BestMatchAnswer(
            reference_asset_id=request.reference_asset_id,
            candidates_processed=len(ranked),
            best_match=ranked[0] if ranked else None,
            ranked_results=ranked,
            failed_assets=failed(failures),
            processing_time=clock.seconds,
        )

    @router.post("/batch-similarity")
    async def batch_similarity(request: BatchRequest, clock: Timer) -> MatrixAnswer:
        """Similarities of all pairs."""
        assets = await library.get_all(library.batch(request.asset_ids))
        found, failures = await features.many(assets.values())
        ids = [asset_id for asset_id in assets if asset_id in found]
        percentages = matrix([found[asset_id] for asset_id in ids]).tolist() if ids else []
        rows = [
            MatrixRow(
                asset_id=asset_id,
                similarities=[
                    MatrixCell(asset_id=other, similarity_percentage=value)
                    for other, value in zip(ids, row, strict=True)
                ],
            )
            for asset_id, row in zip(ids, percentages, strict=True)
        ]
        return MatrixAnswer(
            assets_processed=len(ids),
            similarity_matrix=rows,
            matrix_shape=[len(ids), len(ids)],
            failed_assets=failed(failures),
            processing_time=clock.seconds,
        )

    @router.post("/semantic-search")
    async def semantic_search(request: SearchRequest, clock: Timer) -> SearchAnswer:
        """The assets most like a query, among given ones or in the whole library."""
        dataset = dict.fromkeys(library.batch(request.dataset_asset_ids or []))
        assets = await library.get_all([request.query_asset_id, *dataset])
        query = assets[request.query_asset_id]
        failures: dict[str, StageError] = {}
        if dataset:
            dataset.pop(request.query_asset_id, None)
            reference, found, failures = await features.against(query, (assets[asset_id] for asset_id in dataset))
            size = len(dataset)
            ranked = [(assets[asset_id], similarity) for asset_id, similarity in rank(reference, found)]
        else:
            reference, _ = await features.one(query)
            ranked, size = await search(context, library, reference, request.top_k)
        hits = _hits(ranked[: request.top_k])
        return SearchAnswer(
            query_asset_id=query.asset_id,
            query_filename=query.filename,
            dataset_size=size,
            results_found=len(hits),
            top_k=request.top_k,
            search_results=hits,
            failed_assets=failed(failures),
            processing_time=clock.seconds,
        )

    return router


def _hits(ranked: Iterable[tuple[Asset, Similarity]]) -> list[SearchHit]:
    return [
        SearchHit(
            asset_id=asset.asset_id,
            filename=asset.filename,
            similarity_score=similarity.percentage,
            cosine_similarity=similarity.cosine,
            euclidean_distance=similarity.distance,
        )
        for asset, similarity in ranked
    ]
