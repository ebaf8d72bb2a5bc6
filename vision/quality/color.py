"""Colours of an image: how diverse they are, which hue dominates, how warm they are, and how far from neutral.

All measures are taken from the HSV values of the gamma-coded image. A pixel counts as coloured above a saturation of
0.15 and a value of 0.1; below them its hue is noise.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels

SATURATION: Final = 0.15
VALUE: Final = 0.1
COLOURED: Final = 0.01
"""Share of coloured pixels below which an image counts as grey."""

BIN: Final = 10
"""Width of a bin of the hue histogram, in degrees."""
PEAK: Final = 15.0
"""The dominant hue is the mean over so many degrees to either side of the middle of the fullest bin."""
WARM: Final = (330.0, 90.0)
"""Hues from crimson over red and orange to yellow, in degrees; the others are cool."""


@dataclass(frozen=True, slots=True)
class Colors:
    """Colour measures of an image.

    ``diversity``: entropy of the hues over its maximum (Shannon 1948), from 0 (one hue, or grey) to 1 (all hues alike).
    ``dominant_hue``: 0 to 360 degrees, red 0, green 120, blue 240; None for a grey image. ``balance``: the smallest
    over the largest mean of red, green and blue, from 0 (a pure colour) to 1 (neutral; the grey world of Buchsbaum
    1980). ``warm``: share of warm hues among the coloured pixels, 0.5 for grey. ``coloured``: share of coloured pixels.
    """

    diversity: float
    dominant_hue: float | None
    balance: float
    warm: float
    coloured: float


def colors(image: Pixels) -> Colors:
    """Measure the colours of an image, uint8 (H, W, 3) RGB."""
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
    """Return the mean hue, weighted by saturation, around the fullest bin of the histogram smoothed over three bins."""
    smooth = counts + (np.roll(counts, 1) + np.roll(counts, -1)) / 2
    middle = (int(smooth.argmax()) + 0.5) * BIN
    offsets = (hues - middle + 180) % 360 - 180
    near = np.abs(offsets) <= PEAK
    return float((middle + np.average(offsets[near], weights=saturations[near])) % 360)
