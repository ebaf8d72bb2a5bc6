"""Exposure: how well an image is lit, from the histogram of its luma.

Luma is that of ITU-R BT.601, gamma-coded as the image is, at its own resolution. The score is the geometric mean of
three parts, each 0 to 1 and each falling when an image gets too dark or too bright:

- the share of pixels that are not clipped at either end,
- well-exposedness, exp(-(mean - 0.5)² / (2 · 0.2²)): the curve that Mertens, Kautz and Van Reeth 2007 (Exposure Fusion)
  weigh pixels with, taken at the mean luma,
- the entropy of the histogram (Shannon 1948) over its maximum of 8 bits: how many of the tones are used.

Contrast does not count for the score: RMS contrast, the standard deviation of the luma (Peli 1990, Contrast in complex
images). Images that are dark or bright on purpose (night, snow, low key) score low too.

The verdict does without the ground that something is put on, where it can tell: an image is underexposed when what is
not black in it is dark. It is overexposed when a fifth of it is white, and colours clip in one or two of their
channels, as they do where light was too strong and not on a white ground; or when the rest is pale, too.
``ops/bench/reports/exposure.md`` has how often that is right.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels

LEVELS = 256
WELL_EXPOSED_SIGMA = 0.2
DARK: Final = 0.16
"""Mean luma of what is not black, below which an image is underexposed."""
TOO_WHITE: Final = 0.2
"""Share of clipped highlights from which on an image may be overexposed."""
COLOURED: Final = 0.05
"""Share of pixels that clip in some of their channels, which few images on a white ground have."""
PALE: Final = 0.6
"""Mean luma of what is not white, from which on no ground explains the white."""
NEARLY_WHITE: Final = 10
"""Levels by which the other channels of a white pixel may differ."""
Histogram = NDArray[np.int64]
Verdict = Literal["normal", "underexposed", "overexposed"]


@dataclass(frozen=True, slots=True)
class Lighting:
    """Exposure measures of an image.

    ``score``: 0 to 1, higher is better lit. ``shadows_clipped`` and ``highlights_clipped``: shares of the pixels, 0 to
    1. ``mean``: of the luma, 0 black to 1 white. ``contrast``: its standard deviation, 0 to 0.5. ``entropy``: of its
    histogram, 0 to 8 bits. ``verdict``: whether light was missing, or there was too much of it.
    """

    score: float
    shadows_clipped: float
    highlights_clipped: float
    mean: float
    contrast: float
    entropy: float
    verdict: Verdict = "normal"


@dataclass(frozen=True, slots=True)
class Tones:
    """``histogram``: of the luma; ``coloured``: share of the pixels, 0 to 1, that clip in some of their channels only,
    measured where it matters."""

    histogram: Histogram
    coloured: float = 0.0


def tones(image: Pixels, clip_margin: int) -> Tones:
    """Measure an image, uint8 (H, W, 3) RGB; ``clip_margin``: levels beside 255 that count as clipped."""
    histogram = luma_histogram(image)
    white = histogram[-clip_margin - 1 :].sum() / histogram.sum()
    return Tones(histogram, _coloured_clipping(image, clip_margin) if white >= TOO_WHITE else 0.0)


def _coloured_clipping(image: Pixels, clip_margin: int) -> float:
    import cv2

    least = LEVELS - 1 - clip_margin
    not_clipped = cv2.countNonZero(cv2.inRange(image, (0, 0, 0), (least - 1,) * 3))
    white = cv2.countNonZero(cv2.inRange(image, (least - NEARLY_WHITE,) * 3, (255,) * 3))
    pixels = image.shape[0] * image.shape[1]
    return float(max(0, pixels - not_clipped - white) / pixels)


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


def lighting(measured: Tones, clip_margin: int) -> Lighting:
    """Compute the measures from tones; ``clip_margin``: levels beside 0 and 255 that count as clipped."""
    shares = measured.histogram / measured.histogram.sum()
    luma = np.arange(LEVELS) / (LEVELS - 1)
    shadows, highlights = float(shares[: clip_margin + 1].sum()), float(shares[-clip_margin - 1 :].sum())
    mean = float(shares @ luma)
    contrast = math.sqrt(float(shares @ (luma - mean) ** 2))
    used = shares[shares > 0]
    entropy = max(0.0, -float(used @ np.log2(used)))
    well_exposed = math.exp(-((mean - 0.5) ** 2) / (2 * WELL_EXPOSED_SIGMA**2))
    parts = max(0.0, 1 - shadows - highlights), well_exposed, entropy / math.log2(LEVELS)
    not_black, not_white = shares[clip_margin + 1 :], shares[: -clip_margin - 1]
    verdict: Verdict = "normal"
    if _mean(not_black, luma[clip_margin + 1 :], 0.0) < DARK:
        verdict = "underexposed"
    elif highlights >= TOO_WHITE and (
        measured.coloured >= COLOURED or _mean(not_white, luma[: -clip_margin - 1], 1.0) >= PALE
    ):
        verdict = "overexposed"
    return Lighting(math.prod(parts) ** (1 / 3), shadows, highlights, mean, contrast, entropy, verdict)


def _mean(shares: NDArray[np.float64], luma: NDArray[np.float64], of_nothing: float) -> float:
    total = float(shares.sum())
    return float(shares @ luma) / total if total else of_nothing
