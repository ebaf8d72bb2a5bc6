"""The threshold of prints by the tail of what different animals agree in, and the best of three references."""

import numpy as np

from ops.calibration.prints import Trial, different, of_triples, threshold_of

ANIMALS = ["a", "a", "a", "a", "b", "b"]
INLIERS = np.arange(36).reshape(6, 6)


def counts(**of: int) -> np.ndarray:
    return np.repeat([int(name[1:]) for name in of], list(of.values()))


def test_the_threshold_follows_the_tail() -> None:
    # Each place more is ten times rarer: 1 in 10 has three, so one in a million has eight; the fit adds one comparison.
    assert threshold_of(counts(_2=9000, _3=900, _4=90, _5=10)) in (8, 9)
    assert threshold_of(counts(_2=9000, _3=500, _4=250, _5=250)) > 12
    assert threshold_of(counts(_2=1000)) > threshold_of(counts(_2=100_000))


def test_an_animal_is_left_out_of_what_it_is_judged_by() -> None:
    trial = Trial(INLIERS, [])
    assert sorted(different([trial], ANIMALS)) == sorted(
        INLIERS[row, column] for row in range(6) for column in range(6) if (row < 4) != (column < 4)
    )
    assert len(different([trial], ANIMALS, "a")) == 0
    assert len(different([trial, trial], [*ANIMALS[:4], "b", "c"], "c")) == 2 * 8


def test_the_best_of_three_references_counts() -> None:
    same, other = of_triples(Trial(INLIERS, []), ANIMALS)
    # Triples of the four photos of a; its fourth photo and both of b are compared with each.
    assert same == [INLIERS[3, 2], INLIERS[2, 3], INLIERS[1, 3], INLIERS[0, 3]]
    assert other[:2] == [INLIERS[4, 2], INLIERS[5, 2]]
    assert len(other) == 8
    assert of_triples(Trial(INLIERS, []), ANIMALS, "b")[0] == []
