"""The one face of a video that is followed: from look to look where it was, as long as it is the same person."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vision.faces.face import Face, align, similarity_transform
from vision.forensics.temporal import FaceTrack
from vision.images import Pixels

SAME = 0.3
"""Cosine with the vectors so far from which it is the same person; OpenCV publishes 0.363 for two photographs."""
LEAST_OVERLAP = 0.1


@dataclass
class Follower:
    """Give it the faces of each look in order; ``track`` is of the face that was seen most."""

    _tracks: list["_Track"] = field(default_factory=list)

    def chosen(self, faces: tuple[Face, ...]) -> tuple[Face, ...]:
        """The faces that are worth a vector: those that go on a track, and the largest one when none does."""
        going_on = [face for face in faces if any(_overlap(face, track.last) > LEAST_OVERLAP for track in self._tracks)]
        return tuple(going_on) or tuple(sorted(faces, key=lambda face: -face.width * face.height)[:1])

    def see(self, time: float, image: Pixels, faces: tuple[Face, ...], vectors: list[NDArray[np.float32]]) -> None:
        """The chosen faces of one look, with their vectors."""
        scene = float(image.mean())
        taken: set[int] = set()
        for face, vector in zip(faces, vectors, strict=True):
            places = [place for place in range(len(self._tracks)) if place not in taken]
            fits = [place for place in places if self._tracks[place].goes_on(face, vector)]
            place = max(fits, key=lambda place: _overlap(face, self._tracks[place].last), default=len(self._tracks))
            if place == len(self._tracks):
                self._tracks.append(_Track())
            taken.add(place)
            self._tracks[place].add(time, image, face, vector, scene)

    def track(self) -> FaceTrack | None:
        """None when there was no face."""
        return max(self._tracks, key=lambda track: len(track.times)).whole() if self._tracks else None


@dataclass
class _Track:
    times: list[float] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    crops: list[Pixels] = field(default_factory=list)
    scenes: list[float] = field(default_factory=list)

    @property
    def last(self) -> Face:
        return self.faces[-1]

    def goes_on(self, face: Face, vector: NDArray[np.float32]) -> bool:
        return _overlap(face, self.last) > LEAST_OVERLAP and float(np.mean(self.vectors, axis=0) @ vector) > SAME

    def add(self, time: float, image: Pixels, face: Face, vector: NDArray[np.float32], scene: float) -> None:
        import cv2

        crop = align(image, similarity_transform(face.landmarks))
        self.crops.append(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY))
        self.times.append(time)
        self.faces.append(face)
        self.vectors.append(vector)
        self.scenes.append(scene)

    def whole(self) -> FaceTrack:
        return FaceTrack(
            np.array(self.times),
            np.array([face.landmarks for face in self.faces], np.float64),
            np.array(self.vectors, np.float32),
            np.array(self.crops, np.uint8),
            np.array(self.scenes),
        )


def _overlap(one: Face, other: Face) -> float:
    """Intersection over union."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(0.0, width) * max(0.0, height)
    return common / (one.width * one.height + other.width * other.height - common)
