"""Exposure: how well an image is lit, from the histogram of its luma.

Luma is that of ITU-R BT.601, gamma-coded as the image is, at its own resolution. The score is the geometric mean of
three parts, each 0 to 1 and each falling when an image gets too dark or too bright:

- the share of pixels that are not clipped at either end,
- well-exposedness, exp(-(mean - 0.5)² / (2 · 0.2²)): the curve that Mertens, Kautz and Van Reeth 2007 (Exposure Fusion)
  weigh pixels with, taken at the mean luma,
- the entropy of the histogram (Shannon 1948) over its maximum of 8 bits: how many of the tones are used.

Contrast does not count for the score: RMS contrast, the standard deviation of the luma (Peli 1990, Contrast in complex
images). Images that are dark or bright on purpose (night, snow, low key) score low too.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels

LEVELS = 256
WELL_EXPOSED_SIGMA = 0.2
Histogram = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lighting:
    """Exposure measures of an image.

    ``score``: 0 to 1, higher is better lit. ``shadows_clipped`` and ``highlights_clipped``: shares of the pixels, 0 to
    1. ``mean``: of the luma, 0 black to 1 white. ``contrast``: its standard deviation, 0 to 0.5. ``entropy``: of its
    histogram, 0 to 8 bits.
    """

    score: float
    shadows_clipped: float
    highlights_clipped: float
    mean: float
    contrast: float
    entropy: float


def luma_histogram(image: Pixels) -> Histogram:
    """Return int64[256], the number of pixels of an image, uint8 (H, W, 3) RGB, that have each luma."""
    import cv2

    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # cv2 counts in float32, which is exact up to 16 million pixels a level: so count in parts.
    rows = max(1, (1 << 24) // luma.shape[1])
    parts = [
        cv2.calcHist([luma[start : start + rows]], [0], None, [LEVELS], [0, LEVELS])
        for start in range(0, len(luma), rows)
    ]
    return np.sum(parts, axis=0, dtype=np.float64).ravel().astype(np.int64)


def lighting(histogram: Histogram, clip_margin: int) -> Lighting:
    """Compute the measures from a histogram; ``clip_margin``: levels beside 0 and 255 that count as clipped."""
    shares = histogram / histogram.sum()
    luma = np.arange(LEVELS) / (LEVELS - 1)
    shadows, highlights = float(shares[: clip_margin + 1].sum()), float(shares[-clip_margin - 1 :].sum())
    mean = float(shares @ luma)
    contrast = math.sqrt(float(shares @ (luma - mean) ** 2))
    used = shares[shares > 0]
    entropy = max(0.0, -float(used @ np.log2(used)))
    well_exposed = math.exp(-((mean - 0.5) ** 2) / (2 * WELL_EXPOSED_SIGMA**2))
    parts = max(0.0, 1 - shadows - highlights), well_exposed, entropy / math.log2(LEVELS)
    return Lighting(math.prod(parts) ** (1 / 3), shadows, highlights, mean, contrast, entropy)
