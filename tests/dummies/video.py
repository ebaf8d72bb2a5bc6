"""Stand-ins for the models that index videos: people are rectangles of their own colours, also after encoding."""

import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from deployments.people.identity import FaceVector
from deployments.serving.stage import Stage, StageConfig
from tests.dummies.photos import LANDMARKS
from vision.errors import StageError
from vision.faces.face import Face
from vision.images import Pixels
from vision.shots.transitions import Probabilities

PEOPLE = {"ada": (225, 45, 40), "bob": (40, 190, 70), "cyd": (50, 70, 225)}
NEAR = 60
"""Sum of the differences of a pixel's colours within which it is still somebody's."""
LEAST_PIXELS = 64
ANOTHER = 20
"""Mean difference of the colours of two pictures, 0-255, from which they are of two shots."""
SLIGHT = 3
"""And from which they perhaps are."""


def seen_in(image: Pixels) -> tuple[Face, ...]:
    """A face for each colour of ``PEOPLE`` that the picture has enough of."""
    found = []
    for colour in PEOPLE.values():
        rows, columns = np.nonzero(np.abs(image.astype(np.int16) - colour).sum(2) < NEAR)
        if len(rows) >= LEAST_PIXELS:
            x, y = float(columns.min()), float(rows.min())
            width, height = float(np.ptp(columns) + 1), float(np.ptp(rows) + 1)
            landmarks = tuple((x + a * width, y + b * height) for a, b in LANDMARKS)
            found.append(Face(x, y, width, height, 0.9, landmarks))
    return tuple(found)


class DummyVideoFaces(Stage[StageConfig, Pixels, Pixels, tuple[Face, ...]]):
    """What ``seen_in`` finds. A test may hold it up, or have it fail."""

    key = "people/video_faces"
    running: ClassVar["DummyVideoFaces"]
    """The one loaded last."""

    def load(self) -> None:
        self.looks = 0
        self.version = "dummy@00000001"
        self.failing: list[StageError | Exception] = []
        """What the next looks end in."""
        self.hold_after: int | None = None
        """Looks after which it waits to be released."""
        self.released = threading.Event()
        DummyVideoFaces.running = self

    def predict_batch(self, items: list[Pixels]) -> Sequence[tuple[Face, ...] | StageError]:
        return [self._see(item) for item in items]

    def _see(self, image: Pixels) -> tuple[Face, ...] | StageError:
        if image.max() == 0:
            return ()
        if self.hold_after is not None and self.looks >= self.hold_after:
            assert self.released.wait(30)
        self.looks += 1
        failure = self.failing.pop(0) if self.failing else None
        if isinstance(failure, StageError):
            return failure
        if failure is not None:
            raise failure
        return seen_in(image)

    def info(self) -> dict[str, Any]:
        return {"model": "dummy", "model_version": self.version, "threshold": 0.7}


class DummyCuts(Stage[StageConfig, Pixels, Pixels, Probabilities]):
    """Sure of a cut where the next frame is another picture, and not so sure where somebody comes into it."""

    key = "shots/cuts"
    running: ClassVar["DummyCuts"]
    """The one loaded last."""

    def load(self) -> None:
        self.windows = 0
        self.version = "dummy@00000003"
        DummyCuts.running = self

    def predict_batch(self, items: list[Pixels]) -> Sequence[Probabilities | StageError]:
        self.windows += len(items)
        return [self._cuts(item) for item in items]

    def _cuts(self, window: Pixels) -> Probabilities:
        changes = np.abs(np.diff(window.astype(np.int16), axis=0)).mean((1, 2, 3))
        found = np.zeros((len(window), 2), np.float32)
        found[:-1][changes > SLIGHT] = 0.3
        found[:-1][changes > ANOTHER] = 0.9
        return found

    def info(self) -> dict[str, Any]:
        return {"model": "dummy", "model_version": self.version}


class DummyPhotoFaces(Stage[StageConfig, Pixels, Pixels, tuple[Face, ...]]):
    """What ``seen_in`` finds."""

    key = "people/faces"

    def load(self) -> None:
        pass

    def predict_batch(self, items: list[Pixels]) -> Sequence[tuple[Face, ...] | StageError]:
        return [seen_in(item) for item in items]

    def info(self) -> dict[str, Any]:
        return {"model": "dummy", "model_version": "dummy@00000001", "threshold": 0.87}


class DummyRecognizer(Stage[StageConfig, Any, Any, tuple[FaceVector, ...]]):
    """Each person has a direction of their own; faces differ by a bit of noise that depends on where they are."""

    key = "people/identity"

    def load(self) -> None:
        pass

    def predict_batch(
        self, items: list[tuple[Pixels, tuple[Face, ...]]]
    ) -> Sequence[tuple[FaceVector, ...] | StageError]:
        return [tuple(self._know(image, face) for face in faces) for image, faces in items]

    def _know(self, image: Pixels, face: Face) -> FaceVector:
        colour = image[int(face.y + face.height / 2), int(face.x + face.width / 2)].astype(int)
        person = int(np.argmin([np.abs(colour - known).sum() for known in PEOPLE.values()]))
        place = np.random.default_rng((int(face.x), int(face.y)))
        vector = np.random.default_rng(person).normal(size=128) + place.normal(0, 0.5, 128)
        return FaceVector((vector / np.linalg.norm(vector)).astype(np.float32), 0.9)

    def info(self) -> dict[str, Any]:
        return {"model": "dummy", "model_version": "dummy@00000002"}
