"""Routes that upload, show and delete assets, and those that compute features of one."""

import asyncio
from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi.responses import Response

from graphs.assets.features import FeatureSource
from graphs.assets.schemas import AssetRef, DeleteAnswer, FeaturesAnswer, MediaDetails, PreprocessAnswer, UploadAnswer
from graphs.assets.similarity import forget
from graphs.indexing.tags import tags_of
from graphs.web.audit import note
from graphs.web.bodies import JsonResponse
from graphs.web.context import Clock, Context, Timer
from graphs.web.errors import AssetNotFound
from graphs.web.filenames import content_disposition, derived_name
from graphs.web.files import StoredFile, send_file
from graphs.web.hosts import link
from graphs.web.limits import content_length
from graphs.web.schemas import RANGES, AssetId, RemovedCounts, upload_body
from graphs.web.uploads.library import Library
from stores.derived import poster_key
from stores.records import Asset
from vision.errors import InvalidInput, StageError
from vision.images import decode
from vision.preprocess import Preprocess

CACHE: Final = "private, max-age=3600"


async def asset_id_of(
    body: Annotated[AssetRef | None, Body()] = None,
    asset_id: Annotated[AssetId | None, Query(description="in place of the body")] = None,
) -> str:
    """Return the asset id of a request, from its body or its query. Raises InvalidInput when neither has it."""
    if body is not None:
        return body.asset_id
    if asset_id is not None:
        return asset_id
    raise InvalidInput('Name the asset, as {"asset_id": …} in the body or ?asset_id=… in the URL.')


LINK_S: Final = 3600
"""For which links to this service open where those to a bucket are not wanted."""
LABEL_TEXT: Final = "of the file, for keys that are held to it; letters, digits, dots, hyphens and underscores"
OneAsset = Annotated[str, Depends(asset_id_of)]


