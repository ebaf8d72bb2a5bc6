"""A face in an image, the square around it, and its aligned crop.

A face is aligned (turned upright and scaled) by its five landmarks, as recognition networks were trained. The template
is the one of ArcFace (Deng et al. 2019, https://arxiv.org/abs/1801.07698) and SFace: where the landmarks lie in a crop
of 112 x 112 pixels. The transform is the similarity with the least squared error (Umeyama 1991,
https://doi.org/10.1109/34.88573), which never mirrors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidInput
from vision.images import Pixels

Point: TypeAlias = tuple[float, float]
SIZE: Final = 112
"""Side of the aligned crop in pixels."""
TEMPLATE: Final = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Right eye, left eye, nose tip, right and left corner of the mouth, in pixels of the crop."""
SAMPLES: Final = 2.0
"""Pixels of the source per pixel of the crop above which the source is shrunk by averaging first, against aliasing."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face in pixels of its image, as YuNet detects it: from the forehead to the chin, without ears and hair.

    The box lies inside the image. ``confidence``: 0 to 1, higher is surer. ``landmarks``: right eye, left eye, nose
    tip, right and left corner of the mouth, "right" being the person's; they may lie slightly outside the image.
    """

    x: float
    y: float
    width: float
    height: float
    confidence: float
    landmarks: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Square:
    """A square of whole pixels, which may reach beyond the image: its top left corner and its side."""

    x: int
    y: int
    side: int

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float, scale: float) -> "Square":
        """Return the square around the centre of a box whose side is ``scale`` times the longer side of the box."""
        side = max(1, round(scale * max(width, height)))
        return cls(round(x + width / 2 - side / 2), round(y + height / 2 - side / 2), side)

    def cut(self, image: Pixels, size: int) -> Pixels:
        """Return this part of an image (H, W, C), resized to (size, size, C); black outside the image."""
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


def similarity_transform(landmarks: Sequence[Point]) -> NDArray[np.float64]:
    """Return float64[2, 3], the transform from pixels of an image to those of the aligned crop.

    Raises InvalidInput when the landmarks lie on one point.
    """
    # A rotation with scaling is one complex factor, for which least squares have a closed form.
    source, target = _complex(landmarks), _complex(TEMPLATE)
    spread = source - source.mean()
    energy = np.vdot(spread, spread).real
    if energy == 0:
        raise InvalidInput("The landmarks of a face lie on one point, so it cannot be turned upright.")
    turn = np.vdot(spread, target - target.mean()) / energy
    shift = target.mean() - turn * source.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def scale_of(transform: NDArray[np.float64]) -> float:
    """Return pixels of the crop per pixel of the image; above 1 the crop is an enlargement."""
    return float(np.hypot(*transform[:, 0]))


def misfit(landmarks: Sequence[Point], transform: NDArray[np.float64]) -> float:
    """Return the root mean square distance of the transformed landmarks from the template, in pixels of the crop.

    Small for a face seen from the front, larger the more it is turned or tilted.
    """
    moved = np.asarray(landmarks) @ transform[:, :2].T + transform[:, 2]
    return float(np.sqrt(((moved - TEMPLATE) ** 2).sum(1).mean()))


def align(image: Pixels, transform: NDArray[np.float64]) -> Pixels:
    """Return the aligned crop, uint8 (112, 112, 3), of an image (H, W, 3); black outside the image."""
    import cv2

    per_pixel = 1 / scale_of(transform)
    if per_pixel > SAMPLES:
        image, transform = _shrunk(image, transform, SAMPLES / per_pixel)
    crop: Pixels = cv2.warpAffine(image, transform, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
    return crop


def _shrunk(image: Pixels, transform: NDArray[np.float64], factor: float) -> tuple[Pixels, NDArray[np.float64]]:
    """Return the part of an image that the crop shows, shrunk by a factor below 1, and the transform from there."""
    import cv2

    height, width = image.shape[:2]
    corners = np.array([(0, 0), (SIZE, 0), (SIZE, SIZE), (0, SIZE)]) - transform[:, 2]
    seen = corners @ np.linalg.inv(transform[:, :2]).T
    margin = 2 / factor
    left, top = np.clip(np.floor(seen.min(0) - margin), 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(np.ceil(seen.max(0) + margin), (left + 1, top + 1), (width, height)).astype(int)
    part = image[top:bottom, left:right]
    size = tuple(max(1, round(side * factor)) for side in part.shape[1::-1])
    small: Pixels = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    ratio = np.array(part.shape[1::-1]) / size
    # The centre of the first pixel stays there: x becomes (x + 0.5) / ratio - 0.5 in the small image.
    linear = transform[:, :2] * ratio
    shift = transform[:, :2] @ (0.5 * ratio - 0.5 + (left, top)) + transform[:, 2]
    return small, np.column_stack([linear, shift])


def _complex(points: Sequence[Point]) -> NDArray[np.complex128]:
    x, y = np.asarray(points, np.float64).T
    return np.asarray(x + 1j * y)


def sharpness(crop: Pixels) -> float:
    """Return how sharp an aligned face, uint8 (112, 112, 3), is in the direction in which it is the least.

    From 0, higher is sharper: the lesser variance of the second derivatives along rows and along columns, over
    distances that noise does not reach. Large sharp faces have about 22, those of 32 pixels 8, of 20 pixels 4; smeared
    by an eighth of their width 2.5. The variance of the Laplacian, which adds both up, takes a smear for sharp.
    """
    import cv2

    grey = cv2.GaussianBlur(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.0)
    kernel = np.array([[1, -2, 1]], np.float32)
    return min(float(cv2.filter2D(grey, -1, along).var()) for along in (kernel, np.ascontiguousarray(kernel.T)))
