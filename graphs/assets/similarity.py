"""Similarity on unit vectors: cosine, the percentage clients read, and distance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stores.records import Features


@dataclass(frozen=True, slots=True)
class Similarity:
    """``cosine`` −1..1; ``percentage`` 0..100 = (cosine + 1)·50; ``distance`` 0..2, euclidean on unit vectors."""

    cosine: float
    percentage: float
    distance: float


def of_cosine(cosine: float) -> Similarity:
    """All three from a cosine; rounded to 6 places, which is beyond what a model's numbers carry."""
    clipped = round(min(1.0, max(-1.0, float(cosine))), 6)
    return Similarity(clipped, round((clipped + 1) * 50, 4), round(float(np.sqrt(max(0.0, 2 - 2 * clipped))), 6))


def between(a: Features, b: Features) -> Similarity:
    """Similarity of two assets; an asset is exactly 100 % similar to itself."""
    if a.asset_id == b.asset_id:
        return of_cosine(1.0)
    return of_cosine(float(a.unit @ b.unit))


def matrix(features: Sequence[Features]) -> NDArray[np.float64]:
    """float64[n, n] percentages, 0..100, the diagonal exactly 100."""
    units = np.stack([f.unit for f in features]).astype(np.float64)
    percentages: NDArray[np.float64] = (np.clip(units @ units.T, -1, 1) + 1) * 50
    np.fill_diagonal(percentages, 100.0)
    return percentages.round(4)


def rank(query: Features, candidates: Mapping[str, Features]) -> list[tuple[str, Similarity]]:
    """Candidates by similarity to the query, best first; equal ones in id order."""
    scored = [(asset_id, between(query, features)) for asset_id, features in candidates.items()]
    return sorted(scored, key=lambda pair: (-pair[1].cosine, pair[0]))


def certainty(value: float, threshold: float, low: float, high: float) -> float:
    """0..1: how far a value is from a decision threshold, relative to the room on its side of [low, high]."""
    room = high - threshold if value >= threshold else threshold - low
    return round(min(1.0, abs(value - threshold) / room), 4) if room > 0 else 1.0
