"""Transitions and shots: the windows of thumbnails that shots/cuts takes, and shots from its probabilities.

A frame is judged in the window of 100 frames that has it among its middle 50, as in TransNetV2's own code
(https://github.com/soCzech/TransNetV2). Windows begin 25 frames before each multiple of 50, wherever a caller begins,
so the probabilities of a frame do not depend on the requested range::

    begin, end = frames_needed(start, stop, frame_count)     # up to 74 frames before start, 74 behind stop - 1
    windows = Windows(start)
    for frame, picture in reader.pictures(begin, end):
        for window in windows.add(frame, reader.pixels(picture, THUMBNAIL, "BICUBIC")):
            window.write(answer_of("shots/cuts", window.thumbnails), probabilities)
    for window in windows.flush():                             # only where the video ends
        window.write(...)
    changes = transitions(probabilities, threshold, sudden)  # sudden: vision.shots.hard_cuts of the same video
    result = shots(changes, frame_count)

Only the thumbnails of one window are kept, 0.4 MB.
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidInput
from vision.images import Pixels

THUMBNAIL: Final = (48, 27)
"""(width, height) in pixels, for every aspect ratio."""
WINDOW: Final = 100
STRIDE: Final = 50
MARGIN: Final = 25
"""Frames on either side of a window that only give context to those in its middle."""
THRESHOLD: Final = 0.5
LONGEST_CUT: Final = 2
"""Longest cut in frames: the last one of the old shot, and one that may be mixed."""

TRACE: Final = 0.04
"""Share of the threshold that confirms a cut detected by another measure."""
NEAR: Final = 2
"""Frames by which two measures may differ about the same cut."""

STILL: Final = 3.0
"""Grey levels by which a part of the picture may differ in a still shot. Of windows that differ by less, TransNetV2
rated no frame above 0.06; where one was rated above 0.1, a part of the picture changed by 12 or more."""
STILL_SHARE: Final = 0.2
"""And that, as a share of the standard deviation of the picture: a cut between dark shots is small, too."""
STILL_MARGIN: Final = 10
"""Frames on either side of the middle of a window that have to be as still."""
STILL_AT_MOST: Final = 0.1
"""Thresholds from which on a still window has no transition."""
AROUND: Final = slice(MARGIN - STILL_MARGIN, MARGIN + STRIDE + STILL_MARGIN)

Probabilities = NDArray[np.float32]
"""float32[n, 2], 0 to 1: the probabilities that a frame is the middle of a transition, and any frame of one."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A window of frames; ``thumbnails``: uint8[100, 27, 48, 3]; ``start``: the first of the 50 frames in its
    middle."""

    start: int
    thumbnails: Pixels

    def write(self, answer: Probabilities, probabilities: Probabilities) -> None:
        """Write the middle of an answer, float32[100, 2], into the probabilities of all frames of the video."""
        stop = min(self.start + STRIDE, len(probabilities))
        probabilities[self.start : stop] = answer[MARGIN : MARGIN + stop - self.start]


def frames_needed(start: int, stop: int, frame_count: int) -> tuple[int, int]:
    """Return the range of frames, end excluded, that the windows of the frames ``start`` to ``stop - 1`` need."""
    first = start // STRIDE * STRIDE - MARGIN
    last = -(-stop // STRIDE) * STRIDE + MARGIN
    return max(0, first), min(frame_count, last)


class Windows:
    """Cuts thumbnails that come in order into windows.

    A missing frame, because it is damaged, is replaced by the next one; before the first frame of the video the first
    is repeated, after the last the last. Windows inside a gap, which repeat one frame, are left out: nothing changes in
    them. With ``skip_still`` so are those in whose middle, and ``STILL_MARGIN`` frames around it, nothing changes (see
    ``is_still``): TransNetV2 rates none of their frames above ``STILL_AT_MOST``.
    """

    def __init__(self, start: int = 0, *, skip_still: bool = False) -> None:
        """``start``: a frame in the middle of the first window."""
        self._skip_still = skip_still
        self._next = start // STRIDE * STRIDE
        self._held: deque[Pixels] = deque()

    def add(self, frame: int, thumbnail: Pixels) -> tuple[Window, ...]:
        """Return the windows that are now complete; ``thumbnail``: uint8 (27, 48, 3). Earlier frames are ignored."""
        missing = frame - (self._next - MARGIN + len(self._held))
        if missing < 0:
            return ()
        # A copy, so that two frames are the same object only when one replaces the other.
        self._held.extend([thumbnail.copy()] * (missing + 1))
        return tuple(self._complete())

    def flush(self) -> tuple[Window, ...]:
        """Return the last windows, after the last frame of the video."""
        windows = []
        while len(self._held) > MARGIN:
            window = self._window()
            if not self._skips(window):
                windows.append(window)
        return tuple(windows)

    def _complete(self) -> Iterator[Window]:
        while len(self._held) >= WINDOW:
            gap = all(thumbnail is self._held[0] for thumbnail in islice(self._held, WINDOW))
            window = self._window()
            if not gap and not self._skips(window):
                yield window

    def _skips(self, window: Window) -> bool:
        return self._skip_still and is_still(window.thumbnails[AROUND])

    def _window(self) -> Window:
        thumbnails = list(islice(self._held, WINDOW))
        thumbnails += [thumbnails[-1]] * (WINDOW - len(thumbnails))
        window = Window(self._next, np.stack(thumbnails))
        for _ in range(min(STRIDE, len(self._held))):
            self._held.popleft()
        self._next += STRIDE
        return window


def is_still(thumbnails: Pixels) -> bool:
    """Return whether nothing changes in frames, uint8 (n, 27, 48, 3), but for noise.

    Of eighteen parts of the picture, the mean difference of each frame from the middle one is at most ``STILL``, in the
    darkest and flattest pictures a fifth of their contrast; that from one frame to the next at most half of it.
    """
    frames = thumbnails.astype(np.int16)
    middle = frames[len(frames) // 2]
    most = min(STILL, STILL_SHARE * float(middle.std()))
    return bool(_largest(np.diff(frames, axis=0)) <= most / 2 and _largest(frames - middle) <= most)


def _largest(differences: NDArray[np.int16]) -> float:
    """Return the largest mean of absolute differences, (n, 27, 48, 3), over a part of a picture; 0 without any."""
    parts = np.abs(differences).reshape(-1, 3, THUMBNAIL[1] // 3, 6, THUMBNAIL[0] // 6, 3).mean((2, 4, 5))
    return float(parts.max(initial=0.0))


@dataclass(frozen=True, slots=True)
class Transition:
    """The transition from one shot to the next.

    ``first_frame``: the last frame that shows the old shot alone; ``last_frame``: the first that shows the new one
    alone, at a cut the next frame; ``shot_start``: the first frame that counts to the new shot, between them at a
    gradual transition; ``probability``: TransNetV2's highest, 0 to 1, below the threshold at a cut that another measure
    detected.
    """

    first_frame: int
    last_frame: int
    shot_start: int
    kind: Literal["cut", "gradual"]
    probability: float


@dataclass(frozen=True, slots=True)
class Shot:
    """Frames ``start_frame`` to ``end_frame``, both included. Those from ``steady_start`` to ``steady_end`` are outside
    of transitions, for the choice of a keyframe; one frame in the middle when there are none."""

    start_frame: int
    end_frame: int
    steady_start: int
    steady_end: int


def transitions(
    probabilities: Probabilities, threshold: float = THRESHOLD, sudden: Sequence[int] = ()
) -> list[Transition]:
    """Return the transitions of a video, in order.

    There is one wherever the first probability is above the threshold, as in TransNetV2's own code; frames around it
    whose second probability is above the threshold too, or above one half, belong to it. ``sudden`` are first frames of
    shots by another measure, such as ``vision.shots.hard_cuts``: TransNetV2 often rates a cut between shots of similar
    colours just below any useful threshold, so there ``TRACE`` of the threshold is enough. Raises InvalidInput unless
    the threshold is between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise InvalidInput(f"The threshold of shot detection has to be between 0 and 1, not {threshold:g}.")
    single, any_of_one = probabilities.T
    middles = _middles(single, threshold, sudden)
    extents = _runs(any_of_one > min(threshold, THRESHOLD))
    result = []
    for number, (first, last) in enumerate(middles):
        middle = first + int(single[first : last + 1].argmax())
        # A run that covers several middles is divided between them.
        low = (middles[number - 1][1] + first) // 2 + 1 if number else 0
        high = (last + middles[number + 1][0]) // 2 if number + 1 < len(middles) else len(probabilities) - 1
        around = [extent for extent in extents if extent[0] <= last and extent[1] >= first]
        start = max(low, min([first, *(extent[0] for extent in around)]))
        stop = min(high, max([last, *(extent[1] for extent in around)]))
        if middle + 1 < len(probabilities):
            result.append(
                Transition(
                    first_frame=start,
                    last_frame=min(stop + 1, len(probabilities) - 1),
                    shot_start=middle + 1,
                    kind="cut" if stop - start < LONGEST_CUT else "gradual",
                    probability=float(single[middle]),
                )
            )
    return result


