"""What the embedding stages give; apart from the stages, so that a gateway can read it without their imports."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision.errors import ModelNotLoaded


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """``raw`` and ``unit``: float32[384]; ``model_version`` names the weights that made them."""

    raw: NDArray[np.float32]
    unit: NDArray[np.float32]
    model_version: str


@dataclass(frozen=True, slots=True, eq=False)
class ClipEmbedding:
    """``vector``: float32[512] of length 1; ``model`` names what made it. Vectors of different models never compare."""

    vector: NDArray[np.float32]
    model: str


@dataclass(frozen=True, slots=True, eq=False)
class SentenceEmbedding:
    """``vector``: float32[384] of length 1; ``model_version`` names the weights that made it."""

    vector: NDArray[np.float32]
    model_version: str


class TextNotSupported(ModelNotLoaded):
    """A text was to be embedded, and the model that serves has no text tower."""
