"""forensics/visual: how likely the faces of a picture are swapped or made, or the picture is, where it has no face.

The first model of the chain that can be had serves: a transformers image classifier that tells real from fake, else
MesoNet (Afchar et al. 2018). Each face is judged alone, turned upright by its landmarks. A picture without faces is
judged as a whole by a classifier that was trained on whole pictures; MesoNet was not, and says nothing of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.engine_stage import EngineConfig, EngineStage, model_chain
from deployments.serving.stage import SharedImage, StageRef
from vision.engines import Engine, EngineName
from vision.errors import StageError
from vision.faces.face import Face
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
    """``probabilities``: 0-1, higher is more likely fake: of each face in order, None for one that is too small or too
    blurred to be judged; or one of the whole picture; none for ``no_face``, when the model can say nothing.
    ``log_odds``: what the model gave, before calibration."""

    level: Level
    probabilities: tuple[float | None, ...]
    log_odds: tuple[float | None, ...]
    model: str


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """What the network gets of one picture; None for a face that it cannot judge."""

    level: Level
    inputs: list[Array | None]


class Config(EngineConfig):
    """``user_config`` of forensics/visual; all but batching is read at load."""

    max_batch_size: int = Field(default=8, ge=1, description="pictures in one predict_batch call")
    models: list[str] = model_chain(CHAIN)
    engine: EngineName = Field(default="auto", description="of a transformers classifier; MesoNet is run by torch")


VISUAL: Final = StageRef[tuple[SharedImage, tuple[Face, ...]], Visual]("forensics/visual")


class VisualDetector(EngineStage[Config, tuple[Pixels, tuple[Face, ...]], Crops, Visual]):
    """(Image, uint8 (H, W, 3) RGB, its faces) → Visual."""

    key = VISUAL.key
    config_class = Config
    prepare_threads = 2

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
        """Raises InvalidInput when the landmarks of a face lie on one point."""
        image, faces = item
        classifier = self._classifier
        if faces:
            cuts = [upright(image, face, classifier.size) for face in faces]
            pairs = zip(faces, cuts, strict=True)
            return Crops(
                "face_level", [classifier.prepare(cut) if classifier.sees(face, cut) else None for face, cut in pairs]
            )
        if classifier.whole_pictures:
            return Crops("image_level", [classifier.prepare(image)])
        return Crops("no_face", [])

    def predict_batch(self, items: list[Crops]) -> Sequence[Visual | StageError]:
        inputs = [one for item in items for one in item.inputs if one is not None]
        odds: list[float] = []
        for start in range(0, len(inputs), AT_ONCE):
            odds += self._classifier(np.stack(inputs[start : start + AT_ONCE])).tolist()
        found = iter(odds)
        return [
            self._visual(item.level, tuple(None if one is None else next(found) for one in item.inputs))
            for item in items
        ]

    def _visual(self, level: Level, odds: tuple[float | None, ...]) -> Visual:
        calibration = self._classifier.calibration
        probability = sigmoid if calibration is None else calibration.probability
        return Visual(
            level, tuple(None if one is None else probability(one) for one in odds), odds, self._weights.version
        )

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
            "calibration": None if calibration is None else calibration.told(),
        }
