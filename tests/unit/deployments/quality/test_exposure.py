"""Light by hand: histograms whose mean, contrast, entropy and score can be worked out."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.quality.exposure import Config, ExposureAnalyzer
from vision.images import Pixels
from vision.quality.exposure import Lighting, Tones, Verdict, lighting, luma_histogram


@pytest.fixture
def stage() -> ExposureAnalyzer:
    stage = ExposureAnalyzer(Config())
    stage.load()
    return stage


def run(stage: ExposureAnalyzer, image: Pixels) -> Lighting:
    (result,) = stage.predict_batch([stage.prepare(image)])
    assert isinstance(result, Lighting)
    return result


def greys(values: NDArray[np.int64]) -> Pixels:
    """A grey picture with these values, read-only."""
    image = np.repeat(np.atleast_2d(values).astype(np.uint8)[..., None], 3, axis=2)
    image.flags.writeable = False
    return image


def well_exposed(mean: float) -> float:
    return math.exp(-((mean - 0.5) ** 2) / 0.08)


def test_two_tones(stage: ExposureAnalyzer) -> None:
    result = run(stage, greys(np.tile([64, 192], (10, 20))))
    assert (result.shadows_clipped, result.highlights_clipped) == (0, 0)
    assert result.mean == pytest.approx(128 / 255)
    assert result.contrast == pytest.approx(64 / 255)
    assert result.entropy == pytest.approx(1)
    assert result.score == pytest.approx((well_exposed(128 / 255) / 8) ** (1 / 3))


def test_every_tone_once(stage: ExposureAnalyzer) -> None:
    result = run(stage, greys(np.arange(256).reshape(16, 16)))
    assert result.shadows_clipped == result.highlights_clipped == pytest.approx(3 / 256)
    assert (result.mean, result.entropy) == (pytest.approx(0.5), pytest.approx(8))
    assert result.contrast == pytest.approx(math.sqrt((256**2 - 1) / 12) / 255)
    assert result.score == pytest.approx((250 / 256) ** (1 / 3))


def test_what_counts_as_clipped_is_configured(stage: ExposureAnalyzer) -> None:
    image = greys(np.arange(256))
    for margin in (0, 2, 32):
        stage.reconfigure(Config(clip_margin=margin))
        result = run(stage, image)
        assert result.shadows_clipped == result.highlights_clipped == pytest.approx((margin + 1) / 256)
        assert stage.info()["clip_margin"] == margin


@pytest.mark.parametrize(
    ("value", "clipped", "verdict"),
    [(0, (1, 0), "underexposed"), (128, (0, 0), "normal"), (255, (0, 1), "overexposed")],
)
def test_a_flat_picture_scores_nothing(
    stage: ExposureAnalyzer, value: int, clipped: tuple[int, int], verdict: Verdict
) -> None:
    result = run(stage, greys(np.full((30, 40), value)))
    assert result == Lighting(0.0, *map(float, clipped), pytest.approx(value / 255), 0.0, 0.0, verdict)


def photo(seed: int = 0) -> NDArray[np.float64]:
    """Colours around the middle, float64 (60, 80, 3), 0 to 255, as of a scene in good light."""
    rng = np.random.default_rng(seed)
    return (rng.normal(120, 45, (60, 80, 1)) + rng.normal(0, 12, (60, 80, 3))).clip(5, 245)


def pixels(values: NDArray[np.float64]) -> Pixels:
    return np.rint(values.clip(0, 255)).astype(np.uint8)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (lambda scene: scene, "normal"),
        (lambda scene: 0.15 * scene, "underexposed"),
        (lambda scene: 255 * (scene / 255) ** 4, "underexposed"),
        (lambda scene: 2.5 * scene, "overexposed"),
        (lambda scene: scene + 100, "overexposed"),
    ],
)
def test_the_same_scene_in_too_little_and_too_much_light(
    stage: ExposureAnalyzer, seed: int, change: Callable[[NDArray[np.float64]], NDArray[np.float64]], verdict: Verdict
) -> None:
    scene = photo(seed)
    assert run(stage, pixels(change(scene))).verdict == verdict
    if verdict != "normal":
        assert run(stage, pixels(change(scene))).score < run(stage, pixels(scene)).score


@pytest.mark.parametrize("ground", [0, 255])
def test_a_ground_that_something_is_put_on_is_no_exposure(stage: ExposureAnalyzer, ground: int) -> None:
    scene = photo()
    scene[:, 20:] = ground
    result = run(stage, pixels(scene))
    assert result.verdict == "normal"
    assert max(result.shadows_clipped, result.highlights_clipped) == pytest.approx(0.75)
    scene[:, :20] *= 0.15
    assert run(stage, pixels(scene)).verdict == ("underexposed" if ground == 0 else "normal")


def test_black_and_white_is_all_clipped(stage: ExposureAnalyzer) -> None:
    result = run(stage, greys(np.tile([0, 255], 50)))
    assert (result.shadows_clipped, result.highlights_clipped) == (0.5, 0.5)
    assert (result.mean, result.contrast, result.score) == (0.5, 0.5, 0)


def test_a_negative_scores_the_same(stage: ExposureAnalyzer) -> None:
    values = np.random.default_rng(0).normal(90, 60, (50, 60)).clip(0, 255).astype(np.int64)
    positive, negative = run(stage, greys(values)), run(stage, greys(255 - values))
    assert negative.score == pytest.approx(positive.score)
    assert (negative.shadows_clipped, negative.highlights_clipped) == pytest.approx(
        (positive.highlights_clipped, positive.shadows_clipped)
    )
    assert negative.mean == pytest.approx(1 - positive.mean)


def test_red_green_and_blue_have_their_weights() -> None:
    image = np.zeros((1, 3, 3), np.uint8)
    image[0, range(3), range(3)] = 255
    assert np.flatnonzero(luma_histogram(image)).tolist() == [29, 76, 150]


def test_each_pixel_of_a_large_picture_counts() -> None:
    image = np.full((4200, 4100, 3), 77, np.uint8)  # more than float32 counts to
    image[-1, -1] = 0
    histogram = luma_histogram(image)
    assert (histogram.dtype, histogram[0], histogram[77]) == (np.int64, 1, 4200 * 4100 - 1)


def test_exposure_away_from_the_middle_scores_lower() -> None:
    def exposed(stops: int) -> Lighting:
        levels = 255 * np.clip(linear * 2.0**stops, 0, 1) ** (1 / 2.2)
        return lighting(Tones(np.bincount(levels.astype(int), minlength=256)), 2)

    linear = np.random.default_rng(0).normal(0.5, 0.18, 40_000).clip(0, 1) ** 2.2
    scores = [exposed(stops).score for stops in range(-4, 5)]
    assert scores[:5] == sorted(scores[:5])
    assert scores[4:] == sorted(scores[4:], reverse=True)
    assert scores[4] > 0.9
    assert max(scores[0], scores[-1]) < 0.6
