"""Choice of the keyframe of a shot: the sharpest frame near its middle."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

MIDDLE: Final = 0.5
"""Share of the shot around its middle in which the position of a frame does not matter."""
PULL: Final = 0.5
"""Weight of a frame at the very end of a shot, relative to an equally sharp one in the middle."""
BLANK: Final = 6.0
"""Standard deviation of the grey levels of a frame below which nothing is to be seen in it."""


class Candidate(NamedTuple):
    """A frame that may become the keyframe: its number in the video, and its ``sharpness``."""

    frame: int
    sharpness: float


def sharpness(grey: NDArray[np.uint8]) -> float:
    """Return the variance of the 3x3 Laplacian of a small grey frame, uint8 (h, w), over the variance of its grey
    values.

    From 0, higher is sharper; 0 for a frame of one colour. The first is LAPV of Pech-Pacheco et al. 2000, as in
    quality/blur; the division removes contrast, so that a frame of a fade or before a flash is comparable. Only frames
    of one shot at one size are comparable.
    """
    import cv2

    _, deviation = cv2.meanStdDev(grey)
    if deviation[0, 0] < 1:  # level
        return 0.0
    _, edges = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return float(edges[0, 0] / deviation[0, 0]) ** 2


def is_blank(grey: NDArray[np.uint8]) -> bool:
    """Return whether a frame, uint8 (h, w), is of one shade but for noise, as black leaders and flashes are."""
    import cv2

    _, deviation = cv2.meanStdDev(grey)
    return bool(deviation[0, 0] < BLANK)


def keyframe(
    candidates: Sequence[Candidate], first: int, last: int, transitions: Sequence[tuple[int, int]] = ()
) -> int | None:
    """Return the number of the keyframe of the shot of frames ``first`` to ``last``, both included.

    ``transitions``: first and last frames of dissolves and fades, both included; their frames are only chosen when the
    shot has no others. Sharpness counts by its square root, half as much at the ends of the shot as in its middle half;
    of equal frames the one nearer to the middle wins. None when no candidate lies in the shot.
    """
    inside = [each for each in candidates if first <= each.frame <= last]
    clear = [each for each in inside if not any(start <= each.frame <= end for start, end in transitions)]
    middle, half = (first + last) / 2, max(0.5, (last - first) / 2)

    def rank(each: Candidate) -> tuple[float, float, int]:
        away = abs(each.frame - middle) / half
        pulled = 1 - (1 - PULL) * max(0.0, away - MIDDLE) / (1 - MIDDLE)
        return pulled * max(0.0, each.sharpness) ** 0.5, -away, -each.frame

    return max(clear or inside, key=rank).frame if inside else None
