"""A face in a picture, and the square that is cut out around it."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Face:
    """A face in pixels of its picture, as YuNet sees it: from the forehead to the chin, without ears and hair.

    The box lies inside the picture. ``confidence`` is 0 to 1, higher is surer. ``landmarks``: right eye, left eye,
    nose tip, right and left corner of the mouth, "right" being the person's; they may lie a bit outside the picture.
    """

    x: float
    y: float
    width: float
    height: float
    confidence: float
    landmarks: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Square:
    """A square of whole pixels, which may reach beyond the picture: its top left corner and its side."""

    x: int
    y: int
    side: int

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float, scale: float) -> "Square":
        """The square about the middle of a box, ``scale`` times as long as the longer side of the box."""
        side = max(1, round(scale * max(width, height)))
        return cls(round(x + width / 2 - side / 2), round(y + height / 2 - side / 2), side)

    def cut(self, image: Pixels, size: int) -> Pixels:
        """This part of an image (H, W, C), resized to (size, size, C); black outside the image."""
        import cv2

        height, width = image.shape[:2]
        left, top = max(0, self.x), max(0, self.y)
        right, bottom = min(width, self.x + self.side), min(height, self.y + self.side)
        if left >= right or top >= bottom:
            return np.zeros((size, size, *image.shape[2:]), np.uint8)
        part = image[top:bottom, left:right]
        borders = (top - self.y, self.y + self.side - bottom, left - self.x, self.x + self.side - right)
        if any(borders):
            part = cv2.copyMakeBorder(part, *borders, cv2.BORDER_CONSTANT, value=0)
        how = cv2.INTER_AREA if size < self.side else cv2.INTER_LINEAR
        resized: Pixels = cv2.resize(part, (size, size), interpolation=how)
        return resized
