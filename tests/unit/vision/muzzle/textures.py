"""Drawn muzzles: beads of random places and sizes with grooves between them, an own arrangement for each seed."""

import cv2
import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels

SIZE = (420, 520)
BEADS = 700


def muzzle(seed: int, size: tuple[int, int] = SIZE) -> Pixels:
    """Return uint8 (H, W, 3) of the skin of an animal."""
    rng = np.random.default_rng(seed)
    height, width = size
    places = (rng.random((BEADS, 2)) * (width, height)).astype(np.float32)
    plane = np.full(size, 90, np.uint8)
    for (x, y), tone in zip(places, rng.integers(110, 170, BEADS), strict=True):
        axes = tuple(map(int, rng.integers(5, 15, 2)))
        cv2.ellipse(plane, (int(x), int(y)), axes, float(rng.integers(0, 180)), 0, 360, int(tone), -1)
        cv2.ellipse(plane, (int(x), int(y)), axes, float(rng.integers(0, 180)), 0, 360, 60, 2)
    grain = rng.normal(0, 3, size)
    grey = np.clip(cv2.GaussianBlur(plane, (0, 0), 1.2) + grain, 0, 255).astype(np.uint8)
    return np.stack([grey, (grey * 0.85).astype(np.uint8), (grey * 0.75).astype(np.uint8)], axis=2)


def moved(image: Pixels, scale: float = 1.0, degrees: float = 0.0, right: float = 0.0, down: float = 0.0) -> Pixels:
    """Return the picture turned clockwise about its middle, scaled and shifted (in pixels), its edge continued."""
    height, width = image.shape[:2]
    transform = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, scale)
    transform[:, 2] += right, down
    return np.asarray(cv2.warpAffine(image, transform, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def everywhere(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return a mask of the whole photo."""
    return np.ones(grey.shape, bool)
