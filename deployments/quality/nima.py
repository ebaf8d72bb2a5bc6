"""quality/nima: the ratings from 1 to 10 that people would give a picture, for its technical and aesthetic quality.

NIMA (Talebi and Milanfar 2018, https://arxiv.org/abs/1709.05424) with the MobileNetV1 weights of idealo: *technical*
is trained on TID2013, *aesthetic* on AVA. They are separate networks, backbone included; both run on one prepared
batch. A head whose weights are not available is None in every answer.

The whole picture is resized to 224x224 by nearest neighbour, whatever its shape, as the networks were trained with
(the default of Keras, by Pillow). The filter matters: another moves a mean by up to 0.9.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.engine_stage import EngineConfig, EngineStage
from deployments.serving.stage import SharedImage, StageRef
from vision.engines import Engine
from vision.errors import ModelNotLoaded, StageError
from vision.images import Pixels
from vision.weights import Weights, WeightsUnavailable, registry, resolve_first

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("ray.serve")

SIDE = 224
RATINGS = np.arange(1, 11)
Head = Literal["technical", "aesthetic"]
HEADS: Final[dict[str, Head]] = {"technical-quality": "technical", "aesthetic-quality": "aesthetic"}
"""Names of the heads by the task of their models in models.yaml."""


@dataclass(frozen=True, slots=True)
class Rating:
    """``mean``: 1-10, higher is better; ``std``: standard deviation of the ratings; ``distribution``: probabilities of
    the ratings 1, 2 … 10, which sum to 1."""

    mean: float
    std: float
    distribution: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ratings:
    """The ratings of both heads; None for a head without weights, whose reason is in ``missing``."""

    technical: Rating | None
    aesthetic: Rating | None
    missing: Mapping[Head, str] = field(default_factory=dict)

    def of(self, head: Head) -> Rating:
        """Return the rating of one head. Raises ModelNotLoaded without it."""
        rating = self.technical if head == "technical" else self.aesthetic
        if rating is None:
            raise ModelNotLoaded(self.missing.get(head, f"{NIMA.key} is configured without {head} weights."))
        return rating


class Config(EngineConfig):
    """``user_config`` of quality/nima; models and engine are read at load, the rest changes in place."""

    one_of_each_task = True

    models: list[str] = Field(
        min_length=1,
        default_factory=lambda: ["nima-technical-int8", "nima-aesthetic"],
        description="names of models.yaml; of each task the first available one serves",
    )
    engine: Literal["auto", "torch-fp32", "openvino-fp32"] = Field(
        default="auto", description="in fp32 only: bf16 moves the mean of a rating by up to 0.2"
    )


NIMA: Final = StageRef[SharedImage, Ratings]("quality/nima")


class NimaScorer(EngineStage[Config, Pixels, NDArray[np.float32], Ratings]):
    """Image, uint8 (H, W, 3) RGB → Ratings."""

    key = NIMA.key
    config_class = Config
    prepare_threads = 2
    exact = True

    _weights: dict[Head, Weights]
    _missing: dict[Head, str]

    @classmethod
    def model_chains(cls, config: Config) -> list[list[str]]:
        """Return one chain for each head. Raises ModelNotLoaded for a model that is for neither."""
        models = registry().root
        chains: dict[Head, list[str]] = {}
        for name in config.models:
            head = HEADS.get(models[name].task) if name in models else None
            if head is None:
                raise ModelNotLoaded(f"{name} is not for {cls.key}; choose a model with the task {' or '.join(HEADS)}.")
            chains.setdefault(head, []).append(name)
        return list(chains.values())

    def load_engine(self) -> Engine:
        """Raises ModelNotLoaded with the reason of every model when neither head is available."""
        self._resolve()
        version = "+".join(weights.version for weights in self._weights.values())
        return self.build_engine(self._make_module, version=version, input_size=(SIDE, SIDE))

    def prepare(self, item: Pixels) -> NDArray[np.float32]:
        """Return float32[3, 224, 224] in -1..1."""
        small = item[nearest(item.shape[0])[:, None], nearest(item.shape[1])]
        return np.ascontiguousarray(small.transpose(2, 0, 1), np.float32) / 127.5 - 1

    def predict_batch(self, items: list[NDArray[np.float32]]) -> Sequence[Ratings | StageError]:
        distributions = self._engine(np.stack(items)).reshape(len(items), len(self._weights), len(RATINGS))
        results = []
        for of_heads in distributions:
            ratings = {head: rating(each) for head, each in zip(self._weights, of_heads, strict=True)}
            results.append(Ratings(ratings.get("technical"), ratings.get("aesthetic"), self._missing))
        return results

    def info(self) -> dict[str, Any]:
        return {
            "method": "NIMA (Talebi and Milanfar 2018), MobileNetV1",
            **{head: self._head_info(head) for head in HEADS.values()},
            "missing": list(self._missing.values()),
            "backbones": "one for each head, run on one prepared batch",
            "input_size": [SIDE, SIDE],
            "resize": "nearest neighbour, as trained; another filter moves a mean by up to 0.9",
            "range": "mean of the ratings 1 to 10, higher is better",
            **super().info(),
        }

    def _resolve(self) -> None:
        self._weights, self._missing = {}, {}
        reasons: list[str] = []
        for names in self.model_chains(self.config):
            head = HEADS[registry().root[names[0]].task]
            try:
                self._weights[head] = resolve_first(names)
            except WeightsUnavailable as error:
                reasons += error.reasons
                self._missing[head] = f"{error.reason}; then restart {self.key}"
                logger.warning("%s runs without the %s head: %s", self.key, head, error.message)
        if not self._weights:
            raise WeightsUnavailable.of(self.config.models, reasons)

    def _make_module(self) -> "torch.nn.Module":
        from vision.networks.mobilenet_v1 import Heads, build, read_layers

        try:
            return Heads([build(read_layers(path)) for path in self._paths()]).eval()
        except ValueError as error:
            raise ModelNotLoaded(f"{self.key}: {error}") from error

    def _paths(self) -> list[Path]:
        return [weights.files[registry().root[weights.name].main] for weights in self._weights.values()]

    def _head_info(self, head: Head) -> dict[str, Any]:
        weights = self._weights.get(head)
        if weights is None:
            return {"error": self._missing.get(head, "not configured")}
        return {**weights.info(), "notes": registry().root[weights.name].notes}


def nearest(length: int) -> NDArray[np.intp]:
    """Return which of ``length`` rows or columns Pillow's nearest neighbour resize to 224 takes."""
    step = length / SIDE
    # Summed up step by step, as Pillow does it: where a position is a whole number, rounding decides.
    return np.cumsum([step * 0.5, *[step] * (SIDE - 1)]).astype(np.intp)


def rating(distribution: NDArray[np.float32]) -> Rating:
    """Return the rating with this distribution, float32[10]."""
    probabilities = distribution.astype(np.float64) / distribution.sum(dtype=np.float64)
    mean = float(probabilities @ RATINGS)
    return Rating(mean, float(np.sqrt(probabilities @ (RATINGS - mean) ** 2)), tuple(probabilities.tolist()))
