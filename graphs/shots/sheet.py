"""Contact sheets: all shots of an analysed video on one picture, or on a page."""

import asyncio
from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from graphs.shots import thumbnails
from graphs.shots.drawing import Cell, sheet, words
from graphs.shots.errors import NotAnalyzed
from graphs.web.context import Context
from graphs.web.schemas import BINARY, FileUuid, Responses
from graphs.web.uploads.library import Videos
from stores.records import Asset
from stores.shots import Analysis, Shot
from vision.errors import StageError
from vision.media.overlay import timecode

ROUTE: Final = "contact_sheet_png"
A_PAGE: Final = 60
AT_ONCE: Final = 8
PNG: Final[Responses] = {200: {"content": {"image/png": BINARY}, "description": "the keyframes in rows of five"}}
POLICY: Final = "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"
STYLE: Final = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 16px; background: #fafaf8; color: #181818 }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 16px }
figure { margin: 0 } img { width: 100%; aspect-ratio: 16 / 9; object-fit: contain; background: #dededc }
figcaption p { margin: 2px 0 } .tags { color: #6e6e6e }
"""


def sheet_url(request: Request, video_asset_id: str) -> str:
    """Where the contact sheet of a video is."""
    return str(request.url_for(ROUTE, file_uuid=video_asset_id))


def sheet_router(context: Context, videos: Videos) -> APIRouter:
    """shots/sheets."""
    router = APIRouter(tags=["shots"])

    async def analyzed(file_uuid: str) -> tuple[Asset, Analysis]:
        video = await videos.get(file_uuid)
        found = await context.shots.get_analysis(video.asset_id)
        if found is None:
            raise NotAnalyzed(video.asset_id)
        return video, found

    @router.get("/shots/sheets/{file_uuid}.png", name=ROUTE, response_class=Response, responses=PNG)
    async def contact_sheet_png(
        file_uuid: FileUuid, page: Annotated[int, Query(ge=1, le=1_000_000, description="of 60 shots each")] = 1
    ) -> Response:
        """The keyframes of an analysed video with timecodes and labels; `X-Pages` says how many pages there are."""
        video, found = await analyzed(file_uuid)
        pages = max(1, -(-len(found.shots) // A_PAGE))
        shots = found.shots[(page - 1) * A_PAGE : page * A_PAGE]
        room = asyncio.Semaphore(AT_ONCE)

        async def cell(shot: Shot) -> Cell:
            async with room:
                try:
                    return Cell(shot, await thumbnails.thumbnail(context, shot, video))
                except StageError as error:
                    if error.retryable:
                        raise
                    return Cell(shot, None)

        cells = await asyncio.gather(*map(cell, shots))
        title = f"{video.filename}   {len(found.shots)} shots   {timecode(video.duration or 0.0)}"
        title += f"   page {page} of {pages}" if pages > 1 else ""
        png = await asyncio.to_thread(sheet, title, cells)
        return Response(png, media_type="image/png", headers={"cache-control": "no-cache", "x-pages": str(pages)})

    @router.get("/shots/sheets/{file_uuid}.html", response_class=HTMLResponse)
    async def contact_sheet_html(file_uuid: FileUuid) -> Response:
        """The same as a page, whose pictures are loaded as they come into view."""
        video, found = await analyzed(file_uuid)
        page = _page(video, found)
        return HTMLResponse(page, headers={"content-security-policy": POLICY, "cache-control": "no-cache"})

    return router


def _page(video: Asset, found: Analysis) -> str:
    title = escape(f"{video.filename}: {len(found.shots)} shots")
    figures = "\n".join(_figure(shot) for shot in found.shots)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>\n'
        f"<h1>{title}</h1>\n<main>\n{figures}\n</main></html>\n"
    )


def _figure(shot: Shot) -> str:
    when, measured, tags = map(escape, words(shot))
    source = f"/api/v1/file/{shot.video_asset_id}/thumbnail?frame={shot.keyframe_frame}"
    return (
        f'<figure><img loading="lazy" src="{source}" alt="frame {shot.keyframe_frame}">'
        f'<figcaption><p>{when}<p>{measured}<p class="tags">{tags}</figcaption></figure>'
    )
