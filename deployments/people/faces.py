"""people/faces: where the faces of a picture are.

YuNet 2023mar (Wu, Peng, Yu 2023, https://doi.org/10.1007/s11633-023-1423-y) over a pyramid of the picture. Its
network finds faces of about 20 to 640 of its own pixels, so every face falls into the reach of a level: the finest
has ``fine_megapixels`` (a small picture is enlarged, twice at most), each next one a sixth of its width and height.

Its score, however, depends on the size at which a face was seen. So each candidate is looked at again, alone and
enlarged or shrunk to one size, and the score of that look is the confidence: faces that are 20 pixels high in a
picture of 1280 then score like large ones, and most false candidates vanish. A last, closer look gives the landmarks.

Measured on 58 photographs with 64 faces, frontal to profile: all are found, the least sure with 0.89. In 93 pictures
without people there is none; the surest candidates are a painted face with 0.86, a binocular with a smile with 0.79,
then 0.61. Of faces of 20 pixels in a picture of 1280, 47 of 48. Faces may be tilted by 30°; by 40° half of them are
found, and nearly all with a threshold of 0.7, which lets drawn faces in.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.stage import SharedImage, Stage, StageConfig, StageRef
from vision.faces.face import Face, Pixels, Square
from vision.faces.yunet import MULTIPLE, SCORE, Detections, YuNet
from vision.weights import Weights, resolve

MODEL: Final = "yunet-2023mar"
WEIGHT_FILE: Final = "face_detection_yunet_2023mar.onnx"
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
"""Bounds of the work that one picture can ask for: candidates by score, and close looks by size of the face."""

MAX_LOOKS: Final = 4
SETTLED: Final = 0.7
"""Intersection over union of a candidate and its look, above which the look confirms it."""


@dataclass(frozen=True, slots=True)
class Look:
    """A square ``context`` times as long as a face, at ``size`` pixels; ``at_once`` of them are looked at together."""

    size: int
    context: float
    at_once: int


SURE: Final = Look(160, 2.0, 16)
"""At faces of 80 pixels the scores of true faces and of others are the furthest apart."""
CLOSE: Final = Look(480, 1.5, 2)
"""At faces of 320 pixels the landmarks are the truest: off by 2 % of a face tilted by 15°, instead of 4.4 %."""


class Config(StageConfig):
    """``user_config`` of people/faces; all of it changes in place."""

    confidence: float = Field(default=0.87, ge=CANDIDATE, le=1, description="least confidence of a face")
    fine_megapixels: float = Field(
        default=5.0, gt=0, le=50, description="size of the finest level; time and memory (40 MB each) grow with it"
    )


@dataclass(frozen=True, slots=True, eq=False)
class Pyramid:
    """A picture and its levels: uint8 (1, h, w, 3), padded with black at the right and bottom, and their scales."""

    image: Pixels
    levels: list[tuple[Pixels, float]]


FACES: Final = StageRef[SharedImage, tuple[Face, ...]]("people/faces")


class FaceDetector(Stage[Config, Pixels, Pyramid, tuple[Face, ...]]):
    """Image → its faces, most confident first."""

    key = FACES.key
    config_class = Config
    prepare_threads = 2

    _weights: Weights
    _network: YuNet
    _exact: YuNet
    """For the looks, whose numbers are the answer."""

    def load(self) -> None:
        """Raises ModelNotLoaded with the reason of every source when the weights cannot be had."""
        self._weights = resolve(MODEL)
        path = self._weights.files[WEIGHT_FILE]
        self._network, self._exact = YuNet(path, exact=False), YuNet(path, exact=True)

    def warm_up(self) -> None:
        self.predict(self.prepare(np.zeros((480, 640, 3), np.uint8)))

    def batches_at_once(self) -> int:
        return self._network.streams

    def prepare(self, item: Pixels) -> Pyramid:
        return Pyramid(item, [(_scaled(item, scale), scale) for scale in self._scales(*item.shape[:2])])

    def predict(self, item: Pyramid) -> tuple[Face, ...]:
        candidates = [_rescaled(self._network(level, CANDIDATE)[0], scale) for level, scale in item.levels]
        sure = self._seen_again(item.image, _distinct(np.concatenate(candidates))[:MAX_CANDIDATES])
        height, width = item.image.shape[:2]
        return tuple(_face(row, height, width) for row in self._with_landmarks(item.image, sure))

    def info(self) -> dict[str, Any]:
        return {
            "method": "YuNet over a pyramid; every candidate seen again at one size",
            **self._weights.info(),
            "engine": "openvino, boxes and scores in fp32",
            "device": "cpu",
            "confidence": "0 to 1, higher is surer",
            "threshold": self.config.confidence,
            "smallest_face": "with 5 fine_megapixels about 1/64 of the longer side, at least 12 pixels",
            "most_faces": MAX_CANDIDATES,
            "accuracy": "WIDER Face validation AP of the network alone: easy 0.884, medium 0.866, hard 0.750",
        }

    def _scales(self, height: int, width: int) -> list[float]:
        pixels = self.config.fine_megapixels * 1e6
        # A strip a few pixels high is padded to MULTIPLE, so its length alone sets its size.
        strip = pixels / (MULTIPLE * max(height, width))
        scales = [min(ENLARGE, sqrt(pixels / (height * width)), strip)]
        while min(height, width) * scales[-1] > COARSE:
            scales.append(scales[-1] / STEP)
        return scales

    def _seen_again(self, image: Pixels, candidates: Detections) -> Detections:
        """The candidates that a look at each alone confirms, as that look sees them, surest first.

        A candidate that covers a part of a face only is moved by a look; then it is looked at where it is now.
        """
        confirmed = [np.empty((0, SCORE + 1), np.float32)]
        for _ in range(MAX_LOOKS):
            seen = self._look(image, candidates, SURE, self.config.confidence)
            moved = [np.empty((0, SCORE + 1), np.float32)]
            for was, now in zip(candidates, seen, strict=True):
                if len(now):
                    (confirmed if _overlaps(was, now)[0] > SETTLED else moved).append(now)
            candidates = _distinct(np.concatenate(moved))
        return _distinct(np.concatenate(confirmed))

    def _with_landmarks(self, image: Pixels, faces: Detections) -> Detections:
        """The faces, the largest of them with the landmarks of a close look where that sees the same face."""
        faces = faces.copy()
        largest = np.argsort(-faces[:, 2] * faces[:, 3])[:MAX_CLOSE]
        for index, close in zip(largest, self._look(image, faces[largest], CLOSE, CANDIDATE), strict=True):
            if len(close):
                faces[index, 4:SCORE] = close[0, 4:SCORE]
        return faces

    def _look(self, image: Pixels, faces: Detections, look: Look, floor: float) -> list[Detections]:
        """For each face the surest detection that overlaps it in a look at it, one or none."""
        found: list[Detections] = []
        for start in range(0, len(faces), look.at_once):
            some = faces[start : start + look.at_once]
            squares = [_square(face, look.context) for face in some]
            cuts = np.stack([square.cut(image, look.size) for square in squares])
            for face, square, seen in zip(some, squares, self._exact(cuts, floor), strict=True):
                seen = _rescaled(seen, look.size / square.side, square.x, square.y)
                same = seen[_overlaps(face, seen) > OVERLAP]
                found.append(same[np.argsort(-same[:, SCORE])[:1]])
        return found


def _scaled(image: Pixels, scale: float) -> Pixels:
    import cv2

    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=how)
    padded: Pixels = cv2.copyMakeBorder(
        resized, 0, -height % MULTIPLE, 0, -width % MULTIPLE, cv2.BORDER_CONSTANT, value=0
    )
    return padded[None]


def _rescaled(found: Detections, scale: float, x: float = 0, y: float = 0) -> Detections:
    """Detections in pixels of a part of the picture, scaled by ``scale``, as pixels of the picture."""
    moved = found.copy()
    moved[:, :SCORE] /= scale
    corners = [0, *range(4, SCORE, 2)]
    moved[:, corners] += x
    moved[:, [column + 1 for column in corners]] += y
    return moved


def _square(face: Detections, context: float) -> Square:
    x, y, width, height = face[:4].tolist()
    return Square.around(x, y, width, height, context)


def _distinct(found: Detections) -> Detections:
    """Non-maximum suppression: the surest of each group that overlaps, surest first."""
    import cv2

    kept = cv2.dnn.NMSBoxes(found[:, :4].tolist(), found[:, SCORE].tolist(), 0.0, OVERLAP)
    return found[np.asarray(kept, np.intp).ravel()]


def _overlaps(box: Detections, others: Detections) -> NDArray[np.float32]:
    """Intersection over union of one detection with each of others."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[:2] + box[2:4], others[:, :2] + others[:, 2:4])
    common = np.prod(np.maximum(high - low, 0), 1)
    shares: NDArray[np.float32] = common / (np.prod(box[2:4]) + np.prod(others[:, 2:4], 1) - common)
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
