"""people/emotion: which of seven expressions each face shows.

The classes are those of FER2013 (Goodfellow et al. 2013, https://arxiv.org/abs/1307.0414): six of Ekman's basic
emotions and neutral. A ViT-B/16 fine-tuned on it serves where it is available, else mini-XCEPTION; info() says which,
and how often it is right. The result is the expression in a picture, not what a person feels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.engine_stage import EngineConfig, EngineStage, model_chain
from deployments.serving.stage import HubModels, SharedImage, StageRef
from vision.engines import Engine, EngineName
from vision.errors import StageError
from vision.faces.expressions import EXPRESSIONS, MARGIN, Classifier, load_classifier
from vision.faces.face import Face
from vision.images import Pixels
from vision.weights import Weights, resolve_first

Array = NDArray[np.float32]

CHAIN: Final = ["vit-face-expression", "mini-xception-fer2013"]
FACES_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True)
class Emotion:
    """``scores``: one for each of the seven expressions, 0 to 100, summing to 100; ``dominant``: the one with the
    highest."""

    dominant: str
    scores: dict[str, float]


class Config(EngineConfig):
    """``user_config`` of people/emotion; all but batching is read at load."""

    max_batch_size: int = Field(default=8, ge=1)
    models: list[str] = model_chain(CHAIN)
    engine: EngineName = Field(default="auto", description="of the ViT; mini-XCEPTION runs in fp32")


EMOTION: Final = StageRef[tuple[SharedImage, tuple[Face, ...]], tuple[Emotion, ...]]("people/emotion")


class EmotionRecognizer(EngineStage[Config, tuple[Pixels, tuple[Face, ...]], list[Array], tuple[Emotion, ...]]):
    """(Image, uint8 (H, W, 3) RGB, its faces) → an Emotion for each face, in order."""

    key = EMOTION.key
    config_class = Config
    prepare_threads = 2

    hub = HubModels(
        task="facial-expression",
        kind="an image classifier with the seven expressions of FER2013",
        architecture="MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
        files=("config.json", "preprocessor_config.json"),
        samples=lambda: [
            (
                np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8),
                (Face(100, 60, 90, 110, 0.9, ()),),
            )
        ],
    )

    _weights: Weights
    _classifier: Classifier

    def load_engine(self) -> Engine:
        self._weights = resolve_first(self.config.models)
        self._classifier = load_classifier(self._weights, self.build_engine)
        return self._classifier.engine

    def warm_up(self) -> None:
        face = Face(0, 0, 64, 64, 1.0, ())
        for count in range(1, self.config.max_batch_size + 1):
            self.predict_batch([self.prepare((np.zeros((64, 64, 3), np.uint8), (face,) * count))])

    def prepare(self, item: tuple[Pixels, tuple[Face, ...]]) -> list[Array]:
        image, faces = item
        return [self._classifier.prepare(image, face) for face in faces]

    def predict_batch(self, items: list[list[Array]]) -> Sequence[tuple[Emotion, ...] | StageError]:
        faces = [face for item in items for face in item]
        emotions: list[Emotion] = []
        for start in range(0, len(faces), FACES_AT_ONCE):
            logits = self._classifier(np.stack(faces[start : start + FACES_AT_ONCE]))
            emotions += map(_emotion, logits)
        ends = np.cumsum([len(item) for item in items])
        return [tuple(emotions[end - len(item) : end]) for item, end in zip(items, ends, strict=True)]

    def info(self) -> dict[str, Any]:
        return {
            "method": f"softmax over seven expressions of a square {MARGIN} times as long as the face's box",
            **self._weights.info(),
            "architecture": self._weights.architecture,
            "accuracy": self._classifier.accuracy,
            **super().info(),
            "expressions": list(EXPRESSIONS),
            "scores": "0 to 100, summing to 100 over the seven; higher is surer",
        }


def _emotion(logits: Array) -> Emotion:
    exponents = np.exp(logits.astype(np.float64) - logits.max())
    scores = dict(zip(EXPRESSIONS, (100 * exponents / exponents.sum()).tolist(), strict=True))
    return Emotion(max(scores, key=scores.__getitem__), scores)
