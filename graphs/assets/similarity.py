"""Similarity of assets: cosine, percentage and distance of unit vectors, search, and the routes that compare assets."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray

from deployments.analysis.nearest import NEAREST
from deployments.serving.vector_search import Forget, NearestQuery
from graphs.assets.configuration import Configuration
from graphs.assets.features import FeatureSource
from graphs.assets.schemas import (
    BatchRequest,
    BestMatchAnswer,
    BestMatchRequest,
    Match,
    MatrixAnswer,
    MatrixCell,
    MatrixRow,
    PairRequest,
    SearchAnswer,
    SearchHit,
    SearchRequest,
    SimilarityAnswer,
    UnrelatedPictures,
    failed_assets,
)
from graphs.web.context import Context, Timer
from graphs.web.uploads.library import Library
from stores.deletion import Removed
from stores.records import Asset, Features, Vector
from vision.embed.backbones import unrelated
from vision.errors import StageError

logger = logging.getLogger("ray.serve")

SPARE: Final = 16
"""Neighbours fetched beyond those asked for, in place of assets that were deleted, and of the query itself."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """``cosine`` −1..1; ``percentage`` 0..100 = (cosine + 1)·50; ``distance`` 0..2, euclidean on unit vectors."""

    cosine: float
    percentage: float
    distance: float


def of_cosine(cosine: float) -> Similarity:
    """Return all three from a cosine, rounded to 6 places, which is beyond the precision of a model."""
    clipped = round(min(1.0, max(-1.0, float(cosine))), 6)
    return Similarity(clipped, round((clipped + 1) * 50, 4), round(float(np.sqrt(max(0.0, 2 - 2 * clipped))), 6))


def between(a: Features, b: Features) -> Similarity:
    """Return the similarity of two assets; an asset is exactly 100 % similar to itself."""
    if a.asset_id == b.asset_id:
        return of_cosine(1.0)
    return of_cosine(float(a.unit @ b.unit))


def matrix(features: Sequence[Features]) -> NDArray[np.float64]:
    """Return the percentages of all pairs, float64 (n, n), 0..100; the diagonal is exactly 100."""
    units = np.stack([f.unit for f in features]).astype(np.float64)
    percentages: NDArray[np.float64] = (np.clip(units @ units.T, -1, 1) + 1) * 50
    np.fill_diagonal(percentages, 100.0)
    return percentages.round(4)


def rank(query: Features, candidates: Mapping[str, Features]) -> list[tuple[str, Similarity]]:
    """Return candidates by similarity to the query, best first; equal ones in id order."""
    scored = [(asset_id, between(query, features)) for asset_id, features in candidates.items()]
    return sorted(scored, key=lambda pair: (-pair[1].cosine, pair[0]))


def certainty(value: float, threshold: float, low: float, high: float) -> float:
    """Return 0..1: the distance of a value from a threshold, as a share of the part of [low, high] on its side."""
    span = high - threshold if value >= threshold else threshold - low
    return round(min(1.0, abs(value - threshold) / span), 4) if span > 0 else 1.0


def _unrelated(model_version: str) -> UnrelatedPictures | None:
    known = unrelated(model_version)
    return None if known is None else UnrelatedPictures(median=known.median, p95=known.p95, pairs=known.pairs)


async def search(
    context: Context, library: Library, model_version: str, unit: Vector, k: int, *, beside: str = ""
) -> tuple[list[tuple[Asset, Similarity]], int]:
    """Return the k assets nearest to a vector, best first, and how many were searched; both without ``beside``."""
    wanted = k + SPARE
    while True:
        result = await context.stage(NEAREST)(NearestQuery(model_version, unit, wanted))
        neighbours = result.neighbours
        assets = await library.known(neighbour.asset_id for neighbour in neighbours)
        stale = tuple(await library.gone(each.asset_id for each in neighbours if each.asset_id not in assets))
        if stale:
            await _remove_from_index(context, Forget(model_version, stale))
        similar = [
            (assets[neighbour.asset_id], of_cosine(neighbour.cosine))
            for neighbour in neighbours
            if neighbour.asset_id in assets and neighbour.asset_id != beside
        ]
        if len(similar) >= k or len(neighbours) < wanted:
            return similar[:k], max(0, result.searched - bool(beside) - len(stale))
        wanted *= 4


async def forget(context: Context, features: FeatureSource, asset_id: str, removed: Removed) -> None:
    """Remove a deleted asset from the cache and the index; what stays in the index is removed by the next search."""
    try:
        version, cached = await features.forget(asset_id)
    except StageError as error:
        logger.warning("a deleted asset stays in cache and index until they can be reached: %s", error.code)
        return
    removed.cache += cached
    if version:
        removed.vectors += await _remove_from_index(context, Forget(version, (asset_id,)))


async def _remove_from_index(context: Context, request: Forget) -> int:
    try:
        return (await context.stage(NEAREST)(request)).searched
    except StageError as error:
        logger.warning("%d deleted assets stay in the index for now: %s", len(request.asset_ids), error.code)
        return 0


def similarity_router(
    context: Context, library: Library, feature_source: FeatureSource, configuration: Configuration
) -> APIRouter:
    """Return the routes calculate-similarity, find-best-match, batch-similarity and semantic-search."""
    router = APIRouter(tags=["assets: similarity"])

    @router.post("/calculate-similarity")
    async def calculate_similarity(request: PairRequest, clock: Timer) -> SimilarityAnswer:
        """Measure how alike two assets look, in per cent: (cosine + 1)·50; `unrelated` is what unrelated ones have."""
        assets = await library.get_all([request.asset_id_1, request.asset_id_2])
        features, failures = await feature_source.many(assets.values())
        for error in failures.values():
            raise error
        similarity = between(features[request.asset_id_1], features[request.asset_id_2])
        threshold = (await configuration.read()).similarity
        return SimilarityAnswer(
            asset_id_1=request.asset_id_1,
            asset_id_2=request.asset_id_2,
            similarity_percentage=similarity.percentage,
            cosine_similarity=similarity.cosine,
            euclidean_distance=similarity.distance,
            confidence=certainty(similarity.percentage, threshold, 0, 100),
            unrelated=_unrelated(features[request.asset_id_1].model_version),
            model_version=features[request.asset_id_1].model_version,
            processing_time=clock.seconds,
        )

    @router.post("/find-best-match")
    async def find_best_match(request: BestMatchRequest, clock: Timer) -> BestMatchAnswer:
        """Rank candidates by similarity to a reference."""
        candidates = library.batch(request.candidate_asset_ids)
        asset, assets, unknown = await library.find_with(request.reference_asset_id, candidates)
        reference, features, failures = await feature_source.against(asset, assets.values())
        threshold = (await configuration.read()).similarity
        ranked = [
            Match(
                asset_id=asset_id,
                filename=assets[asset_id].filename,
                similarity_percentage=similarity.percentage,
                cosine_similarity=similarity.cosine,
                euclidean_distance=similarity.distance,
                confidence=certainty(similarity.percentage, threshold, 0, 100),
            )
            for asset_id, similarity in rank(reference, features)
        ]
        return BestMatchAnswer(
            reference_asset_id=request.reference_asset_id,
            candidates_processed=len(ranked),
            best_match=ranked[0] if ranked else None,
            ranked_results=ranked,
            unrelated=_unrelated(reference.model_version),
            failed_assets=failed_assets(candidates, failures | unknown),
            processing_time=clock.seconds,
        )

    @router.post("/batch-similarity")
    async def batch_similarity(request: BatchRequest, clock: Timer) -> MatrixAnswer:
        """Compare all pairs of a set of assets."""
        wanted = library.batch(request.asset_ids)
        assets, unknown = await library.find(wanted)
        features, failures = await feature_source.many(assets.values())
        ids = [asset_id for asset_id in assets if asset_id in features]
        percentages = matrix([features[asset_id] for asset_id in ids]).tolist() if ids else []
        threshold = (await configuration.read()).similarity
        rows = [
            MatrixRow(
                asset_id=asset_id,
                similarities=[
                    MatrixCell(
                        asset_id=other,
                        similarity_percentage=value,
                        confidence=certainty(value, threshold, 0, 100),
                    )
                    for other, value in zip(ids, row, strict=True)
                ],
            )
            for asset_id, row in zip(ids, percentages, strict=True)
        ]
        return MatrixAnswer(
            assets_processed=len(ids),
            similarity_matrix=rows,
            matrix_shape=[len(ids), len(ids)],
            unrelated=_unrelated(features[ids[0]].model_version) if ids else None,
            failed_assets=failed_assets(wanted, failures | unknown),
            processing_time=clock.seconds,
        )

    @router.post("/semantic-search")
    async def semantic_search(request: SearchRequest, clock: Timer) -> SearchAnswer:
        """Find the assets most like a query, among given ones or in the whole library."""
        dataset = dict.fromkeys(library.batch(request.dataset_asset_ids or []))
        query, assets, failures = await library.find_with(request.query_asset_id, dataset)
        if dataset:
            dataset.pop(request.query_asset_id, None)
            assets.pop(request.query_asset_id, None)
            reference, features, unusable = await feature_source.against(query, assets.values())
            failures |= unusable
            size = len(dataset)
            ranked = [(assets[asset_id], similarity) for asset_id, similarity in rank(reference, features)]
        else:
            reference, _ = await feature_source.one(query)
            space, unit = reference.model_version, reference.unit
            ranked, size = await search(context, library, space, unit, request.top_k, beside=query.asset_id)
        threshold = (await configuration.read()).similarity
        hits = [
            SearchHit(
                asset_id=asset.asset_id,
                filename=asset.filename,
                kind=asset.kind,
                similarity_score=similarity.percentage,
                similarity_percentage=similarity.percentage,
                cosine_similarity=similarity.cosine,
                euclidean_distance=similarity.distance,
                confidence=certainty(similarity.percentage, threshold, 0, 100),
            )
            for asset, similarity in ranked[: request.top_k]
        ]
        return SearchAnswer(
            query_asset_id=query.asset_id,
            query_filename=query.filename,
            dataset_size=size,
            results_found=len(hits),
            top_k=request.top_k,
            search_results=hits,
            unrelated=_unrelated(reference.model_version),
            failed_assets=failed_assets(dataset, failures),
            processing_time=clock.seconds,
        )

    return router
