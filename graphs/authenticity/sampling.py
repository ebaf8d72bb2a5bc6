"""Which frames of a video are looked at."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.shots.hard_cuts import LEAST, RATIO

REACH: Final = 3
"""Frames on either side of a chosen one that are compared, to see whether there is a cut."""
WATCH_S: Final = 10.0
WATCH_RATE: Final = 10.0
"""The stretch in which a face is followed, in the middle of the video, and looks a second in it."""


def evenly(count: int, wanted: int) -> list[int]:
    """The middle frames of so many equal parts of a video of ``count`` frames; all frames of a shorter one."""
    wanted = min(count, wanted)
    return [int((place + 0.5) * count / wanted) for place in range(wanted)]


def calm(changes: NDArray[np.float64], middle: int) -> int:
    """The place in a row of frames to look at: ``middle``, or the nearest one off a cut.

    ``changes``: of each frame from the one before, 0-1; that of the first is 0. A cut is a change far above the others;
    the frames on both sides of it are left out, as codecs smear them.
    """
    others = np.sort(changes)[:-1].mean() if len(changes) > 1 else 0.0
    cuts = np.flatnonzero((changes >= LEAST) & (changes >= RATIO * others))
    near = {place + side for place in cuts.tolist() for side in (-1, 0)}
    free = [place for place in range(len(changes)) if place not in near]
    return min(free, key=lambda place: (abs(place - middle), place)) if free else middle


def stretch(times: NDArray[np.float64]) -> tuple[int, int, int]:
    """First frame, frame behind the last, and step of the stretch in which a face is followed."""
    end = float(times[-1])
    start = max(0.0, end / 2 - WATCH_S / 2)
    first, behind = np.searchsorted(times, [start, start + WATCH_S], side="left")
    seconds = float(times[behind - 1] - times[first])
    rate = (behind - first - 1) / seconds if seconds > 0 else 0.0
    return int(first), int(behind), max(1, round(rate / WATCH_RATE))
