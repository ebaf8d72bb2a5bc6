"""Whole-library search through analysis/nearest, checked against the documents."""

import logging

from deployments.analysis.nearest import NEAREST
from deployments.serving.vector_search import Forget, NearestQuery
from graphs.assets.features import FeatureSource
from graphs.assets.similarity import Similarity, of_cosine
from graphs.web.context import Context
from graphs.web.uploads.library import Library
from stores.records import Asset, Features
from vision.errors import StageError

logger = logging.getLogger("ray.serve")

SPARE = 16


async def search(
    context: Context, library: Library, query: Features, k: int
) -> tuple[list[tuple[Asset, Similarity]], int]:
    """(the k assets most similar to the query, best first; how many were searched); the query itself left out."""
    answer = await context.stage(NEAREST)(NearestQuery(query.model_version, query.unit, k + SPARE))
    hits = answer.neighbours
    assets = await library.known(hit.asset_id for hit in hits)
    stale = tuple(hit.asset_id for hit in hits if hit.asset_id not in assets)
    if stale:
        await _forget(context, Forget(query.model_version, stale))
    found = [
        (assets[hit.asset_id], of_cosine(hit.cosine))
        for hit in hits
        if hit.asset_id in assets and hit.asset_id != query.asset_id
    ]
    return found[:k], max(0, answer.searched - 1 - len(stale))


async def forget(context: Context, features: FeatureSource, asset_id: str) -> None:
    """Take a deleted asset out of the cache and the index; a search that still meets it drops it."""
    try:
        await features.forget(asset_id)
        version = await features.model_version()
    except StageError as error:
        logger.warning("cache and index keep a deleted asset: %s", error.code)
        return
    if version:
        await _forget(context, Forget(version, (asset_id,)))


async def _forget(context: Context, request: Forget) -> None:
    try:
        await context.stage(NEAREST)(request)
    except StageError as error:
        logger.warning("index keeps %d deleted assets: %s", len(request.asset_ids), error.code)
