"""Whether photos are good enough, and what a person is told about those that are not."""

import cv2
import numpy as np
import pytest

from tests.unit.vision.muzzle.textures import muzzle
from vision.images import Pixels
from vision.muzzle.prints import normalized, skin_of, take_print
from vision.muzzle.quality import MIN_SHARPNESS, PhotoQuality, quality_of, sharpness_of


def judged(image: Pixels, left: float = 0.1, right: float = 0.9) -> PhotoQuality:
    """Judge a photo whose skin lies between these shares of its width."""
    likeness = np.full((16, 16), -0.1, np.float32)
    likeness[1:15, round(16 * left) : round(16 * right)] = 0.6
    grey = normalized(image)
    return quality_of(image, likeness, take_print(grey, skin_of(likeness, *grey.shape)))


GOOD = muzzle(1)


def test_a_good_photo() -> None:
    quality = judged(GOOD)
    assert quality.reasons == ()
    assert quality.skin == pytest.approx(0.7, abs=0.06)  # 12 or 13 of 16 columns, 14 of 16 rows
    assert quality.muzzle_side == pytest.approx(np.sqrt(quality.skin * 512 * 414), rel=0.01)  # rounded height
    assert abs(quality.offset[0]) < 0.05
    assert quality.features > 300


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (cv2.GaussianBlur(GOOD, (0, 0), 9), "blurred: hold still"),
        (cv2.resize(cv2.GaussianBlur(muzzle(2), (0, 0), 12), (900, 700)), "blurred: hold still"),
        (cv2.resize(GOOD, (90, 73), interpolation=cv2.INTER_AREA), "pixels large, 100 are needed: come closer"),
        (muzzle(3, (64, 64)), "pixels large, 100 are needed"),
        ((GOOD * 0.1).astype(np.uint8), "too dark"),
        (np.clip(muzzle(2) * 0.15, 0, 255).astype(np.uint8), "too dark"),
        (np.clip(GOOD * 3.0, 0, 255).astype(np.uint8), "glaring"),
        (np.clip(muzzle(2).astype(int) + 160, 0, 255).astype(np.uint8), "glaring"),
    ],
    ids=["blurred", "very blurred", "small", "tiny", "dark", "darker", "glaring", "pale"],
)
def test_what_is_wrong_with_a_photo(image: Pixels, words: str) -> None:
    assert any(words in reason for reason in judged(image).reasons), judged(image)


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        (0.0, 0.4, "at the left side"),
        (0.6, 1.0, "at the right side"),
        (0.45, 0.6, "only"),
        (0.0, 0.2, "of the photo shows the skin of the muzzle: come closer"),
    ],
)
def test_where_the_muzzle_is(left: float, right: float, words: str) -> None:
    assert any(words in reason for reason in judged(GOOD, left, right).reasons), judged(GOOD, left, right)


def test_a_photo_without_features_or_skin_is_refused_with_a_reason() -> None:
    flat = np.full((400, 500, 3), 120, np.uint8)
    assert judged(flat).reasons
    grey = normalized(flat)
    nothing = quality_of(flat, np.full((16, 16), -0.1, np.float32), take_print(grey, np.zeros(grey.shape, bool)))
    assert nothing.features == 0
    assert "0 % of the photo shows the skin" in nothing.reasons[0]


def test_sharpness_falls_with_the_blur_of_a_photo_and_not_with_its_light_or_noise() -> None:
    grey = cv2.cvtColor(GOOD, cv2.COLOR_RGB2GRAY)
    where = np.ones(grey.shape, bool)
    values = [sharpness_of(grey, where)]
    values += [sharpness_of(np.asarray(cv2.GaussianBlur(grey, (0, 0), sigma), np.uint8), where) for sigma in (2, 4, 8)]
    assert values == sorted(values, reverse=True)
    assert values[0] > MIN_SHARPNESS > values[-1]
    half = sharpness_of((grey // 2).astype(np.uint8), where)
    assert half == pytest.approx(values[0], rel=0.02)  # of rounding to whole grey levels
    noise = np.random.default_rng(0).normal(0, 6, grey.shape)
    dim = cv2.GaussianBlur(grey, (0, 0), 8) + noise
    assert sharpness_of(np.clip(dim, 0, 255).astype(np.uint8), where) < MIN_SHARPNESS
