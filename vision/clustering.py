"""Clusters of vectors that are alike, by scikit-learn and SciPy: any number of them, and by several methods."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidInput

Method: TypeAlias = Literal["kmeans", "dbscan", "agglomerative", "hdbscan"]
METHODS: tuple[Method, ...] = get_args(Method)
MAX_AUTO_CLUSTERS = 10

Vectors: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.int64]

APART = 1e9
"""Distance of two vectors that must not share a cluster; any mean distance with such a pair in it exceeds every
threshold."""


@dataclass(frozen=True, slots=True, eq=False)
class ClusterQuery:
    """``vectors``: float32[n, d] of any length but 0, n ≥ 2. ``n_clusters``: None takes the number with the best
    silhouette.

    ``eps`` (cosine distance, 0-2, dbscan only) and ``min_samples`` (dbscan and hdbscan) shape the density methods,
    which find their own number of clusters and may leave points out as noise.
    """

    vectors: NDArray[np.float32]
    method: Method = "kmeans"
    n_clusters: int | None = None
    eps: float = 0.35
    min_samples: int = 2


@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """``labels``: int64[n], −1 is noise; ``centroids``: float32[k, d] means of the members at unit length;
    ``inertia``: float64[k], summed squared distances of the members to their centroid; ``silhouette``: −1..1, None
    below 2 clusters; ``silhouettes``: float64[k], its mean over the members of each cluster, empty where it is None."""

    labels: Labels
    centroids: NDArray[np.float32]
    inertia: NDArray[np.float64]
    silhouette: float | None
    silhouettes: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def cluster(query: ClusterQuery) -> Clustering:
    """Cluster vectors by cosine: at unit length the squared euclidean distance is 2 − 2·cosine.

    Raises InvalidInput for fewer than 2 vectors, an impossible number of clusters, or a vector without a direction.
    """
    n = len(query.vectors)
    if n < 2:
        raise InvalidInput(f"Clustering needs at least 2 vectors, got {n}.")
    if query.n_clusters is not None and not 1 <= query.n_clusters <= n:
        raise InvalidInput(f"n_clusters must be between 1 and the number of vectors ({n}), got {query.n_clusters}.")
    vectors = query.vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unusable = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if unusable.size:
        raise InvalidInput(
            f"Vector {unusable[0]} (counted from 0) has no direction: its numbers are all 0, or one is not finite."
        )
    vectors /= lengths
    labels = _density(vectors, query) if query.method in ("dbscan", "hdbscan") else _partition(vectors, query)
    return _described(vectors, labels)


def average_linkage(vectors: Vectors, apart: NDArray[np.bool_], least_cosine: float) -> Labels:
    """Cluster float64[n, d] of unit length: int64[n], in no particular order.

    Agglomerative clustering with average linkage (Sokal and Michener 1958): the two clusters with the greatest mean
    cosine are merged while that is ``least_cosine`` or more. Clusters with members that are ``apart``, bool[n, n], are
    never merged (Wagstaff and Cardie 2000, "Clustering with Instance-level Constraints").
    """
    if len(vectors) < 2:
        return np.zeros(len(vectors), np.int64)
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    distances = np.where(apart, APART, 1 - np.clip(vectors @ vectors.T, -1, 1))
    np.fill_diagonal(distances, 0)
    merges = linkage(squareform(distances, checks=False), "average")
    labels: Labels = fcluster(merges, 1 - least_cosine, "distance").astype(np.int64)
    return labels


def largest_first(labels: Labels) -> Labels:
    """Renumber clusters from 0 without gaps, the largest first; of equal ones the one with the first member."""
    _, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    numbers = np.empty(len(first), np.int64)
    numbers[np.lexsort((first, -counts))] = np.arange(len(first))
    ordered: Labels = numbers[inverse]
    return ordered


def _density(vectors: Vectors, query: ClusterQuery) -> Labels:
    from sklearn.cluster import DBSCAN, HDBSCAN

    if query.method == "dbscan":
        # Cosine distance e on unit vectors is euclidean distance sqrt(2e), which lets scikit-learn use a tree. The
        # little more is for rounding: eps 2 reaches the very opposite.
        model = DBSCAN(eps=float(np.sqrt(2 * query.eps)) * (1 + 1e-9), min_samples=query.min_samples)
    else:
        size = max(query.min_samples, 2)
        model = HDBSCAN(
            min_cluster_size=size, min_samples=min(size, len(vectors)), allow_single_cluster=True, copy=True
        )
    labels: Labels = model.fit_predict(vectors).astype(np.int64)
    return labels


def _partition(vectors: Vectors, query: ClusterQuery) -> Labels:
    if query.n_clusters is not None:
        return _fit(vectors, query.method, query.n_clusters)
    from sklearn.metrics import silhouette_score

    different = len(np.unique(vectors.round(6), axis=0))
    if different < 3:
        return _fit(vectors, query.method, different)
    best, best_score = np.zeros(len(vectors), np.int64), -1.0
    for k in range(2, min(MAX_AUTO_CLUSTERS, len(vectors) - 1) + 1):
        labels = _fit(vectors, query.method, k)
        if 1 < len(np.unique(labels)) < len(vectors):
            score = float(silhouette_score(vectors, labels))
            if score > best_score:
                best, best_score = labels, score
    return best


def _fit(vectors: Vectors, method: Method, k: int) -> Labels:
    from sklearn.cluster import AgglomerativeClustering, KMeans

    if method == "kmeans":
        model = KMeans(n_clusters=k, n_init=10, random_state=0)
    else:
        model = AgglomerativeClustering(n_clusters=k, linkage="average", metric="euclidean")
    labels: Labels = model.fit_predict(vectors).astype(np.int64)
    return labels


def _described(vectors: Vectors, labels: Labels) -> Clustering:
    from sklearn.metrics import silhouette_samples

    kept = np.unique(labels[labels >= 0])
    # Cluster numbers without gaps, whatever the method called them.
    labels = np.where(labels >= 0, np.searchsorted(kept, labels), -1)
    centroids = np.array([vectors[labels == k].mean(0) for k in range(len(kept))]).reshape(len(kept), vectors.shape[1])
    inertia = np.array([((vectors[labels == k] - centroids[k]) ** 2).sum() for k in range(len(kept))])
    members = labels >= 0
    scorable = 1 < len(kept) < members.sum()
    if not scorable:
        return Clustering(labels, centroids.astype(np.float32), inertia, None)
    samples, owners = silhouette_samples(vectors[members], labels[members]), labels[members]
    silhouettes = np.array([samples[owners == k].mean() for k in range(len(kept))])
    return Clustering(labels, centroids.astype(np.float32), inertia, float(samples.mean()), silhouettes)
