"""Whether a photo of a muzzle is good enough to be kept: size, sharpness, light, and where the muzzle is.

Limits were set where prints begin to fail on altered photos (ops/bench/reports/muzzle-prints.md). A reason is written
for the person who takes the next photo.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels
from vision.muzzle.prints import Print, skin_of

SIDE: Final = 512
"""Longer side of a photo when it is judged, in pixels."""
MIN_MUZZLE_SIDE: Final = 100
MIN_SKIN: Final = 0.25
MIN_SHARPNESS: Final = 0.35
MIN_FEATURES: Final = 150
MAX_OFFSET: Final = 0.2
DARK: Final = 25.0
GLARE: Final = 250
MAX_GLARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class PhotoQuality:
    """What was measured on one photo.

    ``muzzle_side``: side of a square of the area of the muzzle's skin, in pixels of the photo shrunk to at most 512.
    ``skin``: share of the photo that shows this skin, 0 to 1. ``sharpness``: of
    ``sharpness_of``, from 0 (blurred).
    ``features``: beads and ridges that were found, 0 to 1000. ``offset``: of the middle of the skin from that of the
    photo, (right, down), −0.5 to 0.5 of its width and height. ``brightness``: mean grey level of the skin, 0 to 255;
    ``glare``: share of it at 250 or above. ``reasons``: sentences on what is not good enough and what to do, empty for
    a good photo.
    """

    muzzle_side: float
    skin: float
    sharpness: float
    features: int
    offset: tuple[float, float]
    brightness: float
    glare: float
    reasons: tuple[str, ...] = ()


def quality_of(image: Pixels, likeness: NDArray[np.float32] | None, taken: Print) -> PhotoQuality:
    """Judge a photo, uint8 (H, W, 3) RGB, by the likeness of its parts to a muzzle, and by its print."""
    import cv2

    scale = SIDE / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    grey = cv2.cvtColor(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    skin = skin_of(likeness, height, width)
    shrunk = min(1.0, 1 / scale)
    rows, columns = np.nonzero(skin)
    there = len(rows) > 0
    measured = PhotoQuality(
        muzzle_side=round(float(np.sqrt(len(rows))) * shrunk, 1),
        skin=round(float(skin.mean()), 4),
        sharpness=round(sharpness_of(grey, skin), 4) if there else 0.0,
        features=len(taken),
        offset=(
            round((float(columns.mean()) + 0.5) / width - 0.5, 4) if there else 0.0,
            round((float(rows.mean()) + 0.5) / height - 0.5, 4) if there else 0.0,
        ),
        brightness=round(float(grey[skin].mean()), 1) if there else 0.0,
        glare=round(float((grey[skin] >= GLARE).mean()), 4) if there else 0.0,
    )
    return replace(measured, reasons=tuple(_reasons(measured)))


def sharpness_of(grey: NDArray[np.uint8], where: NDArray[np.bool_]) -> float:
    """Return how sharp the skin on a grey photo of 512 pixels, uint8 (H, W), is where a mask is true: from 0 (blurred).

    The ratio of contrasts at the size of grooves between beads and at that of beads and nostrils (band passes of
    differences of Gaussians of 1.5 and 3 pixels, and of 6 and 12). Blur takes the fine one first; light, contrast and
    noise change it little. Sharp muzzles have 0.5 to 1.5.
    """
    values = grey.astype(np.float32)
    coarse = _contrast(values, where, 6)
    return _contrast(values, where, 1.5) / coarse if coarse > 0 else 0.0


def _contrast(values: NDArray[np.float32], where: NDArray[np.bool_], sigma: float) -> float:
    import cv2

    band = cv2.GaussianBlur(values, (0, 0), sigma) - cv2.GaussianBlur(values, (0, 0), 2 * sigma)
    return float(np.sqrt(np.square(band[where]).mean()))


def _reasons(quality: PhotoQuality) -> list[str]:
    right, down = quality.offset
    reasons = []
    if quality.skin < MIN_SKIN:
        reasons.append(
            f"only {100 * quality.skin:.0f} % of the photo shows the skin of the muzzle: come closer until the muzzle "
            "fills the photo, and wipe dirt, fodder and halter away"
        )
    elif max(abs(right), abs(down)) > MAX_OFFSET:
        side = ("right" if right > 0 else "left") if abs(right) >= abs(down) else ("lower" if down > 0 else "upper")
        reasons.append(
            f"the muzzle is at the {side} side of the photo, or partly covered: face the animal and aim at the middle "
            "between its nostrils"
        )
    if quality.muzzle_side < MIN_MUZZLE_SIDE:
        reasons.append(
            f"the muzzle is only about {quality.muzzle_side:.0f} pixels large, {MIN_MUZZLE_SIDE} are needed: come "
            "closer, and send the photo itself, not a preview of it"
        )
    if quality.brightness < DARK:
        reasons.append("the muzzle is too dark: turn the animal to the light, or use the flash from a metre away")
    if quality.glare > MAX_GLARE:
        reasons.append("the muzzle is glaring: step out of the sun or switch the flash off, and wipe the muzzle dry")
    if quality.sharpness < MIN_SHARPNESS:
        reasons.append("the photo is blurred: hold still, tap on the muzzle to focus, and clean the lens")
    if quality.features < MIN_FEATURES and not reasons:
        reasons.append(
            f"only {quality.features} beads and ridges can be seen, {MIN_FEATURES} are needed: wipe the muzzle dry and "
            "clean, and take the photo from nearer in even light"
        )
    return reasons
