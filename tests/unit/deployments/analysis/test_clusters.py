"""Clusterer of points whose grouping is known, with numbers worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.analysis.clusters import Clusterer
from deployments.serving.stage import StageConfig
from tests.tolerances import FP32
from vision.clustering import METHODS, Clustering, ClusterQuery, Method
from vision.errors import InvalidInput

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def stage() -> Clusterer:
    stage = Clusterer(StageConfig())
    stage.load()
    return stage


def run(stage: Clusterer, query: ClusterQuery) -> Clustering:
    (result,) = stage.predict_batch([query])
    assert isinstance(result, Clustering)
    return result


def on_circle(*degrees: float) -> NDArray[np.float32]:
    """Unit vectors in the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def blobs(centres: int, each: int, spread: float = 0.05, dims: int = 16) -> NDArray[np.float32]:
    """Unit vectors around orthogonal directions, in turn: 0, 1, 2, 0, 1, 2 …"""
    rng = np.random.default_rng(centres)
    points = np.tile(np.eye(dims)[:centres], (each, 1)) + rng.normal(0, spread, (centres * each, dims))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def assert_groups(result: Clustering, centres: int, each: int) -> None:
    """Every centre of ``blobs`` has one label of its own."""
    table = result.labels.reshape(each, centres)
    assert (table == table[0]).all()
    assert sorted(table[0]) == list(range(centres))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("centres", [2, 3, 7])
@pytest.mark.parametrize("given", [True, False])
def test_blobs_are_found(stage: Clusterer, method: Method, centres: int, given: bool) -> None:
    vectors = blobs(centres, 8)
    result = run(stage, ClusterQuery(vectors, method, centres if given else None))
    assert_groups(result, centres, 8)
    assert result.silhouette is not None
    assert result.silhouette > 0.7
    sizes = np.bincount(result.labels[result.labels >= 0])
    assert result.silhouettes @ sizes / sizes.sum() == pytest.approx(result.silhouette, abs=FP32)
    for label, centroid in enumerate(result.centroids):
        np.testing.assert_allclose(centroid, vectors[result.labels == label].mean(0), atol=FP32)


@pytest.mark.parametrize("method", ["kmeans", "agglomerative"])
def test_the_number_given_is_the_number_made(stage: Clusterer, method: Method) -> None:
    for k in (1, 2, 5, 24):
        result = run(stage, ClusterQuery(blobs(3, 8), method, k))
        assert sorted(set(result.labels.tolist())) == list(range(k))
        assert (len(result.centroids), len(result.inertia)) == (k, k)


def test_inertia_and_silhouette_by_hand(stage: Clusterer) -> None:
    # Two pairs, 60 degrees apart within each and 180 between their middles.
    result = run(stage, ClusterQuery(on_circle(-30, 30, 150, 210), "kmeans", 2))
    left = result.labels[2]
    np.testing.assert_allclose(result.centroids[result.labels[0]], [np.sqrt(3) / 2, 0], atol=FP32)
    np.testing.assert_allclose(result.centroids[left], [-np.sqrt(3) / 2, 0], atol=FP32)
    np.testing.assert_allclose(result.inertia, [0.5, 0.5], atol=FP32)  # 2 * sin(30°)²
    # Within a pair the distance is 1; to the others it is 2 and the square root of 3.
    other = (2 + np.sqrt(3)) / 2
    assert result.silhouette == pytest.approx((other - 1) / other, rel=FP32)


@pytest.mark.parametrize(("eps", "clusters", "noise"), [(0.05, 2, 1), (0.001, 0, 7), (1.9, 1, 0)])
def test_dbscan_joins_what_is_nearer_than_eps(stage: Clusterer, eps: float, clusters: int, noise: int) -> None:
    # 1 - cos(10°) = 0.015; the last one is 60 degrees from all others: 1 - cos(60°) = 0.5.
    vectors = on_circle(0, 10, 20, 140, 150, 160, 80)
    result = run(stage, ClusterQuery(vectors, "dbscan", eps=eps))
    assert len(result.centroids) == clusters
    assert (result.labels == -1).sum() == noise
    if clusters == 2:
        assert result.labels.tolist() == [0, 0, 0, 1, 1, 1, -1]
        assert result.silhouette is not None
    else:
        assert result.silhouette is None


def test_eps_is_a_cosine_distance(stage: Clusterer) -> None:
    vectors = on_circle(0, 30)
    limit = 1 - np.cos(np.radians(30))
    assert run(stage, ClusterQuery(vectors, "dbscan", eps=limit * 1.01)).labels.tolist() == [0, 0]
    assert run(stage, ClusterQuery(vectors, "dbscan", eps=limit * 0.99)).labels.tolist() == [-1, -1]


