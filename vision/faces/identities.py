"""Which traces of a video show the same person, and which of them are known already.

Average linkage on the cosine of the traces' face vectors. Traces that share a moment show different people, so the
groups they are in are never merged. Groups are then assigned to known identities, the most alike first; two groups
that share a moment never get the same one.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vision.clustering import average_linkage
from vision.errors import InvalidInput

Vectors: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class IdentityRequest:
    """Traces of one video: ``vectors`` float32[n, d] of length 1, or less where their cosines are to be trusted less,
    ``spans`` int64[n, 2] first and last frame, both included, ``counts`` int64[n] how many detections each vector is
    the mean of.

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


def assign_identities(request: IdentityRequest, *, same_cosine: float, known_cosine: float) -> tuple[Assignment, ...]:
    """Return one Assignment per trace, in order. Raises InvalidInput for arrays that differ in length.

    ``same_cosine``: least mean cosine between two groups of traces of one person; ``known_cosine``: least cosine of a
    group's mean to the identity that it is assigned to.
    """
    vectors, spans, known, known_vectors = request.vectors, request.spans, request.known, request.known_vectors
    if not len(spans) == len(request.counts) == len(vectors):
        raise InvalidInput("The traces' vectors, spans and counts differ in length.")
    if len(known) != len(known_vectors):
        raise InvalidInput("The known identities and their vectors differ in number.")
    if not len(vectors):
        return ()
    apart = overlapping(spans)
    groups = group_traces(vectors, apart, same_cosine)
    groups.sort(key=lambda group: (int(spans[group, 0].min()), group[0]))
    means = np.stack([_mean(vectors[group], request.counts[group]) for group in groups])
    matches = _match(groups, means, known_vectors, apart, known_cosine)
    assignments: dict[int, Assignment] = {}
    for number, group in enumerate(groups):
        match = matches.get(number)
        name = None if match is None else known[match]
        reference = means[number] if match is None else known_vectors[match]
        for trace in group:
            assignments[trace] = Assignment(name, number, float(np.clip(vectors[trace] @ reference, -1, 1)))
    return tuple(assignments[trace] for trace in range(len(vectors)))


def overlapping(spans: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return bool[n, n]: which different spans share a frame."""
    first, last = spans[:, 0], spans[:, 1]
    shared: NDArray[np.bool_] = (first[:, None] <= last) & (first <= last[:, None])
    np.fill_diagonal(shared, False)
    return shared


def group_traces(vectors: Vectors, apart: NDArray[np.bool_], least_cosine: float) -> list[list[int]]:
    """Return the indices of the members of each group, by ``average_linkage``."""
    labels = average_linkage(vectors.astype(np.float64), apart, least_cosine)
    return [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]


def _match(
    groups: list[list[int]], means: Vectors, known_vectors: Vectors, apart: NDArray[np.bool_], least_cosine: float
) -> dict[int, int]:
    """Return the index of the known vector of each group that is known."""
    if not len(known_vectors):
        return {}
    cosines = means @ known_vectors.T
    matches: dict[int, int] = {}
    likely = np.argwhere(cosines >= least_cosine)
    for number, place in likely[np.argsort(-cosines[tuple(likely.T)], kind="stable")].tolist():
        rivals = [other for other, match in matches.items() if match == place]
        if number not in matches and not any(apart[np.ix_(groups[number], groups[other])].any() for other in rivals):
            matches[number] = place
    return matches


def _mean(vectors: Vectors, counts: NDArray[np.int64]) -> Vectors:
    """Return the direction of the vectors, of their mean length: what they are trusted on average."""
    mean = (vectors * counts[:, None]).sum(0)
    length = np.average(np.linalg.norm(vectors, axis=1), weights=counts) if counts.any() else 1.0
    result: Vectors = (length * mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    return result
