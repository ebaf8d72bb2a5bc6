"""The job that looks for people in a video: faces, who they are, traces, identities.

The video is decoded once, in order. What was seen is stored part by part, each of some seconds of video, and the
checkpoint counts the parts; so a job whose worker was killed goes on from the last part. Traces and identities are
made at the end from all parts, and readers see the new index whole or not at all.
"""

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

import numpy as np

from deployments.analysis.cuts import cuts
from deployments.analysis.tracks import Detections, Trace, TrackRequest
from deployments.errors import InvalidInput, MediaNotFound, ModelNotLoaded, StageError, StageUnavailable
from deployments.people.face import Face
from deployments.people.identity import FaceVector
from deployments.shared import share
from graphs import belongings
from graphs.assets.library import Library
from graphs.concurrent import task_group
from graphs.context import Context
from graphs.media.assigning import Assigned, assign
from graphs.media.looks import LONG_SIDE, Look, Watch
from graphs.media.representatives import faces_folder
from graphs.media.serving import FACES, IDENTITY, Models
from graphs.media.sightings import Parts, Seen, detections, stretch
from ops.jobs import JobContext
from ops.stores.documents import StoreError
from ops.stores.jobs import Job, Json
from ops.stores.objects import ObjectNotFound
from ops.stores.people import VideoIndex
from ops.stores.records import Asset

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

KIND: Final = "index-video"
VERSION: Final = 1
"""Of this procedure; another one makes other traces of the same video by the same models."""
TRACKS: Final = "analysis/tracks"
PART_S: Final = 10.0
"""Seconds of video between checkpoints."""
LOOKS_AT_ONCE: Final = 8
"""Frames that are with the stages; they keep two processes of two streams each busy."""
SHOTS_AT_ONCE: Final = 16
PAUSES_S: Final = (0.2, 0.5, 1, 2, 5, 10, 20, 30)
"""Before a stage that is full, or away, is asked again."""
MAX_FAILED: Final = 20
"""Looks on which a stage may fail for good before the job does."""
WATCHED: Final = 0.95
"""Share of the progress bar that looking at frames gets."""


async def submit(context: Context, asset: Asset) -> Job:
    """The job that indexes this video with the models that serve now; the same one as long as both stay the same."""
    models = (await Models.of(context)).version
    fingerprint = f"{asset.asset_id} {models} {LONG_SIDE} {VERSION}"
    return await context.jobs.submit(KIND, asset.asset_id, fingerprint, {"models": models})


async def index_video(context: Context, job: JobContext) -> Json:
    """Do the job; its result says what was found. Raises StageErrors whose message is the reason of the failure."""
    parts = Parts(context.objects, context.settings.spool, job.subject, job.job_id)
    try:
        return await _index(context, job, parts)
    except BaseException as error:
        # What will not be gone on with leaves nothing behind.
        with suppress(StoreError):
            if (isinstance(error, StageError) and not error.retryable) or await _given_up(context, job):
                await parts.forget()
        raise


async def _given_up(context: Context, job: JobContext) -> bool:
    record = await context.jobs.get(job.job_id)
    return record is None or record.cancel_requested


async def _index(context: Context, job: JobContext, parts: Parts) -> Json:
    started = time.perf_counter()
    await _check_asset(context, job.subject)
    models = await Models.of(context)
    if models.version != job.payload["models"]:
        raise InvalidInput("The models were changed since this was asked for; ask for the index again.")
    watch = await Watch.opened(context.objects, job.subject)
    try:
        count = await Watching(context, job, watch, parts).run()
    finally:
        await watch.close()
    try:
        found, changes = await parts.all(count)
    except ObjectNotFound:
        raise StageUnavailable("A part of what was seen got lost; it is looked at again.") from None
    job.progress(WATCHED, "Linking faces to traces")
    first_frames = await asyncio.to_thread(cuts, changes)
    traces = await _traces(context, found, first_frames, watch)
    job.progress(0.98, "Telling people apart")
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
    await _store(context, index, assigned)
    await parts.forget()
    return {
        "traces": len(assigned.traces),
        "identities": len(assigned.identities),
        "new_identities": len(assigned.new),
        "detections": len(found.frames),
        "cuts": len(first_frames),
        "frames": len(watch.times),
        "models": models.version,
        "seconds": round(time.perf_counter() - started, 1),
    }


