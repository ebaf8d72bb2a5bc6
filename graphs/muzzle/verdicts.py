"""Verdicts on muzzle photos: pure functions of encodings and thresholds, without HTTP and without stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from configs.settings import Settings
from deployments.muzzle.print import PrintAnswer
from graphs.muzzle.prints import print_verification
from graphs.muzzle.schemas import (
    Candidate,
    CriterionResult,
    Decision,
    DomainCheckDecision,
    DomainCheckResponse,
    DomainCheckSummary,
    EnsembleSummary,
    IdentifyDecision,
    IdentifySummary,
    ModelVerification,
    PredictDetails,
    PredictResponse,
    PredictSummary,
    ReferenceVsProbe,
)
from vision.muzzle.ensemble import MuzzleEncoding, Thresholds
from vision.muzzle.prints import MIN_INLIERS, PrintMatch
from vision.muzzle.quality import PhotoQuality

CONTRACT: Final = Thresholds(cosine=0.62, distance=0.85, mutual=0.40)


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds that pass.

    ``margin`` is the least difference of cosine between the best animal and the next, ``inliers`` the least number of
    places in which two prints agree.
    """

    cosine: float
    distance: float
    mutual: float
    variance: float
    consistency: float
    margin: float
    inliers: int = MIN_INLIERS


def limits_of(settings: Settings, calibrated: Thresholds | None) -> Limits:
    """Return the thresholds: from the environment, else from the trained models, else from the contract."""
    otherwise = calibrated or CONTRACT
    return Limits(
        cosine=_first(settings.predict_cosine_threshold, otherwise.cosine),
        distance=_first(settings.predict_euclidean_max, otherwise.distance),
        mutual=_first(settings.predict_mutual_min, otherwise.mutual),
        variance=settings.domain_variance_min,
        consistency=settings.domain_consistency_max,
        margin=settings.identify_margin_min,
        inliers=settings.predict_print_min or MIN_INLIERS,
    )


