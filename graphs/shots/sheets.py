"""Routes of contact sheets: the keyframes of an analysed video in order with times and labels, as PNG or HTML."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from graphs.indexing.shot_tags import FilmObjects
from graphs.shots.errors import NotAnalyzed
from graphs.shots.thumbnails import thumbnail
from graphs.web.context import Context
from graphs.web.hosts import link
from graphs.web.schemas import BINARY, FileUuid, Responses
from graphs.web.uploads.library import Videos
from stores.records import Asset
from stores.shots import Shot
from vision.errors import StageError
from vision.media.overlay import timecode
from vision.quality.framing import UNDETERMINED

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

ROUTE: Final = "contact_sheet_png"
SHOTS_A_PAGE: Final = 60
SHOTS_AT_ONCE: Final = 8
COLUMNS: Final = 5
PICTURE: Final = (320, 180)
GAP: Final = 12
LINE: Final = 20
TEXT: Final = 14
HEADER: Final = 44
PAPER: Final = (250, 250, 248)
INK: Final = (24, 24, 24)
FADED: Final = (110, 110, 110)
EMPTY: Final = (222, 222, 220)
HTML: Final[Responses] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}
PNG: Final[Responses] = {200: {"content": {"image/png": BINARY}, "description": "the keyframes in rows of five"}}
POLICY: Final = "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"
STYLE: Final = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 16px; background: #fafaf8; color: #181818 }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 16px }
figure { margin: 0 } img { width: 100%; aspect-ratio: 16 / 9; object-fit: contain; background: #dededc }
figcaption p { margin: 2px 0 } .tags { color: #6e6e6e }
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One shot of a sheet; ``jpeg`` is its keyframe, None where that cannot be made."""

    shot: Shot
    jpeg: bytes | None


def sheet_url(request: Request, video_asset_id: str) -> str:
    """Return the URL of the contact sheet of a video."""
    return link(request, ROUTE, file_uuid=video_asset_id)


