"""How the quality routes form their scores: 0-1 each, higher is better, and each rises with every part of it."""

from collections.abc import Sequence
from statistics import fmean, median, pstdev
from typing import Final

import numpy as np
from numpy.typing import NDArray

QUALITY_WEIGHTS: Final = {"technical": 0.5, "undistorted": 0.3, "sharpness": 0.2}
OVERALL_WEIGHTS: Final = {"quality": 0.6, "lighting": 0.2, "composition": 0.2}

_RISING: Final = {"range": [0, 1], "direction": "higher is better"}
EXPLAINED: Final[dict[str, dict[str, object]]] = {
    "quality_score": {
        "formula": "0.5·(NIMA technical mean − 1)/9 + 0.3·(1 − BRISQUE/100) + 0.2·sharpness_score",
        "stages": ["quality/nima", "quality/brisque", "quality/blur"],
        **_RISING,
    },
    "sharpness_score": {
        "formula": "v/(v + t): v the variance of the Laplacian, t the blur threshold, so 0.5 at the threshold",
        "stages": ["quality/blur"],
        **_RISING,
    },
    "lighting_quality": {"formula": "score of the stage", "stages": ["quality/exposure"], **_RISING},
    "composition_score": {"formula": "score of the stage", "stages": ["quality/composition"], **_RISING},
    "overall_quality": {
        "formula": "0.6·quality_score + 0.2·lighting_quality + 0.2·composition_score",
        "stages": ["quality/nima", "quality/brisque", "quality/blur", "quality/exposure", "quality/composition"],
        **_RISING,
    },
    "diversity_score": {
        "formula": "exp(H)/n: H the entropy of the shares x²/Σx² of the n raw DINOv3 features x",
        "stages": ["embed/dinov3"],
        "range": [0, 1],
        "direction": "none: the share of the dimensions that carry the features, no verdict on the picture",
    },
    "dinov3_quality": {
        "formula": "diversity_score",
        "stages": ["embed/dinov3"],
        "range": [0, 1],
        "direction": "none: what the features alone say, under the name that older clients read",
    },
}
"""What ``/model-info`` says of them."""


def sharpness_score(laplacian_variance: float, threshold: float) -> float:
    """0-1 from a variance ≥ 0; 0.5 at the threshold under which a picture is called blurry."""
    return round(laplacian_variance / (laplacian_variance + threshold), 4) if laplacian_variance else 0.0


def quality_score(technical: float, brisque: float, sharpness: float) -> float:
    """0-1 from NIMA's technical mean (1-10), BRISQUE (0-100, lower is better) and ``sharpness_score``."""
    parts = {"technical": (technical - 1) / 9, "undistorted": 1 - brisque / 100, "sharpness": sharpness}
    return _weighted(parts, QUALITY_WEIGHTS)


def overall_quality(quality: float, lighting: float, composition: float) -> float:
    """0-1 from three scores of 0-1."""
    return _weighted({"quality": quality, "lighting": lighting, "composition": composition}, OVERALL_WEIGHTS)


def diversity_score(features: NDArray[np.float32]) -> float:
    """1/n when one feature carries everything, 1 when all n weigh the same, 0 for a vector of zeros."""
    energy = features.astype(np.float64) ** 2
    total = energy.sum()
    if total == 0:
        return 0.0
    shares = energy[energy > 0] / total
    return round(float(np.exp(-(shares * np.log(shares)).sum()) / len(features)), 4)


def feature_statistics(features: NDArray[np.float32]) -> dict[str, float]:
    """Mean, standard deviation (of the population), largest and smallest of raw features."""
    wide = features.astype(np.float64)
    values = {"mean": wide.mean(), "std": wide.std(), "max": wide.max(), "min": wide.min()}
    return {name: round(float(value), 6) for name, value in values.items()}


def batch_statistics(qualities: Sequence[float]) -> dict[str, float] | None:
    """Mean, standard deviation (of the population), extremes and median of scores; None of none."""
    if not qualities:
        return None
    values = {
        "mean_quality": fmean(qualities),
        "std_quality": pstdev(qualities),
        "min_quality": min(qualities),
        "max_quality": max(qualities),
        "median_quality": median(qualities),
    }
    return {name: round(value, 4) for name, value in values.items()}


def _weighted(parts: dict[str, float], weights: dict[str, float]) -> float:
    return round(sum(weights[name] * value for name, value in parts.items()), 4)
