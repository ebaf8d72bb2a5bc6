"""Links the object detections of a video over time into tracks of one object each.

Two rounds as in ByteTrack (Zhang et al. 2022, https://arxiv.org/abs/2110.06864): sure detections first, the others with
what is left; the assignment is solved exactly (Hungarian method, SciPy). Objects have no vector to be known by, and are
sampled a few times a second, so boxes that follow each other may not overlap: what is compared is the overlap less the
distance of the centres (DIoU, Zheng et al. 2020, https://arxiv.org/abs/1911.08287) from where the track is expected by
its velocity. A track has one class and ends at a cut.

As the whole video is there, what is hidden for a while is found again by where both parts of its way point to, and what
is too quick to be followed from one sample to the next by three sightings in a line. Where the movement of the camera
is known, ways are those in the scene, if more of them go on there than in the picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidInput
from vision.shots.movement import MEASURED, Motion, Motions

Array = NDArray[np.float64]

SURE: Final = 0.5
"""Least confidence of a detection that begins a track."""
LOST_S: Final = 1.0
"""Longest time without a sighting in which a track goes on with whatever is where it is expected."""
TURNED_S: Final = 0.5
"""Longest time without a sighting in which it goes on with what is where it was last."""
JOINED_S: Final = 4.0
"""Longest time without a sighting in a track; what is hidden for longer comes back as another."""
LEAST: Final = 2
"""Sightings of a track; a single one is a false detection more often than not."""
NEAR: Final = -0.25
"""Least DIoU of a detection and where its track is expected: two boxes of one size side by side have -0.2."""
NEAR_LAST: Final = -0.32
"""Least DIoU of a detection and where its track was last, for what has turned: one and a half widths away."""
NEAR_UNSURE: Final = 0.1
NEAR_LOST: Final = 0.1
"""Least DIoU where a track was not seen for longer than ``LOST_S``."""
UNLIKE: Final = 0.3
"""What DIoU loses for a box of another size, by the logarithm of how much wider and higher one is than the other."""
DOUBLE: Final = 0.7
"""Intersection over union with another detection of its class from which on one begins no track: it is the same object
once more, as one that is hidden so far by another is hardly found."""
GROWN: Final = 2.0
"""Most that one side of a box may grow or shrink from one sighting to the next."""
BACK: Final = 3
"""Sightings that a velocity is taken over."""
ASTRAY: Final = 1.2
"""How far two parts of a track may point past each other, in sides of its box, ..."""
ASTRAY_A_SECOND: Final = 0.8
"""... and how much farther for each second between them."""
QUICK_S: Final = 0.75
"""Longest time from one of three sightings in a line to the next."""
QUICK_SIDES: Final = 5.0
"""Longest way from one of them to the next, in sides of the box."""
FARTHEST: Final = 100.0
"""Magnification by which a camera may zoom, in or out, before its path begins anew."""
QUICK_ASTRAY: Final = 0.5
"""How far the third may be from the line of the others, in sides."""
MOST_LINES: Final = 20
"""Lines through one sighting that are looked at: among very many, none means anything."""
MOST_TOGETHER: Final = 400
"""Tracks that are joined for the largest sum of gains, which takes time with the third power of their number."""


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


@dataclass(frozen=True, slots=True, eq=False)
class CameraPath:
    """Where the scene is in each frame: a point of it is at ``scales * point + shifts``, in pixels.

    ``scales`` float64[frames], ``shifts`` float64[frames, 2]; ``size``: (width, height) of the picture.
    """

    scales: Array
    shifts: Array
    size: tuple[int, int]

    @classmethod
    def of(
        cls,
        motions: Motions,
        moved_from: NDArray[np.int64],
        moved: NDArray[np.int64],
        cuts: Sequence[int],
        frames: int,
        size: tuple[int, int],
    ) -> "CameraPath":
        """Return it from rows of motion from some frames to others, in order; what was not measured is no motion.

        It begins anew at the first frame of each shot, and where a zoom has gone on for very long.
        """
        rows = np.where(motions[:, [Motion.INLIERS]] >= MEASURED, motions, 0).astype(np.float64)
        middle = np.array(size) / 2
        grown = np.exp(rows[:, Motion.SCALE])
        moves = rows[:, [Motion.DX, Motion.DY]] * size + (1 - grown)[:, None] * middle
        anew = np.searchsorted(cuts, moved_from, "right") != np.searchsorted(cuts, moved, "right")
        scale, shift = 1.0, np.zeros(2)
        known = [(0, 0.0, 0.0, 0.0)]
        for row, (first, last) in enumerate(zip(moved_from.tolist(), moved.tolist(), strict=True)):
            if first > known[-1][0]:  # what comes after something that was never sampled
                known.append((first, *known[-1][1:]))
            scale, shift = scale * grown[row], shift * grown[row] + moves[row]
            if anew[row] or not 1 / FARTHEST < scale < FARTHEST:
                scale, shift = 1.0, np.zeros(2)
            known.append((last, float(np.log(scale)), float(shift[0]), float(shift[1])))
        places, logs, xs, ys = np.array(known).T
        path = [np.interp(np.arange(frames), places, each) for each in (logs, xs, ys)]
        return cls(np.exp(path[0]), np.stack(path[1:], -1), size)

    def into_scene(self, boxes: Array, frames: NDArray[np.int64]) -> Array:
        """Return boxes [n, 4] of these frames as they are in the scene."""
        scales = self.scales[frames, None]
        return np.concatenate([(boxes[:, :2] - self.shifts[frames]) / scales, boxes[:, 2:] / scales], -1)

    def into_picture(self, boxes: Array, frames: NDArray[np.int64]) -> Array:
        """Return boxes [n, 4] of the scene as they are in these frames, cut at the edges; at least a pixel remains."""
        scales = self.scales[frames, None]
        starts = boxes[:, :2] * scales + self.shifts[frames]
        ends = np.clip(starts + boxes[:, 2:] * scales, 1, self.size)
        starts = np.clip(starts, 0, ends - 1)
        return np.concatenate([starts, ends - starts], -1)


@dataclass(slots=True)
class _Open:
    """A track so far: indices of its detections, and their times in seconds."""

    members: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def __add__(self, later: "_Open") -> "_Open":
        return _Open(self.members + later.members, self.times + later.times)


class _Seen:
    """Detections as their ways are followed: ``boxes`` float64[n, 4] of the whole video, and their ``centres``."""

    def __init__(self, boxes: Array, sure: NDArray[np.bool_]) -> None:
        self.boxes, self.sure = boxes, sure
        self.centres: Array = boxes[:, :2] + boxes[:, 2:] / 2

    def velocity(self, track: _Open, *, last: bool = True) -> Array | None:
        """Return pixels a second over the last sightings, or over the first ones; None for a single one."""
        back = min(len(track.members), BACK)
        if back < LEAST:
            return None
        one, other = (-back, -1) if last else (0, back - 1)
        way = self.centres[track.members[other]] - self.centres[track.members[one]]
        velocity: Array = way / (track.times[other] - track.times[one])
        return velocity

    def expected(self, tracks: Sequence[_Open], time: float) -> Array:
        """Return the boxes of tracks, [n, 4], at this time by their velocities; their sizes stay."""
        lasts = [track.members[-1] for track in tracks]
        backs = [min(len(track.members), BACK) for track in tracks]
        places = self.boxes[lasts]
        befores = [track.members[-back] for track, back in zip(tracks, backs, strict=True)]
        spans = [track.times[-1] - track.times[-back] or 1.0 for track, back in zip(tracks, backs, strict=True)]
        later = [time - track.times[-1] for track in tracks]
        places[:, :2] += (self.centres[lasts] - self.centres[befores]) * np.divide(later, spans)[:, None]
        return places


def track_objects(
    detections: ObjectDetections, cuts: Sequence[int], times: Array, camera: CameraPath | None = None
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
    boxes, sure = detections.boxes.astype(np.float64), detections.confidences >= SURE
    ways: list[tuple[CameraPath | None, _Seen]] = [(None, _Seen(boxes, sure))]
    if camera is not None:
        ways.append((camera, _Seen(camera.into_scene(boxes, frames), sure)))
    kept = []
    for shot in np.split(np.arange(len(frames)), np.searchsorted(frames, cuts)):
        followed = [(path, _followed(seen, detections, shot, times)) for path, seen in ways]
        path, tracks = max(followed, key=lambda each: _going_on(each[1]))
        kept += [_track(track, detections, path) for track in tracks]
    return tuple(sorted(kept, key=lambda track: (int(track.frames[0]), track.class_index, float(track.boxes[0, 0]))))


def _going_on(tracks: Sequence[_Open]) -> int:
    """Return from how many sightings tracks go on to another."""
    return sum(len(track.members) - 1 for track in tracks)


def _followed(seen: _Seen, detections: ObjectDetections, shot: NDArray[np.intp], times: Array) -> list[_Open]:
    """Return the tracks of a shot, whose detections are given as indices."""
    kept = []
    for class_index in np.unique(detections.classes[shot]).tolist():
        own = shot[detections.classes[shot] == class_index]
        tracks, live = list[_Open](), list[_Open]()
        for group in np.split(own, np.flatnonzero(np.diff(detections.frames[own])) + 1):
            time = float(times[detections.frames[group[0]]])
            live = [track for track in live if time - track.times[-1] <= JOINED_S]
            begun = _update(live, seen, group, time)
            live += begun
            tracks += begun
        kept += [track for track in _joined(_lined_up(tracks, seen), seen) if len(track.members) >= LEAST]
    return kept


def _update(tracks: Sequence[_Open], seen: _Seen, group: NDArray[np.intp], time: float) -> list[_Open]:
    """Link the detections of one class in one frame, given as indices, to tracks; return those that the rest begin."""

    def unseen(longest: float) -> list[_Open]:
        return [each for each in tracks if 0 < time - each.times[-1] <= longest]

    sure = seen.sure[group]
    left = _assign(unseen(JOINED_S), seen, group[sure], time, NEAR)
    left = _assign(unseen(TURNED_S), seen, left, time, NEAR_LAST, turned=True)
    _assign(unseen(LOST_S), seen, group[~sure], time, NEAR_UNSURE)
    taken = [index for index in group[sure].tolist() if index not in left]
    begun = []
    for index in left.tolist():
        if not taken or overlaps(seen.boxes[[index]], seen.boxes[taken]).max() < DOUBLE:
            begun.append(_Open([index], [time]))
            taken.append(index)
    return begun


def _assign(
    tracks: list[_Open], seen: _Seen, own: NDArray[np.intp], time: float, least: float, *, turned: bool = False
) -> NDArray[np.intp]:
    """Continue tracks by detections; return the indices of those that continue none.

    ``turned``: tracks are expected where they were last.
    """
    if not tracks or not len(own):
        return own
    from scipy.optimize import linear_sum_assignment

    lasts = seen.boxes[[track.members[-1] for track in tracks]]
    places = lasts if turned else seen.expected(tracks, time)
    boxes, sizes = seen.boxes[own], lasts[:, None, 2:]
    ratios = np.maximum(boxes[None, :, 2:] / sizes, sizes / boxes[None, :, 2:])
    likeness = distance_iou(places, boxes) - UNLIKE * np.log(ratios).sum(-1)
    gone = np.array([time - track.times[-1] for track in tracks])
    leasts = np.where(gone > LOST_S, max(least, NEAR_LOST), least)[:, None]
    # From nobody's continuation nothing is gained: what is too far away counts as exactly the least.
    gains = np.where((likeness >= leasts) & (ratios.max(-1) <= GROWN), likeness - least + 1e-6, 0.0)
    free = np.ones(len(own), np.bool_)
    for row, column in zip(*linear_sum_assignment(-gains), strict=True):
        if gains[row, column] > 0:
            tracks[row].members.append(int(own[column]))
            tracks[row].times.append(time)
            free[column] = False
    return own[free]


def _lined_up(tracks: list[_Open], seen: _Seen) -> list[_Open]:
    """Return the tracks, by their starts, in which single sightings that lie in a line, three at a time, are one."""
    singles = [track for track in tracks if len(track.members) == 1]
    if len(singles) <= LEAST:
        return tracks
    members = np.array([track.members[0] for track in singles])
    moments, centres = np.array([track.times[0] for track in singles]), seen.centres[members]
    sides = np.sqrt(seen.boxes[members, 2:].prod(-1))
    begins, ends = np.searchsorted(moments, moments - QUICK_S), np.searchsorted(moments, moments + QUICK_S, "right")
    befores, afters = np.searchsorted(moments, moments), np.searchsorted(moments, moments, "right")

    def steps(middle: int, others: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return those that what is seen in the middle can come from, or get to."""
        ratios, ways = sides[others] / sides[middle], np.linalg.norm(centres[others] - centres[middle], axis=-1)
        alike = np.maximum(ratios, 1 / ratios) <= GROWN
        near = ways <= QUICK_SIDES * np.minimum(sides[others], sides[middle])
        possible: NDArray[np.intp] = others[alike & near]
        return possible

    found = []
    for middle in range(len(singles)):
        firsts = steps(middle, np.arange(begins[middle], befores[middle]))
        thirds = steps(middle, np.arange(afters[middle], ends[middle]))
        velocities = (centres[middle] - centres[firsts]) / (moments[middle] - moments[firsts])[:, None]
        expected = centres[middle] + velocities[:, None] * (moments[thirds] - moments[middle])[:, None]
        astray = np.linalg.norm(expected - centres[thirds], axis=-1) / sides[middle]
        lines = np.argwhere(astray <= QUICK_ASTRAY)
        spans, misses = moments[thirds[lines[:, 1]]] - moments[firsts[lines[:, 0]]], astray[*lines.T]
        for line in np.lexsort((misses, spans))[:MOST_LINES].tolist():
            first, third = lines[line]
            found.append((spans[line], misses[line], int(firsts[first]), middle, int(thirds[third])))
    after, before = dict[int, int](), dict[int, int]()
    for _, _, *line in sorted(found):  # the closest in time first, or a line would leave out every other one
        if all(after.get(one, other) == other and before.get(other, one) == one for one, other in pairwise(line)):
            for one, other in pairwise(line):
                after[one], before[other] = other, one
    whole = [*(track for track in tracks if len(track.members) > 1), *_chained(singles, after)]
    return sorted(whole, key=lambda track: track.times[0])


