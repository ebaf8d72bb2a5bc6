"""shots/camera on a real-looking picture that is moved by known amounts."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.shots.camera import CameraMotionEstimator, Config, FrameRun
from vision.errors import InvalidInput
from vision.shots.camera import corners, motions
from vision.shots.movement import Motion, Motions

WIDTH, HEIGHT = 320, 180
Frame = NDArray[np.uint8]


def texture(seed: int = 0, size: tuple[int, int] = (640, 400)) -> Frame:
    """Detail of every size, uint8 (h, w)."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (size[1], size[0])).astype(np.float32)
    image = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.0, 3, 8))
    return np.asarray(cv2.normalize(image, None, 20, 235, cv2.NORM_MINMAX), np.uint8)


def moved(dx: float = 0, dy: float = 0, scale: float = 1, angle: float = 0, seed: int = 0) -> Frame:
    """The texture, displaced by pixels to the right and down, grown by ``scale`` and turned clockwise by radians."""
    wide = texture(seed)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    place = np.array([WIDTH / 2 + dx, HEIGHT / 2 + dy]) - turn @ (wide.shape[1] / 2, wide.shape[0] / 2)
    frame: Frame = cv2.warpAffine(wide, np.column_stack([turn, place]), (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
    return frame


def row(before: Frame, after: Frame) -> Motions:
    motion: Motions = motions(np.stack([before, after]))[0]
    return motion


@pytest.mark.parametrize(
    ("dx", "dy", "scale", "angle"),
    [
        (0, 0, 1, 0),
        (6.4, 0, 1, 0),
        (-20, 0, 1, 0),
        (0, 4.5, 1, 0),
        (0, 0, 1.03, 0),
        (0, 0, 1, 0.02),
        (3, -5, 0.98, -0.01),
    ],
)
def test_known_motions(dx: float, dy: float, scale: float, angle: float) -> None:
    motion = row(moved(), moved(dx, dy, scale, angle))
    assert motion[Motion.DX] * WIDTH == pytest.approx(dx, abs=0.05)
    assert motion[Motion.DY] * HEIGHT == pytest.approx(dy, abs=0.05)
    assert motion[Motion.SCALE] == pytest.approx(np.log(scale), abs=5e-4)  # 0.08 pixels at the edge
    assert motion[Motion.ROTATION] == pytest.approx(angle, abs=5e-4)  # 0.08 pixels at the edge
    assert motion[Motion.INLIERS] > 0.95
    assert motion[Motion.RESIDUAL] < 0.001
    assert motion[Motion.STILL] == 0


def test_a_run_may_be_split_anywhere() -> None:
    frames = np.stack([moved(2.5 * n, -n, 1 + 0.004 * n) for n in range(7)])
    whole = motions(frames)
    assert whole.shape == (6, len(Motion))
    assert whole.dtype == np.float32
    for place in range(1, 6):
        np.testing.assert_array_equal(np.concatenate([motions(frames[: place + 1]), motions(frames[place:])]), whole)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_where_nothing_is_seen_nothing_was_measured(level: int) -> None:
    blank = np.full((HEIGHT, WIDTH), level, np.uint8)
    assert not row(blank, blank).any()
    assert not row(moved(), blank).any()


def test_across_a_cut_few_points_agree() -> None:
    assert row(moved(), moved(seed=7))[Motion.INLIERS] < 0.5


def pasted(frame: Frame, x: int, y: int, width: int, height: int) -> Frame:
    result = frame.copy()
    result[y : y + height, x : x + width] = texture(3)[:height, :width]
    return result


def test_a_subject_that_stays_while_the_background_moves() -> None:
    motion = row(pasted(moved(), 110, 40, 90, 120), pasted(moved(-5), 110, 40, 90, 120))
    assert motion[Motion.DX] * WIDTH == pytest.approx(-5, abs=0.1)
    assert 0.15 < motion[Motion.STILL] < 0.6
    assert motion[Motion.RESIDUAL] > 0.004


def test_a_caption_is_no_subject() -> None:
    motion = row(pasted(moved(), 40, 150, 240, 25), pasted(moved(-5), 40, 150, 240, 25))
    assert motion[Motion.STILL] == 0


def test_a_subject_that_moves_before_a_background_that_stays() -> None:
    motion = row(pasted(moved(), 100, 40, 90, 120), pasted(moved(), 108, 40, 90, 120))
    assert abs(motion[Motion.DX]) * WIDTH < 0.05
    assert motion[Motion.STILL] == 0


def test_the_background_reaches_the_border_even_where_a_subject_has_more_points() -> None:
    box = (70, 15, 180, 150)
    motion = row(pasted(moved(), *box), pasted(moved(-6), *box))
    assert motion[Motion.INLIERS] < 0.6
    assert motion[Motion.DX] * WIDTH == pytest.approx(-6, abs=0.1)


def test_depth_shows_as_parallax() -> None:
    frame = moved()
    zoomed = row(frame, moved(scale=1.04))
    x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    nearness = np.where(x > WIDTH / 2, 0.06, 0.02)  # the right half is nearer
    near = (x - WIDTH / 2) * (1 - nearness) + WIDTH / 2, (y - HEIGHT / 2) * (1 - nearness) + HEIGHT / 2
    dollied = row(frame, cv2.remap(frame, near[0].astype(np.float32), near[1].astype(np.float32), cv2.INTER_CUBIC))
    assert dollied[Motion.PARALLAX] > 5 * abs(zoomed[Motion.PARALLAX])


def test_corners_are_spread_over_the_grid() -> None:
    frame = moved()
    frame[:, : WIDTH // 2] = (frame[:, : WIDTH // 2].astype(int) - 128) // 8 + 128  # little contrast on the left
    points, strengths = corners(frame)
    assert len(points) == len(strengths) > 0.95 * 20 * 11
    assert (points[:, 0] < WIDTH / 2).mean() > 0.45


@pytest.mark.parametrize(
    ("frames", "times", "message"),
    [
        (np.zeros((2, 90, 160, 3), np.uint8), [0, 1], "grey"),
        (np.zeros((2, 90, 160), np.float32), [0, 1], "grey"),
        (np.zeros((2, 90, 160), np.uint8), [0, 1, 2], "one time for each"),
        (np.zeros((3, 90, 160), np.uint8), [0, 1, 1], "ascend"),
        (np.zeros((2, 20, 160), np.uint8), [0, 1], "32 to 1024 pixels"),
        (np.zeros((2, 90, 1600), np.uint8), [0, 1], "32 to 1024 pixels"),
    ],
)
def test_a_bad_run_fails_alone(frames: NDArray[np.uint8], times: list[float], message: str) -> None:
    stage = CameraMotionEstimator(Config())
    stage.load()
    stage.warm_up()
    good = FrameRun(np.stack([moved(), moved(2)]), np.array([0.0, 0.1]))
    bad = FrameRun(frames, np.array(times, float))
    first, wrong, last = stage.predict_batch([good, bad, good])
    assert isinstance(wrong, InvalidInput)
    assert message in wrong.message
    assert isinstance(first, np.ndarray)
    np.testing.assert_array_equal(first, last)


@pytest.mark.parametrize("count", [0, 1])
def test_less_than_two_frames_have_no_pair(count: int) -> None:
    stage = CameraMotionEstimator(Config())
    run = FrameRun(np.zeros((count, 90, 160), np.uint8), np.arange(count, dtype=float))
    (rows,) = stage.predict_batch([run])
    assert isinstance(rows, np.ndarray)
    assert rows.shape == (0, len(Motion))
