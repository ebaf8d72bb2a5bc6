"""Error rates of scores whose rates are known."""

from pathlib import Path

import numpy as np
import pytest

from ops.calibration.error_rates import Verification, table
from ops.calibration.faces import read_pairs, verification


def test_rates_by_hand() -> None:
    measured = Verification(np.array([0.9, 0.8, 0.4, 0.7]), np.array([0.1, 0.5, 0.3, 0.2, 0.7]))
    # Of 20 pairs of pairs 17 are in order, one is a tie and two (0.4 below 0.5 and 0.7) are not.
    assert measured.auc == pytest.approx(17.5 / 20)
    assert (measured.false_matches(0.5).errors, measured.false_matches(0.5).pairs) == (2, 5)
    assert (measured.false_non_matches(0.5).errors, measured.false_non_matches(0.5).pairs) == (1, 4)
    # From just above 0.5 to 0.7 one of four is missed and one of five is let through.
    assert measured.eer == pytest.approx((1 / 4 + 1 / 5) / 2)


def test_separate_scores_have_no_errors() -> None:
    measured = Verification(np.linspace(0.6, 0.9, 38), np.linspace(-0.1, 0.3, 262))
    assert (measured.auc, measured.eer) == (1, 0)
    # With no error among n the bound is 1 - 0.05^(1/n).
    assert measured.false_matches(0.4).bound == pytest.approx(1 - 0.05 ** (1 / 262))
    assert measured.false_non_matches(0.4).bound == pytest.approx(1 - 0.05 ** (1 / 38))
    assert measured.false_matches(-1).bound == 1
    assert str(measured.false_matches(0.4)) == "0 of 262 (below 1.1 %)"


def test_the_normal_estimate() -> None:
    scores = np.random.default_rng(0).normal(0.1, 0.1, 20_000)
    measured = Verification(np.ones(2), scores)
    assert measured.expected_false_matches(0.1 + 3.0902 * 0.1) == pytest.approx(0.001, rel=0.1)


def test_pairs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("file_x,file_y,Decision\na.jpg,b.jpg,Yes\r\na.jpg,c.jpg,No\n")
    pairs = read_pairs(path)
    assert pairs == [("a.jpg", "b.jpg", True), ("a.jpg", "c.jpg", False)]
    vectors = {name: np.float32(vector) for name, vector in (("a.jpg", [1, 0]), ("b.jpg", [0.6, 0.8]))}
    measured = verification(pairs, vectors)
    assert measured.matching.tolist() == pytest.approx([0.6])
    assert measured.other.tolist() == []
    path.write_text("file_x,file_y,Decision\na.jpg,b.jpg,perhaps\n")
    with pytest.raises(ValueError, match="line 2"):
        read_pairs(path)


def test_the_table_has_every_point() -> None:
    measured = Verification(np.array([0.8, 0.9]), np.array([0.1, 0.2, 0.6]))
    lines = table(measured, ((-1, 0), (0.5, 75), (1, 100))).splitlines()
    assert lines[0] == "AUC 1.0000, equal error rate 0.0000"
    assert lines[-1].startswith("| 75 | 0.5 | 1 of 3 ")
