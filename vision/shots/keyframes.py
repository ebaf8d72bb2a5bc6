"""Which frame stands for a shot: the sharpest one near its middle. Pure numpy but for the measure of sharpness."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

MIDDLE: Final = 0.5
"""Share of the shot, around its middle, in which a frame is as good as another."""
PULL: Final = 0.5
"""What a frame at the very end of a shot is worth of one in the middle, equally sharp."""


class Candidate(NamedTuple):
    """``frame``: its number in the video; ``sharpness``: see ``sharpness``."""

    frame: int
    sharpness: float


def sharpness(grey: NDArray[np.uint8]) -> float:
    """How sharp a small grey frame, uint8 (h, w), is: the variance of its 3x3 Laplacian over the variance of its grey
    values, from 0, higher is sharper.

    The first is LAPV of Pech-Pacheco et al. 2000, as in quality/blur; the division takes the contrast out, so that a
    frame of a fade or before a flash can be compared with the others. 0 for a frame of one colour. It compares frames
    of one shot at one size.
    """
    import cv2

    _, deviation = cv2.meanStdDev(grey)
    if deviation[0, 0] < 1:  # level
        return 0.0
    _, edges = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return float(edges[0, 0] / deviation[0, 0]) ** 2


def keyframe(
    candidates: Sequence[Candidate], first: int, last: int, transitions: Sequence[tuple[int, int]] = ()
) -> int | None:
    """The number of the frame that stands for the shot of the frames ``first`` to ``last``, both included.

    ``transitions``: first and last frames of dissolves and fades, both included; a frame in one of them is only taken
    where the shot has no other. Sharpness counts by its square root, half as much at the ends of the shot as in its
    middle half; the nearer to the middle wins between equals. None where no candidate lies in the shot.
    """
    inside = [each for each in candidates if first <= each.frame <= last]
    clear = [each for each in inside if not any(start <= each.frame <= end for start, end in transitions)]
    middle, half = (first + last) / 2, max(0.5, (last - first) / 2)

    def worth(each: Candidate) -> tuple[float, float, int]:
        away = abs(each.frame - middle) / half
        pulled = 1 - (1 - PULL) * max(0.0, away - MIDDLE) / (1 - MIDDLE)
        return pulled * max(0.0, each.sharpness) ** 0.5, -away, -each.frame

    return max(clear or inside, key=worth).frame if inside else None
