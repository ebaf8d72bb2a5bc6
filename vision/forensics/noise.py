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

Grey = NDArray[np.float32]
Map = NDArray[np.float32]

BLOCK: Final = 32
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
    """Measure the noise of a luminance image, float32 (H, W), 0-255, at least 3 pixels a side."""
    levels = local_levels(luma)
    flat = np.sort(levels.ravel())[: max(4, levels.size // 2)]
    low, high = np.percentile(np.log(flat + FLOOR), [25, 75])
    return Noise(variance(luma), float(high - low), levels)


def variance(luma: Grey) -> float:
    """Return Immerkaer's estimate of the noise variance, in squared grey levels."""
    import cv2

    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    passed = np.abs(cv2.filter2D(luma, cv2.CV_32F, kernel)[1:-1, 1:-1])
    return float((np.sqrt(np.pi / 2) * passed.mean(dtype=np.float64) / 6) ** 2)


def local_levels(luma: Grey) -> Map:
    """Return the standard deviation of the noise in blocks of 32 pixels, in grey levels; one block for a smaller
    image."""
    height, width = (length // 2 * 2 for length in luma.shape)
    cut = luma[:height, :width]
    diagonal = np.abs(cut[::2, ::2] - cut[1::2, ::2] - cut[::2, 1::2] + cut[1::2, 1::2]) / 2
    side = min(BLOCK // 2, *diagonal.shape)
    rows, columns = diagonal.shape[0] // side, diagonal.shape[1] // side
    blocks = diagonal[: rows * side, : columns * side].reshape(rows, side, columns, side)
    levels: Map = (np.median(blocks.transpose(0, 2, 1, 3).reshape(rows, columns, -1), axis=2) / MAD).astype(np.float32)
    return levels
