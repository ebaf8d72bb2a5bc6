"""Routes that show the library: its assets, newest first, and small pictures of them."""

import asyncio
import io
import time
from datetime import datetime
from enum import IntEnum
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from PIL import Image
from pydantic import BaseModel, Field

from graphs.assets.media import CACHE
from graphs.web.access import caller
from graphs.web.context import Context, Timer
from graphs.web.errors import AssetNotFound
from graphs.web.filenames import derived_name
from graphs.web.files import StoredFile, send_file
from graphs.web.hosts import link
from graphs.web.per_asset import SingleFlight
from graphs.web.schemas import BINARY, ID_1, RANGES, Answer, AssetId, Responses, example, numbered
from graphs.web.uploads.library import Library
from stores import derived
from stores.objects import ObjectInfo
from stores.records import Asset, from_micros, to_micros
from stores.uploads import latest
from vision.images.decode import decode
from vision.media.sniff import MediaKind

PAGE: Final = 1000
PAGES_READ: Final = 20
"""At most for one page of assets with a name that few have."""
THUMBNAIL_QUALITY: Final = 80
LINK_S: Final = 6 * 3600
JPEG: Final[Responses] = {
    200: {"content": {"image/jpeg": BINARY}, "description": "the picture, upright, no side longer than asked for"},
    **RANGES,
}


class Side(IntEnum):
    """Most pixels of the longer side of a thumbnail."""

    TINY = 160
    SMALL = 320
    MEDIUM = 640
    LARGE = 1280


class LibraryAsset(BaseModel):
    """An asset of the library."""

    asset_id: str
    filename: str
    kind: MediaKind
    content_type: str
    file_size: int = Field(description="bytes")
    width: int | None = Field(description="pixels, as shown")
    height: int | None
    duration: float | None = Field(description="seconds, for video and audio")
    uploaded_at: datetime
    thumbnail_url: str | None = Field(description="picture with no side longer than 320 pixels; null for audio")


class LibraryPage(Answer):
    """A page of the library, latest upload first."""

    model_config = example(
        assets=[
            {
                "asset_id": ID_1,
                "filename": "street.jpg",
                "kind": "image",
                "content_type": "image/jpeg",
                "file_size": 80114,
                "width": 1920,
                "height": 1080,
                "duration": None,
                "uploaded_at": "2026-01-15T12:00:00Z",
                "thumbnail_url": f"http://127.0.0.1:8000/api/v1/media/{ID_1}/thumbnail?side=320",
            }
        ],
        next=None,
        counts={"image": 1},
        processing_time=0.004,
    )
    assets: list[LibraryAsset]
    next: str | None = Field(description="``after`` of the next page; null where there is none")
    counts: dict[MediaKind, int] = Field(description="assets of the whole library by their kind")


def library_router(context: Context, library: Library) -> APIRouter:
    """Return the routes assets and thumbnail."""
    router = APIRouter(tags=["assets: media"])
    making = SingleFlight[ObjectInfo]()

    async def signed(url: str, asset_id: str) -> str:
        """Return a URL that a browser can show, the same for some hours, so that it keeps the picture."""
        now = int(time.time())
        return (await context.access.signed(url, asset_id, 2 * LINK_S - now % LINK_S))[0]

    async def shown(request: Request, asset: Asset, *, is_open: bool) -> LibraryAsset:
        url = None
        if asset.kind != "audio":
            url = f"{link(request, 'media_thumbnail', asset_id=asset.asset_id)}?side=320"
            if not is_open:
                url = await signed(url, asset.asset_id)
        facts = {name: getattr(asset, name) for name in LibraryAsset.model_fields if hasattr(asset, name)}
        return LibraryAsset(**facts, thumbnail_url=url)

    @router.get("/assets")
    async def list_assets(
        request: Request,
        clock: Timer,
        kind: Annotated[MediaKind | None, Query(description="only these")] = None,
        name: Annotated[str, Query(max_length=200, description="text that the file name has, in any case")] = "",
        after: Annotated[str | None, Query(max_length=160, description="``next`` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=500, description="most assets of the page")] = 100,
    ) -> LibraryPage:
        """Return the assets of the library, latest upload first. A page can be short, and ``next`` be there anyway."""
        place = _place(after)
        counts, (assets, following) = await asyncio.gather(
            context.documents.count_assets(), _page(context, kind, name, place, limit)
        )
        is_open = await context.access.is_open()
        return LibraryPage(
            assets=[await shown(request, asset, is_open=is_open) for asset in assets],
            next=following,
            counts=counts,
            processing_time=clock.seconds,
        )

    async def thumbnail_of(asset: Asset, side: Side) -> ObjectInfo:
        data = await library.picture(asset)
        jpeg = await asyncio.to_thread(_thumbnail, data, side, context.settings.max_image_pixels)
        key = thumbnail_key(asset.asset_id, side)
        await derived.put(context.objects, context.settings.spool, key, jpeg, "image/jpeg")
        if await library.gone([asset.asset_id]):
            await derived.remove(context.objects, derived.folder(asset.asset_id))  # it was deleted meanwhile
        info = await context.objects.head(key)
        if info is None:
            raise AssetNotFound([asset.asset_id])
        return info

    @router.get("/media/{asset_id}/thumbnail", response_class=Response, responses=JPEG)
    async def media_thumbnail(
        asset_id: AssetId,
        request: Request,
        side: Annotated[Side, Query(description="most pixels of the longer side")] = Side.SMALL,
    ) -> Response:
        """Return a small picture of an asset: of an image, or of a video's poster. It is made once, then kept."""
        asset = await library.get(asset_id)
        key = thumbnail_key(asset_id, side)
        info = await context.objects.head(key) or await making.run(key, lambda: thumbnail_of(asset, side))
        file = StoredFile.derived(asset, info, derived_name(asset.filename, f"{side}", ".jpg"))
        return await send_file(context.objects, request, file, CACHE)

    return router


def thumbnail_key(asset_id: str, side: int) -> str:
    """Return the object key of a small picture of an asset."""
    return f"{derived.folder(asset_id)}thumbnail-{side}"


def _thumbnail(data: bytes, side: int, max_pixels: int) -> bytes:
    """Return a picture as JPEG, no side longer than ``side`` pixels. Raises as ``decode``."""
    image = Image.fromarray(decode(data, max_pixels=max_pixels, shrink_to=side // 2))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return file.getvalue()


def _place(after: str | None) -> tuple[datetime, str] | None:
    """Return the place in the library that a cursor names. Raises InvalidInput."""
    if after is None:
        return None
    micros, asset_id = numbered(after, digits=17)
    return from_micros(micros), asset_id


async def _page(
    context: Context, kind: MediaKind | None, name: str, place: tuple[datetime, str] | None, limit: int
) -> tuple[list[Asset], str | None]:
    """Return up to ``limit`` assets that the caller sees, and the cursor of what comes after them."""
    owner, wanted, assets = caller.get().name, name.casefold(), list[Asset]()
    for _ in range(PAGES_READ):
        size = PAGE if wanted else limit
        read = await context.documents.newest_assets(kind, place, size)
        for number, stored in enumerate(read, 1):
            place = latest(stored.uploads), stored.asset_id
            asset = stored.seen_by(owner)
            if asset is not None and wanted in asset.filename.casefold():
                assets.append(asset)
            if len(assets) == limit:
                is_last = number == len(read) < size
                return assets, None if is_last else _cursor(place)
        if len(read) < size:
            return assets, None
    return assets, _cursor(place) if place else None


def _cursor(place: tuple[datetime, str]) -> str:
    return f"{to_micros(place[0])}-{place[1]}"
