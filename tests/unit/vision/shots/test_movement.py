"""What the camera does in a shot, from made-up motion between its frames."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tolerances import FP32, FP32_DOT
from vision.shots.movement import Motion, Motions, Movement, classify

RADIUS = float(np.sqrt((16**2 + 9**2) / 12) / 16)
"""Root mean square distance of a frame's points from its middle, in widths, at 16:9."""
Path = NDArray[np.float64]


def rows(noise: float = 1e-4, still: float = 0, parallax: float = 0, **paths: Path) -> Motions:
    """Rows of pairs, from where the content is at each frame: dx, dy, scale, rotation."""
    (length,) = {len(path) for path in paths.values()}
    motions = np.random.default_rng(0).normal(0, noise, (length - 1, len(Motion))).astype(np.float32)
    for name, path in paths.items():
        motions[:, Motion[name.upper()]] += np.diff(path).astype(np.float32)
    motions[:, Motion.INLIERS] = 1
    motions[:, Motion.STILL] = still
    motions[:, Motion.PARALLAX] = parallax
    return motions


def classified(motions: Motions, seconds: float = 3.0) -> Movement:
    return classify(motions, np.linspace(0, seconds, len(motions) + 1))


def steady(amount: float, frames: int = 37) -> Path:
    return np.linspace(0, amount, frames)


@pytest.mark.parametrize(
    ("column", "amount", "label", "direction"),
    [
        ("dx", 0.3, "pan_left", None),
        ("dx", -0.3, "pan_right", None),
        ("dy", 0.3, "tilt_up", None),
        ("dy", -0.3, "tilt_down", None),
        ("scale", 0.2, "zoom_in", None),
        ("scale", -0.2, "zoom_out", None),
        ("rotation", 0.2, "roll", "ccw"),
        ("rotation", -0.2, "roll", "cw"),
        ("dx", 0.0, "static", None),
    ],
)
def test_directions_are_those_of_the_camera(column: str, amount: float, label: str, direction: str | None) -> None:
    movement = classified(rows(**{column: steady(amount)}))
    assert (movement.label, movement.direction, movement.also) == (label, direction, ())
    assert movement.measured == 1
    assert movement.duration == pytest.approx(3)


def test_components_are_net_and_the_intensity_is_in_frame_widths_a_second() -> None:
    movement = classified(rows(noise=0, dx=steady(-0.6)))
    assert movement.pan == pytest.approx(0.6, rel=FP32_DOT)
    assert movement.intensity == pytest.approx(0.2, rel=FP32_DOT)
    assert (movement.tilt, movement.zoom, movement.roll) == (0, 0, 0)
    assert movement.shake == pytest.approx(0, abs=FP32)
    zoomed = classified(rows(noise=0, scale=steady(0.3)))
    assert zoomed.zoom == pytest.approx(0.3, rel=FP32_DOT)
    assert zoomed.intensity == pytest.approx(0.1 * RADIUS, rel=FP32_DOT)


def test_a_tilt_is_measured_in_heights_and_compared_in_widths() -> None:
    movement = classified(rows(noise=0, dx=steady(-0.2), dy=steady(0.3)))
    assert movement.label == "pan_right"  # 0.3 heights are 0.17 widths
    assert movement.also == ("tilt_up",)
    assert movement.tilt == pytest.approx(0.3, rel=FP32_DOT)


def test_a_high_frame_is_turned_more_than_it_is_panned() -> None:
    motions = rows(noise=0, dx=steady(-0.2), rotation=steady(-0.4))
    times = np.linspace(0, 3, len(motions) + 1)
    assert classify(motions, times, 16 / 9).label == "pan_right"
    assert classify(motions, times, 9 / 16).label == "roll"


def test_uneven_speed_and_uneven_times() -> None:
    eased = 0.4 * (1 - np.cos(np.linspace(0, np.pi, 37))) / 2
    assert classified(rows(dx=eased)).label == "pan_left"
    times = np.sort(np.random.default_rng(1).uniform(0, 3, 37))
    movement = classify(rows(noise=0, dx=-0.1 * times), times)
    assert movement.label == "pan_right"
    assert movement.intensity == pytest.approx(0.1, rel=FP32_DOT)
    assert movement.also == ()


