"""The jobs that index a video: what of its people, objects and shots there are models for; the record of a bulk run.

The video is decoded once, in order. What is observed is stored part by part, each of some seconds of video, and the
checkpoint counts the parts; so a job whose worker was killed resumes behind the last part. Traces, identities and
shots are made at the end from all parts, and readers see the new results whole or not at all.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
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

    Without a model for people it looks for nobody, and without one for objects for none; ``parts_missing`` tells why.
    Raises StageUnavailable, and ModelNotLoaded without a model that finds cuts.
    """
    parts = OptionalParts()
    people, things, shots = await asyncio.gather(
        parts.of("people", PeopleModels.of(context)),
        parts.of("objects", ObjectModels.of(context)),
        ShotModels.of(context),
    )
    index = await context.people.get_index(asset.asset_id)
    # What a model found remains while it is away, and the job that found it is this one.
    found = _version(people) or ("" if index is None else index.models)
    fingerprint = f"{asset.asset_id} {found} {shots.version} {LONG_SIDE} {GREY_SIDE} {VERSION}"
    payload: Json = {"models": _version(people), "shot_models": shots.version}
    if things is not None:
        payload["objects"] = things.version
    if parts.unavailable:
        payload["unavailable"] = parts.unavailable
    if things is not None:
        fingerprint = f"{fingerprint} {things.version}"
    elif index is not None and index.models == found and index.objects is not None:
        fingerprint = f"{fingerprint} {index.objects}"
    while True:
        job = await context.quotas.submit(INDEX_VIDEO, asset.asset_id, fingerprint, payload)
        if job.status != "succeeded" or (people is None and things is None):
            return job
        # Its results may have been lost, or removed for their age, and made again since.
        fingerprint = f"{fingerprint} {job.finished_at}"
        again = await context.jobs.get(job_id_of(INDEX_VIDEO, fingerprint))
        index = await context.people.get_index(asset.asset_id)
        if again is None and index is not None and not _lacking(index, people, things):
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


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """What a job looks for in a video.

    ``people`` and ``objects``: the models, None where these are not looked for. ``index``: that to which objects are
    added, and nothing else of which changes; None where shots are looked for too.
    """

    people: PeopleModels | None
    objects: ObjectModels | None
    index: VideoIndex | None = None

    @property
    def what(self) -> str:
        """Return what the stored parts of such a job are called."""
        if self.index is not None:
            return "objects-"
        return "without-objects-" if self.objects is None else ""


async def plan_index(context: Context, job: JobContext) -> IndexPlan:
    """Return what is to be looked for: nothing that these models have found already, unless they have found it all.

    Raises InvalidInput where the models are not those that the job was submitted for.
    """
    missing = OptionalParts()
    people = await missing.of("people", PeopleModels.of(context))
    check_models(_version(people), job.payload["models"])
    things: ObjectModels | None = None
    if "objects" in job.payload:
        things = await missing.of("objects", ObjectModels.of(context))
        check_models("" if things is None else things.version, job.payload["objects"])
    index, lacking = await context.people.get_index(job.subject), frozenset[str]()
    if index is not None and is_current(await context.shots.get_analysis(index.asset_id), await ShotModels.of(context)):
        lacking = _lacking(index, people, things)
    if lacking == {"objects"}:
        return IndexPlan(None, things, index)
    if people is None and index is not None and index.models:
        return IndexPlan(None, None)  # those who were found remain while the model is away
    return IndexPlan(people, None if lacking == {"people"} else things)


def _lacking(index: VideoIndex, people: PeopleModels | None, things: ObjectModels | None) -> frozenset[str]:
    """Return what these models, where there are any, have not found of an index: people, objects, or both."""
    lacks = {
        "people": people is not None and index.models != people.version,
        "objects": things is not None and index.objects != things.version,
    }
    return frozenset(part for part, is_lacking in lacks.items() if is_lacking)


async def index_video(context: Context, job: JobContext) -> Json:
    """Index what there are models for of people and objects, and shots. Asked again, find identities anew.

    Raises StageErrors whose message is the reason of the failure.
    """
    started = time.perf_counter()
    if job.payload.get("again"):
        models = await PeopleModels.of(context)
        check_models(models.version, job.payload["models"])
        return await assign_again(context, job.subject, models) | {"seconds": round(time.perf_counter() - started, 1)}
    plan = await plan_index(context, job)
    if plan.objects is not None and plan.index is not None:
        result = await _objects_alone(context, job, plan.index, plan.objects)
    elif plan.people is None and plan.objects is None:
        result = await _shots_alone(context, job, THRESHOLD, plan.what)
    else:
        faces, things = plan.people is not None, plan.objects
        async with _observed(context, job, plan.what, faces=faces, objects=things is not None) as builder:
            draft = await draft_index(context, builder, job.progress)
            version = None if things is None else things.version
            result = await store_index(context, job.subject, draft, plan.people, version)
    if unavailable := job.payload.get("unavailable"):
        result = result | {"unavailable": unavailable}
    return result | {"seconds": round(time.perf_counter() - started, 1)}


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


async def _shots_alone(context: Context, job: JobContext, threshold: float, what: str = "") -> Json:
    started = time.perf_counter()
    async with _observed(context, job, what, faces=False, threshold=threshold) as builder:
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
    context: Context,
    job: JobContext,
    what: str = "",
    *,
    faces: bool,
    objects: bool = False,
    threshold: float = THRESHOLD,
) -> AsyncIterator[ShotBuilder]:
    """Run the stages on the whole video, and give what builds its shots; stored parts are removed at the end.

    ``what``: what the parts are called.
    """
    async with job_parts(context, job, what) as parts:
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
                people=faces,
                things=objects,
            )
            still = threshold < STILL_AT_MOST
            await _observe(
                *(job, inference, decoder, checkpoints),
                lambda start: decoder.start(start, faces=faces, objects=objects, still=still),
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
