"""Which frame stands for a shot."""

import cv2
import numpy as np
import pytest

from vision.shots.keyframes import Candidate, is_blank, keyframe, sharpness


def picture(contrast: float = 1.0) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    noise = np.random.default_rng(0).integers(0, 256, (90, 160)).astype(np.float32)
    soft = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, -100, 100, cv2.NORM_MINMAX)
    return np.asarray(np.rint(128 + contrast * soft), np.uint8)


def test_sharpness_falls_with_blur_and_motion() -> None:
    sharp = picture()
    blurred = [cv2.GaussianBlur(sharp, (0, 0), sigma) for sigma in (0.8, 1.5, 3.0)]
    smeared = cv2.blur(sharp, (9, 1))
    values = [sharpness(each) for each in (sharp, *blurred)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 3 * values[2]
    assert sharpness(smeared) < values[0] / 2


@pytest.mark.parametrize("contrast", [0.8, 0.6, 0.4])
def test_a_fade_is_as_sharp_as_the_frame_itself(contrast: float) -> None:
    assert sharpness(picture(contrast)) == pytest.approx(sharpness(picture()), rel=0.05)


@pytest.mark.parametrize("level", [0, 255])
def test_one_colour_is_not_sharp(level: int) -> None:
    assert sharpness(np.full((90, 160), level, np.uint8)) == 0


def candidates(**sharp: float) -> list[Candidate]:
    """Every tenth frame up to 100, all alike but for those named f<number>."""
    return [Candidate(frame, sharp.get(f"f{frame}", 1.0)) for frame in range(0, 101, 10)]


def test_the_middle_of_equals() -> None:
    assert keyframe(candidates(), 0, 100) == 50
    assert keyframe(candidates(), 20, 59) == 40
    assert keyframe(candidates(), 40, 70) == 50  # as near as 60


def test_the_sharpest_near_the_middle() -> None:
    assert keyframe(candidates(f30=1.1), 0, 100) == 30
    assert keyframe(candidates(f0=2.0), 0, 100) == 50  # too far away for that
    assert keyframe(candidates(f0=9.0), 0, 100) == 0
    assert keyframe(candidates(f50=0.5), 0, 100) == 40


def test_only_frames_of_the_shot() -> None:
    assert keyframe(candidates(f0=99.0, f100=99.0), 10, 90) == 50
    assert keyframe(candidates(), 41, 49) is None
    assert keyframe([], 0, 100) is None


def test_no_frame_of_a_transition() -> None:
    assert keyframe(candidates(f50=9.0), 0, 100, [(45, 60)]) == 40
    assert keyframe(candidates(f10=9.0), 10, 30, [(5, 20)]) == 30
    assert keyframe(candidates(), 50, 50, [(45, 60)]) == 50  # it has no other


def test_a_shot_of_one_frame_and_of_black() -> None:
    assert keyframe([Candidate(7, 0.0)], 7, 7) == 7
    assert keyframe([Candidate(n, 0.0) for n in range(9)], 0, 8) == 4


@pytest.mark.parametrize("level", [0, 16, 128, 255])
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_a_frame_of_one_shade_is_blank(level: int, noise: float) -> None:
    values = level + np.random.default_rng(0).normal(0, noise, (90, 160))
    assert is_blank(np.rint(values.clip(0, 255)).astype(np.uint8))


def test_a_dark_frame_that_shows_something_is_not_blank() -> None:
    dark = np.zeros((90, 160), np.uint8)
    dark[30:60, 50:90] = 40
    assert not is_blank(dark)
    assert not is_blank(np.tile(np.arange(20, 52, dtype=np.uint8), (90, 5)))
