"""How well codes verify animals: by pairs of photos, and as the service does, by three references and a probe."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ops.calibration.error_rates import Scores, Verification

Codes = NDArray[np.float32]
Kinds = tuple[list[float], list[float]]
"""Scores of the same animal, and of two."""

REFERENCES = 3
MOST_TEMPLATES = 60
"""Of one animal; of more photos a fixed random choice of triples is taken."""


def unit(vectors: Codes) -> Codes:
    """Rows divided by their length."""
    scaled: Codes = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return scaled


def dataset_of(animal: str) -> str:
    """Only animals of one data set are compared: another camera would tell them apart before any muzzle does."""
    return animal.partition("/")[0]


def pair_scores(codes: Codes, animals: Sequence[str], held_out: Iterable[str] | None = None) -> Kinds:
    """Cosines of all pairs of photos, of which at least one is of a held-out animal where these are given."""
    vectors, wanted = unit(codes), set(animals if held_out is None else held_out)
    cosines = vectors @ vectors.T
    same: list[float] = []
    other: list[float] = []
    for i, j in combinations(range(len(animals)), 2):
        if animals[i] in wanted or animals[j] in wanted:
            if animals[i] == animals[j]:
                same.append(float(cosines[i, j]))
            elif dataset_of(animals[i]) == dataset_of(animals[j]):
                other.append(float(cosines[i, j]))
    return same, other


def template_scores(codes: Codes, animals: Sequence[str], held_out: Iterable[str] | None = None) -> Kinds:
    """Cosines of every probe to templates of three other photos.

    With ``held_out`` only templates of these animals count; probes are of any animal of their data set.
    """
    vectors, wanted = unit(codes), set(animals if held_out is None else held_out)
    same: list[float] = []
    other: list[float] = []
    for animal in sorted(wanted):
        own = [k for k, name in enumerate(animals) if name == animal]
        rest = [k for k, name in enumerate(animals) if dataset_of(name) == dataset_of(animal) and name != animal]
        for triple in _triples(own):
            cosines = vectors @ unit(vectors[list(triple)].mean(0))
            same += [float(cosines[k]) for k in own if k not in triple]
            other += [float(cosines[k]) for k in rest]
    return same, other


def mutual_scores(codes: Codes, animals: Sequence[str]) -> list[float]:
    """Mean cosines among three photos of one animal."""
    vectors = unit(codes)
    means = []
    for animal in sorted(set(animals)):
        for triple in _triples([k for k, name in enumerate(animals) if name == animal]):
            means.append(float(np.mean([vectors[i] @ vectors[j] for i, j in combinations(triple, 2)])))
    return means


def measured(kinds: Kinds) -> Verification:
    """Raises ValueError when there are no pairs of one kind."""
    same, other = kinds
    if not same or not other:
        raise ValueError("verification needs pairs of one animal and pairs of two")
    return Verification(np.array(same), np.array(other))


def pooled(parts: Iterable[Kinds]) -> Kinds:
    """The scores of several folds together."""
    same: list[float] = []
    other: list[float] = []
    for first, second in parts:
        same += first
        other += second
    return same, other


def tar_at_far(scores: Verification, far: float = 1e-3) -> float:
    """Share of matching scores above the least threshold that lets in no more than ``far`` of the others.

    With fewer than 1 / ``far`` others that means none of them.
    """
    ranked = np.sort(scores.other)[::-1]
    threshold = ranked[int(far * len(ranked))]
    return float((scores.matching > threshold).mean())


def equal_error_threshold(scores: Verification) -> float:
    """The score at which the two kinds of error are nearest to each other; the middle where several are."""
    points: Scores = np.unique(np.concatenate([scores.matching, scores.other]))
    middles = (points[1:] + points[:-1]) / 2
    gaps = np.abs((scores.matching[None] < middles[:, None]).mean(1) - (scores.other[None] >= middles[:, None]).mean(1))
    best = middles[gaps == gaps.min()]
    return float((best.min() + best.max()) / 2)


def summary(scores: Verification) -> dict[str, float | int]:
    """The numbers of a report."""
    return {
        "auc": round(scores.auc, 4),
        "eer": round(scores.eer, 4),
        "tar_at_far_1e-3": round(tar_at_far(scores), 4),
        "matching": len(scores.matching),
        "other": len(scores.other),
    }


def _triples(members: Sequence[int]) -> Iterator[tuple[int, ...]]:
    triples = list(combinations(members, REFERENCES))
    if len(triples) > MOST_TEMPLATES:
        chosen = np.random.default_rng(0).choice(len(triples), MOST_TEMPLATES, replace=False)
        triples = [triples[k] for k in sorted(chosen)]
    yield from triples
