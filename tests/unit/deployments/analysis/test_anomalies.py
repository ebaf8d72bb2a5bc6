"""Anomaly scores, worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.analysis.anomalies import MIN_SPREAD, Anomalies, AnomalyDetector, AnomalyQuery
from deployments.serving.stage import StageConfig
from tests.tolerances import FP32, FP64
from vision.errors import InvalidInput

pytestmark = pytest.mark.numeric

AXES = np.eye(4, dtype=np.float32)


def score(references: NDArray[np.float32], tests: NDArray[np.float32]) -> Anomalies:
    (result,) = AnomalyDetector(StageConfig()).predict_batch([AnomalyQuery(references, tests)])
    assert isinstance(result, Anomalies)
    return result


def on_circle(*degrees: float) -> NDArray[np.float32]:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def test_a_z_score_by_hand() -> None:
    # Each reference against the middle of the two others: 0° to 60°, 30° to 45°, 90° to 15°.
    own = 1 - np.cos(np.radians([60, 15, 75]))
    mean, spread = own.mean(), own.std(ddof=1)
    # cos and sin of the three add up to 1.866 and 1.5, so their middle is at 38.79°.
    middle = np.degrees(np.arctan2(1.5, 1 + np.sqrt(3) / 2))
    result = score(on_circle(0, 30, 90), on_circle(middle, middle + 90, middle + 180))
    np.testing.assert_allclose(result.centroid_similarities, [1, 0, -1], atol=FP32)
    np.testing.assert_allclose(result.scores, (np.array([0, 1, 2]) - mean) / spread, atol=FP32 / spread)
    np.testing.assert_allclose(result.reference_scores, (own - mean) / spread, atol=FP32 / spread)


def test_each_reference_is_measured_without_itself() -> None:
    # Orthogonal references: none is at all like the middle of the others.
    result = score(AXES, np.array([[0.5, 0.5, 0.5, 0.5]], np.float32))
    np.testing.assert_allclose(result.reference_scores, 0, atol=FP64)
    # With itself in it, each would have a distance of 0.5, and the score would be -25.
    np.testing.assert_allclose(result.scores, [-1 / MIN_SPREAD], rtol=FP32)


def test_the_odd_one_among_the_references_stands_out() -> None:
    result = score(on_circle(0, 1, 2, 3, 4, 120), on_circle(2))
    assert result.reference_scores.argmax() == 5
    assert result.reference_scores[5] > 2
    assert (result.reference_scores[:5] < 0).all()


def test_a_set_of_copies_has_a_spread_all_the_same() -> None:
    copies = np.repeat(AXES[:1], 3, 0)
    turned = on_circle(0, 15, 60)
    tests = np.concatenate([turned, np.zeros((3, 2), np.float32)], 1)
    result = score(copies, tests)
    distances = 1 - np.cos(np.radians([0, 15, 60]))
    np.testing.assert_allclose(result.scores, distances / MIN_SPREAD, atol=FP32 / MIN_SPREAD)
    assert result.scores[1] < 2 < result.scores[2]
    assert result.reference_scores.tolist() == [0, 0, 0]


def test_opposite_references_have_no_middle_and_still_an_answer() -> None:
    result = score(np.stack([AXES[0], -AXES[0]]), AXES[:2])
    assert np.isfinite(result.scores).all()
    np.testing.assert_allclose(result.centroid_similarities, 0, atol=FP64)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_references_are_refused(count: int) -> None:
    good = AnomalyQuery(AXES[:2], AXES[2:])
    stage = AnomalyDetector(StageConfig())
    results = stage.predict_batch([good, AnomalyQuery(AXES[:count], AXES), good])
    assert [type(result) for result in results] == [Anomalies, InvalidInput, Anomalies]
    assert f"at least 2 reference assets, got {count}" in results[1].message


def test_scores_do_not_depend_on_what_is_tested_together() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    together = score(vectors[:10], vectors[10:])
    alone = [score(vectors[:10], vectors[n : n + 1]).scores[0] for n in range(10, 20)]
    np.testing.assert_allclose(together.scores, alone, rtol=FP64)
