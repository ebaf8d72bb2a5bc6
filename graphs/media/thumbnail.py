"""The route of single frames as pictures."""

from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.responses import Response

from deployments.media.frames import FRAMES, FrameRequest
from graphs.media.spans import FrameNumber
from graphs.web.context import Context
from graphs.web.schemas import BINARY, FileUuid, Responses
from graphs.web.uploads.library import Videos
from vision.errors import InvalidInput

CACHED = {"cache-control": "public, max-age=86400"}
MAX_SIDE = 2**16

Place = Annotated[int | None, Query(ge=0, le=MAX_SIDE, description="pixels; a crop needs all four", examples=[160])]
Side = Annotated[int | None, Query(ge=1, le=MAX_SIDE, description="pixels; a crop needs all four", examples=[160])]
JPEG: Final[Responses] = {200: {"content": {"image/jpeg": BINARY}, "description": "the frame, or the part of it"}}


def thumbnail_router(context: Context, videos: Videos) -> APIRouter:
    """thumbnail."""
    router = APIRouter(tags=["media: pictures"])

    @router.head("/file/{file_uuid}/thumbnail", include_in_schema=False)
    @router.get("/file/{file_uuid}/thumbnail", response_class=Response, responses=JPEG)
    async def thumbnail(
        file_uuid: FileUuid,
        frame: Annotated[FrameNumber, Query(description="zero-based, in order of presentation", examples=[1000])],
        x: Place = None,
        y: Place = None,
        w: Side = None,
        h: Side = None,
    ) -> Response:
        """One frame as JPEG, exactly that of this number, upright; whole, or the part that x, y, w and h give."""
        video = await videos.get(file_uuid)
        picture = await context.stage(FRAMES)(FrameRequest(video.asset_id, frame, crop=_crop(x=x, y=y, w=w, h=h)))
        return Response(picture.jpeg, media_type="image/jpeg", headers=CACHED)

    return router


def _crop(**given: int | None) -> tuple[int, int, int, int] | None:
    """Raises InvalidInput unless all four are given, or none."""
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return None
    if missing:
        raise InvalidInput(f"A crop needs x, y, w and h; this one has no {', '.join(missing)}.")
    x, y, w, h = (value for value in given.values() if value is not None)
    return x, y, w, h
