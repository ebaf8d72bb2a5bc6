"""Tags that come from measured values."""

from dataclasses import replace

import numpy as np
import pytest

from vision.images import Pixels
from vision.shots.movement import LABELS, Movement
from vision.shots.scale import NOBODY, Scale
from vision.shots.tags import ZERO_SHOT, Look, auto_tags, look

STILL = Movement("static", 0.001, None, (), 0, 0, 0, 0, 0, 0, 0, 1.0, 4.0)
PLAIN = Look(low=0.1, median=0.45, upper=0.6, high=0.95, contrast=0.2, coloured=0.4, warm=0.5)


def plain(red: int, green: int, blue: int) -> Pixels:
    return np.full((60, 100, 3), (red, green, blue), np.uint8)


def of(pixels: Pixels) -> set[str]:
    return set(auto_tags(STILL, NOBODY, look(pixels), 4.0)) - {"static"}


def test_nothing_special() -> None:
    assert auto_tags(STILL, NOBODY, PLAIN, 4.0) == ("static",)
    assert auto_tags(replace(STILL, label="undetermined", intensity=0.9), NOBODY, PLAIN, 4.0) == ()


def test_movement_and_people() -> None:
    moving = replace(STILL, label="tracking", also=("pan_left", "handheld"), intensity=0.4)
    shot = Scale("medium", "low_angle", "centered", 2, "two_shot", 1.0)
    assert auto_tags(moving, shot, PLAIN, 4.0) == (
        *("tracking", "pan_left", "handheld", "medium", "low_angle", "centered"),
        *("two_shot", "two_people", "fast_movement"),
    )
    crowd = replace(shot, people=5, grouping="group")
    assert "three_people_or_more" in auto_tags(moving, crowd, PLAIN, 4.0)


@pytest.mark.parametrize(("seconds", "tag"), [(0.4, "quick_cut"), (1.5, "quick_cut"), (20, "long_take")])
def test_lengths(seconds: float, tag: str) -> None:
    assert auto_tags(STILL, NOBODY, PLAIN, seconds) == ("static", tag)


def test_light_and_colour_of_plain_pictures() -> None:
    assert of(plain(0, 0, 0)) == {"dark", "low_contrast", "monochrome"}
    assert of(plain(250, 250, 250)) == {"bright", "high_key", "low_contrast", "monochrome"}
    assert of(plain(120, 120, 120)) == {"low_contrast", "monochrome"}
    assert of(plain(180, 110, 60)) == {"low_contrast", "warm"}
    assert of(plain(60, 110, 180)) == {"low_contrast", "cool"}


def test_lights_in_the_dark_are_low_key() -> None:
    night = plain(10, 10, 14)
    night[10:14, 10:40] = (250, 240, 200)
    assert {"dark", "low_key"} <= of(night)
    assert "low_key" not in of(plain(10, 10, 14))


def test_black_and_white_is_of_high_contrast() -> None:
    halves = plain(0, 0, 0)
    halves[:, 50:] = 255
    assert "high_contrast" in of(halves)


def test_luma_at_shares_of_the_pixels() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 40, 0).repeat(3, 2)
    measured = look(ramp)
    assert measured.low == pytest.approx(0.05, abs=0.01)
    assert measured.median == pytest.approx(0.5, abs=0.01)
    assert measured.upper == pytest.approx(0.75, abs=0.01)
    assert measured.high == pytest.approx(0.99, abs=0.01)
    assert measured.contrast == pytest.approx(12**-0.5, abs=0.01)


def test_a_large_picture_looks_as_its_copy() -> None:
    small = np.random.default_rng(0).integers(0, 256, (36, 64, 3), dtype=np.uint8)
    large = small.repeat(40, 0).repeat(40, 1)
    assert look(large).median == pytest.approx(look(small).median, abs=0.02)


def test_labels_are_distinct() -> None:
    labels = [label for labels in ZERO_SHOT.values() for label in labels]
    assert len(labels) == len(set(labels))
    assert not set(labels) & {*LABELS, "dark", "bright", "warm", "cool"}
    sentences = [sentence for labels in ZERO_SHOT.values() for sentence in labels.values()]
    assert len(sentences) == len(set(sentences))
