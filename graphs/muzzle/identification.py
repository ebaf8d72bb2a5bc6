"""The verdict on a probe among many animals: pure functions of the best candidates and limits."""

from collections.abc import Sequence

from graphs.muzzle import measures
from graphs.muzzle.criteria import CriterionResult
from graphs.muzzle.decision import (
    PROBE,
    confidence,
    confidence_label,
    cosine_criterion,
    distance_criterion,
    domain_criterion,
)
from graphs.muzzle.domain import VALID, domain_check
from graphs.muzzle.limits import Limits
from graphs.muzzle.measures import Comparison
from graphs.muzzle.registry_models import Candidate, IdentifyDecision, IdentifySummary
from vision.muzzle.encoding import MuzzleEncoding

NOBODY = Comparison(0.0, 2.0)


def ranked(probe: MuzzleEncoding, templates: Sequence[tuple[str, measures.Vector]]) -> list[Candidate]:
    """All candidates, the nearest first; of two alike the one whose id comes first."""
    code = measures.concatenated(probe)
    found = [(animal_id, measures.compared(template, code)) for animal_id, template in templates]
    return [
        Candidate(animal_id=animal_id, cosine_similarity=each.cosine, euclidean_distance=each.distance)
        for animal_id, each in sorted(found, key=lambda pair: (pair[1].distance, pair[0]))
    ]


def identified(
    probe: MuzzleEncoding, candidates: Sequence[Candidate], limits: Limits
) -> tuple[IdentifyDecision, IdentifySummary]:
    """The decision on the best of the candidates, which are ranked, and its criteria."""
    scores = [candidate.cosine_similarity for candidate in candidates[:2]]
    score, second = scores[0] if scores else NOBODY.cosine, scores[1] if len(scores) > 1 else 0.0
    distance = candidates[0].euclidean_distance if candidates else NOBODY.distance
    margin = round(score - second, measures.PLACES)
    is_muzzle = domain_check(probe, limits).decision.verdict == VALID
    criteria = [
        cosine_criterion(score, limits.cosine),
        distance_criterion(distance, limits.distance),
        margin_criterion(margin, limits.margin),
        domain_criterion([] if is_muzzle else [PROBE], 1),
    ]
    failed = [criterion for criterion in criteria if not criterion.passed]
    certainty = confidence(distance, limits.distance)
    label = confidence_label(certainty)
    if not failed:
        explanation = f"The photo shows {candidates[0].animal_id}, with {label} confidence. All criteria passed."
    elif not is_muzzle:
        explanation = "The image does not appear to be a valid muzzle photo; /domain-check tells why."
    elif not candidates:
        explanation = "No animal is enrolled by the present models."
    else:
        reasons = " ".join(f"{criterion.description}." for criterion in failed)
        explanation = f"The photo is of no enrolled animal for certain. {reasons}"
    decision = IdentifyDecision(
        verdict="INVALID_INPUT" if not is_muzzle else "UNKNOWN" if failed else "IDENTIFIED",
        animal_id=None if failed else candidates[0].animal_id,
        score=score,
        confidence=certainty,
        confidence_label=label,
        margin=margin,
        explanation=explanation,
    )
    return decision, IdentifySummary(criteria=criteria)


def margin_criterion(value: float, least: float) -> CriterionResult:
    """The best candidate stands out from the next one."""
    passed = value >= least
    told = f"The best candidate is {value:.2f} above the next one"
    return CriterionResult(
        metric="margin",
        value=value,
        threshold=least,
        passed=passed,
        description=f"{told}, at least {least:.2f} are required" if passed else f"{told}; {least:.2f} are required",
    )
