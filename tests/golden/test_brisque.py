"""quality/brisque with the model of its release: MATLAB's numbers, and what distortions do to a sharp photo.

Pictures come from the folder ``media`` beside VISION_MODELS_DIR. The numbers of goldhill.gif and I01.BMP are those of
the MATLAB release, as the tests of piq 0.8.0 have them; the others are this implementation's, in float64.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from deployments.quality.brisque import BrisqueScorer, Config, Distortion
from tests.tolerances import FP64, assert_close
from vision.errors import InvalidInput
from vision.images import Pixels, decode
from vision.weights import WeightsUnavailable

pytestmark = pytest.mark.numeric

MATLAB = {"goldhill.gif": 8.425548118925917, "I01.BMP": 10.259409019043119}
OWN = {
    "calibra_ref/I03.bmp": 6.092,
    "calibra_ref/I08.bmp": 1.686,
    "calibra_dist/I04.bmp": -0.107,
    "calibra_dist/I03.bmp": 94.641,
    "calibra_dist/I19.bmp": 74.90,
    "ava/42040.jpg": 36.245,
}


@pytest.fixture(scope="module")
def stage() -> BrisqueScorer:
    if not os.environ.get("VISION_MODELS_DIR"):
        pytest.skip("VISION_MODELS_DIR is not set")
    stage = BrisqueScorer(Config())
    try:
        stage.load()
    except WeightsUnavailable as error:
        pytest.skip(error.message)
    stage.warm_up()
    return stage


@pytest.fixture(scope="module")
def media() -> Path:
    media = Path(os.environ.get("VISION_MODELS_DIR", "")).parent / "media" / "iqa"
    if not media.is_dir():
        pytest.skip("no folder media/iqa beside VISION_MODELS_DIR")
    return media


def read(path: Path) -> Pixels:
    return decode(path.read_bytes(), max_pixels=10**7)


def raw(stage: BrisqueScorer, *images: Pixels) -> list[float]:
    results = stage.predict_batch([stage.prepare(image) for image in images])
    return [result.raw for result in results if isinstance(result, Distortion)]


@pytest.mark.parametrize("name", MATLAB)
def test_matlabs_numbers(stage: BrisqueScorer, media: Path, name: str) -> None:
    assert raw(stage, read(media / name)) == [pytest.approx(MATLAB[name], abs=0.01)]


@pytest.mark.parametrize("name", OWN)
def test_the_numbers_are_what_they_were(stage: BrisqueScorer, media: Path, name: str) -> None:
    # A step of the tables of shapes, 0.001, is worth up to 0.2 where much of a picture is clipped.
    assert raw(stage, read(media / name)) == [pytest.approx(OWN[name], abs=0.2 if "I19" in name else 0.02)]


def test_the_score_is_clipped(stage: BrisqueScorer, media: Path) -> None:
    (result,) = stage.predict_batch([stage.prepare(read(media / "calibra_dist/I04.bmp"))])
    assert isinstance(result, Distortion)
    assert result.raw < 0 == result.score


def test_a_result_does_not_depend_on_its_batch(stage: BrisqueScorer, media: Path) -> None:
    images = [read(media / name) for name in (*MATLAB, *OWN)]
    alone = [raw(stage, image)[0] for image in images]
    assert_close(raw(stage, *images), alone, FP64, scale=1000)  # the weights of the support vectors add up to that


def blurred(image: Image.Image, sigma: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(sigma))


def noisy(image: Image.Image, sigma: float) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, sigma, (*image.size[::-1], 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def compressed(image: Image.Image, quality: float) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(quality))
    return Image.open(file)


@pytest.mark.parametrize("name", ["I03.bmp", "I04.bmp", "I06.bmp"])
@pytest.mark.parametrize(
    ("distort", "levels"), [(blurred, (1, 2, 3, 6)), (noisy, (5, 10, 20, 40)), (compressed, (60, 40, 20, 10, 5))]
)
def test_distortion_raises_the_score_step_by_step(
    stage: BrisqueScorer,
    media: Path,
    name: str,
    distort: Callable[[Image.Image, float], Image.Image],
    levels: tuple[float, ...],
) -> None:
    photo = Image.open(media / "calibra_ref" / name).convert("RGB")
    scores = raw(stage, np.asarray(photo), *(np.asarray(distort(photo, level)) for level in levels))
    assert scores == sorted(scores)
    assert min(np.diff(scores)) > 1
    assert scores[-1] > 55


def test_info_names_the_model_and_the_range(stage: BrisqueScorer) -> None:
    info = stage.info()
    assert info["model_version"] == "brisque-live@7c8e2392"
    assert "lower is better" in info["range"]


def test_a_flat_picture_gets_no_score(stage: BrisqueScorer) -> None:
    with pytest.raises(InvalidInput):
        stage.prepare(np.full((100, 100, 3), 128, np.uint8))
