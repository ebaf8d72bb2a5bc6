"""forensics/visual: how likely each face of a picture is fake, or the whole picture where it has no face.

The first available model of the chain serves: a transformers image classifier that separates real from fake, else
MesoNet (Afchar et al. 2018). Each face is judged separately, turned upright by its landmarks. A picture without faces
is judged as a whole by a classifier that was trained on whole pictures; MesoNet was not, so it gives no result there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.engine_stage import EngineConfig, EngineStage, model_chain
from deployments.serving.stage import HubModels, SharedImage, StageRef
from vision.engines import Engine, EngineName
from vision.errors import StageError
from vision.faces.face import TEMPLATE, Face
from vision.forensics.calibration import sigmoid
from vision.forensics.classifiers import MARGIN, Classifier, load_classifier, upright
from vision.images import Pixels
from vision.weights import Weights, resolve_first

Array = NDArray[np.float32]
Level = Literal["face_level", "image_level", "no_face"]

CHAIN: Final = ["mesonet-deepfakes"]
AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Visual:
    """``probabilities``: 0-1, higher is more likely fake: one per face in order, None for a face that is too small or
    too blurred to be judged; or one for the whole picture; empty for ``no_face``, where the model gives no result.
    ``log_odds``: the output of the model, before calibration."""

    level: Level
    probabilities: tuple[float | None, ...]
    log_odds: tuple[float | None, ...]
    model: str


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """The network's inputs for one picture; None for a face that it cannot judge."""

    level: Level
    inputs: list[Array | None]


class Config(EngineConfig):
    """``user_config`` of forensics/visual; all but batching is read at load."""

    max_batch_size: int = Field(default=8, ge=1, description="pictures in one predict_batch call")
    models: list[str] = model_chain(CHAIN)
    engine: EngineName = Field(
        default="auto", description="of a transformers classifier; MesoNet is run by torch in fp32"
    )


VISUAL: Final = StageRef[tuple[SharedImage, tuple[Face, ...]], Visual]("forensics/visual")


class VisualDetector(EngineStage[Config, tuple[Pixels, tuple[Face, ...]], Crops, Visual]):
    """(Image, uint8 (H, W, 3) RGB, its faces) → Visual."""

    key = VISUAL.key
    config_class = Config
    prepare_threads = 2

    hub = HubModels(
        task="face-forgery",
        kind="an image classifier whose labels mean real and fake",
        architecture="MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
        files=("config.json", "preprocessor_config.json"),
        samples=lambda: [
            (_noise(), ()),
            (_noise(), (Face(95, 50, 110, 120, 0.9, tuple((x + 90, y + 40) for x, y in TEMPLATE)),)),
        ],
    )

    _weights: Weights
    _classifier: Classifier

    def load_engine(self) -> Engine:
        self._weights = resolve_first(self.config.models)
        self._classifier = load_classifier(self._weights, self.build_engine)
        return self._classifier.engine

    def warm_up(self) -> None:
        blank = np.zeros((self._classifier.size, self._classifier.size, 3), np.uint8)
        self._classifier(self._classifier.prepare(blank)[None])

    def prepare(self, item: tuple[Pixels, tuple[Face, ...]]) -> Crops:
        """Return the upright crops of the faces, or the picture. Raises InvalidInput when the landmarks of a face
        coincide."""
        image, faces = item
        classifier = self._classifier
        if faces:
            crops = [(face, upright(image, face, classifier.size)) for face in faces]
            inputs = [classifier.prepare(crop) if classifier.can_judge(face, crop) else None for face, crop in crops]
            return Crops("face_level", inputs)
        if classifier.whole_pictures:
            return Crops("image_level", [classifier.prepare(image)])
        return Crops("no_face", [])

    def predict_batch(self, items: list[Crops]) -> Sequence[Visual | StageError]:
        inputs = [one for item in items for one in item.inputs if one is not None]
        odds: list[float] = []
        for start in range(0, len(inputs), AT_ONCE):
            odds += self._classifier(np.stack(inputs[start : start + AT_ONCE])).tolist()
        rest = iter(odds)
        return [
            self._visual(item.level, tuple(None if one is None else next(rest) for one in item.inputs))
            for item in items
        ]

    def _visual(self, level: Level, odds: tuple[float | None, ...]) -> Visual:
        calibration = self._classifier.calibration
        probability = sigmoid if calibration is None else calibration.probability
        probabilities = tuple(None if one is None else probability(one) for one in odds)
        return Visual(level, probabilities, odds, self._weights.version)

    def info(self) -> dict[str, Any]:
        calibration = self._classifier.calibration
        return {
            "method": f"a classifier over faces turned upright, {MARGIN} times as wide as the crop of recognition",
            **self._weights.info(),
            "architecture": self._weights.architecture,
            "worth": self._classifier.worth,
            "whole_pictures": self._classifier.whole_pictures,
            **super().info(),
            "score": "probability of being fake, 0 to 1, higher is more likely fake",
            "calibration": None if calibration is None else calibration.info(),
        }


def _noise() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
