"""Links the face detections of a video over time into traces of one person each.

Association in two rounds as in ByteTrack (Zhang et al. 2022, https://arxiv.org/abs/2110.06864): confident detections
first, the others with what is left; the assignment is solved exactly (Hungarian method, SciPy). Its Kalman filter is
replaced by what faces offer instead: a constant-velocity prediction over a few sightings and the cosine of face
vectors, which keeps two people apart who cross. No kept library had both without a second build of OpenCV.
A trace ends at a cut. Pieces of one shot that do not overlap in time are joined again when their vectors agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidInput
from vision.faces.detection import overlap

REMEMBERED = 10
"""Vectors that a track is known by; more would blur a face that turns."""
MIN_OVERLAP = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Faces of a whole video, ordered by frame: ``frames`` int64[n], ``boxes`` float32[n, 4] as x, y, width, height in
    pixels, ``confidences`` float32[n], ``landmarks`` float32[n, 5, 2], ``vectors`` float32[n, 128] of length 1, or less
    where they are to be trusted less."""

    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    confidences: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One person over consecutive frames, as in ``Detections``; ``detected`` is False where a box was interpolated.

    ``vector`` float32[128] is the mean of the detections' vectors, weighted by confidence and size. Its length is 1, or
    less where the faces are blurred: the mean of theirs.
    """

    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    confidences: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    detected: NDArray[np.bool_]
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """``confident``: least confidence of a detection that starts a track; ``same_cosine``: of one person, for joining
    pieces; ``other_cosine``: below it two detections are never linked; ``lost`` and ``rejoin``: the most frames without
    a sighting in a track, and between pieces that are joined."""

    confident: float
    same_cosine: float
    other_cosine: float
    lost: int
    rejoin: int


@dataclass(slots=True)
class Track:
    """One person in one shot so far: ``members`` are indices of detections, ``frames`` their frames."""

    members: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)


def track_faces(
    detections: Detections, cuts: Sequence[int], thresholds: Thresholds, *, min_detections: int
) -> tuple[Trace, ...]:
    """Return the traces of a video, ordered by first frame; ``cuts`` are the first frames of all shots but the first.

    Tracks of fewer than ``min_detections`` are dropped as false detections. Raises InvalidInput for arrays that differ
    in length or are not ordered by frame.
    """
    frames, boxes = detections.frames, detections.boxes
    if len({len(values) for values in (frames, boxes, detections.confidences, detections.vectors)}) != 1:
        raise InvalidInput("The detections' arrays differ in length.")
    if np.any(np.diff(frames) < 0):
        raise InvalidInput("The detections are not ordered by frame.")
    # Within a shot a blurred face is known by its place as well.
    units = detections.vectors / np.maximum(np.linalg.norm(detections.vectors, axis=1, keepdims=True), 1e-12)
    tracks: list[Track] = []
    for shot in np.split(np.arange(len(frames)), np.searchsorted(frames, cuts)):
        tracker = ShotTracker(thresholds, boxes, detections.confidences, units)
        for group in np.split(shot, np.flatnonzero(np.diff(frames[shot])) + 1):
            if len(group):
                tracker.update(int(frames[group[0]]), group)
        tracks += tracker.joined()
    traces = [_trace(track, detections, thresholds.lost) for track in tracks if len(track.members) >= min_detections]
    return tuple(sorted(traces, key=lambda trace: (int(trace.frames[0]), float(trace.boxes[0, 0]))))


class ShotTracker:
    """Builds the tracks of one shot: ``update`` with each frame in order, then take ``joined``."""

    def __init__(
        self,
        thresholds: Thresholds,
        boxes: NDArray[np.float32],
        confidences: NDArray[np.float32],
        vectors: NDArray[np.float32],
    ) -> None:
        self._thresholds = thresholds
        self._boxes = boxes
        self._confidences = confidences
        self._vectors = vectors
        self._tracks: list[Track] = []

    def update(self, frame: int, detected: NDArray[np.intp]) -> None:
        """Link the detections of one frame, given as indices."""
        live = [track for track in self._tracks if frame - track.frames[-1] <= self._thresholds.lost]
        sure = self._confidences[detected] >= self._thresholds.confident
        new = self._assign(frame, live, detected[sure])
        # What is left of the others is noise more often than somebody new.
        self._assign(frame, [track for track in live if track.frames[-1] != frame], detected[~sure])
        self._tracks += [Track([index], [frame]) for index in new]

    def joined(self) -> list[Track]:
        """Return the tracks, with pieces of one person joined: the most alike first, never two of the same moment."""
        tracks = sorted(self._tracks, key=lambda track: track.frames[0])
        while len(tracks) > 1:
            means = np.stack([self._mean(track.members) for track in tracks])
            starts = np.array([track.frames[0] for track in tracks])
            waits = starts[None, :] - np.array([track.frames[-1] for track in tracks])[:, None]
            cosines = np.where((waits > 0) & (waits <= self._thresholds.rejoin), means @ means.T, -1)
            first, second = np.unravel_index(np.argmax(cosines), cosines.shape)
            if cosines[first, second] < self._thresholds.same_cosine:
                break
            earlier, later = tracks[int(first)], tracks.pop(int(second))
            earlier.members += later.members
            earlier.frames += later.frames
        return tracks

    def _assign(self, frame: int, tracks: list[Track], detected: NDArray[np.intp]) -> list[int]:
        """Continue tracks by detections; return the indices of those that continue none."""
        if not tracks or not len(detected):
            return [int(index) for index in detected]
        from scipy.optimize import linear_sum_assignment

        scores = np.stack([self._scores(track, frame, detected) for track in tracks])
        rows, columns = linear_sum_assignment(-scores)
        free = {int(index) for index in detected}
        for row, column in zip(rows, columns, strict=True):
            if scores[row, column] > 0:
                tracks[row].members.append(int(detected[column]))
                tracks[row].frames.append(frame)
                free.discard(int(detected[column]))
        return [int(index) for index in detected if int(index) in free]

    def _scores(self, track: Track, frame: int, detected: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return how well each detection continues a track: overlap plus likeness, 0 where it cannot."""
        place = self._predicted(track, frame)
        boxes = self._boxes[detected]
        overlaps = overlap(place, boxes)
        centre = place[:2] + place[2:] / 2
        apart = np.linalg.norm(boxes[:, :2] + boxes[:, 2:] / 2 - centre, axis=1) / np.sqrt(place[2] * place[3])
        scale = np.maximum(boxes[:, 3] / place[3], place[3] / boxes[:, 3])
        cosines = self._vectors[detected] @ self._mean(track.members[-REMEMBERED:])
        alike = cosines >= self._thresholds.same_cosine
        near = (overlaps >= MIN_OVERLAP) | ((apart < 1.5) & alike)
        # The less they overlap, the more alike they have to be: somebody else may come to the same place.
        needed = self._thresholds.same_cosine - overlaps * (
            self._thresholds.same_cosine - self._thresholds.other_cosine
        )
        possible = near & (scale < 2) & (cosines >= needed)
        scores: NDArray[np.float32] = np.where(possible, 1 + overlaps + 2 * cosines, 0).astype(np.float32)
        return scores

    def _predicted(self, track: Track, frame: int) -> NDArray[np.float32]:
        """Return the box in this frame at the velocity of its last sightings; sizes stay."""
        place: NDArray[np.float32] = self._boxes[track.members[-1]].copy()
        back = min(len(track.members), 4)
        if back > 1:
            span = track.frames[-1] - track.frames[-back]
            moved = self._boxes[track.members[-1], :2] - self._boxes[track.members[-back], :2]
            place[:2] += moved / span * (frame - track.frames[-1])
        return place

    def _mean(self, members: list[int]) -> NDArray[np.float32]:
        mean = self._vectors[members].mean(axis=0)
        unit: NDArray[np.float32] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        return unit