def media_router(context: Context, library: Library, feature_source: FeatureSource) -> APIRouter:
    """Return the routes upload-media, media, extract-features and preprocess-image."""
    router = APIRouter(tags=["assets: media"])

    async def public_url(request: Request, asset: Asset) -> str:
        presigned = await context.objects.presign_get(
            asset.asset_id, context.settings.presign_ttl_s, content_disposition(asset.filename)
        )
        if presigned:
            return presigned
        url = link(request, "media_content", asset_id=asset.asset_id)
        if await context.access.is_open():
            return url
        ttl_s = context.settings.presign_ttl_s or LINK_S
        return (await context.access.signed(url, asset.asset_id, ttl_s))[0]

    async def describe(request: Request, asset: Asset, status: str, clock: Clock) -> dict[str, object]:
        """Return the fields of a MediaAnswer."""
        return {
            "asset_id": asset.asset_id,
            "filename": asset.filename,
            "content_type": asset.content_type,
            "file_size": asset.file_size,
            "public_url": await public_url(request, asset),
            "width": asset.width,
            "height": asset.height,
            "format": asset.format,
            "upload_timestamp": asset.uploaded_at,
            "processing_status": status,
            "duration": asset.duration,
            "fps": asset.fps,
            "frame_count": asset.frame_count,
            "rotation": asset.rotation,
            "processing_time": clock.seconds,
        }

    async def status_of(asset: Asset) -> tuple[str, list[float] | None, object]:
        try:
            features = await feature_source.stored(asset.asset_id)
        except StageError:
            # Which model's features to read is not known while none serves; the rest of the asset is.
            features = None
        if features is not None:
            return "processed", features.raw.tolist(), features.created_at
        return ("failed" if asset.error_message else "uploaded"), None, None

    @router.post("/upload-media", openapi_extra=upload_body("file", texts={"label": LABEL_TEXT}))
    async def upload_media(request: Request, clock: Timer) -> UploadAnswer:
        """Store a file; the same bytes give the same id, whoever sends them. Everything else works on the id."""
        headers = request.headers
        length = content_length(request.scope)
        asset, duplicate = await library.upload(request.stream(), headers.get("content-type", ""), length)
        status = (await status_of(asset))[0] if duplicate else "uploaded"
        fields = await describe(request, asset, status, clock)
        return UploadAnswer.model_validate({**fields, "duplicate": duplicate})

    @router.get("/media/{asset_id}")
    async def get_media(asset_id: AssetId, request: Request, clock: Timer) -> MediaDetails:
        """Return metadata, URL and, once computed, features of an asset, and what was seen in it."""
        asset = await library.get(asset_id)
        status, raw, computed_at = await status_of(asset)
        fields = await describe(request, asset, status, clock)
        return MediaDetails.model_validate(
            {
                **fields,
                "features_extracted": raw is not None,
                "features_timestamp": computed_at,
                "error_message": asset.error_message,
                "features": raw,
                "tags": (await tags_of(context, [asset])).get(asset_id),
            }
        )

    @router.delete("/media/{asset_id}")
    async def delete_media(asset_id: AssetId, clock: Timer) -> DeleteAnswer:
        """Delete your upload of an asset; with the last upload of anyone its file goes, and all that was derived."""
        removal = await library.delete(asset_id)
        message = "Your upload was deleted; the file stays for others, who uploaded it as well."
        if removal.everything:
            await forget(context, feature_source, asset_id, removal.removed)
            message = "The asset, its file and its features were deleted."
            if not removal.had_bytes:
                message = "The record and the features of the asset were deleted; its file was missing already."
        counts = removal.removed.counts()
        note(removed=counts)
        return DeleteAnswer(
            asset_id=asset_id,
            deleted=True,
            removed=RemovedCounts.model_validate(counts),
            storage_deleted=removal.had_bytes,
            message=message,
            processing_time=clock.seconds,
        )

    @router.get("/media/{asset_id}/content", response_class=Response, responses=RANGES)
    async def media_content(asset_id: AssetId, request: Request) -> Response:
        """Return the file itself, for object stores without public URLs."""
        return await send_file(context.objects, request, StoredFile.of(await library.get(asset_id)), CACHE)

    @router.get("/media/{asset_id}/poster", response_class=Response, responses=RANGES)
    async def media_poster(asset_id: AssetId, request: Request) -> Response:
        """Return the poster of a video: a JPEG of the key frame before its middle."""
        asset = await library.get(asset_id)
        if asset.kind != "video":
            raise InvalidInput(f"{asset_id} is not a video; only videos have a poster.")
        info = await context.objects.head(poster_key(asset_id))
        if info is None:
            raise AssetNotFound([asset_id])
        file = StoredFile.derived(asset, info, derived_name(asset.filename, "", ".jpg"))
        return await send_file(context.objects, request, file, CACHE)

    @router.post("/extract-features", response_model=FeaturesAnswer)
    async def extract_features(asset_id: OneAsset, clock: Timer) -> Response:
        """Return the 384 raw features of an asset; they are computed once, then read from the store."""
        return await features_of(asset_id, clock)

    async def features_of(asset_id: str, clock: Clock) -> Response:
        features, cached = await feature_source.one(await library.get(asset_id))
        return JsonResponse(
            {
                "asset_id": asset_id,
                "features": features.raw,
                "features_extracted": True,
                "features_timestamp": features.created_at,
                "cached": cached,
                "model_version": features.model_version,
                "processing_time": clock.seconds,
            }
        )

    context.quick.add(extract_features, AssetRef, lambda body: features_of(body.asset_id, Clock()))

    @router.post("/preprocess-image")
    async def preprocess_image(asset_id: OneAsset, clock: Timer) -> PreprocessAnswer:
        """Run the model's own preprocessing and describe the resulting tensor."""
        picture = await library.picture(await library.get(asset_id))
        model = await feature_source.ready_model()
        preprocess = Preprocess.from_config(model["preprocess"])

        def run() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            return preprocess(decode(picture, max_pixels=context.settings.max_image_pixels))

        tensor = await asyncio.to_thread(run)
        return PreprocessAnswer(
            asset_id=asset_id,
            preprocessed=True,
            tensor_shape=[1, *tensor.shape],
            device=str(model["device"]),
            dtype=str(tensor.dtype),
            value_range=[float(tensor.min()), float(tensor.max())],
            processing_time=clock.seconds,
        )

    return router
