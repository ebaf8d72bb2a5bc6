"""The colours of a picture: how many, which one prevails, how warm, how far from neutral on the whole.

All of it is read from the HSV values of the gamma-coded picture. A pixel counts as coloured above a saturation of 0.15
and a value of 0.1; below them a hue is noise.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels

SATURATION: Final = 0.15
VALUE: Final = 0.1
COLOURED: Final = 0.01
"""Share of coloured pixels below which a picture is grey."""

BIN: Final = 10
"""Degrees of hue in a bin of the histogram."""
PEAK: Final = 15.0
"""Degrees to either side of the fullest bin's middle that the dominant hue is averaged over."""
WARM: Final = (330.0, 90.0)
"""Degrees: from crimson by red, orange and yellow; the rest is cool."""


@dataclass(frozen=True, slots=True)
class Colors:
    """``diversity``: entropy of the hues over the most it can be (Shannon 1948), 0 one hue to 1 all alike, 0 for grey.

    ``dominant_hue``: degrees 0-360, red 0, green 120, blue 240; None for a grey picture. ``balance``: the smallest over
    the largest mean of red, green and blue, 0 a pure colour to 1 neutral (the grey world of Buchsbaum 1980).
    ``warm``: share of warm hues among the coloured pixels, 0.5 for grey. ``coloured``: share of coloured pixels.
    """

    diversity: float
    dominant_hue: float | None
    balance: float
    warm: float
    coloured: float


def colors(image: Pixels) -> Colors:
    """What the colours of an image, uint8 (H, W, 3) RGB, are like."""
    import cv2

    hue, saturation, value = cv2.split(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV))
    mask = (saturation >= SATURATION) & (value >= VALUE)
    coloured = float(mask.mean())
    means = image.reshape(-1, 3).mean(0)
    balance = float(means.min() / means.max()) if means.any() else 1.0
    if coloured < COLOURED:
        return Colors(0.0, None, balance, 0.5, coloured)
    hues = hue[mask]
    counts = np.bincount((hues / BIN).astype(int) % (360 // BIN), minlength=360 // BIN)
    shares = counts[counts > 0] / counts.sum()
    entropy = float(abs(shares @ np.log(shares)) / np.log(len(counts)))
    warm = float(((hues >= WARM[0]) | (hues < WARM[1])).mean())
    return Colors(entropy, _dominant(hues, saturation[mask], counts), balance, warm, coloured)


def _dominant(hues: NDArray[np.float32], saturations: NDArray[np.float32], counts: NDArray[np.int64]) -> float:
    """Mean hue, weighted by saturation, around the fullest bin of the histogram smoothed over three."""
    smooth = counts + (np.roll(counts, 1) + np.roll(counts, -1)) / 2
    middle = (int(smooth.argmax()) + 0.5) * BIN
    offsets = (hues - middle + 180) % 360 - 180
    near = np.abs(offsets) <= PEAK
    return float((middle + np.average(offsets[near], weights=saturations[near])) % 360)
