"""Where a picture is in focus: sharp and blurred parts of known strength, without models."""

import cv2
import numpy as np
import pytest

from tests.tolerances import decimals
from vision.images import Pixels
from vision.quality.blur import block_blurs, edge_blurs
from vision.quality.focus import MAP_SIDE, focus_map


def blocks(width: int = 960, height: int = 640, seed: int = 0, *, contrast: int = 160) -> Pixels:
    """A picture full of sharp edges: overlapping rectangles of random greys."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 90, np.uint8)
    for _ in range(width * height // 3000):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(20, 90, 2)
        level = int(90 + rng.integers(0, contrast))
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), (level, level, level), -1)
    return image


def blurred(image: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


@pytest.mark.parametrize("contrast", [160, 60])
def test_a_picture_that_is_sharp_on_the_left_alone_has_its_focus_there(contrast: int) -> None:
    image = blocks(contrast=contrast)
    image[:, 480:] = blurred(image, 6)[:, 480:]
    focus = focus_map(image)
    assert (focus.shape, focus.dtype) == ((85, MAP_SIDE), np.float32)
    assert float(focus[:, :60].mean()) > 0.65
    assert float(focus[:, 68:].mean()) < 0.1
    turned = focus_map(np.ascontiguousarray(np.rot90(image)))
    assert float(turned[68:].mean()) > 0.65  # the left is below now
    assert float(turned[:60].mean()) < 0.1


def test_the_more_blurred_the_lower() -> None:
    image = blocks(seed=1)
    means = [float(focus_map(blurred(image, sigma)).mean()) for sigma in (0.5, 1.5, 2.5, 4.0, 6.0)]
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.7
    assert means[-1] < 0.1


@pytest.mark.parametrize("size", [(2400, 1600), (640, 960), (300, 200), (1000, 40), (1, 1), (2, 900)])
def test_the_map_has_the_shape_of_the_picture(size: tuple[int, int]) -> None:
    width, height = size
    focus = focus_map(blocks(width, height))
    longest = max(size)
    assert focus.shape == (max(1, round(height / longest * MAP_SIDE)), max(1, round(width / longest * MAP_SIDE)))
    assert 0 <= float(focus.min()) <= float(focus.max()) <= 1


def test_without_edges_nothing_is_in_focus() -> None:
    assert not focus_map(np.full((480, 640, 3), 128, np.uint8)).any()
    ramp = np.repeat(np.linspace(0, 255, 640).astype(np.uint8)[None, :, None], 480, 0).repeat(3, 2)
    assert float(focus_map(ramp).max()) < 0.05


def test_a_plain_part_between_sharp_ones_takes_nothing_from_far_away() -> None:
    image = blocks(seed=2)
    image[:, 320:640] = 90
    focus = focus_map(image)
    assert float(focus[:, 52:76].max()) < 0.1
    assert float(focus[:, :38].mean()) > 0.75


def test_edges_have_the_blur_that_was_given_to_them() -> None:
    grey = blocks(seed=3)[..., 0]
    for sigma in (2.0, 3.0):
        rows, columns, blurs = edge_blurs(cv2.GaussianBlur(grey, (0, 0), sigma))
        assert len(rows) == len(columns) == len(blurs)
        assert float(np.median(blurs)) == pytest.approx(sigma, rel=0.15)
    assert float(np.median(block_blurs(grey))) == pytest.approx(0.0, abs=decimals(0))
