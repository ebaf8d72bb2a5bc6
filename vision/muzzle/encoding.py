"""What muzzle/ensemble gives; apart from the stage, so that a gateway can read it without its imports."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MEMBER_IDS: Final = (60, 62, 64)
CODE_LENGTH: Final = 128


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Least cosine and greatest distance of a probe and its template, least mean cosine among references."""

    cosine: float
    distance: float
    mutual: float


@dataclass(frozen=True, slots=True, eq=False)
class MuzzleEncoding:
    """Codes of one photo.

    ``codes``: float32[n, 128], one row of length 1 for each of ``model_ids``, which are all of 60, 62 and 64 or those
    that could be loaded. ``domain_distance``: 1 − cosine to the statistics of muzzles, 0 (alike) to 2; above
    ``domain_limit`` the photo shows none. ``thresholds``: what the models were calibrated to, None without training.
    Codes of different ``model_version`` are never compared.
    """

    model_ids: tuple[int, ...]
    codes: NDArray[np.float32]
    domain_distance: float
    domain_limit: float
    model_version: str
    thresholds: Thresholds | None
