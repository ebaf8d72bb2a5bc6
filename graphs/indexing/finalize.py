"""Make the results of a video from all that was observed in it: its shots, traces and identities.

It takes two steps, since whose a trace is depends on who is known: the second step runs for one video at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from graphs.indexing.checkpoint import check_asset
from graphs.indexing.decode import GREY_SIDE
from graphs.indexing.objects import LabelledTrack, kept_objects, link_objects, object_records
from graphs.indexing.people import Assigned, PeopleModels, assign_identities, link_traces, store_people
from graphs.indexing.shot_tags import tag_stored_shots
from graphs.indexing.shots import ShotBuilder, ShotModels
from graphs.web.context import Context
from stores.jobs import Json
from stores.people import VideoIndex
from stores.shots import Shot, ShotAnalysis
from vision.errors import MediaNotFound
from vision.faces.tracking import Trace
from vision.shots.transitions import THRESHOLD

VERSION: Final = 3
"""Of this procedure; another one makes other traces and shots of the same video by the same models."""
LINKED: Final = 0.97
ASSIGNED: Final = 0.98
"""Shares of the progress bar at which faces are linked to traces, and traces to people."""


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """Shots, traces and objects of one video, before traces have identities.

    ``first_frames``: of its shots, but for the first one, and all other frames that no trace goes beyond.
    """

    builder: ShotBuilder
    shots: Sequence[Shot]
    first_frames: tuple[int, ...]
    traces: Sequence[Trace]
    objects: Sequence[LabelledTrack] = ()


async def draft_index(
    context: Context, builder: ShotBuilder, on_progress: Callable[[float, str], None] = lambda _share, _message: None
) -> Draft:
    """Build shots, with their keyframes, traces and objects. Raises StageError, ObjectNotFound."""
    shots = await build_shots(context, builder, THRESHOLD)
    on_progress(LINKED, "Linking faces to traces")
    first_frames = tuple(sorted({*builder.sudden, *(shot.start_frame for shot in shots[1:])}))
    traces = await link_traces(context, builder.observations.detections, first_frames, builder.timeline)
    objects = await link_objects(builder.observations, first_frames, builder.timeline)
    on_progress(ASSIGNED, "Telling people apart")
    return Draft(builder, shots, first_frames, traces, objects)


async def build_shots(context: Context, builder: ShotBuilder, threshold: float) -> list[Shot]:
    """Build the shots, with their keyframes. Raises StageError; MediaNotFound, leaving nothing, for a deleted video."""
    try:
        shots = await builder.shots(threshold)
        await check_asset(context, builder.asset_id)
    except MediaNotFound:
        await builder.remove_keyframes(())
        raise
    return shots


async def store_index(
    context: Context, asset_id: str, draft: Draft, models: PeopleModels | None, objects: str | None = None
) -> Json:
    """Assign identities to the traces and store everything; return the result of the job. Raises StageError.

    ``models``: those that looked for people, None where none did. ``objects``: version of the model that looked for
    objects, None where none did: then those of the index before remain.
    """
    timeline, tracks = draft.builder.timeline, draft.objects
    assigned = Assigned([], [])
    if models is not None:
        assigned = await assign_identities(context, asset_id, draft.traces, timeline.times, models.identity)
    if objects is None:
        objects, tracks = await kept_objects(context, asset_id, draft.first_frames)
    things = await object_records(asset_id, tracks, assigned.traces, timeline)
    index = VideoIndex(
        asset_id=asset_id,
        models="" if models is None else models.version,
        width=timeline.facts.width,
        height=timeline.facts.height,
        fps=timeline.facts.fps,
        frame_count=len(timeline.times),
        duration=timeline.facts.duration,
        step=timeline.step,
        cuts=draft.first_frames,
        trace_count=len(assigned.traces),
        indexed_at=datetime.now(UTC),
        objects=objects,
        object_count=len(things),
    )
    try:
        await store_people(context, index, assigned, things)
    except MediaNotFound:
        await draft.builder.remove_keyframes(())
        raise
    await store_shots(context, asset_id, draft.builder, draft.shots, THRESHOLD)
    await tag_stored_shots(context, asset_id)
    found: Json = {} if objects is None else {"objects": len(things), "object_models": objects}
    if models is not None:
        found |= {
            "traces": len(assigned.traces),
            "identities": len(assigned.identities),
            "new_identities": len(assigned.new),
            "detections": len(draft.builder.observations.frames),
            "models": models.version,
        }
    return found | {"shots": len(draft.shots), "cuts": len(draft.first_frames), "frames": len(timeline.times)}


async def store_shots(
    context: Context, asset_id: str, builder: ShotBuilder, shots: Sequence[Shot], threshold: float
) -> None:
    """Replace the shots of a video. Raises MediaNotFound, leaving nothing, where it was deleted meanwhile."""
    version = analysis_version(builder.models, threshold)
    await context.shots.put_analysis(ShotAnalysis(asset_id, version, datetime.now(UTC), tuple(shots)))
    await builder.remove_keyframes(shots)
    try:
        await check_asset(context, asset_id)
    except MediaNotFound:
        # It was deleted after the last check, so nobody else removes this.
        await context.shots.delete_video(asset_id)
        await builder.remove_keyframes(())
        raise


def is_current(analysis: ShotAnalysis | None, models: ShotModels) -> bool:
    """Return whether stored shots were made by these models and this procedure, with whatever threshold."""
    return (
        analysis is not None
        and analysis.models.startswith(f"{models.version} ")
        and analysis.models.endswith(f" {GREY_SIDE} {VERSION}")
    )


def analysis_version(models: ShotModels, threshold: float) -> str:
    """Return a version of all that a shot analysis depends on, but for the video."""
    return f"{models.version} {threshold!r} {GREY_SIDE} {VERSION}"
