"""Blinks of a face in a row of upright crops.

Grauman et al. 2001 (https://doi.org/10.1109/CVPR.2001.990641) and Chau and Betke 2005 (Real time eye tracking and blink
detection with USB cameras): an open eye is compared with itself by normalised correlation, which falls while the lid
is down. Here the open eye is the median of the eye over the row, as eyes are open most of the time. Both eyes have to
close and open again, within half a second.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Crops = NDArray[np.uint8]

EYES: Final = ((38, 52), (74, 52))
"""Middle of the person's right and left eye in a crop of 112 pixels, x and y."""
REACH: Final = (12, 8)
"""Half of the width and height of an eye's patch, in pixels."""
CLOSED: Final = 0.55
"""Correlation below which an eye is not open: between those of Grauman's open and closed eyes."""
LONGEST_S: Final = 0.5


def blinks(crops: Crops, times: NDArray[np.float64]) -> int:
    """How many there are; ``crops``: uint8 (n, 112, 112) of one face, grey; ``times``: seconds of each."""
    openness = np.minimum(*(_correlations(_patches(crops, eye)) for eye in EYES))
    best = np.maximum(*(_correlations(_patches(crops, eye)) for eye in EYES))
    # Both are down; a head that turns hides one of them only.
    closed = (openness < CLOSED) & (best < (1 + CLOSED) / 2)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], closed, [False]]).astype(np.int8)))
    found = 0
    for first, behind in zip(edges[::2], edges[1::2], strict=True):
        inside = first > 0 and behind < len(times)
        found += bool(inside and times[behind] - times[first - 1] <= LONGEST_S + (times[1] - times[0]))
    return found


def _patches(crops: Crops, eye: tuple[int, int]) -> NDArray[np.float64]:
    (x, y), (across, down) = eye, REACH
    return crops[:, y - down : y + down, x - across : x + across].reshape(len(crops), -1).astype(np.float64)


def _correlations(patches: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each patch with the median of all, -1 to 1; 1 for patches without any contrast."""
    template = np.median(patches, axis=0)
    template = template - template.mean()
    centred = patches - patches.mean(1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1) * np.linalg.norm(template)
    return np.where(lengths > 0, centred @ template / np.maximum(lengths, 1e-9), 1.0)
