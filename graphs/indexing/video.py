"""The jobs that look through a video: for its people and its shots, or for its shots alone.

The video is decoded once, in order. What was seen is stored part by part, each of some seconds of video, and the
checkpoint counts the parts; so a job whose worker was killed goes on from the last part. Traces, identities and shots
are made at the end from all parts, and readers see the new results whole or not at all.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from deployments.analysis.cuts import cuts
from deployments.errors import InvalidInput, MediaNotFound, StageError, StageUnavailable
from deployments.shots.transitions import THRESHOLD
from graphs.context import Context
from graphs.indexing.parts import Parts
from graphs.indexing.passes import GREY_SIDE, LONG_SIDE
from graphs.indexing.people import store_people, traces_of
from graphs.indexing.models import ShotModels
from graphs.indexing.shots import ShotMaker
from graphs.indexing.watch import Watch
from graphs.indexing.watching import WATCHED, Watching, check_asset
from graphs.media.assigning import assign
from graphs.media.serving import Models
from ops.jobs import JobContext
from ops.stores.documents import StoreError
from ops.stores.jobs import Job, Json
from ops.stores.objects import ObjectNotFound
from ops.stores.people import VideoIndex
from ops.stores.records import Asset
from ops.stores.shots import Analysis, Shot

KIND: Final = "index-video"
SHOTS_KIND: Final = "analyze-shots"
VERSION: Final = 2
"""Of this procedure; another one makes other traces and shots of the same video by the same models."""
LINKED: Final = 0.97
ASSIGNED: Final = 0.98
"""Shares of the progress bar at which faces are linked to traces, and traces to people."""


async def submit(context: Context, asset: Asset) -> Job:
    """The job that indexes this video with the models that serve now; the same one as long as both stay the same."""
    people, shots = await asyncio.gather(Models.of(context), ShotModels.of(context))
    fingerprint = f"{asset.asset_id} {people.version} {shots.version} {LONG_SIDE} {GREY_SIDE} {VERSION}"
    return await context.jobs.submit(
        KIND, asset.asset_id, fingerprint, {"models": people.version, "shot_models": shots.version}
    )


async def submit_shots(context: Context, asset: Asset, threshold: float, models: ShotModels) -> Job:
    """The job that looks for the shots of a video alone; another one when what it found has been replaced since."""
    stored = await context.shots.get_analysis(asset.asset_id)
    since = "" if stored is None else f"{stored.models} {stored.analyzed_at.isoformat()}"
    fingerprint = f"{asset.asset_id} {analysis_version(models, threshold)} {since}"
    payload = {"shot_models": models.version, "threshold": threshold}
    return await context.jobs.submit(SHOTS_KIND, asset.asset_id, fingerprint, payload)


def analysis_version(models: ShotModels, threshold: float) -> str:
    """What stands for all that a shot analysis depends on, but for the video."""
    return f"{models.version} {threshold:g} {GREY_SIDE} {VERSION}"


async def index_video(context: Context, job: JobContext) -> Json:
    """Look for people and shots. Raises StageErrors whose message is the reason of the failure."""
    models = await Models.of(context)
    _same(models.version, job.payload["models"])
    async with _watched(context, job, faces=True) as (seen, started):
        watch = seen.watch
        shots = await seen.shots(THRESHOLD)
        job.progress(LINKED, "Linking faces to traces")
        first_frames = tuple(sorted({*cuts(seen.found.changes), *(shot.start_frame for shot in shots[1:])}))
        traces = await traces_of(context, seen.found.detections, first_frames, watch)
        job.progress(ASSIGNED, "Telling people apart")
        assigned = await assign(context, job.subject, traces, watch.times, models.identity)
        index = VideoIndex(
            asset_id=job.subject,
            models=models.version,
            width=watch.facts.width,
            height=watch.facts.height,
            fps=watch.facts.fps,
            frame_count=len(watch.times),
            duration=watch.facts.duration,
            step=watch.step,
            cuts=first_frames,
            trace_count=len(assigned.traces),
            indexed_at=datetime.now(UTC),
        )
        await store_people(context, index, assigned)
        await _store_shots(context, job, shots, seen, THRESHOLD)
        return {
            "traces": len(assigned.traces),
            "identities": len(assigned.identities),
            "new_identities": len(assigned.new),
            "detections": len(seen.found.frames),
            "shots": len(shots),
            "cuts": len(first_frames),
            "frames": len(watch.times),
            "models": models.version,
            "seconds": round(time.perf_counter() - started, 1),
        }


async def analyze_shots(context: Context, job: JobContext) -> Json:
    """Look for shots alone. Raises as ``index_video`` does."""
    threshold = float(job.payload["threshold"])
    async with _watched(context, job, faces=False) as (seen, started):
        shots = await seen.shots(threshold)
        await _store_shots(context, job, shots, seen, threshold)
        return {
            "shots": len(shots),
            "frames": len(seen.watch.times),
            "models": seen.models.version,
            "seconds": round(time.perf_counter() - started, 1),
        }


@asynccontextmanager
async def _watched(context: Context, job: JobContext, *, faces: bool) -> AsyncIterator[tuple[ShotMaker, float]]:
    """What was found in the whole video, ready to make shots of, and when this began; taken away at the end."""
    started = time.perf_counter()
    parts = Parts(context.objects, context.settings.spool, job.subject, job.job_id)
    try:
        await check_asset(context, job.subject)
        models = await ShotModels.of(context)
        _same(models.version, job.payload["shot_models"])
        watch = await Watch.opened(context.objects, job.subject)
        try:
            watching = Watching(context, job, watch, parts, faces=faces)
            count = await watching.run()
        finally:
            await watch.close()
        job.progress(WATCHED, "Choosing keyframes")
        try:
            found = await parts.all(count)
            maker = ShotMaker(context, job.subject, watch, found, parts, watching.span, models, faces=faces)
            yield maker, started
        except ObjectNotFound:
            raise StageUnavailable("A part of what was seen got lost; it is looked at again.") from None
        await parts.forget()
    except BaseException as error:
        # What will not be gone on with leaves nothing behind.
        with suppress(StoreError):
            if (isinstance(error, StageError) and not error.retryable) or await _given_up(context, job):
                await parts.forget()
        raise


def _same(now: str, asked: str) -> None:
    if now != asked:
        raise InvalidInput("The models were changed since this was asked for; ask for the index again.")


async def _given_up(context: Context, job: JobContext) -> bool:
    record = await context.jobs.get(job.job_id)
    return record is None or record.cancel_requested


async def _store_shots(
    context: Context, job: JobContext, shots: Sequence[Shot], seen: ShotMaker, threshold: float
) -> None:
    version = analysis_version(seen.models, threshold)
    await context.shots.put_analysis(Analysis(job.subject, version, datetime.now(UTC), tuple(shots)))
    await seen.clear(shots)
    try:
        await check_asset(context, job.subject)
    except MediaNotFound:
        # It was deleted since it was last looked for, so nobody else takes this away.
        await context.shots.delete_video(job.subject)
        await seen.clear(())
        raise
