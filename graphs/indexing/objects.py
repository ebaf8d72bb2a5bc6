"""Link the objects of a video to tracks, and the tracks of people to the traces of their faces."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from deployments.objects.detector import OBJECTS
from graphs.indexing.checkpoint import check_asset
from graphs.indexing.decode import Timeline
from graphs.indexing.inference import BLANK, Observations, detector_version
from graphs.indexing.shot_tags import tag_stored_shots
from graphs.web.context import Context
from stores import derived
from stores.jobs import Json
from stores.people import ObjectRecord, TraceBoxes, TraceRecord, VideoIndex
from vision.errors import InvalidInput, MediaNotFound, ModelNotLoaded
from vision.objects.tracking import CameraPath, ObjectDetections, track_objects

PERSON: Final = "person"
LEAST_INSIDE: Final = 0.5
"""Share of the frames that a person and a face are both in, in which the face is inside the person."""
NOT_WANTED: Final = "VISION_INDEX_OBJECTS is off, so films are not looked through for objects."
NOT_SERVED: Final = "this program runs without objects/detector"

Stored = tuple[ObjectRecord, TraceBoxes]


@dataclass(frozen=True, slots=True)
class ObjectModels:
    """``version``: of the detector, and its threshold."""

    version: str

    @classmethod
    async def of(cls, context: Context) -> "ObjectModels":
        """Return that which serves now. Raises ModelNotLoaded and StageUnavailable."""
        if not context.settings.index_objects:
            raise ModelNotLoaded(NOT_WANTED)
        if OBJECTS.key not in context.stages:  # a bulk run, or a configuration that is older than the stage
            raise ModelNotLoaded(NOT_SERVED)
        return cls(detector_version(await context.stage(OBJECTS).ready_info(BLANK)))


@dataclass(frozen=True, slots=True, eq=False)
class LabelledTrack:
    """An object of the class ``label`` frame by frame."""

    label: str
    boxes: TraceBoxes


async def link_objects(
    observations: Observations, first_frames: Sequence[int], timeline: Timeline
) -> list[LabelledTrack]:
    """Return the tracks, of which none goes beyond a shot; ``first_frames``: of all shots but the first."""
    return await asyncio.to_thread(_linked, observations, first_frames, timeline)


def _linked(observations: Observations, first_frames: Sequence[int], timeline: Timeline) -> list[LabelledTrack]:
    labels, classes = np.unique(observations.object_labels, return_inverse=True)
    detections = ObjectDetections(
        observations.object_frames, observations.object_boxes, observations.object_confidences, classes.astype(np.int64)
    )
    size = timeline.facts.width, timeline.facts.height
    camera = CameraPath.of(
        observations.motions, observations.moved_from, observations.moved, first_frames, len(timeline.times), size
    )
    return [
        LabelledTrack(
            str(labels[track.class_index]),
            TraceBoxes(track.frames, track.boxes, track.confidences, track.detected),
        )
        for track in track_objects(detections, first_frames, timeline.times, camera)
    ]


async def object_records(
    asset_id: str, tracks: Sequence[LabelledTrack], traces: Sequence[tuple[TraceRecord, TraceBoxes]], timeline: Timeline
) -> list[Stored]:
    """Number the tracks from 1, and find the trace of each person's face."""
    faces = await asyncio.to_thread(faces_of, tracks, traces)
    records = []
    for number, (track, trace_id) in enumerate(zip(tracks, faces, strict=True), 1):
        boxes = track.boxes
        first, last = int(boxes.frames[0]), int(boxes.frames[-1])
        start = float(timeline.times[first])
        record = ObjectRecord(
            asset_id=asset_id,
            track_id=number,
            label=track.label,
            first_frame=first,
            last_frame=last,
            first_time=start,
            last_time=float(timeline.times[last]),
            sightings=int(boxes.detected.sum()),
            confidence=float(boxes.confidences[boxes.detected].mean()),
            screen_time=timeline.end_of(last) - start,
            trace_id=trace_id,
        )
        records.append((record, boxes))
    return records


