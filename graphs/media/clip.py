"""The route of clips: cut to the frame, encoded while they are sent."""

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from graphs.media.boxes import Boxes
from graphs.media.clips import Clips
from graphs.media.spans import Audio, Mode, SpanOf
from graphs.web.schemas import BINARY, FileUuid, Responses
from graphs.web.uploads.library import Videos
from vision.errors import InvalidInput

CACHE = "public, max-age=86400"
CAPTION = "CLIP"
MPEG_TS: Final[Responses] = {
    200: {"content": {"video/mp2t": BINARY}, "description": "MPEG-TS (H.264, AAC), sent while it is encoded"}
}


def clip_router(videos: Videos, clips: Clips, boxes: Boxes) -> APIRouter:
    """clip."""
    router = APIRouter(tags=["media: streams"])

    @router.head("/file/{file_uuid}/clip", include_in_schema=False)
    @router.get("/file/{file_uuid}/clip", response_class=Response, responses=MPEG_TS)
    async def clip(
        file_uuid: FileUuid, request: Request, span: SpanOf, mode: Mode = "normal", audio: Audio = "on"
    ) -> Response:
        """A part of the video, exactly from its first to its last frame, encoded anew."""
        video = await videos.get(file_uuid)
        if span.is_whole:
            raise InvalidInput("Which part? Give start_frame and end_frame, or start_time and end_time.")
        debug = mode == "debug"
        found = await boxes.of_all(file_uuid, span) if debug else None
        return await clips.answer(request, video, span.plan("clip", audio, CAPTION if debug else ""), CACHE, found)

    return router
