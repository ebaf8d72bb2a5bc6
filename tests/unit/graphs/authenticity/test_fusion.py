"""Fusion: weights, bands and confidence, in numbers."""

import math

import pytest

from graphs.authenticity.fusion import classify, confidence, fuse, pooled, shares
from tests.tolerances import decimals
from vision.forensics.calibration import AASIST, GHOSTS, MESONET, PRIOR, Calibration, logit, sigmoid


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["visual", "forensic"], {"visual": 0.6, "forensic": 0.4}),
        (["forensic"], {"forensic": 1}),
        (["visual", "forensic", "temporal"], {"visual": 0.45, "forensic": 0.3, "temporal": 0.25}),
        (["visual", "forensic", "audio"], {"visual": 0.45, "forensic": 0.3, "audio": 0.25}),
        (
            ["visual", "forensic", "temporal", "audio"],
            {"visual": 0.45, "forensic": 0.3, "temporal": 0.125, "audio": 0.125},
        ),
        (["audio"], {"audio": 1}),
        (["forensic", "audio"], {"forensic": 0.3 / 0.55, "audio": 0.25 / 0.55}),
    ],
)
def test_weights_are_of_the_signals_that_exist(names: list[str], expected: dict[str, float]) -> None:
    assert shares(names) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("risk", "band"),
    [
        (0, "AUTHENTIC"),
        (39, "AUTHENTIC"),
        (39.4, "AUTHENTIC"),
        (39.5, "SUSPICIOUS"),
        (40, "SUSPICIOUS"),
        (69.4, "SUSPICIOUS"),
        (69.5, "MANIPULATED"),
        (70, "MANIPULATED"),
        (100, "MANIPULATED"),
    ],
)
def test_bands(risk: float, band: str) -> None:
    assert classify(risk) == band


def test_pooling() -> None:
    assert pooled([(0.3, 1.0)]) == pytest.approx(0.3)
    assert pooled([(0.9, 1.0), (0.1, 1.0)]) == pytest.approx(0.5)
    # by hand: 0.6 ln(0.82/0.18) + 0.4 ln(0.71/0.29) = 1.268
    assert pooled([(0.82, 0.6), (0.71, 0.4)]) == pytest.approx(1 / (1 + math.exp(-1.26806)), abs=decimals(4))
    assert 0 < pooled([(0.0, 1.0), (0.0, 1.0)]) < 0.002
    assert pooled([(1.0, 1.0)]) == pytest.approx(0.999)


@pytest.mark.parametrize(
    ("risk", "probabilities", "incomplete", "expected"),
    [
        (80, [0.85, 0.75], False, "HIGH"),
        (15, [0.1, 0.2], False, "HIGH"),
        (23.2, [0.2502, 0.2063], False, "MEDIUM"),  # the least that MesoNet and the forensic measures can give
        (80, [0.95, 0.6], False, "MEDIUM"),
        (70, [0.75, 0.6], False, "MEDIUM"),
        (70, [0.95, 0.3], False, "LOW"),
        (55, [0.55, 0.56], False, "LOW"),
        (45, [0.45], False, "LOW"),
        (95, [0.95], False, "MEDIUM"),
        (95, [0.95, 0.96], True, "LOW"),
    ],
)
def test_confidence(risk: float, probabilities: list[float], incomplete: bool, expected: str) -> None:
    assert confidence(risk, probabilities, incomplete=incomplete) == expected


def test_the_example_of_the_contract() -> None:
    verdict = fuse({"visual": 0.82, "forensic": 0.71})
    assert verdict is not None
    assert (verdict.classification, verdict.confidence) == ("MANIPULATED", "HIGH")
    assert verdict.risk_score == pytest.approx(78.0, abs=0.1)


def test_nothing_gives_no_verdict() -> None:
    assert fuse({}) is None
    assert fuse({}, ["visual"]) is None
    verdict = fuse({"forensic": 0.95}, ["visual"])
    assert verdict is not None
    assert verdict.confidence == "LOW"


def test_a_calibration_rises_within_its_limits() -> None:
    curve = Calibration(slope=2.0, intercept=0.5, limit=3.0, on="a test")
    assert curve.probability(0) == pytest.approx(sigmoid(0.5 + logit(PRIOR)))
    assert curve.probability(1) > curve.probability(0.9)
    assert curve.probability(3) == curve.probability(99)
    assert curve.probability(-3) == curve.probability(-1e9)


def test_a_score_that_sees_only_some_changes_says_little_when_it_sees_none() -> None:
    whole, part = (Calibration(slope=20.0, intercept=-3.0, limit=1.0, on="a test", covers=share) for share in (1, 0.4))
    assert whole.probability(0) < 0.03
    assert part.probability(0) == pytest.approx(0.2099, abs=decimals(4))  # odds of 3/7, times 0.6 + 0.4 exp(-3)
    assert part.probability(0) > PRIOR * (1 - part.covers)
    assert part.probability(0.5) == pytest.approx(0.995, abs=decimals(3))
    assert part.info()["covers"] == 0.4


def test_the_ghosts_of_genuine_pictures() -> None:
    # the least, what one genuine picture in a hundred of the calibration has, and the most
    probabilities = [GHOSTS.probability(ghost) for ghost in (0.0, 0.19, 0.25, 1.0)]
    assert probabilities == pytest.approx([0.2063, 0.4739, 0.7942, 0.7942], abs=decimals(4))


@pytest.mark.parametrize("curve", [MESONET, GHOSTS, AASIST])
def test_every_calibration_says_what_it_rests_on(curve: Calibration) -> None:
    assert len(curve.info()["on"]) > 20  # type: ignore[arg-type]
    assert curve.slope > 0
