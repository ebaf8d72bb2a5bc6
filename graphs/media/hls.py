"""Routes of HTTP Live Streaming (RFC 8216), which Safari and phones play and seek in: playlists, segments on demand.

A playlist names all segments of a video at once, as the index of the video tells where each begins and ends. Each is
made when it is asked for, of a few seconds only, and stops being made when whoever asked leaves.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

from deployments.media.clips import CLIPS
from graphs.media.boxes import FOLLOWED, OBJECT, TRACE, Boxes, ChoiceOf, FollowedKind, Subject
from graphs.media.spans import Audio, Mode, Span, SpanOf
from graphs.media.streams import OF_BOXES, OF_FILE, Sender
from graphs.media.traces import indexed
from graphs.web.access import LINK
from graphs.web.context import Context
from graphs.web.schemas import BINARY, RANGES, AssetId, Responses
from graphs.web.uploads.library import Videos
from vision.errors import StageUnavailable
from vision.media.plan import ClipPlan, ClipRequest

TYPE: Final = "application/vnd.apple.mpegurl"
PLAYLIST: Final[Responses] = {
    200: {"content": {TYPE: {"schema": {"type": "string"}}}, "description": "a playlist of all segments of the video"}
}
SEGMENT: Final[Responses] = {
    **RANGES,
    200: {"content": {"video/mp4": BINARY}, "description": "fragmented MP4 (H.264, AAC), sent while it is made"},
    206: {"content": {"video/mp4": BINARY}, **RANGES[206]},
    404: {"description": "unknown file, or no segment of this number"},
}

Number = Annotated[int, Path(ge=0, le=2**31 - 1, description="from 0, in the order of the playlist")]
Drawn = Annotated[Literal["none", "all"], Query(description="all: boxes of all traces and objects are drawn")]
DrawnTrace = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="the one trace whose boxes are drawn")]
DrawnObject = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="the one object whose boxes are drawn")]


def hls_router(context: Context, videos: Videos) -> APIRouter:
    """Return the routes video.m3u8, video/bbox.m3u8, those of a trace and an object, and those of their segments."""
    router = APIRouter(tags=["media: streams"])
    boxes, sender = Boxes(context), Sender(context)

    @router.get("/file/{file_uuid}/video.m3u8", response_class=Response, responses=PLAYLIST)
    async def video_playlist(
        file_uuid: AssetId, request: Request, span: SpanOf, mode: Mode = "normal", audio: Audio = "on"
    ) -> Response:
        """Return a playlist (HLS) of the video, or of a part, encoded anew: for players that cannot play the file.

        `mode=debug` is that of /video.
        """
        await videos.get(file_uuid)
        if mode == "debug":
            await indexed(context, file_uuid, people=False)
        drawn = "all" if mode == "debug" else "none"
        return await playlist(request, file_uuid, "", span, mode=mode, audio=audio, boxes=drawn)

    @router.get("/file/{file_uuid}/video/bbox.m3u8", response_class=Response, responses=PLAYLIST)
    async def video_with_boxes_playlist(
        file_uuid: AssetId,
        request: Request,
        span: SpanOf,
        choice: ChoiceOf,
        mode: Mode = "normal",
        audio: Audio = "on",
    ) -> Response:
        """Return a playlist (HLS) of what /video/bbox streams; it seeks anywhere, and plays in Safari and on phones."""
        await videos.get(file_uuid)
        await indexed(context, file_uuid, people=False)
        await boxes.check(file_uuid, choice)
        return await playlist(request, file_uuid, "../", span, mode=mode, audio=audio, boxes="all", **choice.query)

    def add_playlist_of(kind: FollowedKind, subject_of: Callable[..., Awaitable[Subject]]) -> None:
        @router.get(
            f"/file/{{file_uuid}}/{kind.name}/{{{kind.parameter}}}/video.m3u8",
            response_class=Response,
            responses=PLAYLIST,
            name=f"{kind.name}_video_playlist",
            description=f"Return a playlist (HLS) of what /{kind.name}/{{{kind.parameter}}}/video streams.",
        )
        async def playlist_of_one(
            file_uuid: AssetId,
            subject: Annotated[Subject, Depends(subject_of)],
            request: Request,
            span: SpanOf,
            mode: Mode = "normal",
            audio: Audio = "on",
        ) -> Response:
            await videos.get(file_uuid)
            record, _ = await boxes.of_one(file_uuid, subject)
            span = span.or_frames(record.first_frame, record.last_frame)
            return await playlist(request, file_uuid, "../../", span, mode=mode, audio=audio, **subject.query)

    for followed in FOLLOWED:
        add_playlist_of(*followed)

    @router.get("/file/{file_uuid}/segments/init.mp4", response_class=Response, responses=SEGMENT)
    async def segment_header(file_uuid: AssetId, request: Request, audio: Audio = "on") -> Response:
        """Return the header that a player needs to read any segment of a video."""
        asset = await videos.get(file_uuid)
        return await sender.send(
            request, asset, ClipPlan("overlay", audio=audio == "on", segmented=True), OF_FILE, "header"
        )

    @router.get("/file/{file_uuid}/segments/{number}.m4s", response_class=Response, responses=SEGMENT)
    async def segment(
        file_uuid: AssetId,
        number: Number,
        request: Request,
        span: SpanOf,
        choice: ChoiceOf,
        boxes_drawn: Annotated[Drawn, Query(alias="boxes")] = "none",
        trace_id: DrawnTrace = None,
        track_id: DrawnObject = None,
        mode: Mode = "normal",
        audio: Audio = "on",
    ) -> Response:
        """Return one segment of a video, as a playlist names it; `boxes`, `trace_id`, `track_id` say what is drawn."""
        asset = await videos.get(file_uuid)
        plan = replace(plan_of(span, mode, audio), segment=number)
        track, followed_id = None, track_id if trace_id is None else trace_id
        if followed_id is not None:
            _, track = await boxes.of_one(file_uuid, Subject(OBJECT if trace_id is None else TRACE, followed_id))
        elif boxes_drawn == "all":
            await indexed(context, file_uuid, people=False)
            # Traces are read for the frames of this segment alone.
            facts = await context.stage(CLIPS)(ClipRequest(file_uuid, plan))
            part = Span(facts.first_frame, facts.last_frame)
            track = await boxes.of_all(file_uuid, part, choice, numbers=mode == "debug")
        cache = OF_FILE if track is None else OF_BOXES
        return await sender.send(request, asset, plan, cache, f"segment {number}", track)

    async def playlist(request: Request, file_uuid: str, above: str, span: Span, **options: str) -> Response:
        """Return the playlist of a part; its segments are below the file, ``above`` leads there from the request."""
        facts = await context.stage(CLIPS)(ClipRequest(file_uuid, plan_of(span, options["mode"], options["audio"])))
        if not facts.boundaries:
            raise StageUnavailable(
                "Videos are cut by a stage of the version before, which is being replaced. Ask again."
            )
        part = {name: value for name, value in span._asdict().items() if value is not None}
        # Who came by a signed link goes on by it.
        link = {name: value for name, value in request.query_params.items() if name in LINK}
        unusual = {name: value for name, value in options.items() if value not in USUAL or name == "classes"}
        sound = {name: value for name, value in unusual.items() if name == "audio"}
        text = playlist_of(
            facts.boundaries,
            _url(f"{above}segments/init.mp4", sound | link),
            _url(f"{above}segments/{{}}.m4s", part | unusual | link),
        )
        is_drawn = options.get("boxes") != "none"
        return Response(text, media_type=TYPE, headers={"cache-control": OF_BOXES if is_drawn else OF_FILE})

    return router


USUAL: Final = {"normal", "on", "none"}
"""Values of options that need not be named."""


def plan_of(span: Span, mode: str, audio: str) -> ClipPlan:
    """Return what to make of a part; the number of its segment is left open."""
    return replace(span.plan("overlay", audio, "DEBUG" if mode == "debug" else ""), segmented=True)


def playlist_of(boundaries: tuple[float, ...], header: str, segment: str) -> str:
    """Return a media playlist of segments between these times in seconds, for players that know version 7.

    ``header`` is the URL of what all of them need, ``segment`` that of each, with ``{}`` for its number.
    """
    # Rounded before they are subtracted, so that they add up.
    microseconds = [round(second * 1_000_000) for second in boundaries]
    durations = [(end - start) / 1_000_000 for start, end in pairwise(microseconds)]
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{math.ceil(max(durations))}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{header}"',
    ]
    for number, duration in enumerate(durations):
        lines += [f"#EXTINF:{duration:.6f},", segment.replace("{}", str(number))]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def _url(path: str, query: Mapping[str, object]) -> str:
    return f"{path}?{urlencode(query)}" if query else path
