"""analysis/clusters: groups feature vectors with scikit-learn's kmeans, dbscan, agglomerative or hdbscan.

Vectors are brought to unit length, where squared euclidean distance is 2 − 2·cosine: all four methods group by cosine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.errors import InvalidInput, StageError

Method = Literal["kmeans", "dbscan", "agglomerative", "hdbscan"]
METHODS: tuple[Method, ...] = get_args(Method)
MAX_AUTO_CLUSTERS = 10


@dataclass(frozen=True, slots=True, eq=False)
class ClusterQuery:
    """``vectors``: float32[n, d] of any length but 0, n ≥ 2. ``n_clusters``: None has k chosen by silhouette.

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
    """``labels``: int[n], −1 is noise; ``centroids``: float32[k, d] means of the members at unit length; ``inertia``:
    float[k], summed squared distances of the members to their centroid; ``silhouette``: −1..1, None below 2 clusters.
    """

    labels: NDArray[np.int64]
    centroids: NDArray[np.float32]
    inertia: NDArray[np.float64]
    silhouette: float | None


CLUSTERS: Final = StageRef[ClusterQuery, Clustering]("analysis/clusters")


class Clusters(Stage[StageConfig, ClusterQuery, ClusterQuery, Clustering]):
    """ClusterQuery → Clustering."""

    key = CLUSTERS.key

    def load(self) -> None:
        import sklearn.cluster  # noqa: F401 - a second of import, paid here and not by the first caller

    def predict_batch(self, items: list[ClusterQuery]) -> Sequence[Clustering | StageError]:
        return [self._cluster(item) for item in items]

    def _cluster(self, query: ClusterQuery) -> Clustering | StageError:
        n = len(query.vectors)
        if n < 2:
            return InvalidInput(f"Clustering needs at least 2 vectors, got {n}.")
        if query.n_clusters is not None and not 1 <= query.n_clusters <= n:
            return InvalidInput(
                f"n_clusters must be between 1 and the number of vectors ({n}), got {query.n_clusters}."
            )
        vectors = query.vectors.astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unusable = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
        if unusable.size:
            return InvalidInput(
                f"Vector {unusable[0]} (counted from 0) has no direction: its numbers are all 0, or one is not finite."
            )
        vectors /= lengths
        labels = _density(vectors, query) if query.method in ("dbscan", "hdbscan") else _partition(vectors, query)
        return _describe(vectors, labels)

    def info(self) -> dict[str, Any]:
        return {"methods": list(METHODS), "metric": "cosine, as euclidean distance of unit vectors"}


def _density(vectors: NDArray[np.float64], query: ClusterQuery) -> NDArray[np.int64]:
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
    labels: NDArray[np.int64] = model.fit_predict(vectors).astype(np.int64)
    return labels


def _partition(vectors: NDArray[np.float64], query: ClusterQuery) -> NDArray[np.int64]:
    if query.n_clusters is not None:
        return _fit(vectors, query.method, query.n_clusters)
    from sklearn.metrics import silhouette_score

    if len(np.unique(vectors.round(6), axis=0)) < 3:
        return _fit(vectors, query.method, len(np.unique(vectors.round(6), axis=0)))
    best, best_score = np.zeros(len(vectors), np.int64), -1.0
    for k in range(2, min(MAX_AUTO_CLUSTERS, len(vectors) - 1) + 1):
        labels = _fit(vectors, query.method, k)
        if 1 < len(np.unique(labels)) < len(vectors):
            score = float(silhouette_score(vectors, labels))
            if score > best_score:
                best, best_score = labels, score
    return best


def _fit(vectors: NDArray[np.float64], method: Method, k: int) -> NDArray[np.int64]:
    from sklearn.cluster import AgglomerativeClustering, KMeans

    if method == "kmeans":
        model = KMeans(n_clusters=k, n_init=10, random_state=0)
    else:
        model = AgglomerativeClustering(n_clusters=k, linkage="average", metric="euclidean")
    labels: NDArray[np.int64] = model.fit_predict(vectors).astype(np.int64)
    return labels


def _describe(vectors: NDArray[np.float64], labels: NDArray[np.int64]) -> Clustering:
    from sklearn.metrics import silhouette_score

    kept = np.unique(labels[labels >= 0])
    # Cluster numbers without gaps, whatever the method called them.
    labels = np.where(labels >= 0, np.searchsorted(kept, labels), -1)
    centroids = np.array([vectors[labels == k].mean(0) for k in range(len(kept))]).reshape(len(kept), vectors.shape[1])
    inertia = np.array([((vectors[labels == k] - centroids[k]) ** 2).sum() for k in range(len(kept))])
    members = labels >= 0
    scorable = 1 < len(kept) < members.sum()
    silhouette = float(silhouette_score(vectors[members], labels[members])) if scorable else None
    return Clustering(labels, centroids.astype(np.float32), inertia, silhouette)
