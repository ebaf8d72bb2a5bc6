"""What serves embed/clip where CLIP's weights cannot be had: a backbone of embed/dinov3, in CLIP's 512 dimensions."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision.embed.backbones import Backbone
from vision.preprocess import Preprocess

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float32]

FROM, TO = 384, 512
SEED = 384_512


def isometry() -> Array:
    """A fixed matrix float32[384, 512] with orthonormal rows, the same everywhere.

    ``x @ isometry()`` keeps every distance and every cosine. Computed in float64, where the rounding of one linear
    algebra library or another is far below a float32; the sign of each row is fixed.
    """
    gaussian = np.random.Generator(np.random.PCG64(SEED)).standard_normal((TO, FROM))
    q, r = np.linalg.qr(gaussian)
    return np.asarray((q * np.sign(np.diag(r))).T, dtype=np.float32)


class ProjectedBackbone:
    """Features of a backbone minus their reference mean, embedded isometrically in 512 dimensions; pictures only."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone

    @property
    def model(self) -> str:
        """What answers call the model."""
        return f"{self.version}, projected to {TO}"

    @property
    def version(self) -> str:
        """Name and hash of the weights."""
        return self._backbone.version

    @property
    def preprocess(self) -> Preprocess:
        """The backbone's own preprocessing."""
        return self._backbone.preprocess

    def make_image_module(self) -> "torch.nn.Module":
        """A fresh torch module float32[N, 3, H, W] → float32[N, d]."""
        return self._backbone.make_module()

    def make_text_tower(self, device: str) -> None:
        """None: no text goes into the space of these vectors."""

    def finish(self, output: Array) -> Array:
        """float32[N, d] of the image module → float32[N, 512]."""
        centred: Array = self._backbone.project(output) - self._backbone.mean
        projected: Array = centred @ self._isometry
        return projected

    @cached_property
    def _isometry(self) -> Array:
        return isometry()

    def info(self) -> dict[str, Any]:
        """What model-info says of the weights."""
        return {
            **self._backbone.info(),
            "method": f"features of {self._backbone.weights.name}, centred, projected isometrically to {TO} dimensions",
            "accuracy": (
                "not CLIP: cosines are those of embed/dinov3, and an eps chosen for CLIP's does not hold for them"
            ),
        }
