"""The route that puts shots into the library."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter

from configs.settings import Settings
from graphs.shots import thumbnails
from graphs.shots.encoders import Encoders
from graphs.shots.merging import merged
from graphs.shots.models import StoreShotsAnswer, StoreShotsRequest
from graphs.shots.words import parts_of
from graphs.web.bodies import large_body_route
from graphs.web.context import Context, Timer
from graphs.web.errors import AssetNotFound
from graphs.web.uploads.library import Videos
from stores.shots import Shot

MAX_BODY: Final = 16 * 2**20
"""Bytes: 1000 shots with their features as text are about 9 MB, descriptions come on top."""


def body_limits(_: Settings) -> dict[str, int]:
    """Bytes that the body of a route may have, where that is more than of any route."""
    return dict.fromkeys(("/api/v1/store-shot-data", "/store-shot-data"), MAX_BODY)


def storing_router(context: Context, videos: Videos, encoders: Encoders) -> APIRouter:
    """store-shot-data."""
    router = APIRouter(tags=["shots"], route_class=large_body_route())

    @router.post("/store-shot-data")
    async def store_shot_data(request: StoreShotsRequest, clock: Timer) -> StoreShotsAnswer:
        """Keep shots of a video, as analyze-video-shots gave them or edited, with what is said of them.

        A shot is known by its video and frames: stored again it is updated, never doubled. Manual tags take the place
        of the automatic ones; one that is a movement, a size or an angle (`static`, `close_up`), or names its category
        (`movement:…`, `size:…`, `angle:…`, `framing:…`, `tone:…`, `genre:…`), also overrides what was measured.
        """
        video = await videos.get(request.video_asset_id)
        analysis = await context.shots.get_analysis(video.asset_id)
        shots = merged(request, video, analysis, datetime.now(UTC))
        meanings = await encoders.means([parts_of(shot) for shot in shots])
        before = {shot.shot_id: shot for shot in analysis.shots} if analysis else {}
        before |= await context.shots.get_shots([shot.shot_id for shot in shots])
        await context.shots.put_shots(
            [
                replace(shot, text=meaning.vector, text_version=meaning.model_version)
                for shot, meaning in zip(shots, meanings, strict=True)
            ]
        )
        await asyncio.gather(*(thumbnails.forget(context, old) for old in _outdated(shots, before)))
        try:
            await videos.get(video.asset_id)
        except AssetNotFound:
            # The video was deleted meanwhile, and its shots perhaps before these came.
            await context.shots.delete_video(video.asset_id)
            raise
        return StoreShotsAnswer(
            video_asset_id=video.asset_id,
            shots_stored=len(shots),
            stored_shot_ids=[shot.shot_id for shot in shots],
            scene_context=request.scene_context,
            processing_time=clock.seconds,
        )

    return router


def _outdated(shots: list[Shot], before: dict[str, Shot]) -> list[Shot]:
    """Shots as they were whose picture is no longer that of their key frame."""
    return [
        old
        for shot in shots
        if (old := before.get(shot.shot_id)) is not None and old.keyframe_frame != shot.keyframe_frame
    ]
