"""The route that finds the shots of a video."""

import asyncio
import time
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from deployments.serving.handle import request_deadline
from graphs.indexing.finalize import analysis_version
from graphs.indexing.jobs import submit_shots
from graphs.indexing.shots import ShotModels
from graphs.jobs import routes as jobs
from graphs.shots.errors import AnalysisCancelled
from graphs.shots.models import AnalysisPending, AnalyzeShotsRequest, ShotsAnalyzed
from graphs.shots.sheet import sheet_url
from graphs.web.bodies import JsonResponse
from graphs.web.context import Clock, Context, Timer
from graphs.web.uploads.library import Videos
from stores.jobs import Job
from stores.records import Asset
from stores.shots import Analysis, Shot
from vision.errors import ProcessingFailed, StageUnavailable

PAUSES_S: Final = (0.05, 1.0)
"""Between looks at the job: the first one, and the longest."""
SPARE_S: Final = 2.0
"""Of the time of a request, to answer with how far the job is."""


def analyze_router(context: Context, videos: Videos) -> APIRouter:
    """analyze-video-shots."""
    router = APIRouter(tags=["shots"])

    @router.post(
        "/analyze-video-shots",
        response_model=ShotsAnalyzed,
        responses={202: {"model": AnalysisPending, "description": "it takes longer than a request may"}},
    )
    async def analyze_video_shots(body: AnalyzeShotsRequest, request: Request, clock: Timer) -> Response:
        """Where the shots of a video are, how the camera moves in them, how near it is to people, and what they show.

        The first time this is the work of a job. When that takes longer than a request may, the answer is 202 with the
        job, and the same request finds the shots once it has ended. A video that was indexed has them already.
        """
        video = await videos.get(body.video_asset_id)
        models = await ShotModels.of(context)
        found = await _analysis(context, video, models, body.shot_detection_threshold)
        if isinstance(found, Job):
            return _pending(video, found, clock)
        return JsonResponse(_answer(request, body, video, found, clock))

    return router


async def _analysis(context: Context, video: Asset, models: ShotModels, threshold: float) -> Analysis | Job:
    """What is known already, or what a job comes to; the job itself when the time of the request is over before.

    Raises ProcessingFailed with the reason of a job that failed, and AnalysisCancelled.
    """
    version = analysis_version(models, threshold)
    pause, longest = PAUSES_S
    while True:
        stored = await context.shots.get_analysis(video.asset_id)
        if stored is not None and stored.models == version:
            return stored
        job = await submit_shots(context, video, threshold, models)
        while not job.finished:
            deadline = request_deadline.get()
            if deadline is not None and time.time() + pause > deadline - SPARE_S:
                return job
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
            known = await context.jobs.get(job.job_id)
            if known is None:
                raise StageUnavailable("The video was deleted, or uploaded again, while it was analysed.")
            job = known
        if job.status == "failed":
            raise ProcessingFailed(job.error or "The analysis failed.")
        if job.status == "cancelled":
            raise AnalysisCancelled
        # Another threshold may have been asked for at the same time, and its analysis be the one that is kept.
        if await context.shots.get_analysis(video.asset_id) is None:
            raise StageUnavailable("The analysis of this video got lost; ask again in a few seconds.")


def _pending(video: Asset, job: Job, clock: Clock) -> Response:
    body = AnalysisPending(
        video_asset_id=video.asset_id,
        job_id=job.job_id,
        status=job.status,
        progress=job.progress,
        status_url=f"{jobs.PREFIX}/{job.job_id}",
        message=job.message,
        processing_time=clock.seconds,
    )
    return JsonResponse(body.model_dump(), 202)


def _answer(request: Request, body: AnalyzeShotsRequest, video: Asset, found: Analysis, clock: Clock) -> dict[str, Any]:
    keyframes = body.extract_keyframes
    return {
        "video_asset_id": video.asset_id,
        "video_filename": video.filename,
        "video_duration": video.duration or 0.0,
        "fps": video.fps or 0.0,
        "shots_detected": len(found.shots),
        "shot_detection_threshold": body.shot_detection_threshold,
        "analysis_timestamp": found.analyzed_at,
        "models": found.models,
        "contact_sheet_url": sheet_url(request, video.asset_id),
        "shot_analyses": [_shot(request, shot, keyframes=keyframes) for shot in found.shots],
        "processing_time": clock.seconds,
    }


def _shot(request: Request, shot: Shot, *, keyframes: bool) -> dict[str, Any]:
    begins = shot.transition_in
    return {
        "shot_index": shot.shot_index,
        "start_timestamp": round(shot.start_timestamp, 6),
        "end_timestamp": round(shot.end_timestamp, 6),
        "duration": round(shot.duration, 6),
        "start_frame": shot.start_frame,
        "end_frame": shot.end_frame,
        "camera_movement": shot.camera_movement,
        "movement_intensity": round(shot.movement_intensity, 4),
        "shot_size": shot.shot_size,
        "shot_angle": shot.shot_angle,
        "framing": shot.framing,
        "features": shot.features if keyframes else None,
        "features_version": shot.features_version if keyframes else None,
        "auto_tags": list(shot.auto_tags),
        "keyframe_time": round(shot.keyframe_time, 6),
        "keyframe_frame": shot.keyframe_frame,
        "thumbnail_url": keyframe_url(request, shot) if keyframes else None,
        "transition_in": None
        if begins is None
        else {"kind": begins.kind, "first_frame": begins.first_frame, "last_frame": begins.last_frame},
    }


def keyframe_url(request: Request, shot: Shot) -> str:
    """Where the keyframe of a shot is, in the library or not."""
    path = f"/api/v1/file/{shot.video_asset_id}/thumbnail?frame={shot.keyframe_frame}"
    return f"{str(request.base_url).rstrip('/')}{path}"