def faces_of(tracks: Sequence[LabelledTrack], traces: Sequence[tuple[TraceRecord, TraceBoxes]]) -> list[int | None]:
    """Return the id of the trace inside each person's track, None of others.

    A trace is in one track, and a track has one trace: where several fit, that whose face is longest where a face is
    expected, which is in the middle of the upper edge.
    """
    firsts = np.array([boxes.frames[0] for _, boxes in traces], np.int64)
    lasts = np.array([boxes.frames[-1] for _, boxes in traces], np.int64)
    fits: list[tuple[float, int, int]] = []
    for place, track in enumerate(tracks):
        if track.label == PERSON:
            first, last = track.boxes.frames[[0, -1]]
            for other in np.flatnonzero((firsts <= last) & (lasts >= first)).tolist():
                fit = _fit(track.boxes, traces[other][1])
                if fit > 0:
                    fits.append((-fit, place, other))
    found, taken = list[int | None]([None] * len(tracks)), set[int]()
    for _, place, other in sorted(fits):
        if found[place] is None and other not in taken:
            found[place] = traces[other][0].trace_id
            taken.add(other)
    return found


async def kept_objects(
    context: Context, asset_id: str, first_frames: Sequence[int]
) -> tuple[str | None, list[LabelledTrack]]:
    """Return the version of the detector and the tracks of a stored index; none where its shots are other ones.

    What was found remains where the detector is away, or nothing is to be found anew.
    """
    index = await context.people.get_index(asset_id)
    if index is None or index.objects is None or index.cuts != tuple(first_frames):
        return None, []
    records = await context.people.list_objects(asset_id)
    stored = [await context.people.get_object(asset_id, record.track_id) for record in records]
    return index.objects, [LabelledTrack(record.label, boxes) for record, boxes in filter(None, stored)]


def _fit(person: TraceBoxes, face: TraceBoxes) -> float:
    """Return for how many frames, and how well, a face is inside a person; 0 where it mostly is not."""
    _, rows, others = np.intersect1d(person.frames, face.frames, assume_unique=True, return_indices=True)
    if not len(rows):
        return 0.0
    body, head = person.boxes[rows].astype(np.float64), face.boxes[others].astype(np.float64)
    places = (head[:, :2] + head[:, 2:] / 2 - body[:, :2]) / np.maximum(body[:, 2:], 1e-6)
    inside = ((places >= 0) & (places <= 1)).all(1)
    if inside.mean() < LEAST_INSIDE:
        return 0.0
    return float((1 - np.hypot(places[inside, 0] - 0.5, places[inside, 1]) / 2).sum())


async def store_objects(
    context: Context, index: VideoIndex, observations: Observations, timeline: Timeline, version: str
) -> Json:
    """Add the objects to an index without any, whose traces stay as they are; return the result of the job.

    Raises StageError; InvalidInput where the index was removed or replaced meanwhile.
    """
    people, asset_id = context.people, index.asset_id
    tracks = await link_objects(observations, index.cuts, timeline)
    stored = [await people.get_trace(asset_id, each.trace_id) for each in await people.list_traces(asset_id)]
    traces = [each for each in stored if each is not None]
    records = await object_records(asset_id, tracks, traces, timeline)
    await check_asset(context, asset_id)
    if not await people.put_objects(replace(index, objects=version, object_count=len(records)), records):
        raise InvalidInput("The index was removed or replaced after this job was submitted; ask for the index again.")
    await derived.remove(context.objects, objects_folder(asset_id))  # those of other objects
    try:
        await check_asset(context, asset_id)
    except MediaNotFound:
        await people.delete_index(asset_id)  # its delete may have come before
        raise
    await tag_stored_shots(context, asset_id)
    found: Json = {"traces": len(traces), "models": index.models} if index.models else {}
    return found | {"objects": len(records), "object_models": version, "frames": len(timeline.times)}


def objects_folder(asset_id: str) -> str:
    """Return the prefix of the keys of the pictures of a video's objects."""
    return f"{derived.folder(asset_id)}objects/"
