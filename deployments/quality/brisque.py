"""quality/brisque: how unnatural a picture's local statistics are, as blur, noise and compression make them.

BRISQUE (Mittal, Moorthy and Bovik 2012, https://doi.org/10.1109/TIP.2012.2214050) with the support vector regression
of its release, trained on the LIVE database: scores are differences of mean opinion, 0 best to 100 worst; the
regression may go somewhat beyond both ends. Taken at the picture's own resolution, which is what published values
mean. Where that regression cannot be had, another one serves, under its own name: trained on LIVE too, but on features
as OpenCV computes them, so it gets those. Over 150 pictures and 105 distortions of some the scores of the two differ by
4.2 points on average and have a rank correlation of 0.96; where half of a picture is plain white, by up to 61 points.

Neither was made for pictures that are mostly plain or out of focus, or drawn: ``outside`` says so of a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.engine_stage import model_chain
from deployments.serving.stage import SharedImage, Stage, StageConfig, StageRef
from vision.errors import ModelNotLoaded, StageError
from vision.images import Pixels
from vision.quality.brisque import MATLAB, OPENCV, Svr, features, load_svr
from vision.quality.content import Content, outside
from vision.weights import Weights, resolve_first

Ready = tuple[NDArray[np.float64], tuple[Content, ...]]
"""Features of a picture, float64[36], and why it is none that they were made for."""

CHAIN: Final = ("brisque-live", "brisque-live-opencv")
RECIPES: Final = {"brisque-live-opencv": OPENCV}
"""Of the regressions that were not trained on features as the release computes them."""
ACCURACY: Final = {
    "brisque-live": "rank correlation 0.84 with the opinions of TID2008, trained on LIVE",
    "brisque-live-opencv": (
        "trained on LIVE; 4.2 points from brisque-live on average over 255 pictures, rank correlation 0.96"
    ),
}


@dataclass(frozen=True, slots=True)
class Distortion:
    """``score``: 0-100, lower is better, ``raw`` clipped; ``raw``: as the regression says; ``model_version``: name and
    hash of the regression. Scores of different ones are not comparable point by point. ``outside``: why the score may
    be wrong, as ``vision.quality.content.outside``; empty for most photographs."""

    score: float
    raw: float
    model_version: str
    outside: tuple[Content, ...] = ()


class Config(StageConfig):
    """``user_config`` of quality/brisque; the models are read at load."""

    max_batch_size: int = Field(default=16, ge=1)
    models: list[str] = model_chain(CHAIN)


BRISQUE: Final = StageRef[SharedImage, Distortion]("quality/brisque")


class BrisqueScorer(Stage[Config, Pixels, Ready, Distortion]):
    """Image, uint8 (H, W, 3) RGB → Distortion."""

    key = BRISQUE.key
    config_class = Config
    libraries = ("cv2",)
    prepare_threads = 2

    _weights: Weights
    _svr: Svr

    def load(self) -> None:
        """Raises ModelNotLoaded with the reason of every model when none is available."""
        super().load()
        self._weights = resolve_first(self.config.models)
        (path,) = self._weights.files.values()
        try:
            self._svr = load_svr(path, RECIPES.get(self._weights.name, MATLAB))
        except ValueError as error:
            raise ModelNotLoaded(f"{self._weights.name}: {error}") from error

    def warm_up(self) -> None:
        self.predict_batch([self.prepare(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))])

    def prepare(self, item: Pixels) -> Ready:
        """Return features and content. Raises InvalidInput for a flat picture or one with a side below 14 pixels."""
        return features(item, self._svr.recipe), outside(item)

    def predict_batch(self, items: list[Ready]) -> Sequence[Distortion | StageError]:
        version, scores = self._weights.version, self._svr(np.stack([values for values, _ in items])).tolist()
        return [
            Distortion(min(max(raw, 0.0), 100.0), raw, version, content)
            for raw, (_, content) in zip(scores, items, strict=True)
        ]

    def info(self) -> dict[str, Any]:
        return {
            "method": "BRISQUE (Mittal, Moorthy and Bovik 2012), at the picture's own resolution",
            **self._weights.info(),
            "range": "0 to 100, lower is better; raw may go beyond",
            "made_for": "photographs that are in focus all over; `outside` names what a picture is instead: "
            + ", ".join(get_args(Content)),
            "accuracy": ACCURACY.get(self._weights.name, "not measured"),
            "max_batch_size": self.config.max_batch_size,
        }
