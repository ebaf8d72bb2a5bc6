"""Routes of streams: whole videos, parts as they are, clips that are encoded anew, and videos with boxes drawn in."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from deployments.media.clips import CLIPS
from graphs.media.boxes import Boxes
from graphs.media.errors import NotIndexed
from graphs.media.spans import Audio, Mode, Span, SpanOf
from graphs.web.context import Context
from graphs.web.files import StoredFile, Stream, send_file
from graphs.web.schemas import BINARY, FileUuid, Responses
from graphs.web.uploads.library import Videos
from stores.records import Asset
from vision.errors import InvalidInput
from vision.media.plan import BoxTrack, ClipPlan, ClipRequest

ENCODED: Final = {"clip": "video/mp2t", "overlay": "video/mp4"}
DAY_S: Final = 86400
OF_FILE: Final = f"private, max-age={DAY_S}"
OF_CLIP: Final = f"public, max-age={DAY_S}"
OF_BOXES: Final = "private, no-cache"
"""Names and traces change."""

VIDEO: Final[Responses] = {
    200: {
        "content": {"video/mp4": BINARY, "video/quicktime": BINARY, "video/webm": BINARY, "video/x-matroska": BINARY},
        "description": "the file, or a part of it: as fragmented MP4 or WebM if those hold its codecs, else Matroska",
    },
    206: {"content": {"video/mp4": BINARY}, "description": "the bytes that Range asks for"},
    304: {"description": "the client has this version already"},
    412: {"description": "not the version that the client wants"},
    416: {"description": "there are no bytes in this range; Content-Range says how many there are"},
}
MPEG_TS: Final[Responses] = {
    200: {"content": {"video/mp2t": BINARY}, "description": "MPEG-TS (H.264, AAC), sent while it is encoded"}
}
MP4: Final[Responses] = {
    200: {"content": {"video/mp4": BINARY}, "description": "fragmented MP4 (H.264, AAC), sent while it is encoded"}
}


def streams_router(context: Context, videos: Videos) -> APIRouter:
    """Return the routes video, clip, video/bbox and trace/{trace_id}/video."""
    router = APIRouter(tags=["media: streams"])
    boxes = Boxes(context)

    @router.get("/file/{file_uuid}/video", response_class=Response, responses=VIDEO)
    async def video(
        file_uuid: FileUuid, request: Request, span: SpanOf, mode: Mode = "normal", audio: Audio = "on"
    ) -> Response:
        """Stream the stored file byte by byte, with ranges to seek in; a request for several ranges gets all of it.

        A part, or `audio=off`, is copied without encoding it anew: it begins at the key frame at or before its start,
        as X-First-Frame and X-Start-Time say, and has no ranges. `mode=debug` is encoded, as /video/bbox is.
        """
        asset = await videos.get(file_uuid)
        if mode == "debug":
            track = await indexed_boxes(file_uuid, span)
            return await send_clip(context, request, asset, span.plan("overlay", audio, "DEBUG"), OF_BOXES, track)
        if span.is_whole and audio == "on":
            return await send_file(context.objects, request, StoredFile.of(asset), DAY_S)
        return await send_clip(context, request, asset, span.plan("copy", audio), OF_FILE)

    @router.get("/file/{file_uuid}/clip", response_class=Response, responses=MPEG_TS)
    async def clip(
        file_uuid: FileUuid, request: Request, span: SpanOf, mode: Mode = "normal", audio: Audio = "on"
    ) -> Response:
        """Stream a part of the video, exactly from its first to its last frame, encoded anew."""
        asset = await videos.get(file_uuid)
        if span.is_whole:
            raise InvalidInput("Which part? Give start_frame and end_frame, or start_time and end_time.")
        debug = mode == "debug"
        track = await boxes.of_all(file_uuid, span) if debug else None
        plan = span.plan("clip", audio, "CLIP" if debug else "")
        return await send_clip(context, request, asset, plan, OF_CLIP, track)

    @router.get("/file/{file_uuid}/video/bbox", response_class=Response, responses=MP4)
    async def video_with_boxes(
        file_uuid: FileUuid, request: Request, span: SpanOf, mode: Mode = "normal", audio: Audio = "on"
    ) -> Response:
        """Stream the video, or a part of it, with a labelled box around each face that indexing found."""
        asset = await videos.get(file_uuid)
        track = await indexed_boxes(file_uuid, span)
        plan = span.plan("overlay", audio, "DEBUG" if mode == "debug" else "")
        return await send_clip(context, request, asset, plan, OF_BOXES, track)

    @router.get("/file/{file_uuid}/trace/{trace_id}/video", response_class=Response, responses=MP4)
    async def trace_video(
        file_uuid: FileUuid,
        trace_id: Annotated[int, Path(ge=0, le=2**31 - 1)],
        request: Request,
        span: SpanOf,
        mode: Mode = "normal",
        audio: Audio = "on",
    ) -> Response:
        """Stream the video with a labelled box that follows one person, over the frames of the trace or in a part."""
        asset = await videos.get(file_uuid)
        trace, track = await boxes.of_one(file_uuid, trace_id)
        if span.is_whole:
            span = Span(trace.first_frame, trace.last_frame)
        plan = span.plan("overlay", audio, "DEBUG" if mode == "debug" else "")
        return await send_clip(context, request, asset, plan, OF_BOXES, track)

    async def indexed_boxes(file_uuid: str, span: Span) -> BoxTrack:
        track = await boxes.of_all(file_uuid, span)
        if track is None:
            raise NotIndexed(file_uuid)
        return track

    return router


async def send_clip(
    context: Context, request: Request, video: Asset, plan: ClipPlan, cache: str, boxes: BoxTrack | None = None
) -> Response:
    """Return what media/clips makes of a video: the stream for a GET, its headers for a HEAD.

    ``cache`` is the value of Cache-Control. Raises InvalidInput for a part that the video does not have, InvalidMedia,
    and StageOverloaded when as many streams as the stage may have are running.
    """
    stage = context.stage(CLIPS)
    headers = {"accept-ranges": "none", "cache-control": cache, "x-content-type-options": "nosniff"}
    media_type = ENCODED.get(plan.action)
    if media_type is None or request.method == "HEAD":
        facts = await stage(ClipRequest(video.asset_id, plan))
        media_type = facts.content_type
        if plan.action == "copy":
            headers |= {"x-first-frame": str(facts.first_frame), "x-start-time": f"{facts.start_time:.6f}"}
    if request.method == "HEAD":
        response = Response(media_type=media_type, headers=headers)
        del response.headers["content-length"]  # nobody knows it before it is made
        return response
    return Stream(stage.stream(ClipRequest(video.asset_id, plan, boxes)), media_type, headers)
