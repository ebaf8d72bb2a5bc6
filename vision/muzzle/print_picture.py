"""A picture of two muzzles side by side, with the places that agree."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels
from vision.muzzle.prints import SIDE, PrintMatch, normalized

DRAWN_SIDE: Final = 512
GAP: Final = 12
LINES: Final = 60
"""Lines at most; every place has its circle, but more lines than these hide the photos."""
BACKGROUND: Final = 24


def draw_matches(probe_photo: Pixels, reference_photo: Pixels, match: PrintMatch) -> bytes:
    """Return a PNG of two photos, uint8 (H, W, 3) RGB, in grey and with their light evened out, the probe left.

    Every inlier has a circle in both, of one colour, and some a line between the two. It has at most 1036 x 512 pixels.
    """
    probe, reference = (normalized(photo, DRAWN_SIDE) for photo in (probe_photo, reference_photo))
    height = max(probe.shape[0], reference.shape[0])
    left, right = probe.shape[1], reference.shape[1]
    canvas = np.full((height, left + GAP + right, 3), BACKGROUND, np.uint8)
    canvas[: probe.shape[0], :left] = probe[..., None]
    canvas[: reference.shape[0], left + GAP :] = reference[..., None]
    colours = _colours(len(match.points))
    step = max(1, -(-len(match.points) // LINES))
    for number, point in enumerate(match.points):
        x, y, there_x, there_y = (each * DRAWN_SIDE / SIDE for each in point)
        colour = tuple(map(int, colours[number]))
        here, there = (round(x), round(y)), (left + GAP + round(there_x), round(there_y))
        if number % step == 0:
            cv2.line(canvas, here, there, colour, 1, cv2.LINE_AA)
        for centre in (here, there):
            cv2.circle(canvas, centre, 5, colour, 1, cv2.LINE_AA)
    return bytes(cv2.imencode(".png", canvas)[1])


def _colours(number: int) -> NDArray[np.uint8]:
    """Return uint8[number, 3], BGR, all around the circle of hues."""
    hues = np.arange(max(number, 1)) * 180 // max(number, 1)
    hsv = np.stack([hues, np.full_like(hues, 220), np.full_like(hues, 255)], axis=1).astype(np.uint8)
    return np.asarray(cv2.cvtColor(hsv[None], cv2.COLOR_HSV2BGR)[0], np.uint8)
