"""Stand-ins for the models of the authenticity API: numbers that a test can compute from its picture or sound."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deployments.forensics.visual import Visual
from deployments.forensics.voice import Voice
from deployments.serving.stage import Stage, StageConfig
from vision.errors import ModelNotLoaded, StageError
from vision.forensics.voices import SAMPLES

Array = NDArray[np.float32]


class DummyVisual(Stage[StageConfig, Any, Any, Visual]):
    """Each face is as fake as its middle is green; a picture without faces is not judged. A test may switch it off."""

    key = "forensics/visual"
    running: ClassVar["DummyVisual"]
    """The one loaded last."""

    def load(self) -> None:
        self.off = False
        self.calls = 0
        DummyVisual.running = self

    def predict_batch(self, items: list[Any]) -> Sequence[Visual | StageError]:
        self.calls += len(items)
        if self.off:
            return [ModelNotLoaded("forensics/visual has no weights here.") for _ in items]
        return [self._judge(*item) for item in items]

    def _judge(self, image: Any, faces: Any) -> Visual:
        middles = [image[int(face.y + face.height / 2), int(face.x + face.width / 2)] for face in faces]
        chances = tuple(float(middle[1]) / 255 for middle in middles)
        return Visual("face_level" if faces else "no_face", chances, chances, "dummy@00000000")

    def info(self) -> dict[str, Any]:
        return {"model": "dummy", "model_version": "dummy@00000000"}


class DummySpeech(Stage[StageConfig, Array, Array, Array]):
    """What is louder than 0.1 is speech."""

    key = "forensics/speech"

    def load(self) -> None:
        pass

    def predict_batch(self, items: list[Array]) -> Sequence[Array | StageError]:
        return [self._chances(item) for item in items]

    def _chances(self, sound: Array) -> Array:
        padded = np.pad(sound, (0, -len(sound) % 512)).reshape(-1, 512)
        return (np.abs(padded).max(1) > 0.1).astype(np.float32)


class DummyVoice(Stage[StageConfig, Array, Array, Voice]):
    """As synthetic as its loudest sample is loud. A test may switch it off."""

    key = "forensics/voice"
    running: ClassVar["DummyVoice"]
    """The one loaded last."""

    def load(self) -> None:
        self.off = False
        self.lengths: list[int] = []
        DummyVoice.running = self

    def predict_batch(self, items: list[Array]) -> Sequence[Voice | StageError]:
        if self.off:
            return [ModelNotLoaded("forensics/voice has no weights here.") for _ in items]
        self.lengths += map(len, items)
        assert max(map(len, items)) <= SAMPLES
        return [Voice(float(min(1, np.abs(item).max())), 0.0) for item in items]
