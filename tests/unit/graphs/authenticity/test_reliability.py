"""Confidence by measured samples, and thresholds for rates of false alarms, in numbers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from graphs.authenticity.errors import FalseAlarmsUnknown
from graphs.authenticity.fusion import Verdict, classify, fuse
from graphs.authenticity.reliability import KINDS, Measured, Operation, Reliability, samples_for, upper_bound
from tests.tolerances import decimals

SIGNALS = {"visual": "a@1", "forensic": "b"}


def measured(genuine: list[float], **fakes: list[float]) -> Measured:
    content: dict[str, Any] = {
        "media": "image",
        "signals": SIGNALS,
        "measured_on": "a test",
        "genuine": genuine,
        "fakes": fakes,
    }
    return Measured.model_validate(content)


def verdict(risk: float, confidence: Any = "HIGH") -> Verdict:
    return Verdict(risk, classify(risk), confidence, {"visual": 0.6, "forensic": 0.4})


@pytest.mark.parametrize(("errors", "count"), [(0, 10), (0, 299), (3, 40), (9, 10), (25, 600)])
def test_the_bound_is_that_of_clopper_and_pearson(errors: int, count: int) -> None:
    assert upper_bound(errors, count) == pytest.approx(beta.ppf(0.95, errors + 1, count - errors), abs=decimals(5))


def test_samples_that_a_rate_takes() -> None:
    assert [samples_for(rate) for rate in (0.01, 0.05, 0.1, 1e-6)] == [299, 59, 29, 2_995_731]
    assert upper_bound(0, 299) <= 0.01 < upper_bound(0, 298)
    assert upper_bound(5, 5) == 1


def test_what_samples_separate_is_sure_and_what_they_mix_is_not() -> None:
    clean = measured([10.0] * 200, spliced=[20.0] * 40 + [90.0] * 60)
    assert clean.steps == (90.0, 90.0)
    # by hand: 0.3 * 0.6 / (0.3 * 0.6 + 0.7 * 0.5 / 201)
    assert clean.flagged_right(90) == pytest.approx(0.18 / (0.18 + 0.7 * 0.5 / 201))
    assert clean.confidence(verdict(90.0)) == "HIGH"
    assert clean.confidence(verdict(89.9)) == "LOW"
    mixed = measured([10.0] * 150 + [75.0] * 50, spliced=[75.0] * 60)
    assert mixed.steps == (math.inf, math.inf)
    assert mixed.confidence(verdict(99.0)) == "LOW"


def test_few_genuine_samples_allow_no_high() -> None:
    few = measured([10.0] * 20, spliced=[90.0] * 20)
    assert few.flagged_right(90) == pytest.approx(0.3 / (0.3 + 0.7 * 0.5 / 21), abs=decimals(4))
    assert few.confidence(verdict(95.0)) == "MEDIUM"
    assert measured([10.0] * 4, spliced=[90.0] * 9 + [20.0] * 6).confidence(verdict(95.0)) == "LOW"


def test_medium_holds_without_those_that_are_high() -> None:
    steps = measured([10.0] * 190 + [60.0] * 3, spliced=[60.0] * 30 + [95.0] * 70)
    medium, high = steps.steps
    assert (medium, high) == (60.0, 95.0) or medium == high
    assert steps.flagged_right(medium, high) >= 0.8 or medium == high


def test_no_verdict_denies_what_was_never_measured() -> None:
    known = {kind: [80.0] * 50 for kind in KINDS["image"]}
    assert measured([10.0] * 200, **known).confidence(verdict(10.0)) == "HIGH"
    known["retouched"] = [80.0] * 30 + [10.0] * 20
    assert measured([10.0] * 200, **known).confidence(verdict(10.0)) == "MEDIUM"
    known["retouched"] = [10.0] * 50
    assert measured([10.0] * 200, **known).confidence(verdict(10.0)) == "LOW"
    del known["generated"]
    known["retouched"] = [80.0] * 50
    assert measured([10.0] * 200, **known).confidence(verdict(10.0)) == "LOW"


def test_confidence_is_only_ever_lowered() -> None:
    reliability = Reliability.of([measured([10.0] * 200, spliced=[90.0] * 60)])
    for given, expected in (("LOW", "LOW"), ("MEDIUM", "MEDIUM"), ("HIGH", "HIGH")):
        limited, basis = reliability.limited("image", verdict(95.0, given), SIGNALS)
        assert limited.confidence == expected
    assert basis == "Of measured samples, 0 of 60 fakes and 0 of 200 genuine ones have such a risk or a higher one"
    limited, basis = reliability.limited("image", verdict(95.0), {**SIGNALS, "visual": "another@2"})
    assert limited.confidence == "LOW"
    assert basis.startswith("How often verdicts by forensic (b) and visual (another@2) are right was not measured")
    assert reliability.limited("video", verdict(95.0), SIGNALS)[0].confidence == "LOW"


def test_the_states_of_one_picture_are_one_sample() -> None:
    # half of the states of 10 pictures of 100 alarm: for a verdict that is 5 in 100, for a threshold 10
    states: list[Any] = [[10.0, 10.0]] * 90 + [[10.0, 75.0]] * 10
    known = measured(states, spliced=[75.0] * 60)
    assert known.flagged_right(75) == pytest.approx(60 / 70)
    assert measured(states, spliced=[75.0] * 400).flagged_right(75) == pytest.approx(0.3 / (0.3 + 0.7 * 5.5 / 101))
    assert known.threshold(0.15) == (75.1, 0)
    assert known.threshold(0.2) == (10.1, 10)


def test_a_signal_without_weight_does_not_count() -> None:
    reliability = Reliability.of([measured([10.0] * 200, spliced=[90.0] * 60)])
    fused = fuse({"visual": 0.95, "forensic": 0.93, "generated": 0.1})
    assert fused is not None
    limited, _ = reliability.limited("image", fused, {**SIGNALS, "generated": "c@3"})
    assert limited.confidence == "HIGH"


def test_a_threshold_keeps_the_rate_and_says_what_is_left() -> None:
    genuine = [float(risk) for risk in np.linspace(10, 60, 300)]
    reliability = Reliability.of([measured(genuine, spliced=[50.0] * 10 + [90.0] * 30, retouched=[20.0] * 10)])
    for rate in (0.01, 0.05, 0.2):
        point = reliability.operating_point("image", verdict(58.0), SIGNALS, rate)
        alarms = sum(risk >= point.threshold for risk in genuine)
        assert alarms == point.false_alarms
        assert upper_bound(alarms, 300) == pytest.approx(point.false_alarm_bound, abs=decimals(4))
        assert point.false_alarm_bound <= rate < upper_bound(alarms + 1, 300)
        assert point.recall == pytest.approx(sum(point.recall_by_kind.values()) / 2, abs=decimals(4))
        assert point.flagged == (point.threshold <= 58.0)
        assert (point.genuine_samples, point.fake_samples, point.signals) == (300, 50, SIGNALS)
    assert point.recall_by_kind == {"retouched": 0.0, "spliced": 0.75 if point.threshold > 50 else 1.0}


def test_what_is_unknown_is_refused() -> None:
    reliability = Reliability.of([measured([10.0] * 50, spliced=[90.0])])
    with pytest.raises(
        FalseAlarmsUnknown, match=r"0\.01 cannot be told from 50 genuine samples: that takes 299 .* is 0\.0582"
    ):
        reliability.operating_point("image", verdict(50.0), SIGNALS, 0.01)
    with pytest.raises(FalseAlarmsUnknown, match="never measured"):
        reliability.operating_point("image", verdict(50.0), {"forensic": "b"}, 0.5)
    with pytest.raises(FalseAlarmsUnknown, match="on video files were never measured"):
        reliability.refuse_unknown("video", 0.5)
    with pytest.raises(FalseAlarmsUnknown, match="299"):
        reliability.refuse_unknown("image", 0.01)
    reliability.refuse_unknown("image", 0.1)
    reliability.refuse_unknown("video", None)
    with pytest.raises(FalseAlarmsUnknown, match=r"a model is missing \(visual\)"):
        Operation(reliability, 0.1).judge("image", verdict(50.0), SIGNALS, ["visual"])


def test_ones_own_measurements_go_over_those_of_the_product(tmp_path: Path) -> None:
    shipped = Reliability.load(None)
    assert len(shipped.measured) > 1
    own = tmp_path / "own.yaml"
    own.write_text(
        "- {media: video, signals: {temporal: t}, measured_on: mine, genuine: [1.5], fakes: {swapped: [99]}}\n"
    )
    assert len(Reliability.load(own).measured) == len(shipped.measured) + 1
    own.write_text("- {media: film}\n")
    with pytest.raises(ValueError, match=r"own\.yaml has no measurements"):
        Reliability.load(own)


def test_the_measurements_of_the_product_let_no_narrow_model_call_anything_genuine_surely() -> None:
    for each in Reliability.load(None).measured.values():
        assert each.confidence(verdict(0.0)) == "LOW"
        assert len(each.genuine) >= 4
        assert set(each.fakes) <= set(KINDS[each.media])
