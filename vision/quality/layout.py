"""How a picture is laid out: thirds, balance, mirror symmetry, edges. Every measure is 0 to 1."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.quality.saliency import Region

Grey = NDArray[np.uint8]

THIRDS: Final = (1 / 3, 2 / 3)
NEAR: Final = 0.1
"""Deviation of the Gaussian that a distance to a line or point of thirds is judged by, as a share of the frame."""

SYMMETRY_SIDE: Final = 128
SYMMETRY_BLUR: Final = 2.0
"""Longer side and blur, in pixels, of the edges laid over their mirror image: 1.5 % of the frame is no fault."""


def rule_of_thirds(subjects: Sequence[Region]) -> float:
    """How near the subjects are to the lines and power points of thirds, weighted; 0 without a subject.

    The mean of exp(-d²/2s²) for the nearest line and for the nearest point, s = 0.1 of the frame; the form, with
    regions weighted by their mass, is that of Liu et al. 2010 (Optimizing photo composition). 1 on a point, 0.62 on a
    line half way between two points, 0.16 in the middle of the frame, 0 in a corner.
    """
    total = sum(subject.weight for subject in subjects)
    if total <= 0:
        return 0.0
    return sum(subject.weight * _thirds(subject.x, subject.y) for subject in subjects) / total


def balance(regions: Sequence[Region]) -> float:
    """1 when the centre of visual weight is on the vertical centre line, 0 at an edge; 1 for an empty picture."""
    total = sum(region.weight for region in regions)
    if total <= 0:
        return 1.0
    middle = sum(region.weight * region.x for region in regions) / total
    return 1 - 2 * abs(middle - 0.5)


def mirror_symmetry(grey: Grey) -> tuple[float, float]:
    """Symmetry of a picture, uint8 (H, W), to its left-right mirror image, and to its top-bottom one.

    The correlation (Pearson) of the edge strength with its mirror image, 0 where it is negative; of edges, because the
    light of a landscape alone would make it symmetric left to right. 1 for a picture without any edge.
    """
    import cv2

    scale = min(1.0, SYMMETRY_SIDE / max(grey.shape))
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    strength = np.hypot(cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1))
    edges = cv2.GaussianBlur(strength, (0, 0), SYMMETRY_BLUR).astype(np.float64)
    return _correlation(edges, edges[:, ::-1]), _correlation(edges, edges[::-1])


def edge_density(grey: Grey) -> float:
    """Share of the pixels that Canny's detector takes for an edge.

    Its upper threshold is Otsu's of the grey levels and the lower half of it (Fang, Yue and Yu 2009).
    """
    import cv2

    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float((cv2.Canny(grey, threshold / 2, threshold) > 0).mean())


def _thirds(x: float, y: float) -> float:
    beside = min(abs(x - third) for third in THIRDS), min(abs(y - third) for third in THIRDS)
    line, point = min(beside), float(np.hypot(*beside))
    return float(np.exp(-np.square([line, point]) / (2 * NEAR**2)).mean())


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return min(1.0, max(0.0, float((a * b).sum()) / length)) if length > 1e-6 else 1.0
