"""Noise of an image, and whether it is the same everywhere.

The level is Immerkaer's (1996, https://doi.org/10.1006/cviu.1996.0060): the mean magnitude of a filter that suppresses
constant, linear and quadratic shading. Mahdian and Saic (2009, https://doi.org/10.1016/j.imavis.2009.02.001) measure it
block by block, by the median of the finest diagonal wavelet coefficients, since a part from another image brings its
own noise. Texture counts as noise there, which is why only the flatter half of the blocks is compared.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32] | NDArray[np.uint8]
Map = NDArray[np.float32]

BLOCK: Final = 32
AT_ONCE: Final = 16
"""Rows of blocks that are measured at a time, as floats take four times the memory."""
MAD: Final = 0.6745
"""Median magnitude of a standard normal deviate."""
FLOOR: Final = 0.3
"""Noise of rounding to 8 bits, in grey levels."""


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """``variance``: squared grey levels of 0-255. ``inconsistency``: interquartile range of the logarithm of the local
    levels over the flatter half of the blocks, from 0, higher is more uneven. ``level``: float32 (h, w), of blocks."""

    variance: float
    inconsistency: float
    level: Map


def noise(luma: Grey) -> Noise:
    """Measure the noise of a luminance image, (H, W), 0-255, at least 3 pixels a side."""
    levels = local_levels(luma)
    flat = np.sort(levels.ravel())[: max(4, levels.size // 2)]
    low, high = np.percentile(np.log(flat + FLOOR), [25, 75])
    return Noise(variance(luma), float(high - low), levels)


def variance(luma: Grey) -> float:
    """Return Immerkaer's estimate of the noise variance, in squared grey levels."""
    import cv2

    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    height, width = luma.shape
    total = 0.0
    for top in range(1, height - 1, AT_ONCE * BLOCK):
        rows = luma[top - 1 : min(top + AT_ONCE * BLOCK, height - 1) + 1].astype(np.float32)
        total += float(np.abs(cv2.filter2D(rows, cv2.CV_32F, kernel)[1:-1, 1:-1]).sum(dtype=np.float64))
    mean = total / ((height - 2) * (width - 2))
    return float((np.sqrt(np.pi / 2) * mean / 6) ** 2)


def local_levels(luma: Grey) -> Map:
    """Return the standard deviation of the noise in blocks of 32 pixels, in grey levels; one block for a smaller
    image."""
    half_height, half_width = (length // 2 for length in luma.shape)
    side = min(BLOCK // 2, half_height, half_width)
    rows, columns = half_height // side, half_width // side
    levels: Map = np.empty((rows, columns), np.float32)
    for first in range(0, rows, AT_ONCE):
        last = min(first + AT_ONCE, rows)
        cut = luma[2 * side * first : 2 * side * last, : 2 * side * columns].astype(np.float32)
        diagonal = np.abs(cut[::2, ::2] - cut[1::2, ::2] - cut[::2, 1::2] + cut[1::2, 1::2]) / 2
        blocks = diagonal.reshape(last - first, side, columns, side).transpose(0, 2, 1, 3)
        levels[first:last] = np.median(blocks.reshape(last - first, columns, -1), axis=2) / MAD
    return levels