def _trace(track: Track, detections: Detections, longest: int) -> Trace:
    """Return the trace of a track: boxes between sightings are interpolated, over no more than ``longest`` frames."""
    members = np.array(track.members)
    seen = detections.frames[members]
    gaps = np.diff(seen)
    between = [np.arange(a + 1, b) for a, b, gap in zip(seen[:-1], seen[1:], gaps, strict=True) if 1 < gap <= longest]
    frames = np.unique(np.concatenate([seen, *between]))

    def at_frames(values: NDArray[np.float32]) -> NDArray[np.float32]:
        flat = values[members].reshape(len(members), -1)
        columns = [np.interp(frames, seen, column) for column in flat.T]
        return np.stack(columns, axis=1).reshape(len(frames), *values.shape[1:]).astype(np.float32)

    sizes = np.sqrt(detections.boxes[members, 2] * detections.boxes[members, 3])
    weights = detections.confidences[members] * sizes
    mean = (detections.vectors[members] * weights[:, None]).sum(axis=0)
    trusted = np.average(np.linalg.norm(detections.vectors[members], axis=1), weights=weights)
    return Trace(
        frames=frames.astype(np.int64),
        boxes=at_frames(detections.boxes),
        confidences=at_frames(detections.confidences),
        landmarks=at_frames(detections.landmarks),
        detected=np.isin(frames, seen),
        vector=(trusted * mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32),
    )
