"""The route that shows the library: its assets, newest first, all of them or those that have something in them."""

import asyncio
import time
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from graphs.assets.contents import Contents, Found, Matched
from graphs.indexing.classes import MOST_TEXT
from graphs.indexing.tags import TAGS, ObjectTag, tags_of
from graphs.web.access import caller
from graphs.web.context import Context, Timer
from graphs.web.errors import ScopeMissing
from graphs.web.hosts import link
from graphs.web.parts import UNAVAILABLE, OptionalParts
from graphs.web.schemas import ID_1, Answer, example, numbered
from stores.records import Asset, from_micros, to_micros
from stores.uploads import latest
from vision.media.sniff import MediaKind

PAGE: Final = 1000
PAGES_READ: Final = 20
"""At most for one page of assets with a name that few have."""
LINK_S: Final = 6 * 3600
PEOPLE_SCOPE: Final = "media:read"
"""Of the routes of identities: who is known, and where they are, is for those who may read these."""


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
    tags: list[ObjectTag] | None = TAGS
    matched: Matched | None = Field(
        default=None, description="where in it what was asked for is; null where nothing was asked for"
    )


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
                "tags": [{"label": "dog", "confidence": 0.93, "at_once": 2, "screen_time": None}],
                "matched": None,
            }
        ],
        next=None,
        counts={"image": 1},
        complete=True,
        processing_time=0.004,
    )
    assets: list[LibraryAsset]
    next: str | None = Field(description="``after`` of the next page; null where there is none")
    counts: dict[MediaKind, int] = Field(description="assets of the whole library by their kind")
    complete: bool = Field(
        default=True,
        description="false where pictures were never looked at for what was asked for: ask again to go on",
    )
    unavailable: dict[str, str] = UNAVAILABLE


def library_router(context: Context, contents: Contents) -> APIRouter:
    """Return the route assets."""
    router = APIRouter(tags=["assets: media"])

    async def signed(url: str, asset_id: str) -> str:
        """Return a URL that a browser can show, the same for some hours, so that it keeps the picture."""
        now = int(time.time())
        return (await context.access.signed(url, asset_id, 2 * LINK_S - now % LINK_S))[0]

    async def shown(
        request: Request, asset: Asset, tags: list[ObjectTag] | None, matched: Matched | None, *, is_open: bool
    ) -> LibraryAsset:
        url = None
        if asset.kind != "audio":
            url = f"{link(request, 'media_thumbnail', asset_id=asset.asset_id)}?side=320"
            if not is_open:
                url = await signed(url, asset.asset_id)
        facts = {name: getattr(asset, name) for name in LibraryAsset.model_fields if hasattr(asset, name)}
        return LibraryAsset(**facts, thumbnail_url=url, tags=tags, matched=matched)

    @router.get("/assets")
    async def list_assets(
        request: Request,
        clock: Timer,
        kind: Annotated[MediaKind | None, Query(description="only these")] = None,
        name: Annotated[str, Query(max_length=200, description="text that the file name has, in any case")] = "",
        objects: Annotated[
            str | None,
            Query(
                max_length=MOST_TEXT,
                description="only what has objects of all of these classes in it, separated by commas",
                examples=["dog,car"],
            ),
        ] = None,
        people: Annotated[
            str | None,
            Query(
                max_length=MOST_TEXT,
                description="only what all of these people are in, uuids or names of identities separated by commas",
                examples=["Audrey Hepburn"],
            ),
        ] = None,
        min_confidence: Annotated[
            float, Query(ge=0, le=1, description="least confidence of an object, in films of a track")
        ] = 0.0,
        after: Annotated[str | None, Query(max_length=160, description="``next`` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=500, description="most assets of the page")] = 100,
    ) -> LibraryPage:
        """Return the assets of the library, latest upload first. A page can be short, and ``next`` be there anyway.

        With ``objects`` and ``people``: pictures and indexed films that have all of these, and where. Pictures that the
        models never saw are looked at first, some with each request. Who asks for people needs the scope of those, too.
        """
        if people is not None and not caller.get().may(PEOPLE_SCOPE):
            raise ScopeMissing(PEOPLE_SCOPE, "it may not ask who is in files")
        place, parts = _place(after), OptionalParts()
        wanted = await contents.wanted(objects, people, min_confidence)
        complete, found, matched = True, None, dict[str, Matched]()
        if wanted is not None:
            complete = await contents.look(wanted, kind, parts)
            found = await contents.find(wanted, kind)
        counts, (assets, following) = await asyncio.gather(
            context.documents.count_assets(), _page(context, kind, name, place, limit, found)
        )
        if wanted is not None:
            matched = await contents.matched(wanted, assets)
        tags, is_open = await tags_of(context, assets), await context.access.is_open()
        return LibraryPage(
            assets=[
                await shown(request, each, tags.get(each.asset_id), matched.get(each.asset_id), is_open=is_open)
                for each in assets
            ],
            next=following,
            counts=counts,
            complete=complete,
            unavailable=parts.unavailable,
            processing_time=clock.seconds,
        )

    return router


def _place(after: str | None) -> tuple[datetime, str] | None:
    """Return the place in the library that a cursor names. Raises InvalidInput."""
    if after is None:
        return None
    micros, asset_id = numbered(after, digits=17)
    return from_micros(micros), asset_id


async def _page(
    context: Context,
    kind: MediaKind | None,
    name: str,
    place: tuple[datetime, str] | None,
    limit: int,
    found: Found | None = None,
) -> tuple[list[Asset], str | None]:
    """Return up to ``limit`` assets that the caller sees, of those ``found``, and the cursor of what comes after."""
    owner, wanted, assets = caller.get().name, name.casefold(), list[Asset]()
    among = None if found is None else found.films | found.pictures
    for _ in range(PAGES_READ):
        size = PAGE if wanted else limit
        read = await context.documents.newest_assets(kind, place, size, among)
        for number, stored in enumerate(read, 1):
            place = latest(stored.uploads), stored.asset_id
            asset = stored.seen_by(owner) if found is None or stored in found else None
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
