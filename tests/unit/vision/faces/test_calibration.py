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
    is_drawn,
    similarity_percentage,
    trust,
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


def test_only_large_and_clear_faces_are_said_to_be_drawn() -> None:
    assert [is_drawn(0.9, strength) for strength in (4.6, 8.5, 11.7, 15.0)] == [True, True, False, False]
    assert [is_drawn(quality, 5.0) for quality in (0.1, 0.45, 0.69, 0.7)] == [False, False, False, True]


def test_blurred_faces_have_to_be_more_alike() -> None:
    least = face_cosine(75)
    assert [trust(sharpness) for sharpness in (100.0, 22.0, 8.0)] == [1, 1, 1]
    needed = {sharpness: least / trust(sharpness) ** 2 for sharpness in (4.0, 2.0, 1.0)}
    assert needed == pytest.approx({4.0: 0.465, 2.0: 0.53, 1.0: 0.595})
    assert trust(0.0) == trust(0.01) == 0.75
    values = [trust(sharpness) for sharpness in np.geomspace(0.1, 30, 50)]
    assert values == sorted(values)