@pytest.mark.parametrize("dims", [2, 3, 512])
def test_eps_reaches_the_very_opposite(stage: Clusterer, dims: int) -> None:
    vectors = np.random.default_rng(dims).standard_normal((20, dims)).astype(np.float32)
    for vector in vectors:
        pair = np.stack([vector, -vector])
        assert run(stage, ClusterQuery(pair, "dbscan", eps=2)).labels.tolist() == [0, 0]
        assert run(stage, ClusterQuery(pair, "dbscan", eps=1.999)).labels.tolist() == [-1, -1]


def test_one_sample_makes_a_neighbourhood(stage: Clusterer) -> None:
    result = run(stage, ClusterQuery(on_circle(0, 90, 180), "dbscan", eps=0.5, min_samples=1))
    assert result.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("method", METHODS)
def test_the_length_of_a_vector_does_not_matter(stage: Clusterer, method: Method) -> None:
    vectors = blobs(3, 8)
    lengths = np.random.default_rng(0).uniform(1e-3, 1e3, (24, 1)).astype(np.float32)
    unit, scaled = (run(stage, ClusterQuery(given, method)) for given in (vectors, vectors * lengths))
    assert unit.labels.tolist() == scaled.labels.tolist()
    np.testing.assert_allclose(unit.centroids, scaled.centroids, atol=FP32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", [0.0, float("nan"), float("inf")])
def test_a_vector_without_direction_is_refused(stage: Clusterer, method: Method, fault: float) -> None:
    vectors = blobs(3, 8)
    vectors[5] = fault
    (result,) = stage.predict_batch([ClusterQuery(vectors, method)])
    assert isinstance(result, InvalidInput)
    assert "Vector 5 " in result.message


def test_min_samples_is_the_smallest_neighbourhood(stage: Clusterer) -> None:
    vectors = np.concatenate([blobs(2, 6, 0.01), blobs(3, 1, 0.01)[2:]])
    loose = run(stage, ClusterQuery(vectors, "dbscan", min_samples=6)).labels
    assert loose.tolist() == [0, 1] * 6 + [-1]
    assert set(run(stage, ClusterQuery(vectors, "dbscan", min_samples=7)).labels) == {-1}
    assert len(run(stage, ClusterQuery(vectors, "hdbscan", min_samples=6)).centroids) == 2
    assert len(run(stage, ClusterQuery(vectors, "hdbscan", min_samples=7)).centroids) < 2


@pytest.mark.parametrize("method", METHODS)
def test_copies_of_one_picture_are_one_cluster(stage: Clusterer, method: Method) -> None:
    result = run(stage, ClusterQuery(np.repeat(on_circle(40), 5, 0), method))
    assert result.labels.tolist() == [0] * 5
    np.testing.assert_allclose(result.centroids, on_circle(40), atol=FP32)
    np.testing.assert_allclose(result.inertia, [0], atol=FP32**2)
    assert result.silhouette is None


def test_copies_of_two_pictures_are_two_clusters(stage: Clusterer) -> None:
    for method in METHODS:
        result = run(stage, ClusterQuery(on_circle(0, 90, 0, 90, 0), method))
        assert result.labels.tolist() in ([0, 1, 0, 1, 0], [1, 0, 1, 0, 1])
        assert result.silhouette == pytest.approx(1)


@pytest.mark.parametrize("method", ["kmeans", "agglomerative"])
def test_two_vectors(stage: Clusterer, method: Method) -> None:
    apart = run(stage, ClusterQuery(on_circle(0, 90), method))
    assert (sorted(apart.labels.tolist()), apart.silhouette) == ([0, 1], None)
    together = run(stage, ClusterQuery(on_circle(0, 90), method, 1))
    assert together.labels.tolist() == [0, 0]
    assert together.inertia.tolist() == pytest.approx([1])  # the middle is half the diagonal away from both


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [0, 3, -1])
def test_a_number_that_cannot_be_is_refused(stage: Clusterer, method: Method, k: int) -> None:
    (result,) = stage.predict_batch([ClusterQuery(on_circle(0, 90), method, k)])
    assert isinstance(result, InvalidInput)
    assert f"between 1 and the number of vectors (2), got {k}" in result.message


@pytest.mark.filterwarnings("ignore:Number of distinct clusters:sklearn.exceptions.ConvergenceWarning")
def test_more_clusters_than_different_pictures(stage: Clusterer) -> None:
    result = run(stage, ClusterQuery(on_circle(0, 0, 0, 90), "kmeans", 3))
    assert result.labels.tolist() in ([0, 0, 0, 1], [1, 1, 1, 0])
    assert len(result.centroids) == len(result.inertia) == 2


def test_one_bad_query_fails_alone(stage: Clusterer) -> None:
    good = ClusterQuery(on_circle(0, 90), "kmeans", 2)
    results = stage.predict_batch([good, ClusterQuery(on_circle(0)), good])
    assert [type(result) for result in results] == [Clustering, InvalidInput, Clustering]


def test_the_same_query_has_the_same_answer(stage: Clusterer) -> None:
    first, second = (run(stage, ClusterQuery(blobs(4, 6, 0.3))) for _ in range(2))
    assert first.labels.tolist() == second.labels.tolist()
