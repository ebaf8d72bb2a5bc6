"""analysis/groups: puts vectors that are alike into groups, as many as a threshold makes.

Agglomerative clustering with average linkage (Sokal and Michener 1958): the two groups whose vectors have the greatest
mean cosine are joined as long as that is at least the threshold. Vectors of one owner never share a group: two faces in
one picture are two people.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.errors import InvalidInput, StageError

APART = 1e9
"""Distance of two vectors of one owner; above any mean distance of those that have none."""
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class GroupQuery:
    """``vectors``: float32[n, d] of length 1; ``owners``: int64[n]; ``least_cosine``: the threshold, -1 to 1."""

    vectors: NDArray[np.float32]
    owners: NDArray[np.int64]
    least_cosine: float


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """``labels``: int64[n], from 0 without gaps, the largest group first; of equal ones the one with the first vector.

    ``centrality``: float64[n], the cosine of each vector with the mean of its group.
    """

    labels: NDArray[np.int64]
    centrality: NDArray[np.float64]


GROUPS: Final = StageRef[GroupQuery, Groups]("analysis/groups")


class Grouper(Stage[StageConfig, GroupQuery, GroupQuery, Groups]):
    """GroupQuery → Groups; every vector is in a group, if only in one of its own."""

    key = GROUPS.key

    def load(self) -> None:
        import sklearn.cluster  # noqa: F401 - a second of import, paid here and not by the first caller

    def predict_batch(self, items: list[GroupQuery]) -> Sequence[Groups | StageError]:
        return [self._group(item) for item in items]

    def info(self) -> dict[str, Any]:
        return {"method": "agglomerative clustering, average linkage", "metric": "cosine"}

    def _group(self, query: GroupQuery) -> Groups | StageError:
        vectors = query.vectors.astype(np.float64)
        if vectors.ndim != 2 or len(vectors) != len(query.owners):
            return InvalidInput(f"{len(query.owners)} owners for vectors of the shape {vectors.shape}.")
        labels = _ordered(_linked(vectors, query))
        means = np.zeros((labels.max(initial=-1) + 1, vectors.shape[1]))
        np.add.at(means, labels, vectors)
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return Groups(labels, (vectors * means[labels]).sum(1))


def _linked(vectors: NDArray[np.float64], query: GroupQuery) -> NDArray[np.int64]:
    if len(vectors) < 2:
        return np.zeros(len(vectors), np.int64)
    from sklearn.cluster import AgglomerativeClustering

    distances = 1 - np.clip(vectors @ vectors.T, -1, 1)
    distances[query.owners[:, None] == query.owners] = APART
    np.fill_diagonal(distances, 0)
    model = AgglomerativeClustering(
        n_clusters=None,
        metric="precomputed",
        linkage="average",
        distance_threshold=1 - query.least_cosine + ROUNDING,
    )
    labels: NDArray[np.int64] = model.fit_predict(distances).astype(np.int64)
    return labels


def _ordered(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same groups, numbered by size and then by their first member."""
    _, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    numbers = np.empty(len(first), np.int64)
    numbers[np.lexsort((first, -counts))] = np.arange(len(first))
    ordered: NDArray[np.int64] = numbers[inverse]
    return ordered
