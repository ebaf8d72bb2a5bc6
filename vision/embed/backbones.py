"""The backbones of embed/dinov3: how each is built, what it takes and what its outputs mean.

A backbone is chosen by the name of the weights that are available. Where the cosines of unrelated images do not average
about 0, the mean of the features over a reference set is subtracted first (``configs/reference_means.npz``, made by
``ops/calibration/reference_mean.py``).
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision.preprocess import Preprocess
from vision.weights import Weights
from vision.weights.checkpoint import load_checkpoint, output_module, read_json

if TYPE_CHECKING:
    import torch


class Unrelated(NamedTuple):
    """Similarities, (cosine + 1)·50, of pairs of pictures that have nothing to do with each other, by one model."""

    median: float
    p95: float
    """95 of 100 such pairs are below."""
    pairs: int


UNRELATED: Final = {
    "dinov2-vits14-lineage": Unrelated(45.8, 73.6, 1036),
    "efficientnet-lite0": Unrelated(48.2, 62.4, 1036),
}
"""By the name of the weights; made by ``ops.calibration.images``."""


def unrelated(version: str) -> Unrelated | None:
    """Return what unrelated pictures have by the model of this version, None where nobody has measured it."""
    return UNRELATED.get(version.partition("@")[0])


MEANS = Path(__file__).parents[2] / "configs" / "reference_means.npz"
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Features of an image: ``raw`` and ``unit`` float32[384]; ``model_version`` names the weights that made them."""

    raw: NDArray[np.float32]
    unit: NDArray[np.float32]
    model_version: str


@dataclass
class Backbone:
    """Weights with everything needed to turn images into 384-d features."""

    weights: Weights

    @property
    def version(self) -> str:
        """Return name and hash of the weights; features of different versions are never compared."""
        return self.weights.version

    @cached_property
    def preprocess_config(self) -> dict[str, Any]:
        """Return the model's own ``preprocessor_config.json``."""
        return read_json(self.weights, "preprocessor_config.json")

    @cached_property
    def preprocess(self) -> Preprocess:
        """Return the model's own preprocessing with the faster of its two kernels (cosine of the features ≥
        0.999999)."""
        return Preprocess.from_config(self.preprocess_config, fast=True)

    @cached_property
    def mean(self) -> Array:
        """Return float32[384], which is subtracted before cosines; zeros when the model needs no centring."""
        with np.load(MEANS, allow_pickle=False) as means:
            mean: Array | None = means.get(self.weights.name)
        return np.zeros(384, np.float32) if mean is None else mean.astype(np.float32)

    @cached_property
    def patch_size(self) -> int | None:
        """Return the side of the model's patches in pixels; None for a model without them."""
        size = read_json(self.weights, "config.json").get("patch_size")
        return size if isinstance(size, int) else None

    def make_module(self) -> "torch.nn.Module":
        """Return a new torch module, float32[N, 3, H, W] → float32[N, d]: the CLS token after the final norm.

        Raises ModelNotLoaded when the checkpoint does not fit.
        """
        from transformers import MODEL_MAPPING

        model = load_checkpoint(MODEL_MAPPING, self.weights)
        return output_module(model, lambda output: output.last_hidden_state[:, 0])

    def project(self, output: Array) -> Array:
        """Return the features float32[N, 384] for outputs float32[N, d] of the module."""
        return output

    def info(self) -> dict[str, Any]:
        """Return what model-info reports about the weights."""
        return {
            **self.weights.info(),
            "architecture": self.weights.architecture,
            "patch_size": self.patch_size,
            "input_size": list(self.preprocess.size),
            "preprocess": self.preprocess_config,
            "centred": bool(self.mean.any()),
        }


class EfficientNetBackbone(Backbone):
    """EfficientNet-Lite0's 1280-d pooled features through a fixed orthonormal projection to 384-d."""

    @cached_property
    def patch_size(self) -> int | None:
        return None

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
    """Return the backbone for a model of models.yaml."""
    return EfficientNetBackbone(weights) if weights.name == "efficientnet-lite0" else Backbone(weights)
