"""Which frames of a video are judged."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.shots.hard_cuts import LEAST, RATIO

REACH: Final = 3
"""Frames on either side of a chosen one that are compared with it, to find cuts."""
FOLLOW_S: Final = 10.0
"""Seconds in the middle of the video in which a face is followed."""
FOLLOW_RATE: Final = 10.0
"""Frames a second in which it is followed."""


def evenly(count: int, wanted: int) -> list[int]:
    """Return the middle frames of ``wanted`` equal parts of ``count`` frames, or all frames if they are fewer."""
    wanted = min(count, wanted)
    return [int((place + 0.5) * count / wanted) for place in range(wanted)]


def calm(changes: NDArray[np.float64], middle: int) -> int:
    """Return the place among neighbouring frames of the one to judge: ``middle``, or the nearest one not at a cut.

    ``changes``: of each frame from the one before, 0-1; that of the first is 0. A cut is a change far above the others;
    the frames on both sides of it are left out, as codecs smear them.
    """
    others = np.sort(changes)[:-1].mean() if len(changes) > 1 else 0.0
    cuts = np.flatnonzero((changes >= LEAST) & (changes >= RATIO * others))
    near = {place + side for place in cuts.tolist() for side in (-1, 0)}
    free = [place for place in range(len(changes)) if place not in near]
    return min(free, key=lambda place: (abs(place - middle), place)) if free else middle


def middle_frames(times: NDArray[np.float64]) -> tuple[int, int, int]:
    """Return first frame, frame behind the last, and step of the frames in which a face is followed."""
    end = float(times[-1])
    start = max(0.0, end / 2 - FOLLOW_S / 2)
    first, behind = np.searchsorted(times, [start, start + FOLLOW_S], side="left")
    seconds = float(times[behind - 1] - times[first])
    rate = (behind - first - 1) / seconds if seconds > 0 else 0.0
    return int(first), int(behind), max(1, round(rate / FOLLOW_RATE))
