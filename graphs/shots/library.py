"""Routes of the library: storing shots, a page of them, and deleting one."""

import asyncio
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from graphs.indexing.classes import MOST_TEXT, check_classes, classes_of
from graphs.indexing.shot_tags import FilmObjects, tag_stored_shots
from graphs.indexing.tags import shown_tags
from graphs.shots.errors import ShotNotFound
from graphs.shots.merging import merge_shots
from graphs.shots.schemas import (
    Label,
    LibraryAnswer,
    ShotDeleted,
    ShotId,
    StoreShotsAnswer,
    StoreShotsRequest,
)
from graphs.shots.texts import TextEncoders, text_parts
from graphs.shots.thumbnails import delete_thumbnail, known_shot, thumbnail_url
from graphs.web.audit import note
from graphs.web.bodies import JsonResponse, large_body_route
from graphs.web.context import Context, Timer
from graphs.web.errors import AssetNotFound
from graphs.web.uploads.library import Videos
from stores.deletion import Removed
from stores.shots import Shot, ShotFilter

MAX_BODY: Final = 16 * 2**20
"""Bytes: 1000 shots with their features as text are about 9 MB, descriptions come on top."""
LAST_PAGE: Final = 1_000_000
TagList = Annotated[str | None, Query(max_length=2000, description="all of these, separated by commas")]


def library_router(context: Context, videos: Videos, encoders: TextEncoders) -> APIRouter:
    """Return the routes store-shot-data, shot-library, and that which deletes a shot."""
    router = APIRouter(tags=["shots"])
    large = APIRouter(route_class=large_body_route())

    @large.post("/store-shot-data")
    async def store_shot_data(request: StoreShotsRequest, clock: Timer) -> StoreShotsAnswer:
        """Store shots of a video, as analyze-video-shots returned them or edited, with what people say about them.

        A shot is identified by its video and frames: stored again it is updated, never doubled. Manual tags replace
        the automatic ones; one that is a movement, a size or an angle (`static`, `close_up`), or names its category
        (`movement:…`, `size:…`, `angle:…`, `framing:…`, `tone:…`, `genre:…`), also overrides what was measured.
        """
        video = await videos.get(request.video_asset_id)
        note(video.asset_id)
        analysis = await context.shots.get_analysis(video.asset_id)
        shots = merge_shots(request, video, analysis, datetime.now(UTC))
        embeddings = await encoders.means([text_parts(shot) for shot in shots])
        before = {shot.shot_id: shot for shot in analysis.shots} if analysis else {}
        before |= await context.shots.get_shots([shot.shot_id for shot in shots])
        film = await FilmObjects.of(context, video.asset_id)
        await context.shots.put_shots(
            [
                replace(shot, text=embedding.vector, text_version=embedding.model_version)
                for shot, embedding in zip(film.tagged(shots), embeddings, strict=True)
            ]
        )
        if not await film.is_current(context):
            await tag_stored_shots(context, video.asset_id)
        await asyncio.gather(*(delete_thumbnail(context, old) for old in _outdated(shots, before)))
        if await videos.is_gone(video.asset_id):
            # The video was deleted meanwhile, and its shots perhaps before these came.
            await context.shots.delete_video(video.asset_id)
            raise AssetNotFound([video.asset_id])
        return StoreShotsAnswer(
            video_asset_id=video.asset_id,
            shots_stored=len(shots),
            stored_shot_ids=[shot.shot_id for shot in shots],
            scene_context=request.scene_context,
            processing_time=clock.seconds,
        )

    @router.get("/shot-library", response_model=LibraryAnswer)
    async def shot_library(
        request: Request,
        clock: Timer,
        movement_type: Annotated[Label | None, Query(description="pan_left, or pan for all pans")] = None,
        emotional_tone: Annotated[Label | None, Query(examples=["tense"])] = None,
        genre: Annotated[Label | None, Query(examples=["thriller"])] = None,
        tags: TagList = None,
        objects: Annotated[
            str | None,
            Query(
                max_length=MOST_TEXT,
                description="shots that show all of these classes of objects, separated by commas",
                examples=["dog,car"],
            ),
        ] = None,
        page: Annotated[int, Query(ge=1, le=LAST_PAGE)] = 1,
        page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> Response:
        """List shots that match all filters, latest stored first. Upper case, `_` and `-` make no difference."""
        listed = [tag.strip() for tag in (tags or "").split(",") if tag.strip()]
        shown = classes_of(objects, "objects") or ()
        if shown:
            await check_classes(context, shown)
        wanted = ShotFilter(movement_type, emotional_tone, genre, tuple(listed), objects=shown)
        total = await context.shots.count_shots(wanted)
        shots = await context.shots.list_shots(wanted, offset=(page - 1) * page_size, limit=page_size)
        given = {
            "movement_type": movement_type,
            "emotional_tone": emotional_tone,
            "genre": genre,
            "tags": listed or None,
            "objects": list(shown) or None,
        }
        return JsonResponse(
            {
                "shots": [_stored(shot, thumbnail_url(request, shot.shot_id)) for shot in shots],
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

    @router.delete("/shots/{shot_id}")
    async def delete_shot(shot_id: ShotId, clock: Timer) -> ShotDeleted:
        """Delete a shot from the library; its video stays."""
        shot = await known_shot(context, shot_id)
        if not await context.shots.delete_shot(shot_id):
            raise ShotNotFound(shot_id)
        await delete_thumbnail(context, shot)
        note(removed=Removed(documents=1).counts())
        return ShotDeleted(shot_id=shot_id, processing_time=clock.seconds)

    router.include_router(large)
    return router


def _outdated(shots: list[Shot], before: dict[str, Shot]) -> list[Shot]:
    """Return shots as they were whose picture is no longer that of their keyframe."""
    return [
        old
        for shot in shots
        if (old := before.get(shot.shot_id)) is not None and old.keyframe_frame != shot.keyframe_frame
    ]


def _stored(shot: Shot, url: str) -> dict[str, Any]:
    """Return the fields of a StoredShot."""
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
        "objects": None if shot.objects is None else [dict(tag) for tag in shown_tags(shot.objects)],
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
