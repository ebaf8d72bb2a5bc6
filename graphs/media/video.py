"""The route of whole videos, and of parts as they are: nothing is encoded anew, but for what debug draws."""

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from graphs.media.boxes import Boxes
from graphs.media.clips import Clips
from graphs.media.errors import NotIndexed
from graphs.media.spans import Audio, Mode, SpanOf
from graphs.media.stored import stored_video
from graphs.web.context import Context
from graphs.web.schemas import BINARY, FileUuid, Responses
from graphs.web.uploads.library import Videos

CACHE = "private, max-age=86400"
NO_CACHE = "private, no-cache"
CAPTION = "DEBUG"
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


def video_router(context: Context, videos: Videos, clips: Clips, boxes: Boxes) -> APIRouter:
    """video."""
    router = APIRouter(tags=["media: streams"])

    @router.head("/file/{file_uuid}/video", include_in_schema=False)
    @router.get("/file/{file_uuid}/video", response_class=Response, responses=VIDEO)
    async def video(
        file_uuid: FileUuid, request: Request, span: SpanOf, mode: Mode = "normal", audio: Audio = "on"
    ) -> Response:
        """The stored file, bit by bit, with ranges to seek in; several ranges at once are answered with all of it.

        A part, or `audio=off`, is copied without encoding it anew: it begins at the key frame at or before its start,
        which X-First-Frame and X-Start-Time tell, and has no ranges. `mode=debug` is encoded, as /video/bbox is.
        """
        asset = await videos.get(file_uuid)
        if mode == "debug":
            found = await boxes.of_all(file_uuid, span)
            if found is None:
                raise NotIndexed(file_uuid)
            return await clips.answer(request, asset, span.plan("overlay", audio, CAPTION), NO_CACHE, found)
        if span.is_whole and audio == "on":
            return await stored_video(context, request, asset)
        return await clips.answer(request, asset, span.plan("copy", audio), CACHE)

    return router
