"""analysis/identities: which traces of a video show the same person, and which of them are known already.

Agglomerative clustering with average linkage, on the cosine of the traces' face vectors. Traces that share a moment
show different people, so the groups they are in are never merged (Wagstaff and Cardie 2000, "Clustering with
Instance-level Constraints"). Groups are then given to known identities, the most alike first; two groups that share a
moment never get the same one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.errors import InvalidInput, StageError

Vectors = NDArray[np.float32]

APART = 1e9
"""Distance of two traces that share a moment; any mean with one of them in it is above every threshold."""


@dataclass(frozen=True, slots=True, eq=False)
class IdentityRequest:
    """Traces of one video: ``vectors`` float32[n, d] of unit length, ``spans`` int64[n, 2] first and last frame, both
    included, ``counts`` int64[n] how many detections each vector is the mean of.

    ``known`` are uuids, ``known_vectors`` float32[m, d] their vectors, made by the same model.
    """

    vectors: Vectors
    spans: NDArray[np.int64]
    counts: NDArray[np.int64]
    known: tuple[str, ...]
    known_vectors: Vectors


@dataclass(frozen=True, slots=True)
class Assignment:
    """Whose trace it is: ``known`` is a uuid, or None for somebody new; ``group`` counts the groups of the video from
    0, by their first frame.

    ``cosine``, -1 to 1, higher is more alike: of the trace to the known vector, or to the mean of its group.
    """

    known: str | None
    group: int
    cosine: float


class Config(StageConfig):
    """``user_config`` of analysis/identities; everything changes in place."""

    same_cosine: float = Field(
        default=0.40, ge=-1, le=1, description="least mean cosine between two groups of traces of one person"
    )
    known_cosine: float = Field(
        default=0.40, ge=-1, le=1, description="least cosine of a group's mean to the identity that it is"
    )


IDENTITIES: Final = StageRef[IdentityRequest, tuple[Assignment, ...]]("analysis/identities")


class Identities(Stage[Config, IdentityRequest, IdentityRequest, tuple[Assignment, ...]]):
    """Traces of one video → one Assignment each, in order."""

    key = IDENTITIES.key
    config_class = Config

    def load(self) -> None:
        import scipy.cluster.hierarchy  # noqa: F401 - paid here and not by the first caller

    def predict_batch(self, items: list[IdentityRequest]) -> Sequence[tuple[Assignment, ...] | StageError]:
        return [self._assign(item) for item in items]

    def info(self) -> dict[str, Any]:
        return {
            "method": "average linkage, never joining traces that share a moment; then the most alike known identity",
            "score": "cosine, -1 to 1, higher is more alike",
            "same_cosine": self.config.same_cosine,
            "known_cosine": self.config.known_cosine,
        }

    def _assign(self, request: IdentityRequest) -> tuple[Assignment, ...] | StageError:
        count = len(request.vectors)
        if not len(request.spans) == len(request.counts) == count:
            return InvalidInput("The traces' vectors, spans and counts differ in length.")
        if len(request.known) != len(request.known_vectors):
            return InvalidInput("There are not as many known identities as vectors of them.")
        if not count:
            return ()
        apart = together(request.spans)
        groups = grouped(request.vectors, apart, self.config.same_cosine)
        groups.sort(key=lambda group: (int(request.spans[group, 0].min()), group[0]))
        means = np.stack([_mean(request.vectors[group], request.counts[group]) for group in groups])
        found = self._known(request, groups, means, apart)
        assignments: dict[int, Assignment] = {}
        for number, group in enumerate(groups):
            place = found.get(number)
            known = None if place is None else request.known[place]
            vector = means[number] if place is None else request.known_vectors[place]
            for trace in group:
                cosine = float(np.clip(request.vectors[trace] @ vector, -1, 1))
                assignments[trace] = Assignment(known, number, cosine)
        return tuple(assignments[trace] for trace in range(count))

    def _known(
        self, request: IdentityRequest, groups: list[list[int]], means: Vectors, apart: NDArray[np.bool_]
    ) -> dict[int, int]:
        """The place in ``known`` of each group that is known."""
        if not request.known:
            return {}
        cosines = means @ request.known_vectors.T
        found: dict[int, int] = {}
        likely = np.argwhere(cosines >= self.config.known_cosine)
        for number, place in likely[np.argsort(-cosines[tuple(likely.T)], kind="stable")].tolist():
            rivals = [other for other, its in found.items() if its == place]
            if number not in found and not any(apart[np.ix_(groups[number], groups[other])].any() for other in rivals):
                found[number] = place
        return found


def together(spans: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[n, n]: which different spans share a frame."""
    first, last = spans[:, 0], spans[:, 1]
    shared: NDArray[np.bool_] = (first[:, None] <= last) & (first <= last[:, None])
    np.fill_diagonal(shared, False)
    return shared


def grouped(vectors: Vectors, apart: NDArray[np.bool_], least: float) -> list[list[int]]:
    """Indices of the members of each group: the two groups of the greatest mean cosine are merged while it is
    ``least`` or more; groups with members that are ``apart`` never are."""
    if len(vectors) < 2:
        return [[index] for index in range(len(vectors))]
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    distances = np.where(apart, APART, 1 - vectors.astype(np.float64) @ vectors.T)
    np.fill_diagonal(distances, 0)
    labels = fcluster(linkage(squareform(distances, checks=False), "average"), 1 - least, "distance")
    return [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]


def _mean(vectors: Vectors, counts: NDArray[np.int64]) -> Vectors:
    mean = (vectors * counts[:, None]).sum(0)
    unit: Vectors = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    return unit
