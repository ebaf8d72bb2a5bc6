"""Preprocessing of muzzle photos: a square crop with equalised lightness, normalised for the backbone."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidInput
from vision.images import Pixels

SIDE: Final = 224
"""Side of the square in pixels; a multiple of the patch sizes of the backbones."""
CLIP_LIMIT: Final = 2.0
TILES: Final = 8
MIN_SIDE: Final = 32
"""Least side of a photo in pixels; with fewer the ridges of a muzzle cannot be seen."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a photo, as shares of its height and width, 0 to 1."""

    top: float = 0.0
    bottom: float = 1.0
    left: float = 0.0
    right: float = 1.0

    def of(self, image: Pixels) -> Pixels:
        """Return this part of an image, without a copy."""
        height, width = image.shape[:2]
        return image[
            round(self.top * height) : max(round(self.bottom * height), round(self.top * height) + 1),
            round(self.left * width) : max(round(self.right * width), round(self.left * width) + 1),
        ]


WHOLE: Final = Crop()


def muzzle_pixels(image: Pixels, crop: Crop = WHOLE, clip_limit: float = CLIP_LIMIT) -> Pixels:
    """Return the crop of a photo, uint8 (H, W, 3) RGB, as a square uint8 (224, 224, 3), its lightness equalised by
    CLAHE.

    CLAHE (Zuiderveld 1994, contrast limited adaptive histogram equalisation) works on L of CIELAB in 8 x 8 tiles, so
    that ridges stand out equally in the sun and in the shade, and colours stay. The aspect ratio is not kept, as the
    muzzle fills its photo. Raises InvalidInput for a photo of less than 32 pixels a side.
    """
    import cv2

    if min(image.shape[:2]) < MIN_SIDE:
        height, width = image.shape[:2]
        raise InvalidInput(
            f"This photo has {width} x {height} pixels; a muzzle print needs {MIN_SIDE} or more on each side."
        )
    part = np.ascontiguousarray(crop.of(image))
    shrinks = min(part.shape[:2]) >= SIDE
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    lab = cv2.cvtColor(cv2.resize(part, (SIDE, SIDE), interpolation=how), cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clip_limit, (TILES, TILES)).apply(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)


def normalized(pixels: Pixels, rescale: float, mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """Return ``(rescale · pixel − mean) / std``, float32 (3, 224, 224), of pixels uint8 (224, 224, 3)."""
    scale = (rescale / np.array(std)).astype(np.float32)
    bias = (-np.array(mean) / np.array(std)).astype(np.float32)
    return np.ascontiguousarray((pixels * scale + bias).transpose(2, 0, 1), np.float32)


def described() -> dict[str, Any]:
    """Return the preprocessing for checkpoints and model-info; a checkpoint with another one is refused."""
    return {"side": SIDE, "clahe": "L of CIELAB", "clip_limit": CLIP_LIMIT, "tiles": TILES, "crop": "whole photo"}
