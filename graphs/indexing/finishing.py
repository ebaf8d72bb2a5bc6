"""What is made at the end of all that was found in a video: its shots, traces and identities.

It is made in two steps, since whose a trace is depends on who is known: the second one is for one video at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from deployments.analysis.tracks import Trace
from graphs.indexing.assigning import assign
from graphs.indexing.keeping import check_asset
from graphs.indexing.models import ShotModels
from graphs.indexing.passes import GREY_SIDE
from graphs.indexing.people import store_people, traces_of
from graphs.indexing.serving import Models
from graphs.indexing.shots import ShotMaker
from graphs.web.context import Context
from stores.jobs import Json
from stores.people import VideoIndex
from stores.shots import Analysis, Shot
from vision.errors import MediaNotFound
from vision.shots.transitions import THRESHOLD

VERSION: Final = 2
"""Of this procedure; another one makes other traces and shots of the same video by the same models."""
LINKED: Final = 0.97
ASSIGNED: Final = 0.98
"""Shares of the progress bar at which faces are linked to traces, and traces to people."""


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """Of one video. ``first_frames``: of its shots, but for the first one, and of what else no trace goes beyond."""

    seen: ShotMaker
    shots: Sequence[Shot]
    first_frames: tuple[int, ...]
    traces: Sequence[Trace]


async def make(
    context: Context, seen: ShotMaker, told: Callable[[float, str], None] = lambda _share, _message: None
) -> Made:
    """Shots, with their keyframes, and traces. Raises StageError, ObjectNotFound."""
    shots = await shots_of(context, seen, THRESHOLD)
    told(LINKED, "Linking faces to traces")
    first_frames = tuple(sorted({*seen.sudden, *(shot.start_frame for shot in shots[1:])}))
    traces = await traces_of(context, seen.found.detections, first_frames, seen.watch)
    told(ASSIGNED, "Telling people apart")
    return Made(seen, shots, first_frames, traces)


async def shots_of(context: Context, seen: ShotMaker, threshold: float) -> list[Shot]:
    """The shots, with their keyframes; of a video that was deleted meanwhile nothing is left. Raises StageError."""
    try:
        shots = await seen.shots(threshold)
        await check_asset(context, seen.asset_id)
    except MediaNotFound:
        await seen.clear(())
        raise
    return shots


async def store(context: Context, asset_id: str, made: Made, models: Models) -> Json:
    """Say whose the traces are, and store everything; the result of the job. Raises StageError."""
    watch = made.seen.watch
    assigned = await assign(context, asset_id, made.traces, watch.times, models.identity)
    index = VideoIndex(
        asset_id=asset_id,
        models=models.version,
        width=watch.facts.width,
        height=watch.facts.height,
        fps=watch.facts.fps,
        frame_count=len(watch.times),
        duration=watch.facts.duration,
        step=watch.step,
        cuts=made.first_frames,
        trace_count=len(assigned.traces),
        indexed_at=datetime.now(UTC),
    )
    try:
        await store_people(context, index, assigned)
    except MediaNotFound:
        await made.seen.clear(())
        raise
    await store_shots(context, asset_id, made.seen, made.shots, THRESHOLD)
    return {
        "traces": len(assigned.traces),
        "identities": len(assigned.identities),
        "new_identities": len(assigned.new),
        "detections": len(made.seen.found.frames),
        "shots": len(made.shots),
        "cuts": len(made.first_frames),
        "frames": len(watch.times),
        "models": models.version,
    }


async def store_shots(
    context: Context, asset_id: str, seen: ShotMaker, shots: Sequence[Shot], threshold: float
) -> None:
    """Replace the shots of a video. Raises MediaNotFound, leaving nothing, where it was deleted meanwhile."""
    version = analysis_version(seen.models, threshold)
    await context.shots.put_analysis(Analysis(asset_id, version, datetime.now(UTC), tuple(shots)))
    await seen.clear(shots)
    try:
        await check_asset(context, asset_id)
    except MediaNotFound:
        # It was deleted since it was last looked for, so nobody else takes this away.
        await context.shots.delete_video(asset_id)
        await seen.clear(())
        raise


def analysis_version(models: ShotModels, threshold: float) -> str:
    """What stands for all that a shot analysis depends on, but for the video."""
    return f"{models.version} {threshold:g} {GREY_SIDE} {VERSION}"
