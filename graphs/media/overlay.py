"""Routes of videos with what was found drawn in: boxes of every trace, or of one."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from graphs.media.boxes import Boxes
from graphs.media.clips import Clips
from graphs.media.errors import NotIndexed
from graphs.media.spans import Audio, Mode, Span, SpanOf
from graphs.web.schemas import BINARY, FileUuid, Responses
from graphs.web.uploads.library import Videos

CACHE = "private, no-cache"
"""Names and traces change."""
CAPTION = "DEBUG"
MP4: Final[Responses] = {
    200: {"content": {"video/mp4": BINARY}, "description": "fragmented MP4 (H.264, AAC), sent while it is encoded"}
}


def overlay_router(videos: Videos, clips: Clips, boxes: Boxes) -> APIRouter:
    """video/bbox, trace/{trace_id}/video."""
    router = APIRouter(tags=["media: streams"])

    @router.head("/file/{file_uuid}/video/bbox", include_in_schema=False)
    @router.get("/file/{file_uuid}/video/bbox", response_class=Response, responses=MP4)
    async def video_with_boxes(
        file_uuid: FileUuid, request: Request, span: SpanOf, mode: Mode = "normal", audio: Audio = "on"
    ) -> Response:
        """The video, or a part of it, with a labelled box around everybody who was found."""
        video = await videos.get(file_uuid)
        found = await boxes.of_all(file_uuid, span)
        if found is None:
            raise NotIndexed(file_uuid)
        plan = span.plan("overlay", audio, CAPTION if mode == "debug" else "")
        return await clips.answer(request, video, plan, CACHE, found)

    @router.head("/file/{file_uuid}/trace/{trace_id}/video", include_in_schema=False)
    @router.get("/file/{file_uuid}/trace/{trace_id}/video", response_class=Response, responses=MP4)
    async def trace_video(
        file_uuid: FileUuid,
        trace_id: Annotated[int, Path(ge=0, le=2**31 - 1)],
        request: Request,
        span: SpanOf,
        mode: Mode = "normal",
        audio: Audio = "on",
    ) -> Response:
        """One person, followed by a labelled box: from the first to the last frame of the trace, or in a part."""
        video = await videos.get(file_uuid)
        trace, found = await boxes.of_one(file_uuid, trace_id)
        if span.is_whole:
            span = Span(trace.first_frame, trace.last_frame)
        plan = span.plan("overlay", audio, CAPTION if mode == "debug" else "")
        return await clips.answer(request, video, plan, CACHE, found)

    return router
