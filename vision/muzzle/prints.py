"""Prints of muzzles: where beads and ridges lie, what each looks like, and how two prints fit onto each other.

Local features need no training and know no animal: two photos show one muzzle when many of the same small patterns lie
in the same arrangement. Each photo is brought to one size, its light evened out by CLAHE (Zuiderveld 1994), and
described by SIFT (Lowe 2004, https://doi.org/10.1023/B:VISI.0000029664.99615.94) in the metric of RootSIFT
(Arandjelović and Zisserman 2012). Only what looks like the skin of a muzzle counts, so that nostrils, hair, halters and
the stall behind the animal match nobody. Two patterns match when each is the nearest of the other and clearly nearer
than the next one (Lowe's ratio test); matches that agree on one similarity transform (RANSAC, Fischler and Bolles 1981)
are inliers.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidInput
from vision.images import Pixels

Array = NDArray[np.float32]

SIDE: Final = 256
"""Longer side of a normalised photo in pixels; twice as many cost four times as much and tell no more."""
CLIP_LIMIT: Final = 4.0
TILES: Final = 8
MAX_FEATURES: Final = 1000
CELLS: Final = 16
"""Features are taken from all over the photo: the strongest of each of 16 x 16 cells, then the next ones of each."""
CONTRAST: Final = 0.01
EDGE: Final = 12.0
RATIO: Final = 0.85
TOLERANCE: Final = 0.02 * SIDE
"""Greatest distance in pixels of an inlier from where the transform puts it; muzzles are no planes."""
SCALES: Final = (1 / 3, 3.0)
"""Scales of transforms that photos of one muzzle may have."""
PLACE: Final = SIDE / 64
"""Inliers whose places in the probe are nearer than this, in pixels, count once: one speck has many features."""
SKIN_SHARE: Final = 0.5
"""Skin is what is at least half as much like a muzzle as the most muzzle-like parts of its photo are."""
SKIN_PERCENTILE: Final = 95

MIN_INLIERS: Final = 8
"""Least inliers of prints of one animal (``ops/calibration/prints.py``)."""

FORMAT: Final = b"MUZZLE1\n"
_RECORD: Final = np.dtype([("x", "<f2"), ("y", "<f2"), ("descriptor", "u1", (128,))])
NO_PRINT: Final = "This is no muzzle print of this version; enrol the animal again."
MAX_BYTES: Final = len(FORMAT) + 1024 + MAX_FEATURES * _RECORD.itemsize


@dataclass(frozen=True, slots=True, eq=False)
class Print:
    """Features of one muzzle.

    ``points``: float32[n, 2], x and y in pixels of the normalised photo, 0 to 256. ``descriptors``: uint8[n, 128], of
    SIFT. n is at most 1000.
    """

    points: Array
    descriptors: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.points)

    def to_bytes(self) -> bytes:
        """Return the print as it is stored, 132 bytes a feature."""
        records = np.empty(len(self), _RECORD)
        records["x"], records["y"], records["descriptor"] = self.points[:, 0], self.points[:, 1], self.descriptors
        buffer = io.BytesIO(FORMAT)
        buffer.seek(0, io.SEEK_END)
        np.save(buffer, records, allow_pickle=False)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Print":
        """Read what ``to_bytes`` returned. Raises InvalidInput for anything else."""
        if not is_print(data):
            raise InvalidInput(NO_PRINT)
        try:
            records = np.load(io.BytesIO(data[len(FORMAT) :]), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InvalidInput(NO_PRINT) from error
        if records.dtype != _RECORD or records.ndim != 1:
            raise InvalidInput(NO_PRINT)
        return cls(
            np.stack([records["x"], records["y"]], axis=1).astype(np.float32),
            np.ascontiguousarray(records["descriptor"]),
        )


@dataclass(frozen=True, slots=True)
class PrintMatch:
    """How one print fits onto another.

    ``inliers``: places that agree on the transform, from 0, higher is more alike; ``matches``: places that matched at
    all; ``scale``, ``rotation`` (degrees, clockwise) and ``shift`` (x, y, in shares of the longer side of the
    normalised photo) map the first print onto the second, None without matches that agree. ``points``: of each inlier
    x, y in the first and x, y in the second, in pixels of the normalised photos.
    """

    inliers: int = 0
    matches: int = 0
    scale: float | None = None
    rotation: float | None = None
    shift: tuple[float, float] | None = None
    points: tuple[tuple[float, float, float, float], ...] = ()

    @property
    def share(self) -> float:
        """Return the share of the matches that are inliers, 0 to 1."""
        return self.inliers / self.matches if self.matches else 0.0


def is_print(data: bytes) -> bool:
    """Return whether these bytes are a print of this version, which ``Print.from_bytes`` reads."""
    return data.startswith(FORMAT) and len(data) <= MAX_BYTES


def normalized(image: Pixels, side: int = SIDE) -> NDArray[np.uint8]:
    """Return the photo, uint8 (H, W, 3) RGB, in grey, its longer side 256 pixels, its light evened out by CLAHE."""
    import cv2

    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=how)
    return np.asarray(cv2.createCLAHE(CLIP_LIMIT, (TILES, TILES)).apply(grey), np.uint8)


def skin_of(likeness: Array | None, height: int, width: int) -> NDArray[np.bool_]:
    """Return which pixels show the skin of the muzzle, bool (H, W), by the likeness of the parts of the photo to one.

    Everything where nothing is known of its parts.
    """
    import cv2

    if likeness is None or not likeness.size:
        return np.ones((height, width), bool)
    limit = SKIN_SHARE * float(np.percentile(likeness, SKIN_PERCENTILE))
    if limit <= 0:
        return np.zeros((height, width), bool)
    return np.asarray(cv2.resize(likeness.astype(np.float32), (width, height)) >= limit, bool)


def take_print(grey: NDArray[np.uint8], skin: NDArray[np.bool_]) -> Print:
    """Return the print of a normalised photo: at most 1000 features on its skin."""
    import cv2

    sift = cv2.SIFT.create(0, contrastThreshold=CONTRAST, edgeThreshold=EDGE)
    inside = skin.astype(np.uint8) * 255
    keypoints, descriptors = sift.compute(grey, _spread(sift.detect(grey, inside), grey.shape))
    if descriptors is None:
        return Print(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8))
    # In half precision, as they are stored: a kept print gives what its photo gave.
    points = np.array([each.pt for each in keypoints], np.float16).astype(np.float32)
    return Print(points, np.clip(np.rint(descriptors), 0, 255).astype(np.uint8))


def _spread(keypoints: Sequence[Any], shape: tuple[int, ...]) -> list[Any]:
    """Return at most MAX_FEATURES keypoints of OpenCV, in turn the strongest of every cell."""
    height, width = shape[:2]
    cells: dict[tuple[int, int], list[Any]] = {}
    for each in keypoints:
        cells.setdefault((int(each.pt[0] * CELLS / width), int(each.pt[1] * CELLS / height)), []).append(each)
    ranked = [
        (rank, -each.response, each.pt, each)
        for cell in cells.values()
        for rank, each in enumerate(sorted(cell, key=lambda found: (-found.response, found.pt)))
    ]
    return [each for *_, each in sorted(ranked, key=lambda found: found[:3])[:MAX_FEATURES]]


def match(first: Print, second: Print) -> PrintMatch:
    """Match two prints. The result is the same on every call; of prints of fewer than three features it is empty."""
    import cv2

    pairs = _nearest(first, second)
    source, target = first.points[pairs[:, 0]], second.points[pairs[:, 1]]
    matches = len(_places(source))
    if len(pairs) < 3:
        return PrintMatch(matches=matches)
    cv2.setRNGSeed(0)
    transform, inside = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=TOLERANCE, maxIters=2000, confidence=0.995
    )
    if transform is None:
        return PrintMatch(matches=matches)
    scale = math.hypot(transform[0, 0], transform[1, 0])
    if not SCALES[0] <= scale <= SCALES[1]:
        return PrintMatch(matches=matches)
    chosen = np.flatnonzero(inside.ravel())
    kept = chosen[_places(source[chosen])]
    kept = kept[_places(target[kept])]
    return PrintMatch(
        inliers=len(kept),
        matches=max(matches, len(kept)),
        scale=round(scale, 4),
        rotation=round(math.degrees(math.atan2(transform[1, 0], transform[0, 0])), 2),
        shift=(round(float(transform[0, 2]) / SIDE, 4), round(float(transform[1, 2]) / SIDE, 4)),
        points=tuple(tuple(map(float, row)) for row in np.hstack([source[kept], target[kept]])),  # type: ignore[misc]
    )


def _nearest(first: Print, second: Print) -> NDArray[np.int64]:
    """Return int64[m, 2]: features that are nearest to each other and pass the ratio test."""
    if len(first) < 2 or len(second) < 2:
        return np.zeros((0, 2), np.int64)
    cosines = _root(first.descriptors) @ _root(second.descriptors).T
    rows = np.arange(len(first))
    back, best = cosines.argmax(0), cosines.argmax(1)
    nearest = cosines[rows, best]
    cosines[rows, best] = -1
    distances = np.sqrt(np.maximum(2 - 2 * np.stack([nearest, cosines.max(1)]), 0))
    good = (distances[0] < RATIO * distances[1]) & (back[best] == rows)
    return np.stack([rows[good], best[good]], axis=1)


def _root(descriptors: NDArray[np.uint8]) -> Array:
    """Return the descriptors of RootSIFT, float32[n, 128] of length 1."""
    values = descriptors.astype(np.float32)
    return np.asarray(np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1)), np.float32)


def _places(points: Array) -> NDArray[np.int64]:
    """Return the rows of the first point of each place, in order."""
    _, rows = np.unique(np.floor(points / PLACE).astype(np.int64), axis=0, return_index=True)
    return np.sort(rows)
