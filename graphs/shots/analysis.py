"""The route that finds the shots of a video, by a durable job."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from graphs.indexing.finalize import analysis_version
from graphs.indexing.jobs import submit_shots
from graphs.indexing.shot_tags import FilmObjects
from graphs.indexing.shots import ShotModels
from graphs.indexing.tags import shown_tags
from graphs.jobs import api as jobs
from graphs.shots.errors import AnalysisCancelled
from graphs.shots.schemas import AnalysisPending, AnalyzeShotsRequest, ShotsAnalyzed
from graphs.shots.sheets import sheet_url
from graphs.web.audit import note
from graphs.web.bodies import JsonResponse
from graphs.web.context import Clock, Context, Timer
from graphs.web.uploads.library import Videos
from stores.jobs import Job
from stores.records import Asset
from stores.shots import Shot, ShotAnalysis
from vision.deadlines import request_deadline
from vision.errors import ProcessingFailed, StageUnavailable

POLL_S: Final = (0.05, 1.0)
"""Between polls of the job: the first pause, and the longest."""
SPARE_S: Final = 2.0
"""Of the time of a request, kept to respond with the progress of the job."""


def analysis_router(context: Context, videos: Videos) -> APIRouter:
    """Return the route analyze-video-shots."""
    router = APIRouter(tags=["shots"])

    @router.post(
        "/analyze-video-shots",
        response_model=ShotsAnalyzed,
        responses={202: {"model": AnalysisPending, "description": "it takes longer than a request may"}},
    )
    async def analyze_video_shots(body: AnalyzeShotsRequest, request: Request, clock: Timer) -> Response:
        """Find the shots of a video: where they are, how the camera moves, how near it is to people, what they show.

        The first time this is the work of a job. When that takes longer than a request may, the response is 202 with
        the job, and the same request returns the shots once it has ended. A video that was indexed has them already.
        """
        video = await videos.get(body.video_asset_id)
        note(video.asset_id)
        models = await ShotModels.of(context)
        result = await _analysis(context, video, models, body.shot_detection_threshold)
        if isinstance(result, Job):
            return _pending(video, result, clock)
        missing = {"unavailable": dict(models.missing)} if models.missing else {}
        shots = (await FilmObjects.of(context, video.asset_id)).tagged(result.shots)
        return JsonResponse(_answer(request, body, video, replace(result, shots=tuple(shots)), clock) | missing)

    return router


async def _analysis(context: Context, video: Asset, models: ShotModels, threshold: float) -> ShotAnalysis | Job:
    """Return the stored analysis, after a job if need be; the job itself when the request runs out of time before.

    Raises ProcessingFailed with the reason of a job that failed, and AnalysisCancelled.
    """
    version = analysis_version(models, threshold)
    pause, longest = POLL_S
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
            latest = await context.jobs.get(job.job_id)
            if latest is None:
                raise StageUnavailable("The video was deleted, or uploaded again, while it was analysed.")
            job = latest
        if job.status == "failed":
            raise ProcessingFailed(job.error or "The analysis failed.")
        if job.status == "cancelled":
            raise AnalysisCancelled
        # Another threshold may have been asked for at the same time, and its analysis be the one that is kept.
        if await context.shots.get_analysis(video.asset_id) is None:
            raise StageUnavailable("The analysis of this video was lost; ask again in a few seconds.")


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


def _answer(
    request: Request, body: AnalyzeShotsRequest, video: Asset, analysis: ShotAnalysis, clock: Clock
) -> dict[str, Any]:
    keyframes = body.extract_keyframes
    return {
        "video_asset_id": video.asset_id,
        "video_filename": video.filename,
        "video_duration": video.duration or 0.0,
        "fps": video.fps or 0.0,
        "shots_detected": len(analysis.shots),
        "shot_detection_threshold": body.shot_detection_threshold,
        "analysis_timestamp": analysis.analyzed_at,
        "models": analysis.models,
        "contact_sheet_url": sheet_url(request, video.asset_id),
        "shot_analyses": [
            _shot(request, shot, keyframes=keyframes) | {"confidence": certain}
            for shot, certain in zip(analysis.shots, confidences(analysis.shots), strict=True)
        ],
        "processing_time": clock.seconds,
    }


def _shot(request: Request, shot: Shot, *, keyframes: bool) -> dict[str, Any]:
    transition = shot.transition_in
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
        "objects": None if shot.objects is None else [dict(tag) for tag in shown_tags(shot.objects)],
        "keyframe_time": round(shot.keyframe_time, 6),
        "keyframe_frame": shot.keyframe_frame,
        "thumbnail_url": keyframe_url(request, shot) if keyframes else None,
        "transition_in": None
        if transition is None
        else {
            "kind": transition.kind,
            "first_frame": transition.first_frame,
            "last_frame": transition.last_frame,
            "probability": transition.probability,
        },
    }


def confidences(shots: Sequence[Shot]) -> list[float | None]:
    """Return how sure it is of each shot of a video, in order, that it begins and ends where it does, 0-1.

    Where the video itself begins and ends there is no doubt; None where a transition was not rated.
    """
    rated = [None if shot.transition_in is None else shot.transition_in.probability for shot in shots[1:]]
    edges = [1.0, *rated, 1.0]
    return [None if begins is None or ends is None else min(begins, ends) for begins, ends in pairwise(edges)]


def keyframe_url(request: Request, shot: Shot) -> str:
    """Return the URL of the keyframe of a shot, in the library or not."""
    path = f"/api/v1/file/{shot.video_asset_id}/thumbnail?frame={shot.keyframe_frame}"
    return f"{str(request.base_url).rstrip('/')}{path}"
