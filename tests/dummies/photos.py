"""Stages of the photo API without weights: numbers that a test can compute from its picture."""

from typing import Any

import numpy as np
from PIL import Image

from deployments.people.emotion import Emotion
from deployments.people.faces import Boxes
from deployments.quality.brisque import Distortion
from deployments.quality.nima import Rating, Ratings
from tests.dummies.dummy import Dummy
from vision.embed.clip import ClipEmbedding
from vision.errors import InvalidInput
from vision.faces.face import Face
from vision.images import Pixels
from vision.language.review import Answer, Question, Review

FACES = {(255, 0, 255): ("happy", 0.9), (0, 255, 255): ("sad", 0.8)}
"""A rectangle of exactly this colour is a face with this emotion and confidence."""
LANDMARKS = ((0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.35, 0.75), (0.65, 0.75))
"""Where eyes, nose and mouth are in it, as shares of its width and height."""
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
REVIEW = Review(
    overall_score=8,
    discard_reason=None,
    best_in_group=True,
    composition="rule of thirds",
    pose_quality="natural",
    background_quality="soft",
    highlights=["sharp focus"],
    issues=[],
    summary="A good portrait.",
)


def brightness(image: Pixels) -> float:
    """0-1."""
    return float(image.mean()) / 255


class DummyBrisque(Dummy[Pixels, Distortion]):
    """A score of 100 times the brightness; a picture below 14 pixels has none."""

    key = "quality/brisque"

    def predict(self, item: Pixels) -> Distortion:
        if min(item.shape[:2]) < 14:
            raise InvalidInput("This picture is too small for BRISQUE.")
        return Distortion(100 * brightness(item), 100 * brightness(item), "dummy")


class DummyNima(Dummy[Pixels, Ratings]):
    """Technical: 10 less nine times the brightness; aesthetic: 1 more than nine times the brightness."""

    key = "quality/nima"

    def predict(self, item: Pixels) -> Ratings:
        self.calls += 1
        return Ratings(_rating(10 - 9 * brightness(item)), _rating(1 + 9 * brightness(item)))


def _rating(mean: float) -> Rating:
    """All chances on the two ratings beside the mean."""
    chances = np.interp(np.arange(1, 11), [mean - 1, mean, mean + 1], [0, 1, 0])
    return Rating(mean, 0.0, tuple((chances / chances.sum()).tolist()))


class DummyFaces(Dummy[Any, tuple[Face, ...]]):
    """Rectangles in the colours of ``FACES``, their boxes a bit larger, and never in whole pixels."""

    key = "people/faces"

    def predict(self, item: Pixels | tuple[Pixels, Boxes]) -> tuple[Face, ...]:
        image = item[0] if isinstance(item, tuple) else item
        return tuple(face for colour in FACES for face in _find(image, colour))


def _find(image: Pixels, colour: tuple[int, int, int]) -> list[Face]:
    rows, columns = np.nonzero((image == np.uint8(colour)).all(2))
    if not len(rows):
        return []
    height, width = image.shape[:2]
    left, top = max(0, columns.min() - 1.2), max(0, rows.min() - 1.2)
    right, bottom = min(width, columns.max() + 2.2), min(height, rows.max() + 2.2)
    box = float(left), float(top), float(right - left), float(bottom - top)
    landmarks = tuple((box[0] + x * box[2], box[1] + y * box[3]) for x, y in LANDMARKS)
    return [Face(*box, FACES[colour][1], landmarks)]


class DummyEmotion(Dummy[Any, tuple[Emotion, ...]]):
    """The emotion that belongs to the colour of each face, at 94 per cent."""

    key = "people/emotion"

    def predict(self, item: tuple[Pixels, tuple[Face, ...]]) -> tuple[Emotion, ...]:
        image, faces = item
        return tuple(_emotion(image, face) for face in faces)


def _emotion(image: Pixels, face: Face) -> Emotion:
    x, y = face.landmarks[0]
    dominant = FACES[tuple(image[int(y), int(x)].tolist())][0]
    return Emotion(dominant, {name: 94.0 if name == dominant else 1.0 for name in EMOTIONS})


class DummyClip(Dummy[Pixels, ClipEmbedding]):
    """512 numbers of a picture: its 16 x 32 thumbnail in grey, less the middle, of length 1."""

    key = "embed/clip"

    def predict(self, item: Pixels) -> ClipEmbedding:
        small = Image.fromarray(item).convert("L").resize((32, 16), Image.Resampling.BOX)
        values = np.asarray(small, np.float32).reshape(-1) - 127.5
        return ClipEmbedding(values / np.float32(np.linalg.norm(values)), "dummy/clip")


class DummyDescribe(Dummy[Question, Answer]):
    """The same review of every picture; the questions are kept."""

    key = "language/describe"

    def load(self) -> None:
        super().load()
        self.questions: list[Question] = []

    def predict(self, item: Question) -> Answer:
        self.questions.append(item)
        return Answer(REVIEW, f"{item.model}-20260101", 387)

    def info(self) -> dict[str, Any]:
        return {"model": "dummy"}


STATELESS = (DummyBrisque, DummyFaces, DummyEmotion, DummyClip)
