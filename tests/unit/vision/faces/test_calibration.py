"""The scales of faces and of pictures."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.tolerances import FP64
from vision.faces.calibration import (
    FACE_POINTS,
    IMAGE_POINTS,
    Points,
    face_cosine,
    image_cosine,
    image_percentage,
    similarity_percentage,
)

Function = Callable[[float], float]
SCALES = [(similarity_percentage, face_cosine, FACE_POINTS), (image_percentage, image_cosine, IMAGE_POINTS)]


@pytest.mark.parametrize(("percentage", "cosine", "points"), SCALES)
def test_the_points_are_met(percentage: Function, cosine: Function, points: Points) -> None:
    for given, expected in points:
        assert percentage(given) == pytest.approx(expected)
        assert cosine(expected) == pytest.approx(given)
    assert (points[0], points[-1]) == ((-1, 0), (1, 100))


@pytest.mark.parametrize(("percentage", "cosine", "points"), SCALES)
def test_it_rises_everywhere_and_can_be_undone(percentage: Function, cosine: Function, points: Points) -> None:
    cosines = np.linspace(-1, 1, 501)
    values = [percentage(float(value)) for value in cosines]
    assert (np.diff(values) > 0).all()
    np.testing.assert_allclose([cosine(value) for value in values], cosines, rtol=FP64, atol=FP64)


@pytest.mark.parametrize(("percentage", "cosine", "points"), SCALES)
def test_nothing_leaves_the_scale(percentage: Function, cosine: Function, points: Points) -> None:
    assert (percentage(-1.000001), percentage(1.000001)) == (0, 100)
    assert isinstance(percentage(0.1), float)


def test_the_thresholds_of_the_contract_tell_people_apart() -> None:
    assert similarity_percentage(0.355) < 65  # above the most alike of the labelled pairs of two people
    assert similarity_percentage(0.55) >= 85  # below the least alike of one person
    assert similarity_percentage(0.363) == pytest.approx(65)  # OpenCV's published threshold