def _joined(tracks: Sequence[_Open], seen: _Seen) -> list[_Open]:
    """Return the tracks, given in the order of their starts, in which those that point to each other are one."""
    starts = np.array([track.times[0] for track in tracks])
    ways = _Ways(tracks, seen)
    pairs = list[NDArray[np.intp]]()
    gains = list[Array]()
    for one, track in enumerate(tracks):
        span = [track.times[-1], track.times[-1] + JOINED_S]
        others = np.arange(*np.searchsorted(starts, span, "right"))
        gain = ways.pointing(one, others, starts[others] - track.times[-1])
        pairs.append(np.stack([np.full_like(others, one), others], -1)[gain > 0])
        gains.append(gain[gain > 0])
    if not any(map(len, pairs)):
        return list(tracks)
    return _chained(tracks, _matched(np.concatenate(pairs), np.concatenate(gains), len(tracks)))


def _chained(tracks: Sequence[_Open], after: Mapping[int, int]) -> list[_Open]:
    """Return the tracks, those that come after others joined to them."""
    result = []
    for start in sorted(set(range(len(tracks))) - set(after.values())):
        whole, place = tracks[start], start
        while place in after:
            place = after[place]
            whole = whole + tracks[place]
        result.append(whole)
    return result


def _matched(pairs: NDArray[np.intp], gains: Array, count: int) -> dict[int, int]:
    """Return which track comes after which, each once, for the largest sum of gains.

    Tracks that are connected by pairs are solved together; where these are very many, the best pair goes first.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1] + count)), shape=(2 * count, 2 * count))
    _, parts = connected_components(graph, directed=False)
    order = np.argsort(parts[pairs[:, 0]], kind="stable")
    after = dict[int, int]()
    for own in np.split(order, np.flatnonzero(np.diff(parts[pairs[order, 0]])) + 1):
        rows, row = np.unique(pairs[own, 0], return_inverse=True)
        columns, column = np.unique(pairs[own, 1], return_inverse=True)
        if max(len(rows), len(columns)) > MOST_TOGETHER:
            taken = set[int]()
            for one, other in pairs[own[np.argsort(-gains[own], kind="stable")]].tolist():
                if one not in after and other not in taken:
                    after[one] = other
                    taken.add(other)
            continue
        table = np.zeros((len(rows), len(columns)))
        table[row, column] = gains[own]
        for one, other in zip(*linear_sum_assignment(-table), strict=True):
            if table[one, other] > 0:
                after[int(rows[one])] = int(columns[other])
    return after


class _Ways:
    """Where tracks come from and lead to: velocities at both ends, in pixels a second, NaN of single sightings."""

    def __init__(self, tracks: Sequence[_Open], seen: _Seen) -> None:
        unknown = np.full(2, np.nan)
        firsts, lasts = ([track.members[end] for track in tracks] for end in (0, -1))
        self._starts, self._ends = seen.centres[firsts], seen.centres[lasts]
        self._first_sizes, self._last_sizes = seen.boxes[firsts, 2:], seen.boxes[lasts, 2:]
        velocities = ([seen.velocity(track, last=last) for track in tracks] for last in (False, True))
        self._from, self._to = (
            np.array([unknown if each is None else each for each in ends]).reshape(-1, 2) for ends in velocities
        )

    def pointing(self, one: int, others: NDArray[np.intp], gaps: Array) -> Array:
        """Return how well the way of a track leads to others, seen so many seconds later, and theirs back to it.

        0 where it does not, up to 1.
        """
        start, ends = self._ends[one], self._starts[others]
        sizes, later = self._last_sizes[one], self._first_sizes[others]
        ratios = np.maximum(sizes / later, later / sizes)
        velocities = np.stack([np.broadcast_to(self._to[one], ends.shape), self._from[others]])
        misses = np.linalg.norm(start + velocities * gaps[:, None] - ends, axis=-1)
        known = ~np.isnan(misses)
        miss = np.where(known, misses, 0).sum(0) / np.maximum(known.sum(0), 1)
        sides = (np.sqrt(sizes.prod(-1)) + np.sqrt(later.prod(-1))) / 2
        astray = miss / sides / (ASTRAY + ASTRAY_A_SECOND * gaps)
        gains = np.maximum(0, 1 - astray - UNLIKE * np.log(ratios).sum(-1))
        return np.where(known.any(0) & (ratios.max(-1) <= GROWN), gains, 0)


def overlaps(first: Array, second: Array) -> Array:
    """Return the intersection over union of all pairs of boxes [n, 4] and [m, 4] as x, y, width, height."""
    one, other = first[:, None], second[None]
    ends = np.minimum(one[..., :2] + one[..., 2:], other[..., :2] + other[..., 2:])
    shared = np.clip(ends - np.maximum(one[..., :2], other[..., :2]), 0, None).prod(-1)
    result: Array = shared / (one[..., 2:].prod(-1) + other[..., 2:].prod(-1) - shared)
    return result


def distance_iou(first: Array, second: Array) -> Array:
    """Return the DIoU of all pairs of boxes [n, 4] and [m, 4] as x, y, width, height: -1 far apart, 1 the same."""
    one, other = first[:, None], second[None]
    one_end, other_end = one[..., :2] + one[..., 2:], other[..., :2] + other[..., 2:]
    around = np.maximum(one_end, other_end) - np.minimum(one[..., :2], other[..., :2])
    apart = (one[..., :2] + one[..., 2:] / 2) - (other[..., :2] + other[..., 2:] / 2)
    result: Array = overlaps(first, second) - (apart**2).sum(-1) / (around**2).sum(-1)
    return result


def _track(track: _Open, detections: ObjectDetections, camera: CameraPath | None) -> ObjectTrack:
    """Return a track with a box in every frame from its first sighting to its last."""
    members = np.array(track.members)
    seen = detections.frames[members]
    frames = np.arange(seen[0], seen[-1] + 1)
    boxes = detections.boxes[members].astype(np.float64)
    between = boxes if camera is None else camera.into_scene(boxes, seen)
    places = np.stack([np.interp(frames, seen, column) for column in between.T], axis=1)
    if camera is not None:
        places = camera.into_picture(places, frames)
        places[seen - seen[0]] = boxes
    confidences = np.interp(frames, seen, detections.confidences[members])
    return ObjectTrack(
        int(detections.classes[members[0]]),
        frames,
        places.astype(np.float32),
        confidences.astype(np.float32),
        np.isin(frames, seen),
    )
