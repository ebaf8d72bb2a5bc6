"""BRISQUE's features against the definition written out in float64, its regression by hand, its refusals."""

import math
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tolerances import FP32, FP64, assert_close
from vision.errors import InvalidInput
from vision.images import Pixels
from vision.quality.brisque import (
    MATLAB,
    OPENCV,
    RGB2GRAY,
    Recipe,
    features,
    halved,
    interpolated,
    load_svr,
    mscn,
    statistics,
)

pytestmark = pytest.mark.numeric

Array = NDArray[np.float64]


def texture(height: int, width: int, seed: int = 0) -> Pixels:
    """A picture with detail of every size and clipped areas; read-only, as stages get it."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (height, width, 3)).astype(np.float32)
    layers = [cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (0.5, 2, 6, 15)]
    image = (100 + 90 * np.sum(layers, axis=0)).clip(0, 255).astype(np.uint8)
    image.flags.writeable = False
    return image


def slow_mscn(plane: Array, border: Literal["constant", "edge"] = "constant") -> Array:
    offsets = np.arange(-3, 4)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * (7 / 6) ** 2))
    weights /= weights.sum()
    padded = np.pad(plane, 3, border)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7))
    mean = (windows * weights).sum((2, 3))
    deviation = np.sqrt(np.abs((windows**2 * weights).sum((2, 3)) - mean**2))
    flat = windows.max((2, 3)) == windows.min((2, 3))
    return np.where(flat, 0, (plane - mean) / (deviation + 1))


def slow_half(plane: Array) -> Array:
    """MATLAB's imresize(plane, 0.5)."""

    def cubic(x: Array) -> Array:
        x = np.abs(x)
        return np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, (x < 2) * (-0.5 * x**3 + 2.5 * x**2 - 4 * x + 2))

    for _ in range(2):
        length = len(plane)
        centres = 2 * np.arange(math.ceil(length / 2)) + 0.5
        taps = np.floor(centres[:, None] - 4).astype(int) + np.arange(10)
        weights = cubic((centres[:, None] - taps) / 2)
        mirrored = np.pad(np.arange(length), 10, mode="symmetric")[taps + 10]
        plane = np.einsum("ij,ijk->ki", weights / weights.sum(1, keepdims=True), plane[mirrored])
    return plane


