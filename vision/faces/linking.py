"""The links of analysis/tracks: which detection of a frame continues which track of the shot."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

REMEMBERED = 10
"""Vectors that a track is known by; more would blur a face that turns."""
MIN_OVERLAP = 0.1


@dataclass(frozen=True, slots=True)
class Link:
    """Thresholds; ``lost`` and ``rejoin`` in frames."""

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


class Linker:
    """Builds the tracks of one shot from its frames in order; ``see`` each, then take ``joined``."""

    def __init__(
        self, link: Link, boxes: NDArray[np.float32], confidences: NDArray[np.float32], vectors: NDArray[np.float32]
    ) -> None:
        self._link = link
        self._boxes = boxes
        self._confidences = confidences
        self._vectors = vectors
        self._tracks: list[Track] = []

    def see(self, frame: int, look: NDArray[np.intp]) -> None:
        """Link the detections of one frame, given as indices."""
        live = [track for track in self._tracks if frame - track.frames[-1] <= self._link.lost]
        sure = self._confidences[look] >= self._link.confident
        new = self._assign(frame, live, look[sure])
        # What is left of the others is noise more often than somebody new.
        self._assign(frame, [track for track in live if track.frames[-1] != frame], look[~sure])
        self._tracks += [Track([index], [frame]) for index in new]

    def joined(self) -> list[Track]:
        """The tracks, with pieces of one person put together: the most alike first, never two at one time."""
        tracks = sorted(self._tracks, key=lambda track: track.frames[0])
        while len(tracks) > 1:
            means = np.stack([self._mean(track.members) for track in tracks])
            starts = np.array([track.frames[0] for track in tracks])
            waits = starts[None, :] - np.array([track.frames[-1] for track in tracks])[:, None]
            cosines = np.where((waits > 0) & (waits <= self._link.rejoin), means @ means.T, -1)
            first, second = np.unravel_index(np.argmax(cosines), cosines.shape)
            if cosines[first, second] < self._link.same_cosine:
                break
            earlier, later = tracks[int(first)], tracks.pop(int(second))
            earlier.members += later.members
            earlier.frames += later.frames
        return tracks

    def _assign(self, frame: int, tracks: list[Track], look: NDArray[np.intp]) -> list[int]:
        """Continue tracks by detections; the indices that continue none."""
        if not tracks or not len(look):
            return [int(index) for index in look]
        from scipy.optimize import linear_sum_assignment

        scores = np.stack([self._scores(track, frame, look) for track in tracks])
        rows, columns = linear_sum_assignment(-scores)
        free = {int(index) for index in look}
        for row, column in zip(rows, columns, strict=True):
            if scores[row, column] > 0:
                tracks[row].members.append(int(look[column]))
                tracks[row].frames.append(frame)
                free.discard(int(look[column]))
        return [int(index) for index in look if int(index) in free]

    def _scores(self, track: Track, frame: int, look: NDArray[np.intp]) -> NDArray[np.float32]:
        """How well each detection continues a track: overlap plus likeness, 0 where it cannot."""
        place = self._predicted(track, frame)
        boxes = self._boxes[look]
        overlaps = overlap(place, boxes)
        centre = place[:2] + place[2:] / 2
        apart = np.linalg.norm(boxes[:, :2] + boxes[:, 2:] / 2 - centre, axis=1) / np.sqrt(place[2] * place[3])
        scale = np.maximum(boxes[:, 3] / place[3], place[3] / boxes[:, 3])
        cosines = self._vectors[look] @ self._mean(track.members[-REMEMBERED:])
        alike = cosines >= self._link.same_cosine
        near = (overlaps >= MIN_OVERLAP) | ((apart < 1.5) & alike)
        # The less they overlap, the more alike they have to be: somebody else may come to the same place.
        needed = self._link.same_cosine - overlaps * (self._link.same_cosine - self._link.other_cosine)
        possible = near & (scale < 2) & (cosines >= needed)
        scores: NDArray[np.float32] = np.where(possible, 1 + overlaps + 2 * cosines, 0).astype(np.float32)
        return scores

    def _predicted(self, track: Track, frame: int) -> NDArray[np.float32]:
        """The box now, if it went on as over its last sightings; sizes stay."""
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


def overlap(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of one box with each of ``boxes`` float32[n, 4]; 0 to 1."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    union = box[2] * box[3] + boxes[:, 2] * boxes[:, 3] - shared
    shares: NDArray[np.float32] = np.asarray(shared / np.maximum(union, 1e-9), np.float32)
    return shares
