"""Groups whose members are known, with cosines worked out by hand."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.analysis.groups import Grouper, GroupQuery, Groups
from deployments.serving.stage import StageConfig
from tests.tolerances import FP32
from vision.errors import InvalidInput

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def stage() -> Grouper:
    stage = Grouper(StageConfig())
    stage.load()
    return stage


def on_circle(*degrees: float) -> NDArray[np.float32]:
    """Unit vectors in the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def run(stage: Grouper, vectors: NDArray[np.float32], least: float, owners: list[int] | None = None) -> Groups:
    given = np.arange(len(vectors)) if owners is None else np.array(owners)
    (result,) = stage.predict_batch([GroupQuery(vectors, given, least)])
    assert isinstance(result, Groups)
    return result


def test_the_larger_group_comes_first_and_equal_ones_in_order(stage: Grouper) -> None:
    result = run(stage, on_circle(90, 0, 91, 180, 1, 89, 2, 181), 0.9)
    assert result.labels.tolist() == [0, 1, 0, 2, 1, 0, 1, 2]
    assert result.labels.dtype == np.int64


def test_the_mean_cosine_decides(stage: Grouper) -> None:
    """Three vectors at 0, 30 and 60 degrees: the pair at 30 joins first, then the mean of cos 30 and cos 60 counts."""
    vectors, mean = on_circle(0, 30, 60.5), (np.cos(np.radians(60.5)) + np.cos(np.radians(30.5))) / 2
    assert run(stage, vectors, mean - 1e-4).labels.tolist() == [0, 0, 0]
    assert run(stage, vectors, mean + 1e-4).labels.tolist() == [0, 0, 1]
    assert run(stage, vectors, 0.99).labels.tolist() == [0, 1, 2]


def test_exactly_at_the_threshold_is_alike(stage: Grouper) -> None:
    assert run(stage, np.float32([[1, 0], [0.5, np.sqrt(0.75)]]), 0.5).labels.tolist() == [0, 0]
    assert run(stage, on_circle(10, 10), 1.0).labels.tolist() == [0, 0]
    assert run(stage, on_circle(0, 180), -1.0).labels.tolist() == [0, 0]


@pytest.mark.parametrize("least", [-1.0, 0.0, 0.5])
def test_two_of_one_owner_are_never_together(stage: Grouper, least: float) -> None:
    rng = np.random.default_rng(2)
    vectors = on_circle(*rng.uniform(0, 40, 60))
    owners = rng.integers(0, 15, 60)
    labels = run(stage, vectors, least, owners.tolist()).labels
    groups = [owners[labels == label].tolist() for label in range(labels.max() + 1)]
    assert all(len(set(group)) == len(group) for group in groups)
    # All are alike enough, so that two groups stay apart only over an owner that both have.
    assert all(set(a) & set(b) for a, b in combinations(groups, 2))


def test_centrality_is_the_cosine_with_the_mean(stage: Grouper) -> None:
    result = run(stage, on_circle(0, 40, 20, 170), 0.7)
    expected = np.cos(np.radians([20, 20, 0, 0]))
    np.testing.assert_allclose(result.centrality, expected, atol=FP32)


def test_few_vectors(stage: Grouper) -> None:
    assert run(stage, np.empty((0, 3), np.float32), 0.5).labels.tolist() == []
    single = run(stage, on_circle(5), 0.5)
    assert (single.labels.tolist(), single.centrality.round(6).tolist()) == ([0], [1.0])


def test_owners_for_other_vectors_are_refused(stage: Grouper) -> None:
    good = GroupQuery(on_circle(1, 2), np.arange(2), 0.5)
    bad = GroupQuery(on_circle(1, 2), np.arange(3), 0.5)
    first, error, last = stage.predict_batch([good, bad, good])
    assert isinstance(error, InvalidInput)
    assert isinstance(first, Groups)
    assert isinstance(last, Groups)
    assert (first.labels == last.labels).all()