def test_there_and_back_is_a_pan() -> None:
    there = np.concatenate([steady(0.4), steady(0.4)[::-1]])
    movement = classified(rows(noise=0, dx=there), 6)
    assert movement.label in ("pan_left", "pan_right")
    assert movement.pan == pytest.approx(0, abs=FP32)
    assert movement.intensity == pytest.approx(0.8 / 6 * 72 / 73, rel=0.02)


def test_a_camera_in_the_hand() -> None:
    seconds = np.linspace(0, 4, 49)
    shaken = 0.008 * np.sin(2 * np.pi * 1.7 * seconds) + 0.005 * np.sin(2 * np.pi * 3.1 * seconds)
    movement = classified(rows(dx=shaken, dy=0.8 * shaken[::-1]), 4)
    assert (movement.label, movement.also) == ("handheld", ())
    assert movement.shake > 0.003
    assert classified(rows(dx=steady(0.8, 49) + shaken), 4).also == ("handheld",)
    swaying = 0.02 * np.sin(2 * np.pi * 0.4 * np.linspace(0, 12, 145))
    assert classified(rows(dx=swaying), 12).label == "handheld"


def test_noise_does_not_add_up_to_a_movement() -> None:
    drift = np.linspace(0, 0.05, 721)  # a hundredth of a pixel from each frame to the next
    assert classified(rows(noise=3e-4, dx=drift), 60).label == "static"


def test_tracking_needs_a_subject_that_stays() -> None:
    movement = classified(rows(still=0.3, dx=steady(0.5)))
    assert (movement.label, movement.also) == ("tracking", ("pan_left",))
    assert classified(rows(still=0.02, dx=steady(0.5))).label == "pan_left"
    assert classified(rows(still=0.3, dx=steady(0.0))).label == "static"


def test_a_dolly_shows_depth() -> None:
    displacement = RADIUS * 0.3 / 36
    assert classified(rows(scale=steady(0.3), parallax=0.3 * displacement)).label == "dolly_in"
    assert classified(rows(scale=steady(-0.3), parallax=0.3 * displacement)).label == "dolly_out"
    assert classified(rows(scale=steady(0.3), parallax=0.02 * displacement)).label == "zoom_in"
    slow = RADIUS * 0.02 / 36  # a hundredth of a pixel is no depth
    assert classified(rows(noise=0, scale=steady(0.06), parallax=0.3 * slow)).label == "zoom_in"


def test_pairs_that_could_not_be_measured_do_not_count() -> None:
    motions = rows(dx=steady(0.3))
    motions[10:20] = 0
    motions[15, Motion.DX] = 0.9
    movement = classified(motions)
    assert movement.label == "pan_left"
    assert movement.measured == pytest.approx(26 / 36)
    assert movement.pan == pytest.approx(-0.3, rel=0.02)


def test_a_little_measured_is_undetermined() -> None:
    motions = rows(dx=steady(0.3))
    motions[8:] = 0
    movement = classified(motions)
    assert (movement.label, movement.also) == ("undetermined", ())
    assert movement.measured == pytest.approx(8 / 36)


def test_nothing_measured_is_undetermined() -> None:
    black = np.zeros((20, len(Motion)), np.float32)
    assert classified(black).label == "undetermined"
    assert classified(black).measured == 0
    for count in (0, 1):
        empty = classify(np.zeros((0, len(Motion)), np.float32), np.arange(count, dtype=float))
        assert (empty.label, empty.duration, empty.intensity) == ("undetermined", 0, 0)


def test_a_very_short_shot_is_static_or_undetermined() -> None:
    assert classified(rows(dx=steady(0.0, 3)), 0.08).label == "static"
    brief = classified(rows(noise=0, dx=steady(0.04, 3)), 0.08)
    assert (brief.label, brief.also) == ("undetermined", ())
    assert brief.pan == pytest.approx(-0.04, rel=FP32_DOT)


def test_rows_and_times_must_fit() -> None:
    with pytest.raises(ValueError, match="5 frames have 4 pairs, not 3"):
        classify(np.zeros((3, len(Motion)), np.float32), np.arange(5.0))