def slow_cubic(plane: Array) -> Array:
    """Bicubic interpolation to half the size, rounded down, by a kernel of four pixels with a = -0.75."""
    for _ in range(2):
        length = len(plane)
        centres = (np.arange(length // 2) + 0.5) * length / (length // 2) - 0.5
        taps = np.floor(centres)[:, None] + np.arange(-1, 3)
        far = np.abs(centres[:, None] - taps)
        weights = np.where(far <= 1, 1.25 * far**3 - 2.25 * far**2 + 1, -0.75 * (far**3 - 5 * far**2 + 8 * far - 4))
        plane = np.einsum("ij,ijk->ki", weights, plane[taps.clip(0, length - 1).astype(int)])
    return plane


ALPHAS = np.arange(0.2, 10.0005, 0.001)
GAMMA = np.vectorize(math.gamma)
SHAPES = GAMMA(1 / ALPHAS) * GAMMA(3 / ALPHAS) / GAMMA(2 / ALPHAS) ** 2


def slow_aggd(values: Array) -> list[float]:
    left, right = (math.sqrt((side**2).mean()) for side in (values[values < 0], values[values > 0]))
    hat = left / right
    ratio = np.abs(values).mean() ** 2 / (values**2).mean() * (hat**3 + 1) * (hat + 1) / (hat**2 + 1) ** 2
    alpha = float(ALPHAS[np.abs(1 / SHAPES - ratio).argmin()])
    spread = math.sqrt(math.gamma(1 / alpha) / math.gamma(3 / alpha))
    mean = (right - left) * math.gamma(2 / alpha) / math.gamma(1 / alpha) * spread
    return [alpha, mean, left**2, right**2]


def slow_statistics(coefficients: Array, recipe: Recipe) -> list[float]:
    square = (coefficients**2).mean()
    values = [float(ALPHAS[np.abs(square / np.abs(coefficients).mean() ** 2 - SHAPES).argmin()]), square]
    if recipe is OPENCV:
        alpha, _, left, right = slow_aggd(coefficients)
        values = [alpha, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (-1, 1)):
        # With a margin of zeros nothing comes back from the opposite edge.
        padded = np.pad(coefficients, 0 if recipe is MATLAB else 1)
        pairs = padded * np.roll(padded, shift, (0, 1))
        values += slow_aggd(pairs if recipe is MATLAB else pairs[1:-1, 1:-1])
    return values


def slow_features(image: Pixels, recipe: Recipe) -> Array:
    plane = np.floor(image.astype(np.float64) @ RGB2GRAY[0] + 0.5)
    border: Literal["constant", "edge"] = "constant" if recipe is MATLAB else "edge"
    half = slow_half if recipe is MATLAB else slow_cubic
    both = slow_mscn(plane, border), slow_mscn(half(plane), border)
    return np.array([value for coefficients in both for value in slow_statistics(coefficients, recipe)])


@pytest.mark.parametrize("recipe", [MATLAB, OPENCV], ids=["MATLAB", "OPENCV"])
@pytest.mark.parametrize("size", [(96, 130), (65, 47), (14, 14), (33, 200)])
def test_features_are_those_of_the_definition(size: tuple[int, int], recipe: Recipe) -> None:
    image = texture(*size)
    shapes = [index for index in range(36) if index % 18 == 0 or (index % 18 > 1 and index % 18 % 4 == 2)]
    difference = np.abs(features(image, recipe) - slow_features(image, recipe))
    assert difference[shapes].max() < 0.0021  # two steps of the table
    assert np.delete(difference, shapes).max() < 5e-4  # what a step of the table changes in the means


def test_half_the_size_is_matlabs() -> None:
    for size in ((16, 24), (15, 23), (2, 1)):
        plane = np.random.default_rng(0).integers(0, 256, size).astype(np.float32)
        assert_close(halved(plane), slow_half(plane.astype(np.float64)), FP32)
    ramp = np.tile(np.arange(32, dtype=np.float32), (8, 1))
    np.testing.assert_allclose(halved(ramp)[:, 2:-2], np.tile(2 * np.arange(2, 14) + 0.5, (4, 1)), rtol=FP32)


def test_half_the_size_is_opencvs() -> None:
    for size in ((16, 24), (15, 23), (2, 3)):
        plane = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
        # OpenCV keeps its weights in float32.
        assert_close(interpolated(plane), slow_cubic(plane.astype(np.float64)), FP32, scale=255)


def test_a_flat_window_is_exactly_zero() -> None:
    plane = np.full((40, 40), 255, np.float32)
    plane[20, 20] = 254
    coefficients = mscn(plane)
    beside = np.ones_like(plane, bool)
    beside[3:-3, 3:-3] = False  # the border, beyond which there are zeros
    beside[17:24, 17:24] = False
    inside = np.zeros_like(beside)
    inside[3:-3, 3:-3] = True
    inside[17:24, 17:24] = False
    assert not coefficients[inside].any()
    assert coefficients[beside].all()
    assert coefficients[20, 20] == coefficients.min()


@pytest.mark.parametrize(("shape", "alpha"), [("normal", 2.0), ("laplace", 1.0), ("uniform", 10.0)])
def test_a_known_distribution_is_fitted(shape: str, alpha: float) -> None:
    rng = np.random.default_rng(0)
    half = math.sqrt(3)
    draw = {
        "normal": rng.standard_normal,
        "laplace": rng.laplace,
        "uniform": lambda size: rng.uniform(-half, half, size),
    }
    sample = draw[shape](size=(600, 600)).astype(np.float32)
    values = statistics(sample)
    assert values[0] == pytest.approx(alpha, abs=0.03)
    assert values[1] == pytest.approx(float(sample.astype(np.float64).var()), rel=1e-3)  # their mean is not quite 0
    # Independent neighbours: products are as often negative as positive.
    assert np.abs(values[3::4]).max() < 0.02
    assert values[4::4] == pytest.approx(values[5::4], rel=0.05)


def test_a_gradient_has_products_of_one_sign_only() -> None:
    values = statistics(np.full((30, 30), 0.5, np.float32))
    assert np.isfinite(values).all()
    assert values[4::4] == [0.0] * 4  # nothing is negative
    assert values[5::4] == pytest.approx([0.0625] * 4)


@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_flat_picture_is_refused(value: int) -> None:
    with pytest.raises(InvalidInput, match="single shade of grey"):
        features(np.full((50, 60, 3), value, np.uint8))


@pytest.mark.parametrize("size", [(13, 100), (100, 13), (1, 1)])
def test_a_tiny_picture_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match="at least 14 on each side"):
        features(texture(*size))


@pytest.mark.parametrize("recipe", [MATLAB, OPENCV], ids=["MATLAB", "OPENCV"])
def test_a_scale_without_detail_is_refused(recipe: Recipe) -> None:
    lonely = np.zeros((30, 30), np.float32)
    lonely[15, 15] = 1  # no two neighbours differ from 0
    for coefficients in (np.zeros_like(lonely), lonely):
        with pytest.raises(InvalidInput, match="no detail at half its size"):
            statistics(coefficients, recipe)


@pytest.mark.parametrize("recipe", [MATLAB, OPENCV], ids=["MATLAB", "OPENCV"])
@pytest.mark.parametrize("kind", ["one dot", "two halves", "checkerboard", "stripes", "one level of noise"])
def test_odd_pictures_have_finite_features(kind: str, recipe: Recipe) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    if kind == "one dot":
        image[30, 30] = 1
    elif kind == "two halves":
        image[:, 32:] = 255
    elif kind == "checkerboard":
        image[::2, ::2] = image[1::2, 1::2] = 255
    elif kind == "stripes":
        image[::4] = 128
    else:
        image[:] = np.random.default_rng(0).integers(200, 202, (64, 64, 1))
    assert np.isfinite(features(image, recipe)).all()


def model_file(path: Path, kind: str = "epsilon_svr") -> Path:
    lines = [f"svm_type {kind}", "kernel_type rbf", "gamma 0.5", "nr_class 2", "total_sv 2", "rho -30", "SV"]
    path.write_text("\n".join([*lines, "20 1:1 36:-1 ", "-5 2:0.5 ", ""]))
    return path


@pytest.mark.parametrize("recipe", [MATLAB, OPENCV], ids=["MATLAB", "OPENCV"])
def test_the_regression_by_hand(tmp_path: Path, recipe: Recipe) -> None:
    svr = load_svr(model_file(tmp_path / "model"), recipe)
    low, high = recipe.ranges
    middle = (low + high) / 2  # scaled to 0: at a distance of √2 and of 0.5
    corner = middle.copy()
    corner[[0, 35]] = high[0], low[35]  # the first support vector itself
    expected = [20 * math.exp(-1) - 5 * math.exp(-0.125) + 30, 20 - 5 * math.exp(-0.5 * 2.25) + 30]
    np.testing.assert_allclose(svr(np.stack([middle, corner])), expected, rtol=FP64)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no epsilon-SVR"):
        load_svr(model_file(tmp_path / "model", "c_svc"))
