"""forensics/generated: how likely a whole picture came out of a generator, whatever it shows.

The first available model of the chain judges: Community Forensics (Park and Owens, CVPR 2025), a ViT-S/16 on 384
pixels, or another image classifier of transformers whose labels mean real and generated. ``second`` names a chain whose
first available model judges as well; where both do, their log-odds are averaged and both are reported. None of them
notices a swapped or a retouched face.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.engine_stage import EngineConfig, EngineStage, model_chain
from deployments.serving.stage import HubModels, SharedImage, StageRef
from vision.engines import Engine
from vision.errors import ModelNotLoaded, StageError
from vision.forensics.calibration import sigmoid
from vision.forensics.generated import COMMUNITY_FORENSICS, GeneratedClassifier
from vision.images import Pixels
from vision.weights import Weights, resolve_first

Array = NDArray[np.float32]

CHAIN: Final = [COMMUNITY_FORENSICS]


@dataclass(frozen=True, slots=True)
class Generated:
    """``probability``: 0-1, higher is more likely generated; ``opinions``: that of each model that judged, by its name
    and version."""

    probability: float
    opinions: dict[str, float]

    @property
    def divided(self) -> bool:
        """Return whether one model takes the picture for generated and another does not."""
        return len({opinion >= 0.5 for opinion in self.opinions.values()}) > 1


class Config(EngineConfig):
    """``user_config`` of forensics/generated; all but batching is read at load."""

    max_batch_size: int = Field(default=8, ge=1, description="pictures in one predict_batch call")
    models: list[str] = model_chain(CHAIN)
    second: list[str] = Field(
        default=[], description="names of models.yaml; the first available one judges as well; none by default"
    )


GENERATED: Final = StageRef[SharedImage, Generated]("forensics/generated")


class GeneratedDetector(EngineStage[Config, Pixels, tuple[Array, ...], Generated]):
    """Image, uint8 (H, W, 3) RGB → Generated."""

    key = GENERATED.key
    config_class = Config
    prepare_threads = 2

    hub = HubModels(
        task="generated-picture",
        kind="an image classifier whose labels mean real and generated",
        architecture="MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
        files=("config.json", "preprocessor_config.json"),
        samples=lambda: [np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)],
    )

    _weights: Weights
    _classifiers: list[GeneratedClassifier]
    _without_second: str | None

    @classmethod
    def model_chains(cls, config: Config) -> list[list[str]]:
        return [config.models, config.second] if config.second else [config.models]

    def load_engine(self) -> Engine:
        self._weights = resolve_first(self.config.models)
        self._classifiers = [GeneratedClassifier(self._weights, self.build_engine)]
        self._without_second = None
        if self.config.second:
            try:
                second = resolve_first(self.config.second)
                self._classifiers.append(GeneratedClassifier(second, self.build_engine))
            except ModelNotLoaded as error:  # the first one judges alone
                self._without_second = error.reason
        return self._classifiers[0].engine

    def warm_up(self) -> None:
        for classifier in self._classifiers:
            for size in range(1, self.config.max_batch_size + 1):
                classifier(np.zeros((size, 3, *classifier.size), np.float32))

    def prepare(self, item: Pixels) -> tuple[Array, ...]:
        """Return one input for each model. Raises InvalidInput for a tiny picture or a strip."""
        return tuple(classifier.prepare(item) for classifier in self._classifiers)

    def predict_batch(self, items: list[tuple[Array, ...]]) -> Sequence[Generated | StageError]:
        inputs = zip(*items, strict=True)
        odds = [classifier(np.stack(each)) for classifier, each in zip(self._classifiers, inputs, strict=True)]
        versions = [classifier.version for classifier in self._classifiers]
        return [
            Generated(
                sigmoid(sum(each) / len(each)), {name: sigmoid(one) for name, one in zip(versions, each, strict=True)}
            )
            for each in np.stack(odds, axis=1).tolist()
        ]

    def info(self) -> dict[str, Any]:
        second = {}
        if self.config.second:
            used = [classifier.version for classifier in self._classifiers[1:]]
            second = {"second_opinion": used[0] if used else f"not available: {self._without_second}"}
        return {
            "method": "a classifier over the whole picture, for generated ones",
            **self._weights.info(),
            "architecture": self._weights.architecture,
            **second,
            "worth": self._classifiers[0].worth,
            **super().info(),
            "score": "probability of being generated, 0 to 1, higher is more likely generated",
            "calibration": None,
        }
