"""The verdict on a probe: pure functions of encodings and limits, without HTTP and without stages."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from graphs.muzzle import measures
from graphs.muzzle.criteria import CriterionResult
from graphs.muzzle.domain import VALID, domain_check
from graphs.muzzle.limits import Limits
from graphs.muzzle.measures import Comparison, Vector, Verification
from graphs.muzzle.verification import (
    Decision,
    EnsembleSummary,
    ModelVerification,
    PredictDetails,
    PredictResponse,
    PredictSummary,
    ReferenceVsProbe,
)
from vision.muzzle.encoding import MuzzleEncoding

GOOD: Final = 0.55
EXCELLENT: Final = 0.85
FAR_BELOW: Final = 0.25
PROBE: Final = "the probe photo"


def predicted(references: Sequence[MuzzleEncoding], probe: MuzzleEncoding, limits: Limits) -> PredictResponse:
    """The whole answer. The verdict is

    ``INVALID_INPUT`` when a photo shows no muzzle or the references are unlike each other,
    ``MATCH`` when all four criteria pass, and ``NO_MATCH`` otherwise.
    """
    codes, probe_code = [measures.concatenated(each) for each in references], measures.concatenated(probe)
    found, mutual = measures.verification(codes, probe_code), measures.mutual_similarity(codes)
    photos = {f"reference photo {number}": each for number, each in enumerate(references, 1)} | {PROBE: probe}
    strangers = [name for name, each in photos.items() if domain_check(each, limits).decision.verdict != VALID]
    criteria = [
        cosine_criterion(found.template.cosine, limits.cosine),
        distance_criterion(found.template.distance, limits.distance),
        mutual_criterion(mutual, limits.mutual),
        domain_criterion(strangers, len(photos)),
    ]
    return PredictResponse(
        decision=decision(criteria, found.template, limits),
        summary=PredictSummary(criteria=criteria),
        details=PredictDetails(
            models=[
                model_verification(number, [each.codes[row] for each in references], probe.codes[row])
                for row, number in enumerate(probe.model_ids)
            ],
            ensemble=EnsembleSummary(
                template_vs_probe_cosine=found.template.cosine,
                template_vs_probe_distance=found.template.distance,
                **_spread(found),
            ),
            reference_mutual_similarity=mutual,
        ),
    )


def decision(criteria: Sequence[CriterionResult], found: Comparison, limits: Limits) -> Decision:
    """Verdict, score and confidence from the four criteria, in the order of ``predicted``."""
    cosine, distance, mutual, domain = criteria
    certainty = confidence(found.distance, limits.distance)
    label = confidence_label(certainty)
    failed = [each for each in criteria if not each.passed]
    if not failed:
        verdict = "MATCH"
        explanation = (
            f"The probe photo matches the reference animal with {label} confidence. All decision criteria passed."
        )
    elif not (mutual.passed and domain.passed):
        verdict = "INVALID_INPUT"
        reasons = " ".join(f"{each.description}." for each in (domain, mutual) if not each.passed)
        explanation = f"The photos cannot be compared. {reasons}"
    else:
        verdict = "NO_MATCH"
        reasons = " ".join(_why_not(each) for each in (cosine, distance) if not each.passed)
        explanation = f"The probe photo does not match the reference animal. {reasons}"
    return Decision(
        verdict=verdict, score=found.cosine, confidence=certainty, confidence_label=label, explanation=explanation
    )


def confidence(distance: float, greatest: float) -> float:
    """``max(0, min(1, (threshold − distance) / threshold))``."""
    return round(max(0.0, min(1.0, (greatest - distance) / greatest)), measures.PLACES)


def confidence_label(value: float) -> str:
    """The contract's word for a confidence of 0-1."""
    if value <= 0:
        return "NOT_THE_ANIMAL"
    return "FAIR" if value < GOOD else "GOOD" if value < EXCELLENT else "EXCELLENT"


def cosine_criterion(value: float, least: float) -> CriterionResult:
    """Probe and template are alike enough."""
    passed, (shown, threshold) = value >= least, _told(value, least)
    subject = "Cosine similarity between probe and reference template"
    good, bad = f"({shown}) meets the required threshold ({threshold})", f"is {shown}, below the required {threshold}"
    return _criterion("cosine_similarity", value, least, passed, f"{subject} {good if passed else bad}")


def distance_criterion(value: float, greatest: float) -> CriterionResult:
    """Probe and template are near enough."""
    passed, (shown, threshold) = value <= greatest, _told(value, greatest)
    subject = "Euclidean distance between probe and reference template"
    good, bad = f"({shown}) is within the allowed limit ({threshold})", f"is {shown}, above the allowed {threshold}"
    return _criterion("euclidean_distance", value, greatest, passed, f"{subject} {good if passed else bad}")


def mutual_criterion(value: float, least: float) -> CriterionResult:
    """The references are of one animal."""
    passed, (shown, threshold) = value >= least, _told(value, least)
    subject = "Reference photos mutual similarity"
    good = f"({shown}) exceeds the minimum required ({threshold})"
    bad = f"is {shown}, below the minimum required {threshold}: they may show different animals"
    return _criterion("mutual_similarity", value, least, passed, f"{subject} {good if passed else bad}")


def domain_criterion(strangers: Sequence[str], photos: int) -> CriterionResult:
    """Every photo shows a muzzle; the value is the share of those that do."""
    told = (
        f"Not valid muzzle images: {', '.join(strangers)}" if strangers else "Photos appear to be valid muzzle images"
    )
    value = round((photos - len(strangers)) / photos, measures.PLACES)
    return _criterion("domain_check", value, 1.0, not strangers, told)


def model_verification(number: int, references: Sequence[Vector], probe: Vector) -> ModelVerification:
    """What one model says, of its codes alone."""
    found = measures.verification(references, probe)
    return ModelVerification(
        model_id=number,
        template_vs_probe_cosine=found.template.cosine,
        template_vs_probe_distance=found.template.distance,
        reference_vs_probe=[
            ReferenceVsProbe(reference_index=index, cosine_similarity=each.cosine, euclidean_distance=each.distance)
            for index, each in enumerate(found.references)
        ],
        **_spread(found),
    )


def _spread(found: Verification) -> dict[str, float]:
    return {
        "mean_cosine": found.mean_cosine,
        "min_cosine": float(np.min(found.cosines)),
        "max_cosine": float(np.max(found.cosines)),
    }


def _criterion(metric: str, value: float, threshold: float, passed: bool, description: str) -> CriterionResult:
    return CriterionResult(metric=metric, value=value, threshold=threshold, passed=passed, description=description)


def _why_not(criterion: CriterionResult) -> str:
    shown, threshold = _told(criterion.value, criterion.threshold)
    if criterion.metric == "cosine_similarity":
        how = "far below" if criterion.threshold - criterion.value >= FAR_BELOW else "below"
        return f"Cosine similarity ({shown}) is {how} the required threshold ({threshold})."
    return f"Euclidean distance ({shown}) exceeds the allowed limit ({threshold})."


def _told(value: float, threshold: float) -> tuple[str, str]:
    """Both to two places, or to four where they would look the same and are not."""
    places = 2 if value == threshold or f"{value:.2f}" != f"{threshold:.2f}" else measures.PLACES
    return f"{value:.{places}f}", f"{threshold:.{places}f}"
