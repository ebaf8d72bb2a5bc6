"""Who is in two frames at the same place, and where in between."""

import numpy as np
import pytest

from vision.faces.continuity import between, continued, matched
from vision.faces.face import Face

ALIKE = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)


def face(x: float, y: float = 50, size: float = 40, confidence: float = 0.9) -> Face:
    landmarks = tuple(
        (x + a * size, y + b * size) for a, b in ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
    )
    return Face(x, y, size, size, confidence, landmarks)


def test_faces_that_stay_are_the_same_in_whatever_order() -> None:
    before = (face(10), face(200))
    assert continued(before, (face(14), face(205)), ALIKE) == (0, 1)
    assert continued(before, (face(205), face(14)), ALIKE[:, ::-1]) == (1, 0)


def test_nobody_stays_nobody() -> None:
    assert continued((), (), np.zeros((0, 0), np.float32)) == ()


@pytest.mark.parametrize(
    ("after", "cosines"),
    [
        ((face(14),), ALIKE[:, :1]),  # one left
        ((face(14), face(205), face(400)), np.hstack([ALIKE, ALIKE[:, :1]])),  # one came
        ((face(60), face(200)), ALIKE),  # one went too far
        ((face(10), face(200)), ALIKE[:, ::-1]),  # they look like each other's
        ((face(10), face(200)), np.full((2, 2), 0.5, np.float32)),  # like nobody
        ((face(10, confidence=0.75), face(200)), ALIKE),  # one is nearly missed
        ((face(10, size=60), face(200)), ALIKE),  # one is another size
    ],
)
def test_any_doubt_is_one_about_all(after: tuple[Face, ...], cosines: np.ndarray) -> None:  # type: ignore[type-arg]
    assert continued((face(10), face(200)), after, cosines) is None


def test_people_near_each_other_may_be_mixed_up() -> None:
    near = (face(10), face(40))
    assert continued(near, near, ALIKE) is None
    assert continued((face(10), face(90)), near, ALIKE) is None


def test_a_face_is_expected_on_a_straight_way() -> None:
    there = between(face(10, 50, 40, 0.9), face(40, 20, 70, 0.95), 1 / 3)
    assert (there.x, there.y, there.width, there.height) == pytest.approx((20, 40, 50, 50))
    assert there.confidence == 0.9
    assert there.landmarks[2] == pytest.approx((20 + 0.5 * 50, 40 + 0.6 * 50))


def test_faces_match_one_to_one() -> None:
    assert matched((face(10), face(200)), (face(202), face(11))) == (1, 0)
    assert matched((face(10), face(12)), (face(11), face(300))) is None
    assert matched((face(10),), ()) is None
    assert matched((), ()) == ()
