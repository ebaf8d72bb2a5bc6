"""Routes of pictures that are made of an asset once and then kept: thumbnails, and maps that are laid over them."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from PIL import Image

from deployments.quality.maps import MAPS, MapName, MapQuery
from graphs.assets.media import CACHE
from graphs.web.context import Context
from graphs.web.errors import AssetNotFound
from graphs.web.filenames import derived_name
from graphs.web.files import StoredFile, send_file
from graphs.web.per_asset import SingleFlight
from graphs.web.schemas import BINARY, RANGES, AssetId, Responses
from graphs.web.uploads.library import Library
from stores import derived
from stores.objects import ObjectInfo
from stores.records import Asset
from vision.errors import MediaNotFound
from vision.images.decode import decode

THUMBNAIL_QUALITY: Final = 80
HEAT: Final = np.array([(13, 8, 135, 0), (156, 23, 158, 100), (237, 121, 83, 190), (240, 249, 33, 230)], np.float64)
"""Colour and opacity of the values of a map from the least to the greatest, 0 to 255 each."""
JPEG: Final[Responses] = {
    200: {"content": {"image/jpeg": BINARY}, "description": "the picture, upright, no side longer than asked for"},
    **RANGES,
}
PNG: Final[Responses] = {
    200: {
        "content": {"image/png": BINARY},
        "description": "an indexed PNG: its indices are the values, 0 to 255, its palette shows them as colours that "
        "are the more opaque the greater the value",
    },
    **RANGES,
}


class Side(IntEnum):
    """Most pixels of the longer side of a thumbnail."""

    TINY = 160
    SMALL = 320
    MEDIUM = 640
    LARGE = 1280


def pictures_router(context: Context, library: Library) -> APIRouter:
    """Return the routes thumbnail and maps."""
    router = APIRouter(tags=["assets: media"])
    making = SingleFlight[ObjectInfo]()

    async def kept(asset: Asset, key: str, content_type: str, make: Callable[[], Awaitable[bytes]]) -> ObjectInfo:
        """Return an object that was made of an asset; it is made now if there is none."""

        async def made() -> ObjectInfo:
            await derived.put(context.objects, context.settings.spool, key, await make(), content_type)
            if await library.gone([asset.asset_id]):
                await derived.remove(context.objects, derived.folder(asset.asset_id))  # it was deleted meanwhile
            info = await context.objects.head(key)
            if info is None:
                raise AssetNotFound([asset.asset_id])
            return info

        return await context.objects.head(key) or await making.run(key, made)

    @router.get("/media/{asset_id}/thumbnail", response_class=Response, responses=JPEG)
    async def media_thumbnail(
        asset_id: AssetId,
        request: Request,
        side: Annotated[Side, Query(description="most pixels of the longer side")] = Side.SMALL,
    ) -> Response:
        """Return a small picture of an asset: of an image, or of a video's poster. It is made once, then kept."""
        asset = await library.get(asset_id)

        async def make() -> bytes:
            data = await library.picture(asset)
            return await asyncio.to_thread(_thumbnail, data, side, context.settings.max_image_pixels)

        info = await kept(asset, f"{derived.folder(asset_id)}thumbnail-{side}", "image/jpeg", make)
        file = StoredFile.derived(asset, info, derived_name(asset.filename, f"{side}", ".jpg"))
        return await send_file(context.objects, request, file, CACHE)

    @router.get("/media/{asset_id}/maps/{name}.png", response_class=Response, responses=PNG)
    async def media_map(
        asset_id: AssetId,
        name: Annotated[MapName, Path(description="focus: where it is sharp; saliency: where it draws the eye")],
        request: Request,
    ) -> Response:
        """Return a map of a picture, or of a video's poster, to be laid over it. It is made once, then kept."""
        asset = await library.get(asset_id)

        async def make() -> bytes:
            try:
                found = await context.stage(MAPS)(MapQuery(library.picture_key(asset), name))
            except MediaNotFound:
                raise AssetNotFound([asset_id]) from None
            return _indexed(found.values)

        info = await kept(asset, f"{derived.folder(asset_id)}map-{name}", "image/png", make)
        file = StoredFile.derived(asset, info, derived_name(asset.filename, name, ".png"))
        return await send_file(context.objects, request, file, CACHE)

    return router


def _thumbnail(data: bytes, side: int, max_pixels: int) -> bytes:
    """Return a picture as JPEG, no side longer than ``side`` pixels. Raises as ``decode``."""
    image = Image.fromarray(decode(data, max_pixels=max_pixels, shrink_to=side // 2))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return file.getvalue()


def _indexed(values: NDArray[np.uint8]) -> bytes:
    """Return a map, uint8 (h, w), as PNG whose indices are its values and whose palette is that of ``HEAT``."""
    places = np.linspace(0, 255, len(HEAT))
    channels = [np.interp(np.arange(256), places, channel) for channel in HEAT.T]
    palette = np.stack(channels, axis=1).round().astype(np.uint8)
    image = Image.fromarray(values, "P")
    image.putpalette(palette[:, :3].tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", transparency=palette[:, 3].tobytes(), optimize=True)
    return file.getvalue()
