"""Routes of streams: whole videos, parts as they are, clips that are encoded anew, and videos with boxes drawn in."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from deployments.media.clips import CLIPS
from graphs.media.boxes import EVERYTHING, FOLLOWED, Boxes, Choice, ChoiceOf, FollowedKind, Subject
from graphs.media.errors import not_indexed
from graphs.media.parts import Parts
from graphs.media.spans import Audio, Mode, Span, SpanOf
from graphs.web.connections import method_of
from graphs.web.context import Context
from graphs.web.filenames import content_disposition, derived_name
from graphs.web.files import StoredFile, Stream, asks_for_range, send_file
from graphs.web.schemas import BINARY, RANGES, FileUuid, Responses
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

_SENT: Final = "{}, sent while it is made; made first where Range asks for a part of it, and then with its length"
VIDEO: Final[Responses] = {
    **RANGES,
    200: {
        "content": {"video/mp4": BINARY, "video/quicktime": BINARY, "video/webm": BINARY, "video/x-matroska": BINARY},
        "description": "the file, or a part of it: as fragmented MP4 or WebM if those hold its codecs, else Matroska",
    },
    206: {"content": {"video/mp4": BINARY}, **RANGES[206]},
}
MPEG_TS: Final[Responses] = {
    **RANGES,
    200: {"content": {"video/mp2t": BINARY}, "description": _SENT.format("MPEG-TS (H.264, AAC)")},
    206: {"content": {"video/mp2t": BINARY}, **RANGES[206]},
}
MP4: Final[Responses] = {
    **RANGES,
    200: {"content": {"video/mp4": BINARY}, "description": _SENT.format("fragmented MP4 (H.264, AAC)")},
    206: {"content": {"video/mp4": BINARY}, **RANGES[206]},
}
SUFFIXES: Final = {"video/mp4": ".mp4", "video/webm": ".webm", "video/x-matroska": ".mkv", "video/mp2t": ".ts"}


def streams_router(context: Context, videos: Videos) -> APIRouter:
    """Return the routes video, clip, video/bbox, trace/{trace_id}/video and object/{track_id}/video."""
    router = APIRouter(tags=["media: streams"])
    boxes, sender = Boxes(context), Sender(context)

    @router.get("/file/{file_uuid}/video", response_class=Response, responses=VIDEO)
    async def video(
        file_uuid: FileUuid, request: Request, span: SpanOf, mode: Mode = "normal", audio: Audio = "on"
    ) -> Response:
        """Stream the stored file byte by byte, with ranges to seek in; a request for several ranges gets all of it.

        A part, or `audio=off`, is copied without encoding it anew: it begins at the key frame at or before its start,
        as X-First-Frame and X-Start-Time say. It is sent while it is made; ranges of it are sent once it is whole.
        `mode=debug` is encoded, as /video/bbox is.
        """
        asset = await videos.get(file_uuid)
        if mode == "debug":
            track = await indexed_boxes(file_uuid, span, numbers=True)
            return await sender.send(
                request, asset, span.plan("overlay", audio, "DEBUG"), OF_BOXES, _label("debug", span), track
            )
        if span.is_whole and audio == "on":
            return await send_file(context.objects, request, StoredFile.of(asset), OF_FILE)
        return await sender.send(request, asset, span.plan("copy", audio), OF_FILE, _label("", span))

    @router.get("/file/{file_uuid}/clip", response_class=Response, responses=MPEG_TS)
    async def clip(
        file_uuid: FileUuid, request: Request, span: SpanOf, mode: Mode = "normal", audio: Audio = "on"
    ) -> Response:
        """Stream a part of the video, exactly from its first to its last frame, encoded anew."""
        asset = await videos.get(file_uuid)
        if span.is_whole:
            raise InvalidInput("Which part? Give start_frame and end_frame, or start_time and end_time.")
        debug = mode == "debug"
        track = await boxes.of_all(file_uuid, span, numbers=True) if debug else None
        plan = span.plan("clip", audio, "CLIP" if debug else "")
        return await sender.send(request, asset, plan, OF_CLIP, _label("", span), track)

    @router.get("/file/{file_uuid}/video/bbox", response_class=Response, responses=MP4)
    async def video_with_boxes(
        file_uuid: FileUuid,
        request: Request,
        span: SpanOf,
        choice: ChoiceOf,
        mode: Mode = "normal",
        audio: Audio = "on",
    ) -> Response:
        """Stream the video, or a part of it, with a labelled box around each face and object that indexing found.

        `mode=debug` adds the number and confidence of each object, and the number and time of each frame.
        """
        asset = await videos.get(file_uuid)
        track = await indexed_boxes(file_uuid, span, choice, numbers=mode == "debug")
        plan = span.plan("overlay", audio, "DEBUG" if mode == "debug" else "")
        return await sender.send(request, asset, plan, OF_BOXES, _label("boxes", span), track)

    def add_video_of(kind: FollowedKind, subject_of: Callable[..., Awaitable[Subject]]) -> None:
        @router.get(
            f"/file/{{file_uuid}}/{kind.name}/{{{kind.parameter}}}/video",
            response_class=Response,
            responses=MP4,
            name=f"{kind.name}_video",
            description=f"Stream the video with a labelled box that follows {kind.text} or in a part.",
        )
        async def video_of_one(
            file_uuid: FileUuid,
            subject: Annotated[Subject, Depends(subject_of)],
            request: Request,
            span: SpanOf,
            mode: Mode = "normal",
            audio: Audio = "on",
        ) -> Response:
            asset = await videos.get(file_uuid)
            record, track = await boxes.of_one(file_uuid, subject)
            label = _label(subject.label, span)
            span = span.or_frames(record.first_frame, record.last_frame)
            plan = span.plan("overlay", audio, "DEBUG" if mode == "debug" else "")
            return await sender.send(request, asset, plan, OF_BOXES, label, track)

    for followed in FOLLOWED:
        add_video_of(*followed)

    async def indexed_boxes(
        file_uuid: str, span: Span, choice: Choice = EVERYTHING, *, numbers: bool = False
    ) -> BoxTrack:
        track = await boxes.of_all(file_uuid, span, choice, numbers=numbers)
        if track is None:
            raise await not_indexed(context, file_uuid)
        return track

    return router


def _label(what: str, span: Span) -> str:
    return " ".join(filter(None, (what, span.label)))


class Sender:
    """Sends what media/clips makes of videos."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._parts = Parts(context)

    async def send(
        self, request: Request, video: Asset, plan: ClipPlan, cache: str, label: str, boxes: BoxTrack | None = None
    ) -> Response:
        """Return a part as it is made for a GET, its headers for a HEAD, and ranges of it once it is made.

        ``cache`` is the value of Cache-Control, ``label`` stands in the name of the file. Raises InvalidInput for a
        part that the video does not have, InvalidMedia, StageOverloaded when as many streams as the stage may have are
        running, and DeadlineExceeded where a range was asked for and the part is not made in time.
        """
        stage, head = self._context.stage(CLIPS), method_of(request) == "HEAD"
        clip = ClipRequest(video.asset_id, plan, boxes)
        media_type, headers = ENCODED.get(plan.action), {}
        if media_type is None or head:
            facts = await stage(ClipRequest(video.asset_id, plan))
            media_type = facts.content_type
            if plan.action == "copy":
                headers = {"x-first-frame": str(facts.first_frame), "x-start-time": f"{facts.start_time:.6f}"}
        name, key = derived_name(video.filename, label, SUFFIXES[media_type]), self._parts.key(clip)
        if plan.segmented:
            # Made again it would show the same, so a player that has it already need not wait for it.
            headers["etag"] = f'W/"{key.rpartition("/")[2]}"'
            if headers["etag"] in request.headers.get("if-none-match", ""):
                return Response(status_code=304, headers={"cache-control": cache, **headers})
        part = await self._parts.find(key)
        if part is None and asks_for_range(request):
            part = await self._parts.make(key, clip, media_type)
        if part is not None:
            return await send_file(
                self._context.objects, request, StoredFile.derived(video, part, name), cache, headers
            )
        headers |= {
            "accept-ranges": "bytes",
            "cache-control": cache,
            "content-disposition": content_disposition(name),
            "x-content-type-options": "nosniff",
        }
        if head:
            response = Response(media_type=media_type, headers=headers)
            del response.headers["content-length"]  # nobody knows it before it is made
            return response
        return Stream(stage.stream(clip), media_type, headers)
