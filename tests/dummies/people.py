"""A stand-in for the recognizer of faces: vectors whose cosines a test can compute from its pictures."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from deployments.people.identity import FaceVector
from deployments.serving.stage import Stage, StageConfig
from tests.dummies.photos import FACES
from vision.errors import StageError
from vision.faces.face import Face
from vision.images import Pixels


class DummyIdentity(Stage[StageConfig, Any, Any, tuple[FaceVector, ...]]):
    """Each colour of ``FACES`` is a person with two dimensions of its own; there a face's vector turns by one degree
    for each pixel of its height. Faces from 20 pixels on are clear, lower ones are not."""

    key = "people/identity"
    running: ClassVar["DummyIdentity"]
    """The one loaded last."""

    def load(self) -> None:
        self.calls: list[int] = []
        DummyIdentity.running = self

    def predict_batch(
        self, items: list[tuple[Pixels, tuple[Face, ...]]]
    ) -> Sequence[tuple[FaceVector, ...] | StageError]:
        self.calls.append(len(items))
        return [tuple(self._know(image, face) for face in faces) for image, faces in items]

    def _know(self, image: Pixels, face: Face) -> FaceVector:
        colour = image[int(face.y + face.height / 2), int(face.x + face.width / 2)]
        person = list(FACES).index(tuple(colour.tolist()))
        vector = np.zeros(128, np.float32)
        angle = np.radians(face.height)
        vector[2 * person : 2 * person + 2] = np.cos(angle), np.sin(angle)
        return FaceVector(vector, 0.9 if face.height >= 20 else 0.4)

    def info(self) -> dict[str, Any]:
        return {"model": "dummy", "model_version": "dummy@00000000"}
