"""A stand-in for the recognizer of faces: vectors whose cosines a test can compute from its pictures."""

from typing import Any

import numpy as np

from deployments.people.identity import FaceVector
from tests.dummies.dummy import Dummy
from tests.dummies.photos import FACES
from vision.faces.face import Face
from vision.images import Pixels


class DummyIdentity(Dummy[Any, tuple[FaceVector, ...]]):
    """Each colour of ``FACES`` is a person with two dimensions of its own; there a face's vector turns by one degree
    for each pixel of its height. Faces from 20 pixels on are clear, lower ones are not."""

    key = "people/identity"

    def predict(self, item: tuple[Pixels, tuple[Face, ...]]) -> tuple[FaceVector, ...]:
        self.calls += 1
        image, faces = item
        return tuple(self._vector(image, face) for face in faces)

    def _vector(self, image: Pixels, face: Face) -> FaceVector:
        colour = image[int(face.y + face.height / 2), int(face.x + face.width / 2)]
        person = list(FACES).index(tuple(colour.tolist()))
        vector = np.zeros(128, np.float32)
        angle = np.radians(face.height)
        vector[2 * person : 2 * person + 2] = np.cos(angle), np.sin(angle)
        return FaceVector(vector, 0.9 if face.height >= 20 else 0.4)
