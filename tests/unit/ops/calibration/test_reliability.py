"""Measuring how often verdicts are right: curves that are undone, sources that are held out, and what is written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from graphs.authenticity.reliability import Reliability
from ops.calibration.reliability import GENUINE, Sample, held_out, measured, raw, reliability_rows, write
from tests.tolerances import FP64
from vision.forensics.calibration import AASIST, GHOSTS, MESONET, Calibration

SOURCES = ("faces", "emotion", "iqa/ava")
MODELS = {"forensic": "jpeg-ghosts"}


def picture(source: str, number: int, kind: str, ghost: float) -> Sample:
    return Sample(source, f"{source}/{number}", kind, {"forensic": GHOSTS.probability(ghost)}, MODELS)


def pictures() -> list[Sample]:
    """Two states of 20 genuine pictures, and a splice of each, of every source."""
    rng = np.random.default_rng(1)
    return [
        picture(source, number, kind, float(rng.uniform(*reach)))
        for source in SOURCES
        for number in range(20)
        for kind, reach in ((GENUINE, (0, 0.15)), (GENUINE, (0, 0.2)), ("spliced", (0.05, 0.4)))
    ]


@pytest.mark.parametrize("curve", [MESONET, GHOSTS, AASIST])
def test_a_curve_can_be_undone_within_its_limit(curve: Calibration) -> None:
    for share in (-0.9, -0.2, 0.1, 0.95):
        assert raw(curve, curve.probability(share * curve.limit)) == pytest.approx(share * curve.limit, rel=1e6 * FP64)
    assert raw(curve, curve.probability(9 * curve.limit)) == pytest.approx(curve.limit, rel=1e6 * FP64)


def test_a_source_is_judged_by_the_curve_of_the_others() -> None:
    samples = pictures()
    moved = held_out(samples)
    assert [sample.unit for sample in moved] == [sample.unit for sample in samples]
    # One source that is unlike the others does not move its own scores.
    odd = [replace(each, scores={"forensic": 0.75}) if each.source == "faces" else each for each in samples]
    own = [each.scores for each in held_out(odd) if each.source == "faces"]
    assert all(scores == own[0] for scores in own)
    others = [(a.scores, b.scores) for a, b in zip(held_out(odd), moved, strict=True) if a.source == "emotion"]
    assert any(a != b for a, b in others)


def test_a_sample_that_nothing_was_fitted_to_keeps_its_score() -> None:
    other = Sample("anti_spoof, others", "one", GENUINE, {"forensic": 0.4}, MODELS)
    assert held_out([*pictures(), other])[-1] == other


def test_states_and_kinds_are_kept_apart(tmp_path: Path) -> None:
    (found,) = measured("image", pictures(), "a test")
    assert len(found.genuine) == 60
    assert {len(states) for states in found.genuine} == {2}
    assert {kind: len(risks) for kind, risks in found.fakes.items()} == {"spliced": 60}
    write(tmp_path / "own.yaml", [found])
    assert Reliability.load(tmp_path / "own.yaml").find("image", MODELS) == found
    assert yaml.safe_load((tmp_path / "own.yaml").read_text())[0]["measured_on"] == "a test"


def test_the_tables_count_every_sample_before_and_now() -> None:
    samples = pictures()
    first, second = reliability_rows("image", samples, "a test")
    for when in ("before", "now"):
        assert sum(row[2] for row in first if row[0] == when) == len(samples)
        assert sum(sum(row[2:]) for row in second[1:] if row[0] == when) == len(samples)
    medium = next(row for row in first if row[:2] == ["now", "MEDIUM"])
    assert medium[3] >= 0.8 * medium[2]