def _middles(single: NDArray[np.float32], threshold: float, sudden: Sequence[int]) -> list[tuple[int, int]]:
    """Return first and last frame of the middle of every transition, in order and disjoint.

    A run of frames above a low threshold may hold several cuts: it is divided at those that another measure detected.
    """
    runs = _runs(single > threshold)
    taken = np.array([frame for run in runs for frame in run], np.intp)
    cuts = set()
    for start in sudden:
        near = single[max(0, start - NEAR) : start + NEAR - 1]
        known = (np.abs(taken - (start - 1)) <= NEAR).any()
        if start > 0 and near.size and near.max() >= TRACE * threshold and not known:
            cuts.add(start - 1)
    middles = []
    for first, last in runs:
        inside = {cut for cut in cuts if first <= cut <= last}
        cuts -= inside
        if inside:
            highest = first + int(single[first : last + 1].argmax())
            apart = all(abs(cut - highest) > NEAR for cut in inside)
            middles += [(frame, frame) for frame in (inside | {highest} if apart else inside)]
        else:
            middles.append((first, last))
    return sorted([*middles, *((cut, cut) for cut in cuts)])


def is_decided(probabilities: Probabilities, margin: float, threshold: float = THRESHOLD) -> bool:
    """Return whether ``transitions`` are the same by exact probabilities as by these, float32[n, 2] of frames in a row.

    The logits of these may be off by ``margin``, and so may those of the frames before and after them, where they are
    decided as well. At none of the frames does another measure see the start of a shot; it may at the next one.
    """
    logits = _logits(probabilities)
    single, any_of_one = logits.T
    middle, trace, part = _logits(np.array([threshold, TRACE * threshold, min(threshold, THRESHOLD)]))
    # The last ones are near a start in the frames that follow.
    if (np.abs(single - middle) < margin).any() or (np.abs(single[-NEAR:] - trace) < margin).any():
        return False
    for first, last in _runs(single > middle):
        highest = np.sort(single[first : last + 1])[-2:]
        # What goes on outside may have the highest one of it.
        if first == 0 or last == len(logits) - 1 or (last > first and highest[1] - highest[0] < 2 * margin):
            return False
    # The extent of a transition in these frames, or of one before or after them.
    return not any(
        (first == 0 or last == len(logits) - 1 or (single[first : last + 1] > middle).any())
        and (np.abs(any_of_one[first : last + 1] - part) < margin).any()
        for first, last in _runs(any_of_one > part - margin)
    )


