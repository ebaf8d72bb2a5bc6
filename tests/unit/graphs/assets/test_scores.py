"""Scores of the asset API: known values, ranges, and that each rises with its parts."""

from itertools import pairwise

import numpy as np
import pytest

from graphs.assets import scores
from graphs.assets.scores import (
    Quality,
    batch_statistics,
    diversity_score,
    feature_statistics,
    overall_quality,
    quality_score,
    sharpness_score,
)
from tests.tolerances import decimals


def test_the_best_and_the_worst_quality() -> None:
    assert quality_score(10, 0, 1) == 1
    assert quality_score(1, 100, 0) == 0
    assert overall_quality(1, 1, 1) == 1
    assert overall_quality(0, 0, 0) == 0


def test_quality_is_the_weighted_sum_that_model_info_tells() -> None:
    assert quality_score(5.5, 20, 0.25) == pytest.approx(0.5 * 0.5 + 0.3 * 0.8 + 0.2 * 0.25)
    assert overall_quality(0.5, 0.25, 1) == pytest.approx(0.6 * 0.5 + 0.2 * 0.25 + 0.2 * 1)
    assert set(scores.EXPLAINED) == {
        *("quality_score", "sharpness_score", "lighting_quality", "composition_score"),
        *("overall_quality", "diversity_score", "dinov3_quality"),
    }
    for weights in (scores.QUALITY_WEIGHTS, scores.OVERALL_WEIGHTS):
        assert sum(weights.values()) == pytest.approx(1)
    for name, weights in (("quality_score", scores.QUALITY_WEIGHTS), ("overall_quality", scores.OVERALL_WEIGHTS)):
        assert all(f"{weight}·" in str(scores.EXPLAINED[name]["formula"]) for weight in weights.values())


def test_without_a_model_the_others_have_its_weight() -> None:
    assert quality_score(None, 20, 0.25) == pytest.approx((0.3 * 0.8 + 0.2 * 0.25) / 0.5)
    assert quality_score(5.5, None, 0.25) == pytest.approx((0.5 * 0.5 + 0.2 * 0.25) / 0.7, abs=decimals(4))
    assert (quality_score(10, None, 1), quality_score(None, 100, 0)) == (1, 0)
    assert quality_score(None, None, 1) is None
    assert overall_quality(None, 1, 1) is None


def test_a_score_is_the_surer_the_more_its_parts_agree_and_the_more_of_them_there_are() -> None:
    # The parts are 0.5, 0.8 and 0.25.
    assert Quality(5.5, 20, "b", 0.25).confidence == pytest.approx(1 - 0.55)
    assert Quality(5.5, 20, "b", 0.25, ("shallow_focus",)).confidence == pytest.approx(0.7 * (1 - 0.55))
    assert Quality(None, 20, "b", 0.25).confidence == pytest.approx(0.5 * (1 - 0.55))
    assert Quality(5.5, None, None, 0.25).confidence == pytest.approx(0.7 * (1 - 0.25))
    assert Quality(10, 0, "b", 1).confidence == 1
    assert Quality(10, 100, "b", 1).confidence == 0
    assert Quality(None, None, None, 0.5).confidence is None


def test_quality_rises_with_every_part() -> None:
    steps = np.linspace(0, 1, 9)
    for values in (
        [quality_score(1 + 9 * step, 40, 0.5) for step in steps],
        [quality_score(5, 100 - 100 * step, 0.5) for step in steps],
        [quality_score(5, 40, step) for step in steps],
        [overall_quality(step, 0.5, 0.5) for step in steps],
        [overall_quality(0.5, step, 0.5) for step in steps],
        [overall_quality(0.5, 0.5, step) for step in steps],
        [sharpness_score(1000 * step, 100) for step in steps],
    ):
        assert all(low < high for low, high in pairwise(values))


def test_sharpness_is_half_at_the_threshold() -> None:
    assert sharpness_score(100, 100) == 0.5
    assert sharpness_score(300, 100) == 0.75
    assert sharpness_score(0, 100) == 0
    assert sharpness_score(0, 0) == 0
    assert sharpness_score(5, 0) == 1


def test_diversity_is_the_share_of_dimensions_in_use() -> None:
    one = np.zeros(384, np.float32)
    one[7] = -3
    assert diversity_score(one) == pytest.approx(1 / 384, abs=decimals(4))
    assert diversity_score(np.full(384, -0.5, np.float32)) == 1
    assert diversity_score(np.repeat(np.float32([0, 2]), 192)) == 0.5
    assert diversity_score(np.zeros(384, np.float32)) == 0
    normal = np.random.default_rng(0).normal(size=384).astype(np.float32)
    assert 0.4 < diversity_score(normal) < 0.6
    assert diversity_score(normal * 100) == diversity_score(normal)


def test_statistics_of_features() -> None:
    values = np.float32([1, 2, 3, 6])
    assert feature_statistics(values) == {
        "mean": 3,
        "std": pytest.approx(3.5**0.5, abs=decimals(6)),
        "max": 6,
        "min": 1,
    }


def test_statistics_of_a_batch() -> None:
    assert batch_statistics([]) is None
    assert batch_statistics([0.25]) == {
        **dict.fromkeys(("mean_quality", "min_quality", "max_quality", "median_quality"), 0.25),
        "std_quality": 0,
    }
    statistics = batch_statistics([0.2, 0.8, 0.5, 0.1])
    assert statistics == {
        "mean_quality": 0.4,
        "std_quality": pytest.approx(float(np.std([0.2, 0.8, 0.5, 0.1])), abs=decimals(4)),
        "min_quality": 0.1,
        "max_quality": 0.8,
        "median_quality": 0.35,
    }
