"""Routes of the library itself: a page of it, the picture of a shot, and taking one out."""

from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from graphs.shots import thumbnails
from graphs.shots.errors import ShotNotFound
from graphs.shots.models import Label, LibraryAnswer, ShotDeleted, ShotId
from graphs.web.bodies import JsonResponse
from graphs.web.context import Context, Timer
from graphs.web.uploads.library import Videos
from stores.shots import Shot, ShotFilter

LAST_PAGE: Final = 1_000_000
CACHE: Final = "public, max-age=86400"
JPEG: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
        "description": "the key frame, no side longer than 640 pixels",
    },
    304: {"description": "the client has this picture already"},
}
TagList = Annotated[str | None, Query(max_length=2000, description="all of these, separated by commas")]


def browsing_router(context: Context, videos: Videos) -> APIRouter:
    """shot-library, shots."""
    router = APIRouter(tags=["shots"])

    async def get(shot_id: str) -> Shot:
        found = (await context.shots.get_shots([shot_id])).get(shot_id)
        if found is None:
            raise ShotNotFound(shot_id)
        return found

    @router.get("/shot-library", response_model=LibraryAnswer)
    async def shot_library(
        request: Request,
        clock: Timer,
        movement_type: Annotated[Label | None, Query(description="pan_left, or pan for all pans")] = None,
        emotional_tone: Annotated[Label | None, Query(examples=["tense"])] = None,
        genre: Annotated[Label | None, Query(examples=["thriller"])] = None,
        tags: TagList = None,
        page: Annotated[int, Query(ge=1, le=LAST_PAGE)] = 1,
        page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> Response:
        """Shots that have all that is asked for, latest stored first. Upper case, `_` and `-` make no difference."""
        listed = [tag.strip() for tag in (tags or "").split(",") if tag.strip()]
        wanted = ShotFilter(movement_type, emotional_tone, genre, tuple(listed))
        total = await context.shots.count_shots(wanted)
        shots = await context.shots.list_shots(wanted, offset=(page - 1) * page_size, limit=page_size)
        given = {
            "movement_type": movement_type,
            "emotional_tone": emotional_tone,
            "genre": genre,
            "tags": listed or None,
        }
        return JsonResponse(
            {
                "shots": [_stored(shot, thumbnails.thumbnail_url(request, shot.shot_id)) for shot in shots],
                "pagination": {
                    "page": page,
                    "page_size": page_size,
                    "total_shots": total,
                    "total_pages": -(-total // page_size),
                },
                "filters_applied": {name: value for name, value in given.items() if value is not None},
                "processing_time": clock.seconds,
            }
        )

    @router.head("/shots/{shot_id}/thumbnail", include_in_schema=False)
    @router.get("/shots/{shot_id}/thumbnail", response_class=Response, responses=JPEG, name=thumbnails.ROUTE)
    async def shot_thumbnail(shot_id: ShotId, request: Request) -> Response:
        """The key frame of a shot as JPEG."""
        shot = await get(shot_id)
        headers = {"etag": thumbnails.etag_of(shot), "cache-control": CACHE}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if headers["etag"] in known or "*" in known:
            return Response(status_code=304, headers=headers)
        video = await videos.get(shot.video_asset_id)
        return Response(await thumbnails.thumbnail(context, shot, video), media_type="image/jpeg", headers=headers)

    @router.delete("/shots/{shot_id}")
    async def delete_shot(shot_id: ShotId, clock: Timer) -> ShotDeleted:
        """Take a shot out of the library; its video stays."""
        shot = await get(shot_id)
        if not await context.shots.delete_shot(shot_id):
            raise ShotNotFound(shot_id)
        await thumbnails.forget(context, shot)
        return ShotDeleted(shot_id=shot_id, processing_time=clock.seconds)

    return router


def _stored(shot: Shot, url: str) -> dict[str, Any]:
    """Fields of a StoredShot."""
    return {
        "shot_id": shot.shot_id,
        "video_asset_id": shot.video_asset_id,
        "shot_index": shot.shot_index,
        "start_timestamp": shot.start_timestamp,
        "end_timestamp": shot.end_timestamp,
        "duration": shot.duration,
        "start_frame": shot.start_frame,
        "end_frame": shot.end_frame,
        "keyframe_time": shot.keyframe_time,
        "keyframe_frame": shot.keyframe_frame,
        "camera_movement": shot.camera_movement,
        "movement_intensity": shot.movement_intensity,
        "shot_size": shot.shot_size,
        "shot_angle": shot.shot_angle,
        "framing": shot.framing,
        "transition_in": None if shot.transition_in is None else asdict(shot.transition_in),
        "tags": shot.tags,
        "auto_tags": shot.auto_tags,
        "manual_tags": shot.manual_tags,
        "emotional_tone": shot.emotional_tone,
        "genre": shot.genre,
        "scene_description": shot.scene_context,
        "usage_situations": shot.usage_situations,
        "features": shot.features,
        "features_version": shot.features_version,
        "analysis_timestamp": shot.analysis_timestamp,
        "stored_timestamp": shot.stored_at,
        "thumbnail_url": url,
    }
