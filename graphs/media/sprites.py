"""Small pictures of a whole film in one sheet, and which of them belongs to which time, for players' timelines."""

import asyncio
import io
import json
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from PIL import Image

from deployments.media.frames import FRAMES, FrameRequest
from graphs.web.access import LINK
from graphs.web.context import Context
from graphs.web.filenames import derived_name
from graphs.web.files import StoredFile, send_file
from graphs.web.per_asset import SingleFlight
from graphs.web.schemas import BINARY, RANGES, AssetId, Responses
from graphs.web.uploads.library import Videos
from stores import derived
from stores.objects import ObjectNotFound
from stores.records import Asset
from vision.errors import InvalidMedia, StageError

MOST: Final = 100
COLUMNS: Final = 10
SIDE: Final = 160
"""Most pixels of the longer side of one picture."""
AT_ONCE: Final = 4
QUALITY: Final = 75
CACHE: Final = "public, max-age=86400"
SHEET: Final[Responses] = {
    200: {"content": {"image/jpeg": BINARY}, "description": "up to 100 pictures, ten in a row"},
    **RANGES,
}
CUES: Final[Responses] = {
    200: {"content": {"text/vtt": {"schema": {"type": "string"}}}, "description": "times, and places on the sheet"}
}


@dataclass(frozen=True, slots=True)
class Sheet:
    """``times``: when each picture is shown first, in seconds; ``width`` and ``height`` of one, in pixels."""

    times: list[float]
    width: int
    height: int

    def cues(self, duration: float, url: str) -> str:
        """Return WebVTT with a cue for each picture, that names its place on the sheet at this URL."""
        ends = [*self.times[1:], max(duration, self.times[-1] + 0.001)]
        blocks = [
            f"{_clock(0.0 if place == 0 else start)} --> {_clock(end)}\n{url}#xywh={self._place(place)}"
            for place, (start, end) in enumerate(zip(self.times, ends, strict=True))
        ]
        return "\n\n".join(["WEBVTT", *blocks]) + "\n"

    def _place(self, place: int) -> str:
        row, column = divmod(place, COLUMNS)
        return f"{column * self.width},{row * self.height},{self.width},{self.height}"


def sprites_router(context: Context, videos: Videos) -> APIRouter:
    """Return the routes thumbnails.vtt and thumbnails.jpg."""
    router = APIRouter(tags=["media: pictures"])
    making = SingleFlight[None]()

    async def sheet_of(video: Asset) -> Sheet:
        for _ in range(2):
            try:
                return Sheet(**json.loads(await context.objects.get(_key(video, "json"))))
            except ObjectNotFound:
                await making.run(video.asset_id, lambda: _make(context, video))
        raise InvalidMedia("This film was deleted meanwhile.")

    @router.get("/file/{file_uuid}/thumbnails.vtt", response_class=Response, responses=CUES)
    async def thumbnails_vtt(file_uuid: AssetId, request: Request) -> Response:
        """Return which part of `thumbnails.jpg` shows the film at which time, as WebVTT that players know."""
        video = await videos.get(file_uuid)
        sheet = await sheet_of(video)
        # Who came by a signed link goes on by it.
        query = "&".join(f"{name}={value}" for name, value in request.query_params.items() if name in LINK)
        url = f"thumbnails.jpg{'?' if query else ''}{query}"
        return Response(sheet.cues(video.duration or 0.0, url), media_type="text/vtt", headers={"cache-control": CACHE})

    @router.get("/file/{file_uuid}/thumbnails.jpg", response_class=Response, responses=SHEET)
    async def thumbnails_jpg(file_uuid: AssetId, request: Request) -> Response:
        """Return small pictures of the whole film in one; it is made when it is first asked for, and kept."""
        video = await videos.get(file_uuid)
        await sheet_of(video)
        info = await context.objects.head(_key(video, "jpg"))
        if info is None:
            raise InvalidMedia("This film was deleted meanwhile.")
        file = StoredFile.derived(video, info, derived_name(video.filename, "thumbnails", ".jpg"))
        return await send_file(context.objects, request, file, CACHE)

    return router


async def _make(context: Context, video: Asset) -> None:
    """Make and store the sheet of a film. Raises InvalidMedia where no frame of it can be decoded."""
    frames = video.frame_count or 1
    count = min(MOST, frames)
    width, height = _size(video)
    slots = asyncio.Semaphore(AT_ONCE)

    async def picture(number: int) -> tuple[float, bytes] | None:
        async with slots:
            try:
                shown = await context.stage(FRAMES)(FrameRequest(video.asset_id, number, size=(width, height)))
            except StageError as error:
                if not error.concerns_input:
                    raise
                return None  # this frame is damaged; the one before it stands for it
        return shown.time, shown.jpeg

    pictures = await asyncio.gather(*(picture(place * frames // count) for place in range(count)))
    shown = [each for each in pictures if each is not None]
    if not shown:
        raise InvalidMedia("No frame of this film can be decoded.")
    jpeg = await asyncio.to_thread(_paste, [data for _, data in shown], width, height)
    sheet = {"times": [round(time, 3) for time, _ in shown], "width": width, "height": height}
    spool = context.settings.spool
    # What is read first is written last.
    await derived.put(context.objects, spool, _key(video, "jpg"), jpeg, "image/jpeg")
    await derived.put(context.objects, spool, _key(video, "json"), json.dumps(sheet).encode(), "application/json")
    if not (await context.documents.get_assets([video.asset_id])):
        for kind in ("json", "jpg"):  # it was deleted meanwhile
            await context.objects.delete(_key(video, kind))


def _paste(pictures: list[bytes], width: int, height: int) -> bytes:
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (min(len(pictures), COLUMNS) * width, rows * height))
    for place, data in enumerate(pictures):
        row, column = divmod(place, COLUMNS)
        with Image.open(io.BytesIO(data)) as picture:
            sheet.paste(picture, (column * width, row * height))
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _size(video: Asset) -> tuple[int, int]:
    width, height = video.width or SIDE, video.height or SIDE
    scale = min(1.0, SIDE / max(width, height))
    return max(2, round(width * scale)), max(2, round(height * scale))


def _key(video: Asset, kind: str) -> str:
    return f"{derived.folder(video.asset_id)}thumbnails.{kind}"


def _clock(seconds: float) -> str:
    seconds_, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{seconds_ // 3600:02}:{seconds_ // 60 % 60:02}:{seconds_ % 60:02}.{milliseconds:03}"
