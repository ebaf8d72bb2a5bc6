"""What was found in a stretch of a video, as arrays that can be stored and put together."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from deployments.analysis.tracks import Detections
from deployments.people.identity import FaceVector
from vision.faces.face import Face

DIMENSIONS = 128


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The faces of one look, in pixels of its image; ``scale`` makes them pixels of the video."""

    frame: int
    faces: tuple[Face, ...]
    vectors: tuple[FaceVector, ...]
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Of consecutive frames.

    ``frames`` to ``vectors``: the faces, as ``Detections`` says, in pixels of the video, in the order in which they
    were seen. Of every frame ``changes`` float32[n, 2], as ``ChangeMeter`` says, and ``probabilities`` float32[n, 2],
    as ``shots/cuts`` says. ``motions`` float32[m, 8], as ``shots/camera`` says, from the frames ``moved_from`` int64[m]
    to the frames ``moved`` int64[m]. ``candidates`` int64[k] are frames of possible keyframes, and their ``sharpness``
    float64[k].
    """

    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    confidences: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    vectors: NDArray[np.float32]
    changes: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    moved_from: NDArray[np.int64]
    moved: NDArray[np.int64]
    motions: NDArray[np.float32]
    candidates: NDArray[np.int64]
    sharpness: NDArray[np.float64]

    @property
    def detections(self) -> Detections:
        """The faces, in the order of their frames."""
        # A look at the last frame of a shot is taken once the next one is seen, which may be in the next chunk.
        order = np.argsort(self.frames, kind="stable")
        return Detections(**{each.name: getattr(self, each.name)[order] for each in fields(Detections)})

    @classmethod
    def joined(cls, parts: Sequence["Findings"]) -> "Findings":
        """Of stretches that follow each other; there must be one."""
        return cls(**{each.name: np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)})

    def packed(self) -> bytes:
        """All of it as bytes."""
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **{each.name: getattr(self, each.name) for each in fields(self)})
        return file.getvalue()

    @classmethod
    def unpacked(cls, data: bytes) -> "Findings":
        """From what ``packed`` gave."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(**arrays)


def detections(looks: Sequence[Seen]) -> Detections:
    """As arrays, in pixels of the video and the order of the looks."""
    found = [(look, face, vector) for look in looks for face, vector in zip(look.faces, look.vectors, strict=True)]
    boxes = [np.multiply((face.x, face.y, face.width, face.height), look.scale) for look, face, _ in found]
    landmarks = [np.multiply(face.landmarks, look.scale) for look, face, _ in found]
    return Detections(
        frames=np.array([look.frame for look, _, _ in found], np.int64),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        confidences=np.array([face.confidence for _, face, _ in found], np.float32),
        landmarks=np.array(landmarks, np.float32).reshape(-1, 5, 2),
        vectors=np.array([vector.vector for _, _, vector in found], np.float32).reshape(-1, DIMENSIONS),
    )


def stretch(found: Detections, start: int, end: int) -> Detections:
    """Those at places ``start`` to before ``end``."""
    return Detections(**{each.name: getattr(found, each.name)[start:end] for each in fields(Detections)})


def faces_of(found: Detections, frames: NDArray[np.int64]) -> list[list[Face]]:
    """The faces in each of some frames."""
    firsts = np.searchsorted(found.frames, frames, "left").tolist()
    ends = np.searchsorted(found.frames, frames, "right").tolist()
    return [[_face(found, place) for place in range(*bounds)] for bounds in zip(firsts, ends, strict=True)]


def _face(found: Detections, place: int) -> Face:
    landmarks = tuple((x, y) for x, y in found.landmarks[place].tolist())
    x, y, width, height = found.boxes[place].tolist()
    return Face(x, y, width, height, float(found.confidences[place]), landmarks)
