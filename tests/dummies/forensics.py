"""Stand-ins for the models of the authenticity API: numbers that a test can compute from its picture or sound."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.forensics.generated import Generated
from deployments.forensics.visual import Visual
from deployments.forensics.voice import Voice
from tests.dummies.dummy import Dummy
from vision.errors import ModelNotLoaded
from vision.forensics.voices import SAMPLES

Array = NDArray[np.float32]


class DummyVisual(Dummy[Any, Visual]):
    """Each face is as fake as its middle is green; a picture without faces is not judged. A test may switch it off."""

    key = "forensics/visual"
    off = False

    def predict(self, item: Any) -> Visual:
        self.calls += 1
        if self.off:
            raise ModelNotLoaded("forensics/visual has no weights here.")
        image, faces = item
        middles = [image[int(face.y + face.height / 2), int(face.x + face.width / 2)] for face in faces]
        chances = tuple(float(middle[1]) / 255 for middle in middles)
        return Visual("face_level" if faces else "no_face", chances, chances, self.version)


class DummyGenerated(Dummy[Any, Generated]):
    """A picture was generated as far as its last pixel is blue and no other colour. A test may switch it off."""

    key = "forensics/generated"
    off = False

    def predict(self, item: Any) -> Generated:
        if self.off:
            raise ModelNotLoaded("forensics/generated has no weights here.")
        red, green, blue = (float(value) for value in item[-1, -1])
        chance = max(0.0, blue - max(red, green)) / 255
        return Generated(chance, {self.version: chance})


class DummySpeech(Dummy[Array, Array]):
    """What is louder than 0.1 is speech."""

    key = "forensics/speech"

    def predict(self, item: Array) -> Array:
        padded = np.pad(item, (0, -len(item) % 512)).reshape(-1, 512)
        return (np.abs(padded).max(1) > 0.1).astype(np.float32)


class DummyVoice(Dummy[Array, Voice]):
    """As synthetic as its loudest sample is loud. A test may switch it off."""

    key = "forensics/voice"
    off = False

    def load(self) -> None:
        super().load()
        self.lengths: list[int] = []

    def predict(self, item: Array) -> Voice:
        if self.off:
            raise ModelNotLoaded("forensics/voice has no weights here.")
        self.lengths.append(len(item))
        assert len(item) <= SAMPLES
        return Voice(float(min(1, np.abs(item).max())), 0.0)
