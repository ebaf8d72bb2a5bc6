"""Measure how well codes verify animals: by pairs of photos, and by three references and a probe as the service."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphs.muzzle.verdicts import CONTRACT
from ops.calibration.error_rates import Scores, Verification
from vision.muzzle.checkpoint import CalibratedThresholds
from vision.muzzle.ensemble import Ensemble

Codes = NDArray[np.float32]
Kinds = tuple[list[float], list[float]]
"""Scores of pairs of one animal, and of pairs of two."""

REFERENCES = 3
MOST_TEMPLATES = 60
"""Triples of one animal at most; of more photos a fixed random choice is taken."""
LOWEST_SHARE = 0.02
"""Share of triples of one animal that may be refused as unlike each other; never above the contract's threshold."""


def unit(vectors: Codes) -> Codes:
    """Return the rows divided by their length."""
    scaled: Codes = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return scaled


def dataset_of(animal: str) -> str:
    """Return the data set of an animal.

    Only animals of one data set are compared: another camera would tell them apart before any muzzle does.
    """
    return animal.partition("/")[0]


def pair_scores(codes: Codes, animals: Sequence[str], held_out: Iterable[str] | None = None) -> Kinds:
    """Return cosines of all pairs of photos; with ``held_out``, of pairs with at least one photo of these animals."""
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
    """Return cosines of every probe to templates of three other photos.

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
    """Return the mean cosine among each three photos of one animal."""
    vectors = unit(codes)
    means = []
    for animal in sorted(set(animals)):
        for triple in _triples([k for k, name in enumerate(animals) if name == animal]):
            means.append(float(np.mean([vectors[i] @ vectors[j] for i, j in combinations(triple, 2)])))
    return means


def measured(kinds: Kinds) -> Verification:
    """Return the verification of these scores. Raises ValueError when there are no pairs of one kind."""
    same, other = kinds
    if not same or not other:
        raise ValueError("verification needs pairs of one animal and pairs of two")
    return Verification(np.array(same), np.array(other))


def pooled(parts: Iterable[Kinds]) -> Kinds:
    """Return the scores of several folds together."""
    same: list[float] = []
    other: list[float] = []
    for first, second in parts:
        same += first
        other += second
    return same, other


def tar_at_far(scores: Verification, far: float = 1e-3) -> float:
    """Return the share of matching scores above the lowest threshold that accepts at most ``far`` of the others.

    With fewer than 1 / ``far`` others that means none of them.
    """
    ranked = np.sort(scores.other)[::-1]
    threshold = ranked[int(far * len(ranked))]
    return float((scores.matching > threshold).mean())


def equal_error_threshold(scores: Verification) -> float:
    """Return the score at which both error rates are nearest to each other; the middle where several are."""
    points: Scores = np.unique(np.concatenate([scores.matching, scores.other]))
    middles = (points[1:] + points[:-1]) / 2
    gaps = np.abs((scores.matching[None] < middles[:, None]).mean(1) - (scores.other[None] >= middles[:, None]).mean(1))
    best = middles[gaps == gaps.min()]
    return float((best.min() + best.max()) / 2)


def summary(scores: Verification) -> dict[str, float | int]:
    """Return the numbers of a report."""
    return {
        "auc": round(scores.auc, 4),
        "eer": round(scores.eer, 4),
        "tar_at_far_1e-3": round(tar_at_far(scores), 4),
        "matching": len(scores.matching),
        "other": len(scores.other),
    }


class HeldOut:
    """Leave-one-animal-out scores of one data set; ``ensembles`` by the animal that each was trained without."""

    def __init__(self, ensembles: Mapping[str, Ensemble], plain: Codes, animals: Sequence[str], dataset: str) -> None:
        pairs: list[Kinds] = []
        templates: list[Kinds] = []
        self.mutual: list[float] = []
        for animal, ensemble in ensembles.items():
            if dataset_of(animal) == dataset:
                codes = ensemble.encode(plain).reshape(len(plain), -1)
                pairs.append(pair_scores(codes, animals, [animal]))
                templates.append(template_scores(codes, animals, [animal]))
                own = [row for row, name in enumerate(animals) if name == animal]
                self.mutual += mutual_scores(codes[own], [animal] * len(own))
        self.pairs: Verification = measured(pooled(pairs))
        self.templates: Verification = measured(pooled(templates))

    def metrics(self) -> dict[str, Any]:
        """Return the summaries of pairs of photos, and of probes against three references."""
        return {"pairs": summary(self.pairs), "templates": summary(self.templates)}

    def thresholds(self, domain_limit: float) -> CalibratedThresholds:
        """Return thresholds at which both error rates of probes against templates are equal."""
        cosine = equal_error_threshold(self.templates)
        return CalibratedThresholds(
            cosine=round(cosine, 4),
            distance=round(float(np.sqrt(max(0.0, 2 - 2 * cosine))), 4),
            mutual=round(min(CONTRACT.mutual, max(0.0, float(np.quantile(self.mutual, LOWEST_SHARE)))), 4),
            domain=domain_limit,
        )


def _triples(members: Sequence[int]) -> Iterator[tuple[int, ...]]:
    triples = list(combinations(members, REFERENCES))
    if len(triples) > MOST_TEMPLATES:
        chosen = np.random.default_rng(0).choice(len(triples), MOST_TEMPLATES, replace=False)
        triples = [triples[k] for k in sorted(chosen)]
    yield from triples
