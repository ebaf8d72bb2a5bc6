"""analysis/groups: puts vectors that are alike into groups, as many as a threshold makes.

Average linkage by cosine. Vectors of one owner never share a group: two faces in one picture are two people.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.clustering import average_linkage, largest_first
from vision.errors import InvalidInput

ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class GroupQuery:
    """``vectors``: float32[n, d] of length 1, or less where they are to be trusted less; ``owners``: int64[n];
    ``least_cosine``: the threshold, -1 to 1."""

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
    libraries = ("scipy.cluster.hierarchy",)

    def predict(self, item: GroupQuery) -> Groups:
        vectors = item.vectors.astype(np.float64)
        if vectors.ndim != 2 or len(vectors) != len(item.owners):
            raise InvalidInput(f"{len(item.owners)} owners for vectors of the shape {vectors.shape}.")
        same_owner = item.owners[:, None] == item.owners
        labels = largest_first(average_linkage(vectors, same_owner, item.least_cosine - ROUNDING))
        means = np.zeros((labels.max(initial=-1) + 1, vectors.shape[1]))
        np.add.at(means, labels, vectors)
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return Groups(labels, (vectors * means[labels]).sum(1))

    def info(self) -> dict[str, Any]:
        return {"method": "agglomerative clustering, average linkage", "metric": "cosine"}
