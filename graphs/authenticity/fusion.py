"""From the probabilities of several signals to one verdict.

Signals are pooled as log-odds, each with its weight (Genest and Zidek 1986, Combining probability distributions: the
logarithmic opinion pool), over the signals that exist: a sure signal counts for more than an unsure one. The
visual signal has 45 %, the forensic one 30 %, and motion and voice, where present, share the rest equally.
A signal of ``ALONE`` is not pooled, as it answers a question of its own: where it is higher than the others together
it makes the verdict, and where it is lower it says nothing.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from graphs.authenticity.schemas import Classification, Confidence
from vision.provenance.findings import Provenance

WEIGHTS: Final = {"visual": 0.45, "forensic": 0.30}
REST: Final = 0.25
"""Shared by all other signals."""
ALONE: Final = frozenset({"generated"})
SUSPICIOUS_FROM: Final = 40
MANIPULATED_FROM: Final = 70
"""Risk scores at which the bands begin."""
NEAR: Final = 10.0
"""Points from 50 within which confidence is LOW."""
CLEAR: Final = 27.0
"""Points from 50 from which confidence may be HIGH: an image in which MesoNet and the forensic measures find nothing at
all, as in fakes of kinds that they do not know, stays just below."""
APART: Final = 0.5
"""Difference of two probabilities above which signals disagree."""
TOGETHER: Final = 0.3
"""Difference up to which they agree strongly."""
SURE: Final = 0.001
"""Probabilities are clipped to this distance from 0 and 1."""


DECLARED: Final[dict[str, tuple[float, Confidence]]] = {
    "signed_trusted": (99.0, "HIGH"),
    "signed_unknown": (90.0, "MEDIUM"),
    "unsigned": (60.0, "LOW"),
}
"""Risk score and confidence by who stands for the words that a file was generated. Anybody may write them unsigned, of
another's picture too, so they alone never make it MANIPULATED."""
CHANGED: Final = DECLARED["unsigned"]
"""Of a file whose bytes are not those that were signed: what was changed is not known."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``risk_score``: 0-100, one decimal; ``weights``: share of each signal, together 1."""

    risk_score: float
    classification: Classification
    confidence: Confidence
    weights: Mapping[str, float]


def fuse(probabilities: Mapping[str, float], missing: Iterable[str] = ()) -> Verdict | None:
    """Return the verdict of the signals that exist, each 0-1; None when there is none.

    ``missing``: signals that should exist, but whose model did not answer or could not judge; then confidence is LOW.
    """
    if not probabilities:
        return None
    candidates = [shares(name for name in probabilities if name not in ALONE)]
    candidates += [{name: 1.0} for name in probabilities if name in ALONE]
    risk, weights = max(
        (
            (round(100 * pooled((probabilities[name], weight) for name, weight in weights.items()), 1), weights)
            for weights in candidates
            if weights
        ),
        key=lambda candidate: candidate[0],
    )
    given = [probabilities[name] for name in weights]
    return Verdict(risk, classify(risk), confidence(risk, given, incomplete=any(missing)), weights)


def provenance_score(provenance: Provenance | None) -> float | None:
    """Return the probability that what a file says of itself stands for, 0-1; None where that is unknown."""
    decided = _decided(provenance)
    return None if decided is None else decided[0] / 100


def with_provenance(verdict: Verdict | None, provenance: Provenance | None) -> Verdict | None:
    """Return the verdict of the signals and of what the file says of itself; None where neither says anything.

    A signed declaration of generation decides alone. Without a valid signature it raises the risk to SUSPICIOUS, as
    changed bytes do. Nothing found, or a camera's signature, leaves the verdict as it is.
    """
    decided = _decided(provenance)
    if decided is None:
        return verdict
    risk, sureness = decided
    if risk < MANIPULATED_FROM and verdict is not None and verdict.risk_score >= risk:
        return verdict
    return Verdict(risk, classify(risk), sureness, {"provenance": 1.0})


def _decided(provenance: Provenance | None) -> tuple[float, Confidence] | None:
    if provenance is None:
        return None
    if provenance.declaration is not None:
        return DECLARED[provenance.declaration.basis]
    return CHANGED if provenance.bytes_changed else None


def shares(names: Iterable[str]) -> dict[str, float]:
    """Return the weight of each signal; together they are 1."""
    given = list(names)
    others = [name for name in given if name not in WEIGHTS]
    raw = {name: WEIGHTS.get(name) or REST / len(others) for name in given}
    total = sum(raw.values())
    return {name: weight / total for name, weight in raw.items()}


def pooled(weighted: Iterable[tuple[float, float]]) -> float:
    """Pool (probability, weight) pairs, at least one, into one probability."""
    pairs = [(min(max(probability, SURE), 1 - SURE), weight) for probability, weight in weighted]
    odds = sum(math.log(p / (1 - p)) * weight for p, weight in pairs) / sum(weight for _, weight in pairs)
    return 1 / (1 + math.exp(-odds))


def classify(risk_score: float) -> Classification:
    """Return the band of a risk score; one between two bands, such as 39.6, is rounded first."""
    whole = math.floor(risk_score + 0.5)
    if whole >= MANIPULATED_FROM:
        return "MANIPULATED"
    return "SUSPICIOUS" if whole >= SUSPICIOUS_FROM else "AUTHENTIC"


def confidence(risk_score: float, probabilities: Iterable[float], *, incomplete: bool = False) -> Confidence:
    """Return LOW near 50 or where signals disagree or are missing; HIGH far from 50 where two or more agree."""
    given = list(probabilities)
    spread, distance = max(given) - min(given), abs(risk_score - 50)
    if incomplete or distance < NEAR or spread > APART:
        return "LOW"
    return "HIGH" if len(given) > 1 and spread <= TOGETHER and distance >= CLEAR else "MEDIUM"
