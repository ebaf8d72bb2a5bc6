"""The jobs that index a video: its people, objects and shots, or its shots alone; and the record of a bulk run.

The video is decoded once, in order. What is observed is stored part by part, each of some seconds of video, and the
checkpoint counts the parts; so a job whose worker was killed resumes behind the last part. Traces, identities and
shots are made at the end from all parts, and readers see the new results whole or not at all.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from deployments.analysis.identities import IDENTITIES
from deployments.analysis.tracks import TRACKS
from deployments.embed.clip import CLIP
from deployments.embed.dinov3 import DINOV3
from deployments.media.frames import FRAMES
from deployments.objects.detector import OBJECTS
from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY
from deployments.people.video_faces import VIDEO_FACES
from deployments.shots.camera import CAMERA
from deployments.shots.cuts import CUTS
from graphs.indexing.checkpoint import INFERRED, Checkpoints, check_asset, job_parts, retrying_lost_parts
from graphs.indexing.decode import GREY_SIDE, LONG_SIDE, Chunk, VideoDecoder
from graphs.indexing.finalize import (
    VERSION,
    analysis_version,
    build_shots,
    draft_index,
    is_current,
    store_index,
    store_shots,
)
from graphs.indexing.inference import ChunkInference, Observations
from graphs.indexing.objects import ObjectModels, store_objects
from graphs.indexing.people import PeopleModels, assign_again
from graphs.indexing.shots import ShotBuilder, ShotModels
from graphs.jobs.kinds import JobKind
from graphs.jobs.runner import JobContext
from graphs.web.context import Context, task_group
from graphs.web.parts import OptionalParts
from stores.jobs import Job, Json, job_id_of
from stores.people import VideoIndex
from stores.records import Asset
from vision.errors import InvalidInput, ProcessingFailed
from vision.shots.transitions import STILL_AT_MOST, THRESHOLD

INDEX_VIDEO: Final = "index-video"
ANALYZE_SHOTS: Final = "analyze-shots"
BULK_INDEX: Final = "bulk-index"
"""The record of ``visiongraph index``, which the run itself begins and keeps: no worker does its work."""
CHUNKS_AT_ONCE: Final = 2
"""One is with the stages while the next one is decoded."""


async def submit_index(context: Context, asset: Asset) -> Job:
    """Return the job that indexes this video with the models that serve now; the same job while both stay the same.

    Without a model for people it looks for shots alone, and without one for objects for none. Raises StageUnavailable,
    and ModelNotLoaded without a model that finds cuts.
    """
    parts = OptionalParts()
    people, shots = await asyncio.gather(parts.of("people", PeopleModels.of(context)), ShotModels.of(context))
    models = _version(people)
    # Objects are beside the traces: without these there is no place for them.
    things = None if people is None else await parts.of("objects", ObjectModels.of(context))
    fingerprint = f"{asset.asset_id} {models} {shots.version} {LONG_SIDE} {GREY_SIDE} {VERSION}"
    payload: Json = {"models": models, "shot_models": shots.version}
    if things is not None:
        payload["objects"] = things.version
    if parts.unavailable:
        payload["unavailable"] = parts.unavailable
    index = await context.people.get_index(asset.asset_id)
    if things is not None:
        fingerprint = f"{fingerprint} {things.version}"
    elif index is not None and index.models == models and index.objects is not None:
        # The detector is away: what it found remains, and the job that found it is this one.
        fingerprint = f"{fingerprint} {index.objects}"
    while True:
        job = await context.quotas.submit(INDEX_VIDEO, asset.asset_id, fingerprint, payload)
        if job.status != "succeeded" or "people" in parts_missing(job):
            return job
        # Its results may have been lost, or removed for their age, and made again since.
        fingerprint = f"{fingerprint} {job.finished_at}"
        again = await context.jobs.get(job_id_of(INDEX_VIDEO, fingerprint))
        index = await context.people.get_index(asset.asset_id)
        if again is None and index is not None and (things is None or index.objects == things.version):
            return job


async def submit_again(context: Context, asset: Asset) -> Job:
    """Return a job that finds anew whose the traces of an indexed video are, without detecting any face anew.

    One that indexes the video is returned where it runs, and where there is no index by the models that serve now.
    Raises as ``submit_index``.
    """
    parts = OptionalParts()
    people, shots = await asyncio.gather(parts.of("people", PeopleModels.of(context)), ShotModels.of(context))
    index, latest = await context.people.get_index(asset.asset_id), await latest_index_job(context, asset.asset_id)
    if latest is not None and not latest.finished:
        return latest
    if people is None or index is None or index.models != people.version:
        return await submit_index(context, asset)
    before = "" if latest is None else f"{latest.job_id} {latest.finished_at}"
    payload: Json = {"models": people.version, "shot_models": shots.version, "again": True}
    return await context.quotas.submit(INDEX_VIDEO, asset.asset_id, f"{asset.asset_id} again {before}", payload)


async def submit_shots(context: Context, asset: Asset, threshold: float, models: ShotModels) -> Job:
    """Return the job that analyses the shots of a video alone; a new one when its results were replaced since."""
    stored = await context.shots.get_analysis(asset.asset_id)
    since = "" if stored is None else f"{stored.models} {stored.analyzed_at.isoformat()}"
    fingerprint = f"{asset.asset_id} {analysis_version(models, threshold)} {since}"
    payload = {"shot_models": models.version, "threshold": threshold}
    job = await context.quotas.submit(ANALYZE_SHOTS, asset.asset_id, fingerprint, payload)
    if job.status != "succeeded" or await context.shots.get_analysis(asset.asset_id) is not None:
        return job
    # Its results were lost, as when one store was restored from a backup and the other was not.
    again = f"{fingerprint} {job.finished_at}"
    return await context.quotas.submit(ANALYZE_SHOTS, asset.asset_id, again, payload)


async def latest_index_job(context: Context, asset_id: str) -> Job | None:
    """Return the latest job that indexes this video, None where there is none."""
    return next(iter(await context.jobs.list(kind=INDEX_VIDEO, subject=asset_id, limit=1)), None)


def parts_missing(job: Job | None) -> dict[str, str]:
    """Return why an index job looks for no people or no objects: ``{"people": reason}``; empty where it does."""
    missing: dict[str, str] = {} if job is None else job.payload.get("unavailable", {})
    return missing


async def index_video(context: Context, job: JobContext) -> Json:
    """Index people, objects and shots; where a model for people is missing, shots alone.

    Asked again, it finds identities anew. Where an index lacks objects alone, it looks for nothing else. Raises
    StageErrors whose message is the reason of the failure.
    """
    started, missing = time.perf_counter(), OptionalParts()
    models = await missing.of("people", PeopleModels.of(context))
    check_models(_version(models), job.payload["models"])
    if models is None:
        return await _shots_alone(context, job, THRESHOLD) | {"unavailable": missing.unavailable}
    if job.payload.get("again"):
        return await assign_again(context, job.subject, models) | {"seconds": round(time.perf_counter() - started, 1)}
    things: ObjectModels | None = None
    if "objects" in job.payload:
        things = await missing.of("objects", ObjectModels.of(context))
        check_models("" if things is None else things.version, job.payload["objects"])
    index = await context.people.get_index(job.subject)
    if things is not None and index is not None and await _lacks_objects_alone(context, index, models, things):
        result = await _objects_alone(context, job, index, things)
    else:
        async with _observed(context, job, faces=True, objects=things is not None) as builder:
            draft = await draft_index(context, builder, job.progress)
            version = None if things is None else things.version
            result = await store_index(context, job.subject, draft, models, version)
    if unavailable := job.payload.get("unavailable"):
        result = result | {"unavailable": unavailable}
    return result | {"seconds": round(time.perf_counter() - started, 1)}


async def _lacks_objects_alone(context: Context, index: VideoIndex, models: PeopleModels, things: ObjectModels) -> bool:
    """Return whether all of an index but its objects is what these models make."""
    if index.models != models.version or index.objects == things.version:
        return False
    shots = await ShotModels.of(context)
    return is_current(await context.shots.get_analysis(index.asset_id), shots)


async def _objects_alone(context: Context, job: JobContext, index: VideoIndex, things: ObjectModels) -> Json:
    """Look for the objects of an indexed video; its traces, identities and shots stay as they are."""
    async with job_parts(context, job, "objects-") as parts:
        await check_asset(context, job.subject)
        decoder = await VideoDecoder.open(context.objects, job.subject)
        try:
            timeline, cuts = decoder.timeline, frozenset(index.cuts)
            checkpoints = Checkpoints(context, job, parts, len(timeline.times), timeline.facts.fps)
            name = f"job {job.job_id}"
            inference = ChunkInference(context.stages, name, checkpoints.report, people=False, things=True)
            await _observe(job, inference, decoder, checkpoints, lambda start: decoder.start_objects(start, cuts))
        finally:
            await decoder.close()
        job.progress(INFERRED, "Linking objects to tracks")
        with retrying_lost_parts():
            observations = await parts.read(checkpoints.stored)
        return await store_objects(context, index, observations, timeline, things.version)


async def analyze_shots(context: Context, job: JobContext) -> Json:
    """Analyse shots alone. Raises as ``index_video`` does."""
    return await _shots_alone(context, job, float(job.payload["threshold"]))


async def _shots_alone(context: Context, job: JobContext, threshold: float) -> Json:
    started = time.perf_counter()
    async with _observed(context, job, faces=False, threshold=threshold) as builder:
        shots = await build_shots(context, builder, threshold)
        await store_shots(context, job.subject, builder, shots, threshold)
        return {
            "shots": len(shots),
            "frames": len(builder.timeline.times),
            "models": builder.models.version,
            "seconds": round(time.perf_counter() - started, 1),
        }


async def end_bulk_index(_context: Context, _job: JobContext) -> Json:
    """Fail the record of a run that has died, which is all that a worker can do for one. Raises ProcessingFailed."""
    raise ProcessingFailed("The process that ran it has died; run the same command again, and it resumes.")


def _version(models: PeopleModels | None) -> str:
    return "" if models is None else models.version


def check_models(serving: str, requested: str) -> None:
    """Raise InvalidInput unless the models that serve now are those that the job was submitted for."""
    if serving != requested:
        raise InvalidInput("The models changed after this job was submitted; ask for the index again.")


@asynccontextmanager
async def _observed(
    context: Context, job: JobContext, *, faces: bool, objects: bool = False, threshold: float = THRESHOLD
) -> AsyncIterator[ShotBuilder]:
    """Run the stages on the whole video, and give what builds its shots; stored parts are removed at the end."""
    async with job_parts(context, job) as parts:
        await check_asset(context, job.subject)
        models = await ShotModels.of(context)
        check_models(models.version, job.payload["shot_models"])
        decoder = await VideoDecoder.open(context.objects, job.subject)
        try:
            timeline = decoder.timeline
            checkpoints = Checkpoints(context, job, parts, len(timeline.times), timeline.facts.fps)
            inference = ChunkInference(
                context.stages,
                f"job {job.job_id}",
                checkpoints.report,
                decisions=models.decisions and threshold == THRESHOLD,
                things=objects,
            )
            still = threshold < STILL_AT_MOST
            await _observe(
                job, inference, decoder, checkpoints, lambda start: decoder.start(start, faces=faces, still=still)
            )
        finally:
            await decoder.close()
        job.progress(INFERRED, "Choosing keyframes")
        with retrying_lost_parts():
            observations = await parts.read(checkpoints.stored)
            span = checkpoints.span
            yield ShotBuilder(context, job.subject, timeline, observations, parts, span, models, faces=faces)


async def _observe(
    job: JobContext,
    inference: ChunkInference,
    decoder: VideoDecoder,
    checkpoints: Checkpoints,
    begin: Callable[[int], None],
) -> None:
    """Run the stages on all frames that are in no part yet, while the next ones are decoded. Raises StageError.

    ``begin`` has the decoder begin at a frame.
    """
    start = await checkpoints.resume()
    if start >= len(decoder.timeline.times):
        return
    begin(start)

    async def observe(chunk: Chunk) -> tuple[Chunk, Observations]:
        return chunk, await inference.run(chunk)

    async def add(task: asyncio.Task[tuple[Chunk, Observations]]) -> None:
        chunk, observations = await task
        await checkpoints.add(chunk.end, observations, chunk.candidates)
        job.looked_at(chunk.end - chunk.first)

    async with task_group() as group:
        running: deque[asyncio.Task[tuple[Chunk, Observations]]] = deque()
        while (chunk := await decoder.next()) is not None:
            running.append(group.create_task(observe(chunk)))
            if len(running) == CHUNKS_AT_ONCE:
                await add(running.popleft())
        while running:
            await add(running.popleft())


SHOT_STAGES: Final = (CUTS, CAMERA, DINOV3, CLIP, FACES, FRAMES)
JOB_KINDS: Final = (
    JobKind(INDEX_VIDEO, index_video, (VIDEO_FACES, IDENTITY, TRACKS, IDENTITIES, OBJECTS, *SHOT_STAGES)),
    JobKind(ANALYZE_SHOTS, analyze_shots, SHOT_STAGES),
    JobKind(BULK_INDEX, end_bulk_index, ()),
)