def _first(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given


Vector = NDArray[np.float32]
PLACES = 4


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two codes compared: ``cosine`` clipped to 0-1, Euclidean ``distance`` 0-2."""

    cosine: float
    distance: float


@dataclass(frozen=True, slots=True)
class Verification:
    """A probe compared with the template of its references and with each of them."""

    template: Comparison
    references: tuple[Comparison, ...]

    @property
    def cosines(self) -> tuple[float, ...]:
        """Return the cosines of the references, in order."""
        return tuple(reference.cosine for reference in self.references)

    @property
    def mean_cosine(self) -> float:
        """Return the mean cosine of the references."""
        return round(sum(self.cosines) / len(self.cosines), PLACES)


def concatenated(encoding: MuzzleEncoding) -> Vector:
    """Concatenate the codes of n models to the ensemble code, float32[128 n] with norm √n."""
    return encoding.codes.reshape(-1)


def unit(vector: Vector) -> Vector:
    """Divide a vector by its norm; zeros stay zeros."""
    length = float(np.linalg.norm(vector))
    return vector if length == 0 else (vector / length).astype(np.float32)


def template(vectors: Sequence[Vector]) -> Vector:
    """Return the mean of vectors, scaled to unit length."""
    return unit(np.mean([unit(vector) for vector in vectors], axis=0))


def compared(first: Vector, second: Vector) -> Comparison:
    """Compare two vectors of any norm."""
    cosine = float(np.dot(unit(first).astype(np.float64), unit(second).astype(np.float64)))
    cosine = min(1.0, max(-1.0, cosine))
    return Comparison(round(max(0.0, cosine), PLACES), round(float(np.sqrt(2 - 2 * cosine)), PLACES))


def verification(references: Sequence[Vector], probe: Vector) -> Verification:
    """Compare a probe with one or more references."""
    return Verification(
        template=compared(template(references), probe),
        references=tuple(compared(reference, probe) for reference in references),
    )


def mutual_similarity(references: Sequence[Vector]) -> float:
    """Return the mean cosine of all pairs, clipped to 0-1; 1 for a single reference."""
    cosines = [float(np.dot(unit(a), unit(b))) for a, b in combinations(references, 2)]
    return round(min(1.0, max(0.0, float(np.mean(cosines)))), PLACES) if cosines else 1.0


def embedding_variance(encoding: MuzzleEncoding) -> float:
    """Return the variance of the values of the plain concatenation, rounded to six places.

    At most n / (128 n) = 0.0078, near which it lies; all numbers alike give 0.
    """
    return round(float(np.var(concatenated(encoding), dtype=np.float64)), 6)


def cross_model_consistency(encoding: MuzzleEncoding) -> float:
    """Return the mean cosine of the codes of all pairs of models, −1 to 1; 0 where only one model is loaded."""
    cosines = [float(np.dot(a, b)) for a, b in combinations(encoding.codes, 2)]
    return round(min(1.0, max(-1.0, float(np.mean(cosines)))), PLACES) if cosines else 0.0


VALID: Final = "VALID_MUZZLE"
INVALID: Final = "INVALID_INPUT"


def domain_check(encoding: MuzzleEncoding, limits: Limits) -> DomainCheckResponse:
    """Judge whether one photo shows a muzzle, with every criterion."""
    criteria = [
        variance_criterion(embedding_variance(encoding), limits.variance),
        consistency_criterion(cross_model_consistency(encoding), limits.consistency),
        domain_distance_criterion(round(encoding.domain_distance, PLACES), round(encoding.domain_limit, PLACES)),
    ]
    variance, consistency, _ = criteria
    return DomainCheckResponse(
        decision=domain_decision(criteria),
        embedding_variance=variance.value,
        cross_model_consistency=consistency.value,
        summary=DomainCheckSummary(criteria=criteria),
    )


def domain_decision(criteria: Sequence[CriterionResult]) -> DomainCheckDecision:
    """Return VALID_MUZZLE when all criteria pass; otherwise the explanation names those that fail."""
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
    """Require that the values of the ensemble code vary."""
    passed = value > least
    measured = f"Embedding variance ({value:.4g})"
    description = (
        f"{measured} is above {least:g}. It tells nothing about this photo: codes of length 1 have nearly the same "
        "variance for every picture; domain_distance tells muzzles from other pictures"
        if passed
        else f"{measured} is not above {least:g}: the models gave nearly the same number in all places of their codes"
    )
    return _criterion("embedding_variance", value, least, passed, description)


def consistency_criterion(value: float, greatest: float) -> CriterionResult:
    """Require that the codes of the models differ: independent models agree only about garbage."""
    passed = value <= greatest
    measured = f"Cross-model pairwise similarity ({value:.2f})"
    description = (
        f"{measured} is within expected range (<={greatest:.2f})"
        if passed
        else f"{measured} is above the expected range (<={greatest:.2f}): the models collapsed to one code"
    )
    return _criterion("cross_model_consistency", value, greatest, passed, description)


def domain_distance_criterion(value: float, greatest: float) -> CriterionResult:
    """Require that the features of the photo lie near those of known muzzles."""
    passed = value <= greatest
    measured = f"Distance to the features of known muzzles ({value:.2f})"
    description = (
        f"{measured} is within the limit (<={greatest:.2f})"
        if passed
        else f"{measured} is above the limit (<={greatest:.2f}): this does not look like a muzzle"
    )
    return _criterion("domain_distance", value, greatest, passed, description)


GOOD: Final = 0.55
EXCELLENT: Final = 0.85
FAR_BELOW: Final = 0.25
PROBE: Final = "the probe photo"


def predicted(
    references: Sequence[MuzzleEncoding], probe: MuzzleEncoding, prints: PrintAnswer, limits: Limits
) -> PredictResponse:
    """Return the whole response of /predict. The verdict is

    ``INVALID_INPUT`` when a photo shows no muzzle or the references are unlike each other,
    ``MATCH`` when all five criteria pass, and ``NO_MATCH`` otherwise.
    """
    codes, probe_code = [concatenated(each) for each in references], concatenated(probe)
    ensemble, mutual = verification(codes, probe_code), mutual_similarity(codes)
    photos = {f"reference photo {number}": each for number, each in enumerate(references, 1)} | {PROBE: probe}
    strangers = [name for name, each in photos.items() if domain_check(each, limits).decision.verdict != VALID]
    criteria = [
        cosine_criterion(ensemble.template.cosine, limits.cosine),
        distance_criterion(ensemble.template.distance, limits.distance),
        mutual_criterion(mutual, limits.mutual),
        domain_criterion(strangers, len(photos)),
        print_criterion(max(each.inliers for each in prints.matches), limits.inliers),
    ]
    return PredictResponse(
        decision=decision(criteria, ensemble.template, limits, prints.qualities[-1]),
        summary=PredictSummary(criteria=criteria),
        details=PredictDetails(
            models=[
                model_verification(number, [each.codes[row] for each in references], probe.codes[row])
                for row, number in enumerate(probe.model_ids)
            ],
            ensemble=EnsembleSummary(
                template_vs_probe_cosine=ensemble.template.cosine,
                template_vs_probe_distance=ensemble.template.distance,
                **_spread(ensemble),
            ),
            reference_mutual_similarity=mutual,
        ),
        print=print_verification(prints, limits.inliers),
    )


def decision(
    criteria: Sequence[CriterionResult], comparison: Comparison, limits: Limits, quality: PhotoQuality
) -> Decision:
    """Decide verdict, score and confidence from the five criteria, in the order of ``predicted``.

    Where the print is what fails, the ``quality`` of the probe may explain it.
    """
    cosine, distance, mutual, domain, prints = criteria
    certainty = confidence(comparison.distance, limits.distance)
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
        if not prints.passed:
            reasons = " ".join(filter(None, [reasons, f"{prints.description}.", advice(quality)]))
        else:
            reasons += f" Its muzzle print agrees in {prints.value:.0f} places all the same: compare another photo."
        explanation = f"The probe photo does not match the reference animal. {reasons}"
    return Decision(
        verdict=verdict, score=comparison.cosine, confidence=certainty, confidence_label=label, explanation=explanation
    )


def confidence(distance: float, greatest: float) -> float:
    """Return the contract's ``max(0, min(1, (threshold − distance) / threshold))``."""
    return round(max(0.0, min(1.0, (greatest - distance) / greatest)), PLACES)


def confidence_label(value: float) -> str:
    """Return the contract's label of a confidence of 0-1."""
    if value <= 0:
        return "NOT_THE_ANIMAL"
    return "FAIR" if value < GOOD else "GOOD" if value < EXCELLENT else "EXCELLENT"


def cosine_criterion(value: float, least: float) -> CriterionResult:
    """Require that probe and template are similar enough."""
    passed, (shown, threshold) = value >= least, _formatted(value, least)
    subject = "Cosine similarity between probe and reference template"
    good, bad = f"({shown}) meets the required threshold ({threshold})", f"is {shown}, below the required {threshold}"
    return _criterion("cosine_similarity", value, least, passed, f"{subject} {good if passed else bad}")


def distance_criterion(value: float, greatest: float) -> CriterionResult:
    """Require that probe and template are near enough."""
    passed, (shown, threshold) = value <= greatest, _formatted(value, greatest)
    subject = "Euclidean distance between probe and reference template"
    good, bad = f"({shown}) is within the allowed limit ({threshold})", f"is {shown}, above the allowed {threshold}"
    return _criterion("euclidean_distance", value, greatest, passed, f"{subject} {good if passed else bad}")


def mutual_criterion(value: float, least: float) -> CriterionResult:
    """Require that the references are of one animal."""
    passed, (shown, threshold) = value >= least, _formatted(value, least)
    subject = "Reference photos mutual similarity"
    good = f"({shown}) exceeds the minimum required ({threshold})"
    bad = f"is {shown}, below the minimum required {threshold}: they may show different animals"
    return _criterion("mutual_similarity", value, least, passed, f"{subject} {good if passed else bad}")


def domain_criterion(strangers: Sequence[str], photos: int) -> CriterionResult:
    """Require that every photo shows a muzzle; the value is the share of those that do."""
    description = (
        f"Not valid muzzle images: {', '.join(strangers)}" if strangers else "Photos appear to be valid muzzle images"
    )
    value = round((photos - len(strangers)) / photos, PLACES)
    return _criterion("domain_check", value, 1.0, not strangers, description)


def print_criterion(value: int, least: int) -> CriterionResult:
    """Require that the print of the probe agrees with that of one reference in enough places."""
    passed = value >= least
    measured = f"The muzzle print agrees in {value} place{'' if value == 1 else 's'}"
    description = (
        f"{measured}, at least {least} are required"
        if passed
        else f"{measured} only, {least} are required; prints of different animals agree in a few by chance"
    )
    return _criterion("print_match", float(value), float(least), passed, description)


def advice(quality: PhotoQuality) -> str:
    """Return in one sentence what is wrong with a photo and what to do; an empty text for a good one."""
    return f"The photo may be the cause: {'; '.join(quality.reasons)}." if quality.reasons else ""


def model_verification(number: int, references: Sequence[Vector], probe: Vector) -> ModelVerification:
    """Return what one model says, by its codes alone."""
    own = verification(references, probe)
    return ModelVerification(
        model_id=number,
        template_vs_probe_cosine=own.template.cosine,
        template_vs_probe_distance=own.template.distance,
        reference_vs_probe=[
            ReferenceVsProbe(reference_index=index, cosine_similarity=each.cosine, euclidean_distance=each.distance)
            for index, each in enumerate(own.references)
        ],
        **_spread(own),
    )


def _spread(verified: Verification) -> dict[str, float]:
    return {
        "mean_cosine": verified.mean_cosine,
        "min_cosine": float(np.min(verified.cosines)),
        "max_cosine": float(np.max(verified.cosines)),
    }


def _criterion(metric: str, value: float, threshold: float, passed: bool, description: str) -> CriterionResult:
    return CriterionResult(metric=metric, value=value, threshold=threshold, passed=passed, description=description)


def _why_not(criterion: CriterionResult) -> str:
    shown, threshold = _formatted(criterion.value, criterion.threshold)
    if criterion.metric == "cosine_similarity":
        how = "far below" if criterion.threshold - criterion.value >= FAR_BELOW else "below"
        return f"Cosine similarity ({shown}) is {how} the required threshold ({threshold})."
    return f"Euclidean distance ({shown}) exceeds the allowed limit ({threshold})."


def _formatted(value: float, threshold: float) -> tuple[str, str]:
    """Format both to two places, or to four where they differ but would look the same."""
    places = 2 if value == threshold or f"{value:.2f}" != f"{threshold:.2f}" else PLACES
    return f"{value:.{places}f}", f"{threshold:.{places}f}"


NOBODY = Comparison(0.0, 2.0)


def ranked(probe: MuzzleEncoding, templates: Sequence[tuple[str, Vector]]) -> list[Candidate]:
    """Rank all candidates by distance, then by id."""
    code = concatenated(probe)
    comparisons = [(animal_id, compared(template, code)) for animal_id, template in templates]
    return [
        Candidate(animal_id=animal_id, cosine_similarity=each.cosine, euclidean_distance=each.distance)
        for animal_id, each in sorted(comparisons, key=lambda pair: (pair[1].distance, pair[0]))
    ]


def reranked(candidates: Sequence[Candidate], matches: Mapping[str, PrintMatch], limits: Limits) -> list[Candidate]:
    """Return candidates with the inliers of their prints: first those that agree, most first, then by distance."""
    inliers = {animal_id: each.inliers for animal_id, each in matches.items()}
    known = [each.model_copy(update={"print_inliers": inliers.get(each.animal_id)}) for each in candidates]

    def order(each: Candidate) -> tuple[int, float, str]:
        agreed = each.print_inliers or 0
        return -agreed if agreed >= limits.inliers else 0, each.euclidean_distance, each.animal_id

    return sorted(known, key=order)


def identified(
    probe: MuzzleEncoding, candidates: Sequence[Candidate], quality: PhotoQuality, limits: Limits
) -> tuple[IdentifyDecision, IdentifySummary]:
    """Decide whether the best of the ranked candidates is the animal on the photo, with the criteria."""
    scores = [candidate.cosine_similarity for candidate in candidates]
    score, second = scores[0] if scores else NOBODY.cosine, max(scores[1:], default=0.0)
    distance = candidates[0].euclidean_distance if candidates else NOBODY.distance
    margin = round(score - second, PLACES)
    inliers = [candidate.print_inliers or 0 for candidate in candidates] or [0]
    is_muzzle = domain_check(probe, limits).decision.verdict == VALID
    prints = print_criterion(inliers[0], limits.inliers)
    if candidates and candidates[0].print_inliers is None:
        kept = f"No print of {candidates[0].animal_id} is kept: it was enrolled before there were any; enrol it again"
        prints = prints.model_copy(update={"description": kept})
    criteria = [
        cosine_criterion(score, limits.cosine),
        distance_criterion(distance, limits.distance),
        margin_criterion(margin, limits.margin, prints.passed and max(inliers[1:], default=0) < limits.inliers),
        domain_criterion([] if is_muzzle else [PROBE], 1),
        prints,
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
        explanation = f"The photo is of none of these animals for certain. {reasons}"
        explanation = " ".join(filter(None, [explanation, "" if prints.passed else advice(quality)]))
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


def margin_criterion(value: float, least: float, settled: bool) -> CriterionResult:
    """Require that the best candidate stands out from the next one: by its codes, or as the only one whose print
    agrees."""
    passed = value >= least or settled
    measured = f"The best candidate is {abs(value):.2f} {'above' if value >= 0 else 'below'} the next one"
    if value >= least:
        description = f"{measured}, at least {least:.2f} are required"
    elif settled:
        description = f"{measured}, and the only one whose print agrees"
    else:
        description = f"{measured}; {least:.2f} are required, or that its print is the only one that agrees"
    return _criterion("margin", value, least, passed, description)
