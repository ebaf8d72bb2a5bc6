"""The Laplacian's variance: by hand, as the usual recipe has it, and what moves it."""

import cv2
import numpy as np
import pytest

from deployments.quality.blur import BlurDetector, Config, Sharpness
from tests.tolerances import FP64
from vision.images import Pixels
from vision.quality.blur import laplacian_variance


@pytest.fixture
def stage() -> BlurDetector:
    stage = BlurDetector(Config())
    stage.load()
    return stage


def run(stage: BlurDetector, image: Pixels) -> Sharpness:
    (result,) = stage.predict_batch([stage.prepare(image)])
    assert isinstance(result, Sharpness)
    return result


def texture(height: int = 90, width: int = 140, seed: int = 0) -> Pixels:
    """A picture with detail of every size; read-only, as stages get it."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3)).astype(np.float32)
    image = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (0.6, 2, 5))
    image = cv2.normalize(image, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)
    image.flags.writeable = False
    return image


def dot(colour: tuple[int, int, int]) -> Pixels:
    image = np.zeros((9, 11, 3), np.uint8)
    image[4, 5] = colour
    return image


def test_one_white_dot_by_hand() -> None:
    # -4 in its middle, 1 at four neighbours; they sum to 0.
    assert laplacian_variance(dot((255, 255, 255))) == pytest.approx(255**2 * (16 + 4) / 99, rel=FP64)


def test_grey_is_weighed_as_rgb() -> None:
    for colour, grey in (((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29)):
        assert laplacian_variance(dot(colour)) == pytest.approx(grey**2 * 20 / 99, rel=FP64)


@pytest.mark.parametrize("size", [(90, 140), (1, 1), (1, 7), (61, 33)])
def test_it_is_the_usual_recipe(size: tuple[int, int]) -> None:
    image = texture(*size)
    grey = cv2.cvtColor(np.ascontiguousarray(image[..., ::-1]), cv2.COLOR_BGR2GRAY)
    assert laplacian_variance(image) == pytest.approx(cv2.Laplacian(grey, cv2.CV_64F).var(), rel=FP64, abs=FP64)


def test_a_flat_picture_has_no_detail(stage: BlurDetector) -> None:
    assert run(stage, np.full((40, 30, 3), 200, np.uint8)) == Sharpness(0.0, True, 100.0)


def test_blurry_is_below_the_threshold(stage: BlurDetector) -> None:
    image = texture()
    variance = run(stage, image).laplacian_variance
    for threshold, is_blurry in ((variance, False), (np.nextafter(variance, np.inf), True), (0.0, False)):
        stage.reconfigure(Config(threshold=threshold))
        assert run(stage, image) == Sharpness(variance, is_blurry, threshold)
        assert stage.info()["threshold"] == threshold


def test_it_falls_with_blur_and_rises_with_noise() -> None:
    image = texture(200, 200)
    noise = np.random.default_rng(1).normal(0, 1, image.shape)
    blurred = [laplacian_variance(cv2.GaussianBlur(image, (0, 0), sigma)) for sigma in (0.5, 1, 2, 4)]
    noisy = [laplacian_variance((image + level * noise).clip(0, 255).astype(np.uint8)) for level in (2, 5, 10, 20)]
    assert [laplacian_variance(image), *blurred] == sorted([laplacian_variance(image), *blurred], reverse=True)
    assert noisy == sorted(noisy)
    assert noisy[-1] > 2 * laplacian_variance(image) > 20 * blurred[-1]


def test_a_batch_is_answered_in_order(stage: BlurDetector) -> None:
    images = [texture(seed=seed) for seed in range(4)]
    together = stage.predict_batch([stage.prepare(image) for image in images])
    assert together == [run(stage, image) for image in images]
    assert len({result.laplacian_variance for result in together if isinstance(result, Sharpness)}) == 4
