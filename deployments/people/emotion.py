"""people/emotion: which of seven expressions each face shows.

The classes are those of FER2013 (Goodfellow et al. 2013, https://arxiv.org/abs/1307.0414): six of Ekman's basic
emotions and neutral. A ViT-B/16 fine-tuned on it serves where it can be had, else mini-XCEPTION; info() says which,
and how often it is right. What is read is the expression in a picture, not what a person feels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs.settings import settings
from deployments.serving.stage import SharedImage, Stage, StageConfig, StageRef
from vision.engines import EngineName
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
    """``scores``: of each of the seven expressions, 0 to 100, summing to 100; ``dominant``: the highest of them."""

    dominant: str
    scores: dict[str, float]


class Config(StageConfig):
    """``user_config`` of people/emotion; all but batching is read at load."""

    max_batch_size: int = Field(default=8, ge=1)
    models: list[str] = Field(
        min_length=1, default_factory=lambda: list(CHAIN), description="names of models.yaml, first that can be had"
    )
    engine: EngineName = Field(default="auto", description="of the ViT; mini-XCEPTION is run by torch on the CPU")
    torch_threads: int = Field(default=1, ge=1, description="threads of torch on the CPU; raise for a torch engine")
    cuda_memory_fraction: float | None = Field(
        default=None, gt=0, le=1, description="share of a GPU this process may take"
    )


EMOTION: Final = StageRef[tuple[SharedImage, tuple[Face, ...]], tuple[Emotion, ...]]("people/emotion")


class EmotionRecognizer(Stage[Config, tuple[Pixels, tuple[Face, ...]], list[Array], tuple[Emotion, ...]]):
    """(Image, uint8 (H, W, 3) RGB, its faces) → an Emotion for each face, in order."""

    key = EMOTION.key
    config_class = Config
    prepare_threads = 2

    _weights: Weights
    _classifier: Classifier

    def load(self) -> None:
        """Raises ModelNotLoaded with the reason of every model of the chain when none can be had."""
        import torch

        torch.set_num_threads(self.config.torch_threads)
        self._weights = resolve_first(self.config.models)
        cache = settings().models_cache.expanduser()
        self._classifier = load_classifier(self._weights, self.config.engine, cache, self.config.cuda_memory_fraction)

    def warm_up(self) -> None:
        face = Face(0, 0, 64, 64, 1.0, ())
        self.predict_batch([self.prepare((np.zeros((64, 64, 3), np.uint8), (face,)))])

    def batches_at_once(self) -> int:
        return self._classifier.engine.streams

    def prepare(self, item: tuple[Pixels, tuple[Face, ...]]) -> list[Array]:
        image, faces = item
        return [self._classifier.prepare(image, face) for face in faces]

    def predict_batch(self, items: list[list[Array]]) -> Sequence[tuple[Emotion, ...] | StageError]:
        faces = [face for item in items for face in item]
        found: list[Emotion] = []
        for start in range(0, len(faces), FACES_AT_ONCE):
            logits = self._classifier(np.stack(faces[start : start + FACES_AT_ONCE]))
            found += map(_emotion, logits)
        ends = np.cumsum([len(item) for item in items])
        return [tuple(found[end - len(item) : end]) for item, end in zip(items, ends, strict=True)]

    def info(self) -> dict[str, Any]:
        return {
            "method": f"softmax over seven expressions of a square {MARGIN} times as long as the face's box",
            "model": self._weights.name,
            "model_version": self._weights.version,
            "architecture": self._weights.architecture,
            "weights": self._weights.source,
            "licence": self._weights.licence,
            "accuracy": self._classifier.accuracy,
            "engine": self._classifier.engine.name,
            "device": self._classifier.engine.device,
            "max_batch_size": self.config.max_batch_size,
            "expressions": list(EXPRESSIONS),
            "scores": "0 to 100, summing to 100 over the seven; higher is surer",
        }


def _emotion(logits: Array) -> Emotion:
    exponents = np.exp(logits.astype(np.float64) - logits.max())
    scores = dict(zip(EXPRESSIONS, (100 * exponents / exponents.sum()).tolist(), strict=True))
    return Emotion(max(scores, key=scores.__getitem__), scores)
