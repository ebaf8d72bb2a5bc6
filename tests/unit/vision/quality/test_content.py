"""What BRISQUE was not made for: pictures made here, of each kind and of none."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vision.images import Pixels
from vision.quality.content import outside

SIZES = [(360, 480), (1600, 1200), (180, 260)]


def scene(height: int, width: int, seed: int = 0) -> NDArray[np.float64]:
    """Detail at all scales, float64 (height, width, 3), as a photograph that is sharp all over has it."""
    rng = np.random.default_rng(seed)
    layers = [rng.normal(0, 18, (max(2, height // step), max(2, width // step), 3)) for step in (1, 2, 4, 16, 64)]
    total = sum(cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC) for layer in layers)
    return np.asarray(120 + total).clip(0, 255)


def pixels(values: NDArray[np.float64]) -> Pixels:
    return np.rint(values.clip(0, 255)).astype(np.uint8)


def within(values: NDArray[np.float64], around: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middle of one picture, an ellipse of a third of it, in another."""
    height, width = values.shape[:2]
    mask = np.zeros((height, width))
    cv2.ellipse(mask, (width // 2, height // 2), (width // 3, height // 4), 0, 0, 360, 1, -1)
    soft = cv2.GaussianBlur(mask, (0, 0), max(1, width / 200))[..., None]
    return values * soft + around * (1 - soft)


def drawing(height: int, width: int) -> NDArray[np.float64]:
    canvas = np.full((height, width, 3), (240, 220, 170), np.uint8)
    for place in range(1, 5):
        centre = (place * width // 5, (place % 2 + 1) * height // 3)
        cv2.circle(canvas, centre, height // 7, (60 * place, 90, 200 - 40 * place), -1, cv2.LINE_AA)
        cv2.circle(canvas, centre, height // 7, (0, 0, 0), max(1, height // 100), cv2.LINE_AA)
    return canvas.astype(np.float64)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "change",
    [
        lambda values: values,
        lambda values: cv2.GaussianBlur(values, (0, 0), 4),
        lambda values: values + np.random.default_rng(1).normal(0, 25, values.shape),
        lambda values: 0.15 * values,
        lambda values: values + 60,
    ],
    ids=["sharp", "blurred", "noisy", "dark", "bright"],
)
def test_a_photograph_is_inside_whatever_is_wrong_with_it(
    size: tuple[int, int], change: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> None:
    assert outside(pixels(change(scene(*size)))) == ()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("level", [0.0, 10.0, 255.0])
def test_a_plain_ground_is_outside(size: tuple[int, int], level: float) -> None:
    values = scene(*size)
    noise = np.random.default_rng(1).normal(0, 0.5, values.shape)
    for ground in (np.full_like(values, level), level + noise):
        assert outside(pixels(within(values, ground))) == ("plain_ground",)


@pytest.mark.parametrize("size", SIZES)
def test_shallow_focus_is_outside(size: tuple[int, int]) -> None:
    values = scene(*size)
    behind = cv2.GaussianBlur(values, (0, 0), max(size) / 25)
    assert outside(pixels(within(values, behind))) == ("shallow_focus",)
    assert outside(pixels(behind)) == ()  # blurred all over is what the regression knows


@pytest.mark.parametrize("size", SIZES)
def test_a_drawing_is_outside(size: tuple[int, int]) -> None:
    drawn = pixels(drawing(*size))
    assert outside(drawn) == ("flat_colours",)
    _, data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert outside(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)) == ("flat_colours",)
