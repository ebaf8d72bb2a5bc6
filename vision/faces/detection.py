"""Face detection: YuNet over a pyramid of the image, each candidate detected again at one size.

The network of YuNet 2023mar (Wu, Peng, Yu 2023, https://doi.org/10.1007/s11633-023-1423-y) detects faces of about 20 to
640 of its own pixels, so every face falls into the range of a level of the pyramid. Every level is searched as a whole,
as no coarser one says where there is nothing to find: of 188 faces of up to 80 pixels in the finest level, 37 have a
score below 0.1 at half its scale (of 67 of up to 32 pixels, 29). Nor does contrast: half of a photograph has as much as
the faintest face.

Its score depends on the size of the face in its input. So each candidate is cut out, resized to one size and detected
again alone, and the score of that view is the confidence: faces of 20 pixels in an image of 1280 then score like large
ones, and most false candidates vanish. A last, closer view gives the landmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.faces.face import Face, Square
from vision.faces.yunet import MULTIPLE, SCORE, Detections, YuNet
from vision.images import Pixels

ENLARGE: Final = 2.0
STEP: Final = 6
"""Ratio of neighbouring levels of the pyramid."""
COARSE: Final = 480
"""A level whose shorter side is no longer than this needs no coarser one: a face cannot be much larger."""

CANDIDATE: Final = 0.5
OVERLAP: Final = 0.3
"""Intersection over union above which two detections are one face; OpenCV's own default."""
MAX_CANDIDATES: Final = 500
MAX_CLOSE: Final = 50
"""Bounds of the work that one picture can ask for: candidates by score, and close views by size of the face."""

MAX_VIEWS: Final = 4
SETTLED: Final = 0.7
"""Intersection over union of a candidate and its view, above which the view confirms it."""


@dataclass(frozen=True, slots=True)
class View:
    """A square ``context`` times as long as a face, at ``size`` pixels; ``at_once`` of them go through together."""

    size: int
    context: float
    at_once: int


SURE: Final = View(160, 2.0, 16)
"""At faces of 80 pixels the scores of true faces and of others are the furthest apart."""
CLOSE: Final = View(480, 1.5, 2)
"""At faces of 320 pixels the landmarks are the truest: off by 2 % of a face tilted by 15°, instead of 4.4 %."""


VIEW_SIZES: Final = ((SURE.size, SURE.size), (CLOSE.size, CLOSE.size))


@dataclass(frozen=True, slots=True, eq=False)
class Pyramid:
    """A picture and its levels: uint8 (1, h, w, 3), padded with black at the right and bottom, and their scales.

    ``close``: whether its largest faces get landmarks of a close view.
    """

    image: Pixels
    levels: list[tuple[Pixels, float]]
    close: bool


def pyramid(image: Pixels, finest: float, *, close: bool) -> Pyramid:
    """Return the pyramid of a picture whose finest level has the scale ``finest``."""
    scales = [finest]
    while min(image.shape[:2]) * scales[-1] > COARSE:
        scales.append(scales[-1] / STEP)
    return Pyramid(image, [(_scaled(image, scale), scale) for scale in scales], close)


def finest_scale(height: int, width: int, megapixels: float) -> float:
    """Return the scale at which a picture has ``megapixels``, at most 2."""
    pixels = megapixels * 1e6
    # A strip a few pixels high is padded to MULTIPLE, so its length alone sets its size.
    strip = pixels / (MULTIPLE * max(height, width))
    return min(ENLARGE, sqrt(pixels / (height * width)), strip)


