"""Traces of JPEG compression in an image, and whether they are the same everywhere.

- Error level (Krawetz 2007, A picture's worth): how much an image changes when it is saved once more; parts that were
  saved less often change more.
- JPEG ghosts (Farid 2009, https://doi.org/10.1109/TIFS.2008.2012215): when the image is saved at several qualities, a
  part that came from a JPEG of one quality changes least at that quality, the rest of the image at another.
- Double compression (Popescu and Farid 2004, Statistical tools for digital forensics; Lukas and Fridrich 2003): a
  second, finer quantisation leaves gaps at regular places in the histograms of DCT coefficients.

All are measured on the luminance at the image's own resolution.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.images import opened

Grey = NDArray[np.float32]
Luma = NDArray[np.uint8]
Map = NDArray[np.float32]
Table = tuple[int, ...]

BLOCK: Final = 16
AT_ONCE: Final = 16
"""Rows of blocks that are compared at a time, as floats take four times the memory."""
ERROR_QUALITY: Final = 90
QUALITIES: Final = (40, 50, 60, 65, 70, 75, 80, 85, 90)
LEAST_SHARE: Final = 0.02
MOST_SHARE: Final = 0.5
"""Least and greatest share of the image that a ghost covers; a larger one is the background."""
FLAT: Final = 4.0
"""Mean squared change (2 grey levels) below which a block is too smooth for its curve to mean anything: out-of-focus
backgrounds and skies made ghosts in genuine images. Of 1, 4, 9, 16, 25 and 50 this value detected splices best."""
MODES: Final = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1))
"""DCT modes of low frequency, in which most images have enough energy."""
LEAST_VALUES: Final = 400
LARGEST: Final = 30
MOST_BLOCKS: Final = 40_000
STEPS: Final = 64
"""Of a quantisation table."""


@dataclass(frozen=True, slots=True, eq=False)
class Compression:
    """Compression measures of an image.

    ``error_level``: mean change by saving again, grey levels. ``error_contrast``: 95th percentile of the blocks' change
    relative to their texture over its median, as a logarithm. ``ghost``: 0 to 1, how clearly a part of the image
    separates at ``ghost_quality``. ``double``: 0 to 1, None for images that are no JPEG or too plain. ``errors`` and
    ``ghosts``: float32 (h, w), of blocks of 16 pixels.
    """

    error_level: float
    error_contrast: float
    ghost: float
    ghost_quality: int
    double: float | None
    errors: Map
    ghosts: Map


def compression(luma: Luma, table: Table | None) -> Compression:
    """Measure a luminance image, uint8 (H, W), of at least 32 pixels a side; ``table``: its quantisation table, if
    any."""
    differences = {quality: _change(luma, quality) for quality in QUALITIES}
    errors = differences[ERROR_QUALITY]
    level = np.sqrt(errors)
    texture = np.sqrt(differences[QUALITIES[0]]) + 1
    relative = np.log((level + 0.3) / texture)
    contrast = float(np.percentile(relative, 95) - np.median(relative))
    ghost, quality, ghosts = _ghost(np.stack([differences[q] for q in QUALITIES]))
    double = None if table is None else double_compression(luma, table)
    return Compression(float(level.mean()), contrast, ghost, quality, double, level, ghosts)


def _change(luma: Luma, quality: int) -> Map:
    """Return the mean squared change of each block of 16 pixels when the image is saved again."""
    import cv2

    _, encoded = cv2.imencode(".jpg", luma, [cv2.IMWRITE_JPEG_QUALITY, quality])
    again = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)
    rows, columns = luma.shape[0] // BLOCK, luma.shape[1] // BLOCK
    blocks: Map = np.empty((rows, columns), np.float32)
    for first in range(0, rows, AT_ONCE):
        strip = slice(first * BLOCK, min(first + AT_ONCE, rows) * BLOCK), slice(0, columns * BLOCK)
        squares = (luma[strip].astype(np.float32) - again[strip]) ** 2
        blocks[first : first + AT_ONCE] = squares.reshape(-1, BLOCK, columns, BLOCK).mean((1, 3))
    return blocks


def _ghost(changes: NDArray[np.float32]) -> tuple[float, int, Map]:
    """Return strength, quality and map of the ghost at the quality where a part of the image separates most.

    The changes of each block are scaled to 0 to 1 over the qualities, as Farid does, to remove its texture; separation
    is Otsu's ratio of the variance between the two parts to the total variance.
    """
    low, high = changes.min(0), changes.max(0)
    scaled = (changes - low) / np.maximum(high - low, 1e-6)
    flat = high < FLAT
    best = (0.0, QUALITIES[0], scaled[0])
    for quality, ghost in zip(QUALITIES, scaled, strict=True):
        values = np.sort(ghost[~flat])
        strength = _separability(values) * float(np.std(values)) if len(values) >= 16 else 0.0
        if strength > best[0]:
            best = (strength, quality, ghost)
    strength, quality, ghost = best
    return min(1.0, 2 * strength), quality, np.where(flat, 1.0, ghost).astype(np.float32)


def _separability(values: NDArray[np.float32]) -> float:
    """Return Otsu's separability, 0 to 1, of sorted values into a smaller low part and a larger high one."""
    count = len(values)
    sums = np.cumsum(values, dtype=np.float64)
    places = np.arange(max(1, int(LEAST_SHARE * count)), max(2, int(MOST_SHARE * count)))
    total = float(np.var(values, dtype=np.float64)) * count
    if total <= 0:
        return 0.0
    means_low, means_high = sums[places - 1] / places, (sums[-1] - sums[places - 1]) / (count - places)
    between = places * (count - places) / count * (means_high - means_low) ** 2
    return float(between.max() / total)


