"""Verdicts on codes: measures, criteria, confidence, words."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.settings import Settings
from deployments.muzzle.print import PrintAnswer
from graphs.muzzle import verdicts
from graphs.muzzle.schemas import Candidate
from graphs.muzzle.verdicts import (
    Limits,
    confidence,
    confidence_label,
    cosine_criterion,
    distance_criterion,
    domain_check,
    identified,
    limits_of,
    predicted,
    ranked,
    reranked,
)
from tests.tolerances import decimals
from vision.muzzle.ensemble import MEMBER_IDS, MuzzleEncoding, Thresholds
from vision.muzzle.prints import PrintMatch
from vision.muzzle.quality import PhotoQuality

LIMITS = Limits(cosine=0.62, distance=0.85, mutual=0.40, variance=0.005, consistency=0.20, margin=0.05)
Codes = NDArray[np.float32]


def codes(seed: int, near: Codes | None = None, noise: float = 0.0) -> Codes:
    """float32[3, 128], rows of length 1; those of another with some noise where that is given."""
    random = np.random.default_rng(seed).normal(size=(3, 128))
    made = random / np.linalg.norm(random, axis=1, keepdims=True)
    if near is not None:
        made = near + noise * made
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def encoding(values: Codes, distance: float = 0.2, ids: tuple[int, ...] = MEMBER_IDS) -> MuzzleEncoding:
    return MuzzleEncoding(ids, values[: len(ids)], distance, 0.5, "dummy@0", None)


def quality(*reasons: str) -> PhotoQuality:
    return PhotoQuality(300.0, 0.6, 0.3, 700, (0.0, 0.0), 120.0, 0.0, reasons)


def prints(*inliers: int, reasons: Sequence[str] = ()) -> PrintAnswer:
    """The answer of muzzle/print for as many references, and a probe of this quality."""
    matches = [PrintMatch(each, 60, 1.1, -4.0, (0.1, 0.02)) for each in inliers]
    return PrintAnswer((*[quality()] * len(inliers), quality(*reasons)), tuple(matches))


def with_prints(candidates: Sequence[Candidate], *inliers: int) -> list[Candidate]:
    matches = {each.animal_id: PrintMatch(number, 60) for each, number in zip(candidates, inliers, strict=False)}
    return reranked(candidates, matches, LIMITS)


SAME = prints(9, 52, 30)
COW = codes(1)
REFERENCES = [encoding(codes(10 + k, COW, 0.4)) for k in range(3)]


def test_the_numbers_of_the_contract_belong_together() -> None:
    a = np.zeros(384, np.float32)
    b = a.copy()
    a[0], b[0], b[1] = 1, 0.88, math.sqrt(1 - 0.88**2)
    found = verdicts.compared(a, 3 * b)
    assert (found.cosine, found.distance) == (0.88, pytest.approx(0.49, abs=decimals(3)))


def test_cosines_are_clipped_and_distances_are_not() -> None:
    opposite = verdicts.compared(COW.reshape(-1), -COW.reshape(-1))
    assert (opposite.cosine, opposite.distance) == (0.0, 2.0)
    assert verdicts.compared(COW.reshape(-1), COW.reshape(-1)) == verdicts.Comparison(1.0, 0.0)


def test_variance_and_consistency() -> None:
    assert verdicts.embedding_variance(encoding(COW)) == pytest.approx(3 / 384, abs=decimals(4))
    collapsed = np.full((3, 128), 1 / math.sqrt(128), np.float32)
    assert verdicts.embedding_variance(encoding(collapsed)) == 0
    assert verdicts.cross_model_consistency(encoding(collapsed)) == 1
    assert abs(verdicts.cross_model_consistency(encoding(COW))) < 0.2
    assert verdicts.cross_model_consistency(encoding(COW, ids=(60,))) == 0


@pytest.mark.parametrize(
    ("distance", "expected", "label"),
    [
        (0.0, 1.0, "EXCELLENT"),
        (0.1275, 0.85, "EXCELLENT"),
        (0.13, 0.8471, "GOOD"),
        (0.3825, 0.55, "GOOD"),
        (0.39, 0.5412, "FAIR"),
        (0.46, 0.4588, "FAIR"),
        (0.8499, 0.0001, "FAIR"),
        (0.85, 0.0, "NOT_THE_ANIMAL"),
        (1.9, 0.0, "NOT_THE_ANIMAL"),
    ],
)
def test_confidence_and_its_label(distance: float, expected: float, label: str) -> None:
    assert confidence(distance, 0.85) == expected
    assert confidence_label(expected) == label


def test_a_match() -> None:
    answer = predicted(REFERENCES, encoding(codes(20, COW, 0.4)), SAME, LIMITS)
    decision = answer.decision
    assert decision.verdict == "MATCH"
    assert decision.explanation == (
        f"The probe photo matches the reference animal with {decision.confidence_label} confidence. "
        "All decision criteria passed."
    )
    ensemble = answer.details.ensemble
    assert decision.score == ensemble.template_vs_probe_cosine
    assert ensemble.template_vs_probe_distance == pytest.approx(
        math.sqrt(2 - 2 * ensemble.template_vs_probe_cosine), abs=decimals(3)
    )
    assert ensemble.min_cosine <= ensemble.mean_cosine <= ensemble.max_cosine < ensemble.template_vs_probe_cosine
    assert [model.model_id for model in answer.details.models] == [60, 62, 64]
    assert answer.details.reference_mutual_similarity == pytest.approx(1 / 1.16, abs=0.06)


def test_another_animal() -> None:
    decision = predicted(REFERENCES, encoding(codes(99)), prints(2, 3, 0), LIMITS).decision
    assert (decision.verdict, decision.confidence, decision.confidence_label) == ("NO_MATCH", 0, "NOT_THE_ANIMAL")
    shown = f"Cosine similarity ({decision.score:.2f}) is far below the required threshold (0.62)."
    assert shown in decision.explanation
    assert "exceeds the allowed limit (0.85)" in decision.explanation


def test_codes_that_match_are_no_match_without_the_print() -> None:
    probe = encoding(codes(20, COW, 0.4))
    answer = predicted(REFERENCES, probe, prints(3, 7, 0, reasons=["the photo is blurred: hold still"]), LIMITS)
    assert answer.decision.verdict == "NO_MATCH"
    assert [each.passed for each in answer.summary.criteria] == [True, True, True, True, False]
    criterion = answer.summary.criteria[4]
    assert (criterion.metric, criterion.value, criterion.threshold) == ("print_match", 7.0, 8.0)
    assert answer.decision.explanation == (
        "The probe photo does not match the reference animal. The muzzle print agrees in 7 places only, 8 are "
        "required; prints of different animals agree in a few by chance. The photo may be the cause: the photo is "
        "blurred: hold still."
    )
    assert predicted(REFERENCES, probe, prints(3, 8, 0), LIMITS).decision.verdict == "MATCH"


def test_a_print_that_agrees_alone_is_no_match_and_is_told() -> None:
    decision = predicted(REFERENCES, encoding(codes(99)), SAME, LIMITS).decision
    assert decision.verdict == "NO_MATCH"
    assert decision.explanation.endswith(" Its muzzle print agrees in 52 places all the same: compare another photo.")


def test_the_best_reference_counts_for_the_print() -> None:
    told = predicted(REFERENCES, encoding(codes(20, COW, 0.4)), SAME, LIMITS).print
    assert (told.inliers, told.threshold, told.best_reference, told.inlier_share) == (52, 8, 1, 0.8667)
    assert [each.inliers for each in told.references] == [9, 52, 30]
    assert told.transform is not None
    assert (told.transform.scale, told.transform.rotation_degrees) == (1.1, -4.0)
    assert told.matches_png is None


def test_the_variance_says_that_it_tells_nothing() -> None:
    variance = domain_check(encoding(COW), LIMITS).summary.criteria[0]
    assert variance.passed
    assert "tells nothing about this photo" in variance.description
    assert "domain_distance" in variance.description


def test_a_strange_photo_or_unlike_references_are_invalid() -> None:
    strange = predicted(REFERENCES, encoding(COW, distance=0.51), SAME, LIMITS)
    assert strange.decision.verdict == "INVALID_INPUT"
    assert strange.summary.criteria[3].value == 0.75
    assert "the probe photo" in strange.decision.explanation
    mixed = predicted([encoding(codes(seed)) for seed in (3, 4, 5)], encoding(COW), SAME, LIMITS)
    assert mixed.decision.verdict == "INVALID_INPUT"
    assert "may show different animals" in mixed.decision.explanation


def test_words_of_criteria_are_those_of_the_contract() -> None:
    assert cosine_criterion(0.15, 0.62).description == (
        "Cosine similarity between probe and reference template is 0.15, below the required 0.62"
    )
    assert distance_criterion(0.46, 0.85).description == (
        "Euclidean distance between probe and reference template (0.46) is within the allowed limit (0.85)"
    )
    near_miss = cosine_criterion(0.6199, 0.62)
    assert not near_miss.passed
    assert "is 0.6199, below the required 0.6200" in near_miss.description
    assert cosine_criterion(0.62, 0.62).passed
    assert distance_criterion(0.85, 0.85).passed


def test_every_criterion_of_the_domain_check_counts() -> None:
    collapsed = np.full((3, 128), 1 / math.sqrt(128), np.float32)
    answer = domain_check(encoding(collapsed, distance=0.9), LIMITS)
    assert answer.decision.verdict == "INVALID_INPUT"
    assert [criterion.passed for criterion in answer.summary.criteria] == [False, False, False]
    assert "embedding_variance, cross_model_consistency, domain_distance" in answer.decision.explanation
    assert domain_check(encoding(COW, distance=0.5), LIMITS).decision.verdict == "VALID_MUZZLE"
    assert domain_check(encoding(COW, distance=0.51), LIMITS).decision.verdict == "INVALID_INPUT"


def test_who_is_on_a_photo() -> None:
    templates = [(f"cow {seed}", codes(seed).reshape(-1)) for seed in range(1, 5)]
    probe = encoding(codes(50, COW, 0.3))
    candidates = with_prints(ranked(probe, templates), 30, 2, 3)
    assert [each.print_inliers for each in candidates] == [30, 2, 3, None]
    assert candidates[0].animal_id == "cow 1"
    decision, _ = identified(probe, candidates, quality(), LIMITS)
    assert (decision.verdict, decision.animal_id) == ("IDENTIFIED", "cow 1")
    assert decision.margin == pytest.approx(
        candidates[0].cosine_similarity - candidates[1].cosine_similarity, abs=decimals(4)
    )

    unknown, summary = identified(encoding(codes(70)), ranked(encoding(codes(70)), templates), quality(), LIMITS)
    assert (unknown.verdict, unknown.animal_id) == ("UNKNOWN", None)
    assert not summary.criteria[0].passed

    twins = with_prints(ranked(probe, [("a", COW.reshape(-1)), ("b", COW.reshape(-1))]), 40, 40)
    assert [candidate.animal_id for candidate in twins] == ["a", "b"]
    unsure, _ = identified(probe, twins, quality(), LIMITS)
    assert unsure.verdict == "UNKNOWN"
    alone, _ = identified(probe, twins[:1], quality(), LIMITS)
    assert (alone.verdict, alone.margin) == ("IDENTIFIED", alone.score)
    settled, why = identified(probe, with_prints(twins, 40, 3), quality(), LIMITS)
    assert (settled.verdict, settled.animal_id, settled.margin) == ("IDENTIFIED", "a", 0.0)
    assert "the only one whose print agrees" in why.criteria[2].description
    other, _ = identified(probe, with_prints(twins, 3, 40), quality(), LIMITS)
    assert (other.verdict, other.animal_id) == ("IDENTIFIED", "b")
    none, why = identified(probe, with_prints(candidates, 4, 4), quality("it is dark: use light"), LIMITS)
    assert (none.verdict, none.animal_id) == ("UNKNOWN", None)
    assert none.explanation.startswith(
        "The photo is of none of these animals for certain. The muzzle print agrees in 4"
    )
    assert none.explanation.endswith("The photo may be the cause: it is dark: use light.")
    old, why = identified(probe, ranked(probe, templates), quality(), LIMITS)
    assert old.verdict == "UNKNOWN"
    assert "No print of cow 1 is kept" in why.criteria[4].description
    nobody, _ = identified(probe, [], quality(), LIMITS)
    assert (nobody.verdict, nobody.score, nobody.confidence) == ("UNKNOWN", 0, 0)
    strange, _ = identified(encoding(COW, distance=0.9), candidates, quality(), LIMITS)
    assert (strange.verdict, strange.animal_id) == ("INVALID_INPUT", None)


def test_thresholds_come_from_the_environment_the_models_or_the_contract() -> None:
    settings = Settings.model_construct(**Settings().model_dump())
    assert limits_of(settings, None) == LIMITS
    calibrated = Thresholds(cosine=0.5, distance=1.0, mutual=0.3)
    assert limits_of(settings, calibrated).distance == 1.0
    chosen = settings.model_copy(update={"predict_euclidean_max": 0.7})
    assert limits_of(chosen, calibrated) == Limits(0.5, 0.7, 0.3, 0.005, 0.20, 0.05)
