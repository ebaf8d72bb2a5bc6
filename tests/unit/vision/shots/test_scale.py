"""How close a shot is and how many people are in it, by the faces of its frames."""

import pytest

from vision.faces.face import Face
from vision.shots.scale import NOBODY, Scale, scale

WIDTH, HEIGHT = 640, 360


def face(x: float = 0.5, height: float = 90, nose: float = 0.57, tilt: float = 0.0) -> Face:
    """A face whose middle is at ``x`` of the width; ``nose``: where its tip is from the eyes (0) to the mouth (1)."""
    width = 0.8 * height
    left, top = x * WIDTH - width / 2, 120.0
    middle, eyes, mouth = x * WIDTH, top + 0.4 * height, top + 0.8 * height
    points = [(-0.2, eyes), (0.2, eyes), (0.0, eyes + nose * (mouth - eyes)), (-0.15, mouth), (0.15, mouth)]
    landmarks = tuple((middle + dx * width, y + tilt * dx * width) for dx, y in points)
    return Face(left, top, width, height, 0.9, landmarks)


def test_one_person_all_along() -> None:
    assert scale([[face()]] * 5, WIDTH, HEIGHT) == Scale("medium", "eye_level", "centered", 1, "single", 1.0)


@pytest.mark.parametrize(
    ("height", "size"), [(320, "extreme_close_up"), (180, "close_up"), (120, "medium_close_up"), (20, "wide")]
)
def test_sizes_are_those_of_framing(height: float, size: str) -> None:
    assert scale([[face(height=height)]] * 3, WIDTH, HEIGHT).shot_size == size


def test_one_frame_does_not_decide() -> None:
    frames = [[face(height=92)], [face(height=88)], [face(height=250, x=0.1)], [face()], [face(nose=1.2)]]
    result = scale(frames, WIDTH, HEIGHT)
    assert (result.shot_size, result.shot_angle, result.framing) == ("medium", "eye_level", "centered")


def test_frames_without_a_face_are_left_out_but_not_when_they_are_most() -> None:
    result = scale([[face()], [], [face()], []], WIDTH, HEIGHT)
    assert (result.shot_size, result.people, result.seen) == ("medium", 1, 0.5)
    rare = scale([[face()], [], [], []], WIDTH, HEIGHT)
    assert (rare.shot_size, rare.people, rare.grouping, rare.seen) == ("undetermined", 0, "undetermined", 0.25)


@pytest.mark.parametrize("frames", [[], [[]], [[], [], []]])
def test_without_faces_nothing_is_said(frames: list[list[Face]]) -> None:
    assert scale(frames, WIDTH, HEIGHT) == NOBODY


def test_angles() -> None:
    assert scale([[face(nose=1.2)]] * 3, WIDTH, HEIGHT).shot_angle == "high_angle"
    assert scale([[face(nose=0.1)]] * 3, WIDTH, HEIGHT).shot_angle == "low_angle"
    assert scale([[face(tilt=0.6)]] * 3, WIDTH, HEIGHT).shot_angle == "dutch"


def test_sides() -> None:
    assert scale([[face(0.2)]] * 3, WIDTH, HEIGHT).framing == "left_third"
    assert scale([[face(0.8)]] * 3, WIDTH, HEIGHT).framing == "right_third"
    assert scale([[face(0.2), face(0.8)]] * 3, WIDTH, HEIGHT).framing == "centered"


def test_how_many() -> None:
    two, three = [face(0.3), face(0.7)], [face(0.2), face(0.5), face(0.8)]
    assert scale([two] * 3, WIDTH, HEIGHT).grouping == "two_shot"
    result = scale([two, three, three, three], WIDTH, HEIGHT)
    assert (result.people, result.grouping) == (3, "group")
    assert scale([two, two, three, three], WIDTH, HEIGHT).people == 3


def test_passers_by_far_behind_do_not_count() -> None:
    result = scale([[face(0.4, 120), face(0.9, 20), face(0.1, 25)]] * 3, WIDTH, HEIGHT)
    assert (result.people, result.grouping, result.framing) == (1, "single", "left_third")
