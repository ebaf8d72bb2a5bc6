"""Links the object detections of a video over time into tracks of one object each.

Two rounds as in ByteTrack (Zhang et al. 2022, https://arxiv.org/abs/2110.06864): sure detections first, the others with
what is left; the assignment is solved exactly (Hungarian method, SciPy). Objects have no vector to be known by, and are
sampled a few times a second, so boxes that follow each other may not overlap: what is compared is the overlap less the
distance of the centres (DIoU, Zheng et al. 2020, https://arxiv.org/abs/1911.08287) from where the track is expected by
its velocity. A track has one class and ends at a cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidInput

SURE: Final = 0.5
"""Least confidence of a detection that begins a track."""
LOST_S: Final = 1.0
"""Longest time without a sighting in a track; what is hidden for longer comes back as another."""
LEAST: Final = 2
"""Sightings of a track; a single one is a false detection more often than not."""
NEAR: Final = -0.25
"""Least DIoU of a detection and where its track is expected: two boxes of one size side by side have -0.2."""
NEAR_UNSURE: Final = 0.1
GROWN: Final = 2.0
"""Most that one side of a box may grow or shrink from one sighting to the next."""
BACK: Final = 3
"""Sightings that a velocity is taken over."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectDetections:
    """Objects of a whole video, ordered by frame: ``frames`` int64[n], ``boxes`` float32[n, 4] as x, y, width, height
    in pixels, ``confidences`` float32[n], ``classes`` int64[n] as indices of class names."""

    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    confidences: NDArray[np.float32]
    classes: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ObjectTrack:
    """One object over frames in a row: ``frames`` int64[k], ``boxes`` float32[k, 4], ``confidences`` float32[k];
    ``detected`` bool[k] is False where a box lies between two sightings."""

    class_index: int
    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    confidences: NDArray[np.float32]
    detected: NDArray[np.bool_]


@dataclass(slots=True)
class _Open:
    """A track so far: indices of its detections, and their times in seconds."""

    class_index: int
    members: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


def track_objects(
    detections: ObjectDetections, cuts: Sequence[int], times: NDArray[np.float64]
) -> tuple[ObjectTrack, ...]:
    """Return the tracks of a video, ordered by first frame.

    ``cuts`` are the first frames of all shots but the first, ``times`` float64 seconds of all frames. Raises
    InvalidInput for arrays that differ in length or are not ordered by frame.
    """
    frames = detections.frames
    arrays = (frames, detections.boxes, detections.confidences, detections.classes)
    if len({len(values) for values in arrays}) != 1:
        raise InvalidInput("The detections' arrays differ in length.")
    if np.any(np.diff(frames) < 0):
        raise InvalidInput("The detections are not ordered by frame.")
    tracks: list[_Open] = []
    for shot in np.split(np.arange(len(frames)), np.searchsorted(frames, cuts)):
        inside: list[_Open] = []
        for group in np.split(shot, np.flatnonzero(np.diff(frames[shot])) + 1):
            if len(group):
                _update(inside, detections, group, float(times[frames[group[0]]]))
        tracks += inside
    kept = [_track(track, detections) for track in tracks if len(track.members) >= LEAST]
    return tuple(sorted(kept, key=lambda track: (int(track.frames[0]), track.class_index, float(track.boxes[0, 0]))))


def _update(tracks: list[_Open], detections: ObjectDetections, group: NDArray[np.intp], time: float) -> None:
    """Link the detections of one frame, given as indices, to tracks of its shot; those left over begin new ones."""
    for class_index in np.unique(detections.classes[group]).tolist():
        own = group[detections.classes[group] == class_index]
        live = [each for each in tracks if each.class_index == class_index and time - each.times[-1] <= LOST_S]
        sure = detections.confidences[own] >= SURE
        new = _assign(live, detections, own[sure], time, NEAR)
        unseen = [each for each in live if each.times[-1] != time]
        _assign(unseen, detections, own[~sure], time, NEAR_UNSURE)
        tracks += [_Open(class_index, [index], [time]) for index in new]


def _assign(
    tracks: list[_Open], detections: ObjectDetections, own: NDArray[np.intp], time: float, least: float
) -> list[int]:
    """Continue tracks by detections; return the indices of those that continue none."""
    everyone = [int(index) for index in own]
    if not tracks or not everyone:
        return everyone
    from scipy.optimize import linear_sum_assignment

    boxes = detections.boxes[own].astype(np.float64)
    places = np.stack([_expected(track, detections.boxes, time) for track in tracks])
    sizes = np.stack([detections.boxes[track.members[-1], 2:] for track in tracks])[:, None].astype(np.float64)
    likeness = distance_iou(places, boxes)
    ratios = np.maximum(boxes[None, :, 2:] / sizes, sizes / boxes[None, :, 2:]).max(-1)
    # From nobody's continuation nothing is gained: what is too far away counts as exactly the least.
    gains = np.where((likeness >= least) & (ratios <= GROWN), likeness - least + 1e-6, 0.0)
    rows, columns = linear_sum_assignment(-gains)
    free = set(everyone)
    for row, column in zip(rows, columns, strict=True):
        if gains[row, column] > 0:
            tracks[row].members.append(int(own[column]))
            tracks[row].times.append(time)
            free.discard(int(own[column]))
    return [index for index in everyone if index in free]


def _expected(track: _Open, boxes: NDArray[np.float32], time: float) -> NDArray[np.float64]:
    """Return the box at this time by the velocity of the last sightings; its size stays."""
    place: NDArray[np.float64] = boxes[track.members[-1]].astype(np.float64)
    back = min(len(track.members), BACK)
    if back > 1:
        moved = place[:2] - boxes[track.members[-back], :2]
        place[:2] += moved / (track.times[-1] - track.times[-back]) * (time - track.times[-1])
    return place


def distance_iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the DIoU of all pairs of boxes [n, 4] and [m, 4] as x, y, width, height: -1 far apart, 1 the same."""
    one, other = first[:, None], second[None]
    one_end, other_end = one[..., :2] + one[..., 2:], other[..., :2] + other[..., 2:]
    shared = np.clip(np.minimum(one_end, other_end) - np.maximum(one[..., :2], other[..., :2]), 0, None).prod(-1)
    areas = one[..., 2:].prod(-1) + other[..., 2:].prod(-1) - shared
    around = np.maximum(one_end, other_end) - np.minimum(one[..., :2], other[..., :2])
    apart = (one[..., :2] + one[..., 2:] / 2) - (other[..., :2] + other[..., 2:] / 2)
    result: NDArray[np.float64] = shared / areas - (apart**2).sum(-1) / (around**2).sum(-1)
    return result


def _track(track: _Open, detections: ObjectDetections) -> ObjectTrack:
    """Return a track with a box in every frame from its first sighting to its last."""
    members = np.array(track.members)
    seen = detections.frames[members]
    frames = np.arange(seen[0], seen[-1] + 1)
    columns = np.column_stack([detections.boxes[members], detections.confidences[members]]).T
    values = np.stack([np.interp(frames, seen, column) for column in columns], axis=1).astype(np.float32)
    return ObjectTrack(track.class_index, frames, values[:, :4], values[:, 4], np.isin(frames, seen))
