"""Saliency: which parts of an image draw the eye, by how far their colours are from those of the border.

The border of a photograph is mostly background (the boundary prior of Wei et al. 2012, Geodesic saliency using
background priors). The saliency of a pixel is the Mahalanobis distance of its colour to those along an edge of the
image, the median over the four edges, as a subject may touch one. The map of an image that is all pattern means little.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels

Saliency = NDArray[np.float32]
"""float32 (h, w) in 0..1, 1 at the most salient pixel; all 0 for an image in which nothing stands out."""

SIDE = 64
"""Longer side of the map, in pixels."""
BORDER = 0.1
"""Width of the border, as a share of the shorter side."""
NOISE = 5.0
"""Least standard deviation of the colours of a border, in CIELAB units."""
STANDS_OUT = 2.0
"""Least distance of the most salient pixel from the border, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an image: its centre, as shares of the width and height, and its visual weight."""

    x: float
    y: float
    weight: float


def saliency_map(image: Pixels) -> Saliency:
    """Return the map of an image, uint8 (H, W, 3) RGB, in its aspect ratio."""
    import cv2

    scale = SIDE / max(image.shape[:2])
    height, width = (max(4, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    colours = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).astype(np.float64)
    band = max(1, round(BORDER * min(height, width)))
    edges = colours[:band], colours[-band:], colours[:, :band], colours[:, -band:]
    distances = np.median([_distances(colours, edge.reshape(-1, 3)) for edge in edges], 0)
    salient = cv2.GaussianBlur(distances, (0, 0), 1)
    if salient.max() < STANDS_OUT:
        return np.zeros((height, width), np.float32)
    saliency: Saliency = (salient / salient.max()).astype(np.float32)
    return saliency


def salient_regions(saliency: Saliency) -> list[Region]:
    """Return the connected parts of a map that are above Otsu's threshold, heaviest first."""
    import cv2

    height, width = saliency.shape
    levels = (saliency * 255).astype(np.uint8)
    if not levels.any():
        return []
    _, mask = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    regions = []
    for label in range(1, count):
        rows, columns = np.nonzero(labels == label)
        weights = saliency[rows, columns].astype(np.float64)
        x, y = np.average(columns + 0.5, weights=weights), np.average(rows + 0.5, weights=weights)
        regions.append(Region(float(x) / width, float(y) / height, float(weights.sum())))
    return sorted(regions, key=lambda region: -region.weight)


def _distances(colours: NDArray[np.float64], border: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Mahalanobis distances of colours (h, w, 3) to those of a border (n, 3)."""
    offsets = colours - border.mean(0)
    spread = np.cov(border.T) + np.eye(3) * NOISE**2
    squares = np.einsum("hwi,ij,hwj->hw", offsets, np.linalg.inv(spread), offsets)
    distances: NDArray[np.float64] = np.sqrt(squares)
    return distances