class FaceSearch:
    """Finds the faces of pyramids; ``streams`` threads may call it at the same time.

    ``exact`` is the network of the views, whose numbers are the answer. ``coarse`` is that of all levels but the
    finest: the same as ``network``, in memory of its own, so that none is arranged for another size in every picture.
    """

    def __init__(self, network: YuNet, exact: YuNet, coarse: YuNet | None = None) -> None:
        self.streams, self.device = network.streams, network.device
        self.engine = f"{network.engine}, boxes and scores in fp32"
        self._network = network
        self._coarse = coarse or network
        self._exact = exact

    def __call__(self, item: Pyramid, confidence: float) -> tuple[Face, ...]:
        """Return the faces of at least this confidence, most confident first."""
        networks = [self._network, *[self._coarse] * (len(item.levels) - 1)]
        candidates = [
            _rescaled(network(level, CANDIDATE)[0], scale)
            for network, (level, scale) in zip(networks, item.levels, strict=True)
        ]
        faces = self._confirmed(item.image, _distinct(np.concatenate(candidates))[:MAX_CANDIDATES], confidence)
        if item.close:
            faces = self._with_close_landmarks(item.image, faces)
        height, width = item.image.shape[:2]
        return tuple(_face(row, height, width) for row in faces)

    def follow(self, image: Pixels, faces: Sequence[Face], confidence: float) -> tuple[Face, ...]:
        """Return the faces that are where they are expected, most confident first; nothing else is looked at."""
        expected = np.zeros((len(faces), SCORE + 1), np.float32)
        for row, face in zip(expected, faces, strict=True):
            row[:4], row[SCORE] = (face.x, face.y, face.width, face.height), face.confidence
        height, width = image.shape[:2]
        return tuple(_face(row, height, width) for row in self._confirmed(image, expected, confidence))

    def _confirmed(self, image: Pixels, candidates: Detections, confidence: float) -> Detections:
        """Return the candidates that a view of each alone confirms, as that view sees them, surest first.

        A candidate that covers only a part of a face is moved by a view; then it is viewed where it is now.
        """
        confirmed = [np.empty((0, SCORE + 1), np.float32)]
        for _ in range(MAX_VIEWS):
            seen = self._viewed(image, candidates, SURE, confidence)
            moved = [np.empty((0, SCORE + 1), np.float32)]
            for was, now in zip(candidates, seen, strict=True):
                if len(now):
                    (confirmed if overlap(was[:4], now[:, :4])[0] > SETTLED else moved).append(now)
            candidates = _distinct(np.concatenate(moved))
        return _distinct(np.concatenate(confirmed))

    def _with_close_landmarks(self, image: Pixels, faces: Detections) -> Detections:
        """Return the faces, the largest with the landmarks of a close view where that sees the same face."""
        faces = faces.copy()
        largest = np.argsort(-faces[:, 2] * faces[:, 3])[:MAX_CLOSE]
        for index, close in zip(largest, self._viewed(image, faces[largest], CLOSE, CANDIDATE), strict=True):
            if len(close):
                faces[index, 4:SCORE] = close[0, 4:SCORE]
        return faces

    def _viewed(self, image: Pixels, faces: Detections, view: View, floor: float) -> list[Detections]:
        """Return for each face the surest detection that overlaps it in its view, one or none."""
        detections: list[Detections] = []
        for start in range(0, len(faces), view.at_once):
            some = faces[start : start + view.at_once]
            squares = [_square(face, view.context) for face in some]
            cuts = np.stack([square.cut(image, view.size) for square in squares])
            for face, square, seen in zip(some, squares, self._exact(cuts, floor), strict=True):
                seen = _rescaled(seen, view.size / square.side, square.x, square.y)
                same = seen[overlap(face[:4], seen[:, :4]) > OVERLAP]
                detections.append(same[np.argsort(-same[:, SCORE])[:1]])
        return detections


def _scaled(image: Pixels, scale: float) -> Pixels:
    import cv2

    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized: Pixels = cv2.resize(image, (width, height), interpolation=how)
    below, right = -height % MULTIPLE, -width % MULTIPLE
    if below or right:
        resized = cv2.copyMakeBorder(resized, 0, below, 0, right, cv2.BORDER_CONSTANT, value=0)
    return resized[None]


def _rescaled(detections: Detections, scale: float, x: float = 0, y: float = 0) -> Detections:
    """Return detections in pixels of the picture, given those of a part of it, scaled by ``scale``."""
    moved = detections.copy()
    moved[:, :SCORE] /= scale
    corners = [0, *range(4, SCORE, 2)]
    moved[:, corners] += x
    moved[:, [column + 1 for column in corners]] += y
    return moved


def _square(face: Detections, context: float) -> Square:
    x, y, width, height = face[:4].tolist()
    return Square.around(x, y, width, height, context)


def _distinct(detections: Detections) -> Detections:
    """Return the surest of each group that overlaps (non-maximum suppression), surest first."""
    import cv2

    kept = cv2.dnn.NMSBoxes(detections[:, :4].tolist(), detections[:, SCORE].tolist(), 0.0, OVERLAP)
    return detections[np.asarray(kept, np.intp).ravel()]


def overlap(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union of one box with each of ``boxes`` float32[n, 4]; 0 to 1."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    union = box[2] * box[3] + boxes[:, 2] * boxes[:, 3] - shared
    shares: NDArray[np.float32] = np.asarray(shared / np.maximum(union, 1e-9), np.float32)
    return shares


def _face(row: Detections, height: int, width: int) -> Face:
    left, top, right, bottom = row[0], row[1], row[0] + row[2], row[1] + row[3]
    x, y = max(0.0, float(left)), max(0.0, float(top))
    return Face(
        x=x,
        y=y,
        width=min(float(width), float(right)) - x,
        height=min(float(height), float(bottom)) - y,
        confidence=min(1.0, float(row[SCORE])),
        landmarks=tuple((float(a), float(b)) for a, b in row[4:SCORE].reshape(5, 2)),
    )