def sheets_router(context: Context, videos: Videos) -> APIRouter:
    """Return the routes shots/sheets."""
    router = APIRouter(tags=["shots"])

    async def analyzed(file_uuid: str) -> tuple[Asset, Sequence[Shot]]:
        video = await videos.get(file_uuid)
        analysis = await context.shots.get_analysis(video.asset_id)
        if analysis is None:
            raise NotAnalyzed(video.asset_id)
        return video, (await FilmObjects.of(context, video.asset_id)).tagged(analysis.shots)

    @router.get("/shots/sheets/{file_uuid}.png", name=ROUTE, response_class=Response, responses=PNG)
    async def contact_sheet_png(
        file_uuid: FileUuid, page: Annotated[int, Query(ge=1, le=1_000_000, description="of 60 shots each")] = 1
    ) -> Response:
        """Draw the keyframes of an analysed video with timecodes and labels; `X-Pages` is the number of pages."""
        video, shots = await analyzed(file_uuid)
        pages = max(1, -(-len(shots) // SHOTS_A_PAGE))
        slots = asyncio.Semaphore(SHOTS_AT_ONCE)

        async def cell(shot: Shot) -> Cell:
            async with slots:
                try:
                    return Cell(shot, await thumbnail(context, shot, video))
                except StageError as error:
                    if error.retryable:
                        raise
                    return Cell(shot, None)

        cells = await asyncio.gather(*map(cell, shots[(page - 1) * SHOTS_A_PAGE : page * SHOTS_A_PAGE]))
        title = f"{video.filename}   {len(shots)} shots   {timecode(video.duration or 0.0)}"
        title += f"   page {page} of {pages}" if pages > 1 else ""
        png = await asyncio.to_thread(draw_sheet, title, cells)
        return Response(png, media_type="image/png", headers={"cache-control": "no-cache", "x-pages": str(pages)})

    @router.get("/shots/sheets/{file_uuid}.html", response_class=Response, responses=HTML)
    async def contact_sheet_html(file_uuid: FileUuid) -> Response:
        """Return the same as an HTML page, whose pictures are loaded as they come into view."""
        page = _page(*await analyzed(file_uuid))
        return HTMLResponse(page, headers={"content-security-policy": POLICY, "cache-control": "no-cache"})

    return router


def _page(video: Asset, shots: Sequence[Shot]) -> str:
    title = escape(f"{video.filename}: {len(shots)} shots")
    figures = "\n".join(_figure(shot) for shot in shots)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>\n'
        f"<h1>{title}</h1>\n<main>\n{figures}\n</main></html>\n"
    )


def _figure(shot: Shot) -> str:
    when, measured, *others = map(escape, caption(shot))
    tags = "".join(f'<p class="tags">{line}' for line in others)
    source = f"/api/v1/file/{shot.video_asset_id}/thumbnail?frame={shot.keyframe_frame}"
    return (
        f'<figure><img loading="lazy" src="{source}" alt="frame {shot.keyframe_frame}">'
        f"<figcaption><p>{when}<p>{measured}{tags}</figcaption></figure>"
    )


def draw_sheet(title: str, cells: Sequence[Cell]) -> bytes:
    """Return a PNG of the keyframes in rows of five, under a title."""
    from PIL import Image, ImageDraw, ImageFont

    width = COLUMNS * (PICTURE[0] + GAP) + GAP
    captions = [caption(cell.shot) for cell in cells]
    cell_height = PICTURE[1] + max((len(lines) for lines in captions), default=0) * LINE + GAP
    rows = -(-len(cells) // COLUMNS)
    page = Image.new("RGB", (width, HEADER + rows * cell_height + GAP), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text(
        (GAP, GAP), _fitted(pen, title, width - 2 * GAP, ImageFont.load_default(18)), INK, ImageFont.load_default(18)
    )
    font = ImageFont.load_default(TEXT)
    for place, cell in enumerate(cells):
        left = GAP + place % COLUMNS * (PICTURE[0] + GAP)
        top = HEADER + place // COLUMNS * cell_height
        pen.rectangle((left, top, left + PICTURE[0] - 1, top + PICTURE[1] - 1), EMPTY)
        if cell.jpeg is not None:
            with Image.open(BytesIO(cell.jpeg)) as keyframe:
                scale = min(PICTURE[0] / keyframe.width, PICTURE[1] / keyframe.height)
                picture = keyframe.resize(
                    (max(1, round(keyframe.width * scale)), max(1, round(keyframe.height * scale)))
                )
                page.paste(
                    picture, (left + (PICTURE[0] - picture.width) // 2, top + (PICTURE[1] - picture.height) // 2)
                )
        for line, text in enumerate(captions[place]):
            colour = INK if line < 2 else FADED
            fitted = _fitted(pen, text, PICTURE[0], font)
            pen.text((left, top + PICTURE[1] + 4 + line * LINE), fitted, colour, font)
    file = BytesIO()
    # A palette is a third of the size, and no worse for pictures this small.
    page.quantize(256).save(file, "PNG", optimize=True)
    return file.getvalue()


def caption(shot: Shot) -> list[str]:
    """Return three lines: when it is, what the camera does and how near it is, and the tags that say something else.

    A fourth one has the objects that are seen in it, if any are, with how many at once.
    """
    measured = [shot.camera_movement, shot.shot_size, shot.shot_angle, shot.framing]
    labels = [label for label in measured if label != UNDETERMINED]
    tags = [tag for tag in shot.tags if tag not in labels]
    when = f"{shot.shot_index + 1}   {timecode(shot.start_timestamp)}   {shot.duration:.2f} s"
    objects = [f"{tag.label} ({tag.at_once})" if tag.at_once > 1 else tag.label for tag in shot.objects or ()]
    lines = [when, " · ".join(labels) or UNDETERMINED, " · ".join(tags)]
    return [*lines, " · ".join(objects)] if objects else lines


def _fitted(pen: "ImageDraw", text: str, width: int, font: "FreeTypeFont | ImageFont") -> str:
    """Return as much of a text as fits into a line."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"
