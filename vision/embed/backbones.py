"""The backbones that embed/dinov3 can serve: how each is built, fed and read.

A backbone is picked by the name of the weights that could be had. Where unrelated pictures of a model do not
average a cosine near 0, the mean of its features over a reference set is subtracted first
(``configs/reference_means.npz``, made by ``ops/calibration/reference_mean.py``).
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision.preprocess import Preprocess
from vision.weights import Weights
from vision.weights.checkpoint import load_checkpoint, output_module, read_json

if TYPE_CHECKING:
    import torch

MEANS = Path(__file__).parents[2] / "configs" / "reference_means.npz"
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """``raw`` and ``unit``: float32[384]; ``model_version`` names the weights that made them."""

    raw: NDArray[np.float32]
    unit: NDArray[np.float32]
    model_version: str


@dataclass
class Backbone:
    """Weights with everything needed to turn pictures into 384-d features."""

    weights: Weights

    @property
    def version(self) -> str:
        """Name and hash of the weights; features of different versions are never compared."""
        return self.weights.version

    @cached_property
    def preprocess_config(self) -> dict[str, Any]:
        """The model's own ``preprocessor_config.json``."""
        return read_json(self.weights, "preprocessor_config.json")

    @cached_property
    def preprocess(self) -> Preprocess:
        """The model's own preprocessing, by the faster of its two kernels (cosine of the features ≥ 0.999999)."""
        return Preprocess.from_config(self.preprocess_config, fast=True)

    @cached_property
    def mean(self) -> Array:
        """float32[384], subtracted before cosines are taken; zeros where the model needs no centring."""
        with np.load(MEANS, allow_pickle=False) as means:
            found: Array | None = means.get(self.weights.name)
        return np.zeros(384, np.float32) if found is None else found.astype(np.float32)

    def make_module(self) -> "torch.nn.Module":
        """Return a new torch module, float32[N, 3, H, W] → float32[N, d]: the CLS token after the final norm.

        Raises ModelNotLoaded when the checkpoint does not fit.
        """
        from transformers import MODEL_MAPPING

        model = load_checkpoint(MODEL_MAPPING, self.weights)
        return output_module(model, lambda output: output.last_hidden_state[:, 0])

    def project(self, output: Array) -> Array:
        """float32[N, d] of the module → float32[N, 384]."""
        return output

    def info(self) -> dict[str, Any]:
        """What model-info says of the weights."""
        return {
            **self.weights.info(),
            "architecture": self.weights.architecture,
            "input_size": list(self.preprocess.size),
            "preprocess": self.preprocess_config,
            "centred": bool(self.mean.any()),
        }


class EfficientNetBackbone(Backbone):
    """EfficientNet-Lite0's 1280-d pooled features through a fixed orthonormal projection to 384-d."""

    @cached_property
    def preprocess_config(self) -> dict[str, Any]:
        from vision.networks.efficientnet_lite import PREPROCESS

        return PREPROCESS

    def make_module(self) -> "torch.nn.Module":
        from vision.networks.efficientnet_lite import load

        return load(self.weights.path)

    @cached_property
    def _projection(self) -> Array:
        from vision.networks.efficientnet_lite import projection

        return projection()

    def project(self, output: Array) -> Array:
        projected: Array = output @ self._projection
        return projected


def load_backbone(weights: Weights) -> Backbone:
    """The backbone for a model of models.yaml."""
    return EfficientNetBackbone(weights) if weights.name == "efficientnet-lite0" else Backbone(weights)