def double_compression(luma: Luma, table: Table) -> float | None:
    """Return how deep the valleys in the histograms of quantised coefficients are beyond chance: 0 none, 1 all gaps.

    ``table``: the 64 steps of the quantisation, row by row. Return None when there are too few coefficients.
    """
    blocks = _coefficients(luma)
    steps = np.asarray(table, np.float64).reshape(8, 8)
    depths = []
    for mode in MODES:
        values = np.abs(np.round(blocks[:, mode[0], mode[1]] / steps[mode])).astype(int)
        counts = np.bincount(values[(values > 0) & (values <= LARGEST)], minlength=LARGEST + 1)[1:].astype(np.float64)
        if counts.sum() >= LEAST_VALUES:
            depths.append(_gaps(counts))
    return float(np.mean(sorted(depths)[-3:])) if depths else None


def _gaps(counts: NDArray[np.float64]) -> float:
    """Return the total depth of the valleys of a histogram over its sum.

    A single quantisation leaves a histogram that only falls, whose valleys are due to chance.
    """
    before = np.maximum(counts[:-4], counts[1:-3])
    after = np.maximum(counts[3:-1], counts[4:])
    rim, floor = np.minimum(before, after), counts[2:-2]
    depth = np.maximum(rim - floor - 2 * np.sqrt(rim + floor), 0)
    return float(min(1.0, depth.sum() / counts.sum()))


def _coefficients(luma: Luma) -> NDArray[np.float32]:
    """Return the DCT of the blocks of 8 pixels, float32 (n, 8, 8)."""
    from scipy.fft import dctn

    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    cut = luma[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    step = max(1, len(cut) // MOST_BLOCKS)
    coefficients: NDArray[np.float32] = dctn(cut[::step].astype(np.float32) - 128, axes=(1, 2), norm="ortho")
    return coefficients


def luma_table(data: bytes, max_pixels: int) -> tuple[int, ...] | None:
    """Return the 64 steps, row by row, by which the luminance of a JPEG was quantised; no pixel is decoded.

    Return None for other formats, and for images that EXIF rotates, whose blocks lie elsewhere. Raises as ``opened``.
    """
    if not data.startswith(b"\xff\xd8"):
        return None
    with opened(data, max_pixels) as image:
        tables = image.quantization
        if not tables or image.orientation != 1:
            return None
        first = min(tables)
        steps = tuple(int(step) for step in tables[first])
    return steps if len(steps) == STEPS and min(steps) > 0 else None