async def _check_asset(context: Context, asset_id: str) -> None:
    if not await Library(context).known([asset_id]):
        raise MediaNotFound("The file was deleted while it was being indexed.")


async def _traces(context: Context, found: Detections, first_frames: Sequence[int], watch: Watch) -> list[Trace]:
    """Shot by shot, since no trace goes beyond one: the messages stay small, and shots are linked side by side."""
    bounds = [0, *np.searchsorted(found.frames, first_frames).tolist(), len(found.frames)]
    room = asyncio.Semaphore(SHOTS_AT_ONCE)

    async def shot(start: int, end: int) -> tuple[Trace, ...]:
        part = stretch(found, start, end)
        async with room:
            request = TrackRequest(part, cuts=(), fps=watch.facts.fps, step=watch.step)
            traces: tuple[Trace, ...] = await _patiently(partial(context.stages[TRACKS], request))
        return traces

    async with task_group() as group:
        tasks = [group.create_task(shot(*ends)) for ends in itertools.pairwise(bounds) if ends[0] < ends[1]]
    return [trace for task in tasks for trace in task.result()]


async def _store(context: Context, index: VideoIndex, assigned: Assigned) -> None:
    for identity in assigned.new:
        await context.people.put_identity(identity)
    await context.people.put_index(index, assigned.traces)
    await belongings.remove(context.objects, faces_folder(index.asset_id))  # those of the index before
    try:
        await _check_asset(context, index.asset_id)
    except MediaNotFound:
        # It was deleted since it was last looked for, so nobody else takes this away.
        await context.people.delete_index(index.asset_id)
        for identity in assigned.new:
            await context.people.delete_identity(identity.identity_uuid)
        raise


class Watching:
    """Looks for faces in all frames of a video that are not in a part yet."""

    def __init__(self, context: Context, job: JobContext, watch: Watch, parts: Parts) -> None:
        self._context = context
        self._job = job
        self._watch = watch
        self._parts = parts
        self._span = watch.step * max(1, round(PART_S * watch.facts.fps / watch.step))
        self._done = 0
        self._looks: list[Seen] = []
        self._failed = 0

    async def run(self) -> int:
        """How many parts there are now; they hold the whole video."""
        self._done = min(self._job.checkpoint.get("parts", 0), await self._parts.whole())
        self._watch.start(self._done * self._span)
        async with task_group() as group:
            looking: deque[asyncio.Task[Seen]] = deque()
            while (look := await self._watch.next()) is not None:
                looking.append(group.create_task(self._see(look)))
                if len(looking) == LOOKS_AT_ONCE:
                    await self._keep(await looking.popleft())
            while looking:
                await self._keep(await looking.popleft())
        while self._done * self._span < len(self._watch.times):
            await self._store_part()
        return self._done

    async def _see(self, look: Look) -> Seen:
        faces: tuple[Face, ...] = ()
        vectors: tuple[FaceVector, ...] = ()
        try:
            image = await _patiently(partial(share, look.image))
            faces = await _patiently(partial(self._context.stages[FACES], image))
            if faces:
                vectors = await _patiently(partial(self._context.stages[IDENTITY], (image, faces)))
        except StageError as error:
            self._failed += 1
            if error.retryable or isinstance(error, ModelNotLoaded) or self._failed > MAX_FAILED:
                raise
            logger.warning("job %s: frame %d: %s", self._job.job_id, look.frame, error.message)
            faces = ()
        return Seen(look.frame, faces, vectors, look.scale)

    async def _keep(self, seen: Seen) -> None:
        while seen.frame >= (self._done + 1) * self._span:
            await self._store_part()
        self._looks.append(seen)
        total = len(self._watch.times)
        self._job.progress(WATCHED * (seen.frame + 1) / total, f"Frame {seen.frame + 1} of {total}")

    async def _store_part(self) -> None:
        await _check_asset(self._context, self._job.subject)
        start = self._done * self._span
        changes = self._watch.changes[start : start + self._span].copy()
        await self._parts.put(self._done, detections(self._looks), changes)
        self._looks = []
        self._done += 1
        await self._job.save({"parts": self._done, "next_frame": self._done * self._span})


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """What a stage answers, asked again while it is full or away. Raises its last StageError."""
    for pause in PAUSES_S:
        try:
            return await call()
        except StageError as error:
            if not error.retryable:
                raise
            logger.info("waiting %g s: %s", pause, error.message)
        await asyncio.sleep(pause)
    return await call()
