"""The route that searches the library in words: texts and pictures in one space of vectors."""

from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter

from deployments.embed.clip import CLIP
from graphs.assets.schemas import TextSearchAnswer, TextSearchHit, TextSearchRequest, failed_assets
from graphs.assets.similarity import search
from graphs.web.context import Context, Timer
from graphs.web.errors import AssetNotFound
from graphs.web.images import ImageDecoder
from graphs.web.per_asset import PerAsset
from graphs.web.uploads.library import Library
from stores.records import Asset, Features

AT_ONCE: Final = 32
"""Pictures that one search makes the model look at for the first time: a second or two on two cores."""


def words_router(context: Context, library: Library) -> APIRouter:
    """Return the route text-search."""
    router = APIRouter(tags=["assets: similarity"])
    pictures = ImageDecoder(context.settings.max_image_pixels)
    documents = context.documents

    unusable: set[str] = set()
    """Assets whose picture the model cannot take; they must not stand before others each time."""

    async def embed(asset: Asset) -> Features:
        async with pictures.decoded(await library.picture(asset)) as picture:
            embedding = await context.stage(CLIP)(picture.image)
        vector, now = embedding.vector, datetime.now(UTC)
        features = Features(asset.asset_id, embedding.model, asset.kind, vector, vector, now)
        if not await documents.put_features(features):
            raise AssetNotFound([asset.asset_id])
        return features

    embedded = PerAsset(embed)

    @router.post("/text-search")
    async def text_search(request: TextSearchRequest, clock: Timer) -> TextSearchAnswer:
        """Find pictures that show what a text says; 503 where no model for texts and pictures serves.

        Pictures that the model never saw are looked at first, some with each request.
        """
        text = await context.stage(CLIP)(request.text)
        without = await documents.without_features(text.model, AT_ONCE + 1 + len(unusable))
        unseen = [asset for asset in without if asset.asset_id not in unusable]
        _, failures = await embedded.many(unseen[:AT_ONCE])
        unusable.update(failures)
        ranked, size = await search(context, library, text.model, text.vector, request.top_k)
        return TextSearchAnswer(
            text=request.text,
            dataset_size=size,
            complete=len(unseen) <= AT_ONCE,
            results_found=len(ranked),
            top_k=request.top_k,
            search_results=[
                TextSearchHit(
                    asset_id=asset.asset_id,
                    filename=asset.filename,
                    kind=asset.kind,
                    cosine_similarity=similarity.cosine,
                )
                for asset, similarity in ranked
            ],
            failed_assets=failed_assets(failures, failures),
            model_version=text.model,
            processing_time=clock.seconds,
        )

    return router
