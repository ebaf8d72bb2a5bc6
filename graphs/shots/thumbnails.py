"""Pictures of shots: the key frame, made when it is first asked for, and kept with the video."""

from typing import Final

from fastapi import Request

from deployments.media.frames import FRAMES, FrameRequest
from graphs.indexing.shots import keyframe_key
from graphs.web.context import Context
from stores import derived as belongings
from stores.objects import ObjectNotFound
from stores.records import Asset
from stores.shots import Shot

LONGEST_SIDE: Final = 640
ROUTE: Final = "shot_thumbnail"
"""Name of the route that serves them."""


def thumbnail_url(request: Request, shot_id: str) -> str:
    """Where the picture of a shot of the library is."""
    return str(request.url_for(ROUTE, shot_id=shot_id))


def etag_of(shot: Shot) -> str:
    """Changes with the key frame."""
    return f'"{shot.shot_id}-{shot.keyframe_frame}"'


async def thumbnail(context: Context, shot: Shot, video: Asset) -> bytes:
    """JPEG of the key frame, no side longer than ``LONGEST_SIDE`` pixels. Raises StageError."""
    try:
        return await context.objects.get(keyframe_key(shot))
    except ObjectNotFound:
        request = FrameRequest(shot.video_asset_id, shot.keyframe_frame, size=_size(video))
        picture = await context.stage(FRAMES)(request)
    await belongings.put(context.objects, context.settings.spool, keyframe_key(shot), picture.jpeg, "image/jpeg")
    return picture.jpeg


async def forget(context: Context, shot: Shot) -> None:
    """Remove it, if it was made."""
    await context.objects.delete(keyframe_key(shot))


def _size(video: Asset) -> tuple[int, int] | None:
    if video.width is None or video.height is None or max(video.width, video.height) <= LONGEST_SIDE:
        return None
    scale = LONGEST_SIDE / max(video.width, video.height)
    return max(1, round(video.width * scale)), max(1, round(video.height * scale))
