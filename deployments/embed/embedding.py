"""What an embedding stage gives; apart from the stages, so that a gateway can read it without their imports."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """``raw`` and ``unit``: float32[384]; ``model_version`` names the weights that made them."""

    raw: NDArray[np.float32]
    unit: NDArray[np.float32]
    model_version: str
