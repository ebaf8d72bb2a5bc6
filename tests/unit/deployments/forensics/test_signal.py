"""forensics/signal: numbers of made-up pictures whose past is known."""

import io

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deployments.forensics.signal import Config, SignalAnalyzer, Signals, measure
from vision.errors import InvalidInput
from vision.forensics.compression import compression, double_compression, luma_table
from vision.forensics.noise import noise, variance
from vision.forensics.spectrum import azimuthal, detail
from vision.images import Pixels, decode

Grey = NDArray[np.float32]


def textured(seed: int = 0, size: int = 256, grain: float = 2.0) -> Pixels:
    """Like a photograph: much of low frequency, less of high, and noise of ``grain`` grey levels."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(0, 40 / n, (n, n)).astype(np.float32), (size, size)) * n**0.5 for n in (4, 16, 64)]
    grey = np.clip(128 + sum(layers) + rng.normal(0, grain, (size, size)), 0, 255).astype(np.uint8)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)


def jpeg(image: Pixels, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def again(image: Pixels, quality: int) -> Pixels:
    return decode(jpeg(image, quality), max_pixels=10**7)


def grey(image: Pixels) -> Grey:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)


def luma(image: Pixels) -> Pixels:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def test_a_wave_has_its_frequency() -> None:
    x = np.arange(256)
    wave = np.tile(128 + 50 * np.sin(2 * np.pi * x * 32 / 256), (256, 1)).astype(np.float32)
    assert int(azimuthal(wave).argmax()) == 32  # a quarter of the Nyquist frequency, of 128 rings
    assert detail(wave).high_freq_ratio < 0.01
    fast = np.tile(128 + 50 * np.sin(2 * np.pi * x * 100 / 256), (256, 1)).astype(np.float32)
    assert detail(fast).high_freq_ratio > 0.95


def test_white_noise_is_spread_evenly() -> None:
    white = np.random.default_rng(0).normal(128, 10, (256, 256)).astype(np.float32)
    frequencies = detail(white)
    assert frequencies.high_freq_ratio == pytest.approx(0.5, abs=0.02)
    assert frequencies.entropy == pytest.approx(np.log2(127), abs=0.05)


def test_one_tone_has_no_detail() -> None:
    plain = np.full((100, 90), 77, np.float32)
    assert (detail(plain).high_freq_ratio, detail(plain).entropy) == (0, 0)


@pytest.mark.parametrize("deviation", [2.0, 5.0, 10.0])
def test_noise_has_its_variance(deviation: float) -> None:
    ramp = np.tile(np.linspace(0, 200, 512, dtype=np.float32), (512, 1))
    noisy = ramp + np.random.default_rng(1).normal(0, deviation, ramp.shape).astype(np.float32)
    assert variance(noisy) == pytest.approx(deviation**2, rel=0.03)
    assert np.median(noise(noisy).level) == pytest.approx(deviation, rel=0.05)
    assert noise(noisy).inconsistency < 0.15


def test_uneven_noise_is_seen() -> None:
    rng = np.random.default_rng(2)
    image = np.full((512, 512), 120, np.float32) + rng.normal(0, 2, (512, 512)).astype(np.float32)
    image[:, 100:] += rng.normal(0, 8, (512, 412)).astype(np.float32)
    unevenness = noise(image)
    assert unevenness.inconsistency > 1
    assert unevenness.level[:, 5:].min() > 2 * unevenness.level[:, :2].max()


def test_a_part_of_another_quality_is_a_ghost() -> None:
    whole = again(textured(1, grain=8), 95)
    spliced = whole.copy()
    spliced[64:160, 64:160] = again(textured(2, grain=8), 60)[64:160, 64:160]
    plain = compression(luma(again(whole, 95)), None)
    ghost = compression(luma(again(spliced, 95)), None)
    assert ghost.ghost > 2 * plain.ghost
    assert ghost.ghost_quality in (50, 60, 65)
    inside = np.zeros(ghost.ghosts.shape, bool)
    inside[4:10, 4:10] = True
    assert ghost.ghosts[inside].mean() < 0.5 * ghost.ghosts[~inside].mean()


def test_a_smooth_ground_is_no_ghost() -> None:
    """A portrait before a ground out of focus was the commonest false ghost."""
    image = textured(3, 512)
    ground = np.tile(np.linspace(90, 140, 512), (512, 1)) + np.random.default_rng(3).normal(0, 1.2, (512, 512))
    image[:, :256] = ground[:, :256, None].round().astype(np.uint8)
    traces = compression(luma(again(image, 92)), None)
    assert traces.ghost < 0.15
    assert (traces.ghosts[:, :15] == 1).mean() > 0.9  # nothing there that could tell


def test_saving_twice_leaves_gaps() -> None:
    once = jpeg(textured(3, 512), 90)
    twice = jpeg(again(textured(3, 512), 70), 90)
    measures = []
    for data in (once, twice):
        table = luma_table(data, 10**7)
        assert table is not None
        strength = double_compression(luma(decode(data, max_pixels=10**7)), table)
        assert strength is not None
        measures.append(strength)
    assert measures[0] < 0.02
    assert measures[1] > 0.3


def test_the_table_of_a_jpeg() -> None:
    table = luma_table(jpeg(textured(), 50), 10**7)
    assert table is not None
    assert (len(table), table[0], table[-1]) == (64, 16, 99)  # the standard's own table
    file = io.BytesIO()
    Image.fromarray(textured()).save(file, "PNG")
    assert luma_table(file.getvalue(), 10**7) is None
    turned, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(textured()).save(turned, "JPEG", exif=exif)
    assert luma_table(turned.getvalue(), 10**7) is None


def test_the_stage_measures_each_picture_for_itself() -> None:
    stage = SignalAnalyzer(Config())
    stage.load()
    items = [(textured(4), None), (np.zeros((63, 200, 3), np.uint8), None), (np.full((64, 64, 3), 9, np.uint8), None)]
    good, small, plain = stage.predict_batch(items)
    assert isinstance(good, Signals)
    assert isinstance(small, InvalidInput)
    assert isinstance(plain, Signals)
    assert plain.ghost == plain.error_level == plain.sharpness == 0
    alone = measure(*items[0])
    assert (good.ghost, good.noise_variance, good.probability) == (alone.ghost, alone.noise_variance, alone.probability)
    assert "JPEG ghost" in stage.info()["score"]


@pytest.mark.parametrize("shape", [(64, 64, 3), (65, 1000, 3), (1001, 67, 3)])
def test_any_shape_can_be_measured(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)
    signals = measure(image, tuple([1] * 64))
    assert 0 <= signals.probability <= 1
    assert np.isfinite([signals.spectral_entropy, signals.noise_variance, signals.error_contrast]).all()
