"""From thumbnails to shots: the windows that shots/cuts looks at, and what its probabilities say.

A frame is seen in the window of 100 frames that has it among its middle 50, as in TransNetV2's own code
(https://github.com/soCzech/TransNetV2). Windows begin 25 frames before every multiple of 50, wherever a caller begins,
so a frame's probabilities do not depend on what else was asked for::

    begin, end = frames_needed(start, stop, frame_count)     # up to 74 frames before start, 74 behind stop - 1
    windows = Windows(start)
    for frame, picture in reader.pictures(begin, end):
        for window in windows.see(frame, reader.pixels(picture, THUMBNAIL, "BICUBIC")):
            window.write(answer_of("shots/cuts", window.thumbnails), probabilities)
    for window in windows.end():                             # only where the video ends
        window.write(...)
    changes = transitions(probabilities, threshold, sudden)  # sudden: vision.shots.hard_cuts of the same video
    found = shots(changes, frame_count)

Only the thumbnails of one window are held, 0.4 MB.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidInput
from vision.images import Pixels

THUMBNAIL: Final = (48, 27)
"""(width, height) in pixels, whatever the shape of the video."""
WINDOW: Final = 100
STRIDE: Final = 50
MARGIN: Final = 25
"""Frames on either side of a window that are only looked at for those in its middle."""
THRESHOLD: Final = 0.5
LONGEST_CUT: Final = 2
"""Frames of a transition up to which it is a cut: the last of the old shot, and one that may be mixed."""

TRACE: Final = 0.04
"""Share of the threshold that confirms a cut found by another measure."""
NEAR: Final = 2
"""Frames that two measures may be apart about the same cut."""

Probabilities = NDArray[np.float32]
"""float32[n, 2], 0 to 1: that a frame is the middle of a transition, and that it is any frame of one."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """``thumbnails``: uint8[100, 27, 48, 3]; ``start``: number of the first of the 50 frames in its middle."""

    start: int
    thumbnails: Pixels

    def write(self, answer: Probabilities, probabilities: Probabilities) -> None:
        """Put the middle of an answer, float32[100, 2], in its place among those of all frames of the video."""
        stop = min(self.start + STRIDE, len(probabilities))
        probabilities[self.start : stop] = answer[MARGIN : MARGIN + stop - self.start]


def frames_needed(start: int, stop: int, frame_count: int) -> tuple[int, int]:
    """First frame, and the one behind the last, that the windows of the frames ``start`` to ``stop - 1`` need."""
    first = start // STRIDE * STRIDE - MARGIN
    last = -(-stop // STRIDE) * STRIDE + MARGIN
    return max(0, first), min(frame_count, last)


class Windows:
    """Cuts thumbnails that come in order into windows.

    A frame that does not come, because it is damaged, is taken to be as the next that does; before the first frame of
    the video all was as in the first, behind the last all is as in the last. Windows inside a gap, of one picture
    throughout, are left out: nothing changes in them.
    """

    def __init__(self, start: int = 0) -> None:
        """The first window is the one with the frame ``start`` in its middle."""
        self._next = start // STRIDE * STRIDE
        self._held: deque[Pixels] = deque()

    def see(self, frame: int, thumbnail: Pixels) -> tuple[Window, ...]:
        """The windows that are whole now; ``thumbnail``: uint8 (27, 48, 3). Frames before the first are not used."""
        missing = frame - (self._next - MARGIN + len(self._held))
        if missing < 0:
            return ()
        # A copy, so that two frames are the same object only where one stands for the other.
        self._held.extend([thumbnail.copy()] * (missing + 1))
        return tuple(self._whole())

    def end(self) -> tuple[Window, ...]:
        """The last windows, when there are no more frames in the video."""
        found = []
        while len(self._held) > MARGIN:
            found.append(self._window())
        return tuple(found)

    def _whole(self) -> Iterator[Window]:
        while len(self._held) >= WINDOW:
            still = all(thumbnail is self._held[0] for thumbnail in islice(self._held, WINDOW))
            window = self._window()
            if not still:
                yield window

    def _window(self) -> Window:
        thumbnails = list(islice(self._held, WINDOW))
        thumbnails += [thumbnails[-1]] * (WINDOW - len(thumbnails))
        window = Window(self._next, np.stack(thumbnails))
        for _ in range(min(STRIDE, len(self._held))):
            self._held.popleft()
        self._next += STRIDE
        return window


@dataclass(frozen=True, slots=True)
class Transition:
    """Where one shot makes way for the next.

    ``first_frame``: the last that shows the old shot alone; ``last_frame``: the first that shows the new one alone,
    which at a cut is the next frame; ``shot_start``: where the new shot begins to count, between them at a gradual
    transition; ``probability``: TransNetV2's highest, 0 to 1, below the threshold at a cut found by another measure.
    """

    first_frame: int
    last_frame: int
    shot_start: int
    kind: Literal["cut", "gradual"]
    probability: float


@dataclass(frozen=True, slots=True)
class Shot:
    """Frames ``start_frame`` to ``end_frame``, both of it. ``steady_start`` to ``steady_end`` are those of no
    transition, to take a key frame from; one frame in the middle where there are none."""

    start_frame: int
    end_frame: int
    steady_start: int
    steady_end: int


def transitions(
    probabilities: Probabilities, threshold: float = THRESHOLD, sudden: Sequence[int] = ()
) -> list[Transition]:
    """The transitions of a video, in order.

    There is one wherever the first probability is above the threshold, as in TransNetV2's own code; frames around it
    where the second is above the threshold too, or above one half, belong to it. ``sudden`` are first frames of shots
    by another measure, such as ``vision.shots.hard_cuts``: TransNetV2 often rates a cut between shots of the same
    colours just below any useful threshold, so there a trace of it, ``TRACE`` of the threshold, is enough. Raises
    InvalidInput unless the threshold is between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise InvalidInput(f"The threshold of shot detection has to be between 0 and 1, not {threshold:g}.")
    single, any_of_one = probabilities.T
    middles = _runs(single > threshold)
    taken = np.array([frame for run in middles for frame in run], np.intp)
    for start in sudden:
        near = single[max(0, start - NEAR) : start + NEAR - 1]
        found_already = (np.abs(taken - (start - 1)) <= NEAR).any()
        if start > 0 and near.size and near.max() >= TRACE * threshold and not found_already:
            middles.append((start - 1, start - 1))
    middles.sort()
    extents = _runs(any_of_one > min(threshold, THRESHOLD))
    found = []
    for number, (first, last) in enumerate(middles):
        middle = first + int(single[first : last + 1].argmax())
        # A run over several middles is shared between them.
        low = (middles[number - 1][1] + first) // 2 + 1 if number else 0
        high = (last + middles[number + 1][0]) // 2 if number + 1 < len(middles) else len(probabilities) - 1
        around = [extent for extent in extents if extent[0] <= last and extent[1] >= first]
        start = max(low, min([first, *(extent[0] for extent in around)]))
        stop = min(high, max([last, *(extent[1] for extent in around)]))
        if middle + 1 < len(probabilities):
            found.append(
                Transition(
                    first_frame=start,
                    last_frame=min(stop + 1, len(probabilities) - 1),
                    shot_start=middle + 1,
                    kind="cut" if stop - start < LONGEST_CUT else "gradual",
                    probability=float(single[middle]),
                )
            )
    return found


def shots(changes: Sequence[Transition], frame_count: int) -> list[Shot]:
    """The shots between these transitions, in order and without a gap; one where there are none."""
    starts = [0, *(change.shot_start for change in changes)]
    ends = [*(start - 1 for start in starts[1:]), frame_count - 1]
    calm = [0, *(change.last_frame for change in changes)]
    until = [*(change.first_frame for change in changes), frame_count - 1]
    found = []
    for start, end, first, last in zip(starts, ends, calm, until, strict=True):
        steady = (first, last) if start <= first <= last <= end else ((start + end) // 2,) * 2
        found.append(Shot(start, end, *steady))
    return found


def _runs(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last place of every row of marks."""
    edges = np.flatnonzero(np.diff(marked, prepend=False, append=False)).tolist()
    return [(start, stop - 1) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
