"""Index videos in this process, with real weights, and compare what is found with what there is to be seen."""

import asyncio
import hashlib
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from configs.settings import Settings
from deployments.analysis.identities import IDENTITIES
from deployments.analysis.tracks import TRACKS
from deployments.embed.clip import CLIP
from deployments.embed.dinov3 import DINOV3
from deployments.media.frames import FRAMES
from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY
from deployments.people.video_faces import VIDEO_FACES
from deployments.serving.catalog import find_stage, local_handle
from deployments.shots.camera import CAMERA
from deployments.shots.cuts import CUTS
from graphs.indexing.jobs import KIND, index_video, submit_index
from graphs.jobs.runner import JobContext, JobRunner
from graphs.web.context import Context
from graphs.web.gateway import open_context
from ops.bench.film import Box, Truth
from stores.jobs import Json
from stores.people import TraceBoxes, TraceRecord, VideoIndex
from stores.records import Asset
from vision.media.probe import Limits, probe

STAGES = (VIDEO_FACES, IDENTITY, TRACKS, IDENTITIES, CUTS, CAMERA, DINOV3, CLIP, FRAMES, FACES)
SAME_PLACE = 0.5
"""Intersection over union from which on a box is that of a face."""


@dataclass(frozen=True, slots=True, eq=False)
class Indexed:
    """What is known of a video after it was indexed, and how long that took."""

    index: VideoIndex
    traces: list[tuple[TraceRecord, TraceBoxes]]
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Score:
    """By person: share of the visible frames with a box of a trace of theirs, and their identities. ``mixed``: ids of
    traces with detections of several people; ``strangers``: ids of traces that are on nobody's face."""

    coverage: dict[str, float]
    identities: dict[str, set[str | None]]
    mixed: list[int]
    strangers: list[int]
    cuts: tuple[int, ...]

    def owner(self, identity_uuid: str | None) -> str | None:
        """Whose identity this is."""
        return next((person for person, its in self.identities.items() if identity_uuid in its), None)


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[Context]:
    """Stages with real weights in this process, and empty stores."""
    handles = {ref.key: await local_handle(find_stage(ref.key)) for ref in STAGES}
    context = open_context(Settings(home=home), handles)
    yield context
    await context.close()


async def index(context: Context, path: Path) -> Indexed:
    """Store a video and have it indexed by a worker. Raises RuntimeError when the job fails."""
    asset = await _stored(context, path)
    job_id = (await submit_index(context, asset)).job_id
    ended = asyncio.Event()

    async def run(job: JobContext) -> Json:
        try:
            return await index_video(context, job)
        finally:
            ended.set()

    runner = JobRunner(context.jobs, {KIND: run})
    started, processor = time.perf_counter(), time.process_time()
    runner.start()
    await ended.wait()
    seconds, cpu = time.perf_counter() - started, time.process_time() - processor
    await runner.stop()
    found = await context.people.get_index(asset.asset_id)
    if found is None:
        job = await context.jobs.get(job_id)
        raise RuntimeError(f"{path.name} was not indexed: {job.error if job else 'the job is gone'}")
    records = await context.people.list_traces(asset.asset_id)
    traces = [await context.people.get_trace(asset.asset_id, record.trace_id) for record in records]
    return Indexed(found, [trace for trace in traces if trace is not None], seconds, cpu)


async def _stored(context: Context, path: Path) -> Asset:
    data = await asyncio.to_thread(path.read_bytes)
    facts = await asyncio.to_thread(probe, path, Limits.of(context.settings))
    asset = Asset(
        asset_id=hashlib.sha256(data).hexdigest()[:32],
        filename=path.name,
        file_size=len(data),
        uploaded_at=datetime.now(UTC),
        **asdict(facts),
    )
    copy = context.settings.home / "upload"
    await asyncio.to_thread(shutil.copyfile, path, copy)
    await context.objects.put_file(asset.asset_id, copy, asset.content_type)
    await context.documents.insert_asset(asset)
    return asset


def score(indexed: Indexed, truth: Truth) -> Score:
    """Compare what was found with what is to be seen."""
    covered: dict[str, set[int]] = {person: set() for person in truth.visible}
    identities: dict[str, set[str | None]] = {person: set() for person in truth.visible}
    mixed, strangers = [], []
    for record, boxes in indexed.traces:
        places = [
            (int(frame), _whose(box, truth, int(frame)), bool(detected))
            for frame, box, detected in zip(boxes.frames, boxes.boxes.tolist(), boxes.detected, strict=True)
        ]
        owners = {person for _, person, detected in places if detected and person is not None}
        if not owners:
            strangers.append(record.trace_id)
        elif len(owners) > 1:
            mixed.append(record.trace_id)
        for person in owners:
            identities[person].add(record.identity_uuid)
            its = truth.boxes[person]
            covered[person] |= {
                int(frame)
                for frame, box in zip(boxes.frames, boxes.boxes.tolist(), strict=True)
                if int(frame) in its and overlap(box, its[int(frame)]) >= SAME_PLACE
            }
    shares = {person: len(covered[person] & frames) / len(frames) for person, frames in truth.visible.items()}
    return Score(shares, identities, mixed, strangers, indexed.index.cuts)


def first_shared(indexed: Indexed, ones: set[str | None], others: set[str | None]) -> int | None:
    """The first frame in which traces of both are."""

    def frames(people: set[str | None]) -> set[int]:
        return {
            frame
            for record, boxes in indexed.traces
            if record.identity_uuid in people
            for frame in boxes.frames.tolist()
        }

    return min(frames(ones) & frames(others), default=None)


def _whose(box: Sequence[float], truth: Truth, frame: int) -> str | None:
    """Who is at this place, of those who can be seen."""
    shares = {
        person: overlap(box, boxes[frame]) for person, boxes in truth.boxes.items() if frame in truth.visible[person]
    }
    best = max(shares, key=lambda person: shares[person], default=None)
    return best if best is not None and shares[best] >= SAME_PLACE else None


def overlap(first: Sequence[float], second: Sequence[float] | Box) -> float:
    """Intersection over union of two boxes."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)