def _logits(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    clipped = np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float64)


def shots(changes: Sequence[Transition], frame_count: int) -> list[Shot]:
    """Return the shots between transitions, in order and without gaps; one when there are none."""
    starts = [0, *(change.shot_start for change in changes)]
    ends = [*(start - 1 for start in starts[1:]), frame_count - 1]
    calm = [0, *(change.last_frame for change in changes)]
    until = [*(change.first_frame for change in changes), frame_count - 1]
    result = []
    for start, end, first, last in zip(starts, ends, calm, until, strict=True):
        steady = (first, last) if start <= first <= last <= end else ((start + end) // 2,) * 2
        result.append(Shot(start, end, *steady))
    return result


def joined(changes: Sequence[Transition], left_out: Collection[int]) -> list[Transition]:
    """Return the transitions of a video some shots of which are none, given by their numbers from 0.

    Their frames belong to the next shot at the beginning of the video, and to the one before them elsewhere, as a part
    of the transition to the next. Where no shot would be left all of them stay.
    """
    kept = [number for number in range(len(changes) + 1) if number not in left_out]
    if not kept:
        return list(changes)
    return [_across(changes[before:after]) for before, after in pairwise(kept)]


def _across(changes: Sequence[Transition]) -> Transition:
    """Return one transition in the place of those that follow each other."""
    first, last = changes[0], changes[-1]
    if first is last:
        return first
    return replace(
        last,
        first_frame=first.first_frame,
        kind="cut" if last.last_frame - 1 - first.first_frame < LONGEST_CUT else "gradual",
        probability=max(change.probability for change in changes),
    )


def _runs(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and last index of every run of marks."""
    edges = np.flatnonzero(np.diff(marked, prepend=False, append=False)).tolist()
    return [(start, stop - 1) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
