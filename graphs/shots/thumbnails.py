"""The route of keyframes as pictures of shots; one is made when it is first asked for, and stored with the video."""

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from deployments.media.frames import FRAMES, FrameRequest
from graphs.indexing.decode import KEYFRAME_SIDE, size_within
from graphs.indexing.shots import keyframe_key
from graphs.shots.errors import ShotNotFound
from graphs.shots.schemas import ShotId
from graphs.web.context import Context
from graphs.web.filenames import content_disposition, derived_name
from graphs.web.hosts import link
from graphs.web.schemas import BINARY, Responses
from graphs.web.uploads.library import Videos
from stores import derived
from stores.objects import ObjectNotFound
from stores.records import Asset
from stores.shots import Shot

ROUTE: Final = "shot_thumbnail"
CACHE: Final = "public, max-age=86400"
JPEG: Final[Responses] = {
    200: {"content": {"image/jpeg": BINARY}, "description": "the key frame, no side longer than 640 pixels"},
    304: {"description": "the client has this picture already"},
}


def thumbnails_router(context: Context, videos: Videos) -> APIRouter:
    """Return the route thumbnail of a shot."""
    router = APIRouter(tags=["shots"])

    @router.get("/shots/{shot_id}/thumbnail", response_class=Response, responses=JPEG, name=ROUTE)
    async def shot_thumbnail(shot_id: ShotId, request: Request) -> Response:
        """Return the key frame of a shot as JPEG."""
        shot = await known_shot(context, shot_id)
        headers = {"etag": f'"{shot.shot_id}-{shot.keyframe_frame}"', "cache-control": CACHE}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if headers["etag"] in known or "*" in known:
            return Response(status_code=304, headers=headers)
        video = await videos.get(shot.video_asset_id)
        headers["content-disposition"] = content_disposition(
            derived_name(video.filename, f"frame {shot.keyframe_frame}", ".jpg")
        )
        return Response(await thumbnail(context, shot, video), media_type="image/jpeg", headers=headers)

    return router


async def known_shot(context: Context, shot_id: str) -> Shot:
    """Return a shot of the library. Raises ShotNotFound."""
    shot = (await context.shots.get_shots([shot_id])).get(shot_id)
    if shot is None:
        raise ShotNotFound(shot_id)
    return shot


def thumbnail_url(request: Request, shot_id: str) -> str:
    """Return the URL of the picture of a shot of the library."""
    return link(request, ROUTE, shot_id=shot_id)


async def thumbnail(context: Context, shot: Shot, video: Asset) -> bytes:
    """Return the keyframe as JPEG, no side longer than ``KEYFRAME_SIDE`` pixels. Raises StageError."""
    try:
        return await context.objects.get(keyframe_key(shot))
    except ObjectNotFound:
        request = FrameRequest(shot.video_asset_id, shot.keyframe_frame, size=_size(video))
        picture = await context.stage(FRAMES)(request)
    await derived.put(context.objects, context.settings.spool, keyframe_key(shot), picture.jpeg, "image/jpeg")
    return picture.jpeg


async def delete_thumbnail(context: Context, shot: Shot) -> None:
    """Delete the picture of a shot, if it was made."""
    await context.objects.delete(keyframe_key(shot))


def _size(video: Asset) -> tuple[int, int] | None:
    if video.width is None or video.height is None or max(video.width, video.height) <= KEYFRAME_SIDE:
        return None
    return size_within(video.width, video.height, KEYFRAME_SIDE)
