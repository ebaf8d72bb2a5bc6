"""Stand-ins for the models that index videos: people are rectangles of their own colours, also after encoding."""

import threading
from typing import Any, ClassVar

import numpy as np

from deployments.people.identity import FaceVector
from deployments.shots.cuts import Decisions
from tests.dummies.dummy import Dummy
from tests.dummies.photos import LANDMARKS
from vision.errors import StageError
from vision.faces.continuity import matched
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
    faces = []
    for colour in PEOPLE.values():
        rows, columns = np.nonzero(np.abs(image.astype(np.int16) - colour).sum(2) < NEAR)
        if len(rows) >= LEAST_PIXELS:
            x, y = float(columns.min()), float(rows.min())
            width, height = float(np.ptp(columns) + 1), float(np.ptp(rows) + 1)
            landmarks = tuple((x + a * width, y + b * height) for a, b in LANDMARKS)
            faces.append(Face(x, y, width, height, 0.9, landmarks))
    return tuple(faces)


class DummyVideoFaces(Dummy[Pixels | tuple[Pixels, tuple[Face, ...]], tuple[Face, ...]]):
    """What ``seen_in`` finds. A test may hold it up, or have it fail."""

    key = "people/video_faces"

    def load(self) -> None:
        super().load()
        self.version = "dummy@00000001"
        self.frames_seen = 0
        """In all of which it looks, or where faces are expected."""
        self.frames_followed = 0
        """Those in which it looks only where faces are expected."""
        self.failing: list[StageError | Exception] = []
        """What the next frames end in."""
        self.hold_after: int | None = None
        """Frames after which it waits to be released."""
        self.released = threading.Event()

    def predict(self, item: Pixels | tuple[Pixels, tuple[Face, ...]]) -> tuple[Face, ...]:
        expected: tuple[Face, ...] | None = None
        if isinstance(item, tuple):
            item, expected = item
            self.frames_followed += 1
        if item.max() == 0:
            return ()
        if self.hold_after is not None and self.frames_seen >= self.hold_after:
            assert self.released.wait(30)
        self.frames_seen += 1
        if self.failing:
            raise self.failing.pop(0)
        faces = seen_in(item)
        if expected is None:
            return faces
        return tuple(face for face in faces if any(matched([face], [each]) is not None for each in expected))

    def info(self) -> dict[str, Any]:
        return super().info() | {"threshold": 0.7}


class DummyCuts(Dummy[Pixels | tuple[Pixels, Decisions], Probabilities]):
    """Sure of a cut where the next frame is another picture, and not so sure where somebody comes into it.

    ``glances`` counts the windows of which decisions are enough; that of an older version takes none.
    """

    takes_decisions: ClassVar[bool] = True

    key = "shots/cuts"

    def load(self) -> None:
        super().load()
        self.version = "dummy@00000003"
        self.windows = self.glances = 0

    def predict(self, item: Pixels | tuple[Pixels, Decisions]) -> Probabilities:
        self.windows += 1
        self.glances += isinstance(item, tuple)
        item = item[0] if isinstance(item, tuple) else item
        changes = np.abs(np.diff(item.astype(np.int16), axis=0)).mean((1, 2, 3))
        probabilities = np.zeros((len(item), 2), np.float32)
        probabilities[:-1][changes > SLIGHT] = 0.3
        probabilities[:-1][changes > ANOTHER] = 0.9
        return probabilities

    def info(self) -> dict[str, Any]:
        return super().info() | ({"decisions": "dummy"} if self.takes_decisions else {})


class DummyPhotoFaces(Dummy[Pixels, tuple[Face, ...]]):
    """What ``seen_in`` finds."""

    key = "people/faces"

    def load(self) -> None:
        super().load()
        self.version = "dummy@00000001"

    def predict(self, item: Pixels) -> tuple[Face, ...]:
        return seen_in(item)

    def info(self) -> dict[str, Any]:
        return super().info() | {"threshold": 0.87}


class DummyRecognizer(Dummy[Any, tuple[FaceVector, ...]]):
    """Each person has a direction of their own; faces differ by a bit of noise that depends on where they are."""

    key = "people/identity"

    def load(self) -> None:
        super().load()
        self.version = "dummy@00000002"

    def predict(self, item: tuple[Pixels, tuple[Face, ...]]) -> tuple[FaceVector, ...]:
        image, faces = item
        return tuple(_vector(image, face) for face in faces)


def _vector(image: Pixels, face: Face) -> FaceVector:
    colour = image[int(face.y + face.height / 2), int(face.x + face.width / 2)].astype(int)
    person = int(np.argmin([np.abs(colour - known).sum() for known in PEOPLE.values()]))
    place = np.random.default_rng((int(face.x), int(face.y)))
    vector = np.random.default_rng(person).normal(size=128) + place.normal(0, 0.5, 128)
    return FaceVector((vector / np.linalg.norm(vector)).astype(np.float32), 0.9)
