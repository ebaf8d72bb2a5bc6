"""Whether a photo shows a muzzle: three criteria, all of which must pass."""

from collections.abc import Sequence
from typing import Final

from graphs.muzzle.criteria import CriterionResult, DomainCheckDecision, DomainCheckResponse, DomainCheckSummary
from graphs.muzzle.limits import Limits
from graphs.muzzle.measures import PLACES, cross_model_consistency, embedding_variance
from vision.muzzle.encoding import MuzzleEncoding

VALID: Final = "VALID_MUZZLE"
INVALID: Final = "INVALID_INPUT"


def domain_check(encoding: MuzzleEncoding, limits: Limits) -> DomainCheckResponse:
    """The verdict on one photo, with every criterion."""
    criteria = [
        variance_criterion(embedding_variance(encoding), limits.variance),
        consistency_criterion(cross_model_consistency(encoding), limits.consistency),
        distance_criterion(round(encoding.domain_distance, PLACES), round(encoding.domain_limit, PLACES)),
    ]
    variance, consistency, _ = criteria
    return DomainCheckResponse(
        decision=domain_decision(criteria),
        embedding_variance=variance.value,
        cross_model_consistency=consistency.value,
        summary=DomainCheckSummary(criteria=criteria),
    )


def domain_decision(criteria: Sequence[CriterionResult]) -> DomainCheckDecision:
    """Valid when all pass; otherwise the explanation names those that do not."""
    failed = [criterion for criterion in criteria if not criterion.passed]
    if not failed:
        explanation = "The image appears to be a valid muzzle photo. All quality criteria passed."
        return DomainCheckDecision(verdict=VALID, explanation=explanation)
    names = ", ".join(criterion.metric for criterion in failed)
    reasons = " ".join(f"{criterion.description}." for criterion in failed)
    return DomainCheckDecision(
        verdict=INVALID,
        explanation=f"The image does not appear to be a valid muzzle photo. Failed criteria: {names}. {reasons}",
    )


def variance_criterion(value: float, least: float) -> CriterionResult:
    """How much the numbers of the ensemble code differ from each other."""
    passed = value > least
    told = f"Embedding variance ({value:.4g})"
    return CriterionResult(
        metric="embedding_variance",
        value=value,
        threshold=least,
        passed=passed,
        description=f"{told} indicates meaningful content (>{least:g})"
        if passed
        else f"{told} is not above {least:g}, as in blank images and noise",
    )


def consistency_criterion(value: float, greatest: float) -> CriterionResult:
    """How alike the codes of the models are to each other; independent models agree about nothing but garbage."""
    passed = value <= greatest
    told = f"Cross-model pairwise similarity ({value:.2f})"
    return CriterionResult(
        metric="cross_model_consistency",
        value=value,
        threshold=greatest,
        passed=passed,
        description=f"{told} is within expected range (<={greatest:.2f})"
        if passed
        else f"{told} is above the expected range (<={greatest:.2f}): the models collapsed to one code",
    )


def distance_criterion(value: float, greatest: float) -> CriterionResult:
    """How far the features of the photo are from those of known muzzles."""
    passed = value <= greatest
    told = f"Distance to the features of known muzzles ({value:.2f})"
    return CriterionResult(
        metric="domain_distance",
        value=value,
        threshold=greatest,
        passed=passed,
        description=f"{told} is within the limit (<={greatest:.2f})"
        if passed
        else f"{told} is above the limit (<={greatest:.2f}): this does not look like a muzzle",
    )
