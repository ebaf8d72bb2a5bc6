"""quality/brisque with the model of its release: MATLAB's numbers, and what distortions do to a sharp photo.

Pictures come from the folder ``media`` beside VISION_MODELS_DIR. The numbers of goldhill.gif and I01.BMP are those of
the MATLAB release, as the tests of piq 0.8.0 have them; the others are this implementation's, in float64. Those of the
second regression are LIBSVM's on the features of ``cv2.quality`` 5.0.0 with the ranges of its wheel.
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

SECOND = "brisque-live-opencv"
OPENCV = {
    "goldhill.gif": 13.79,
    "I01.BMP": 18.90,
    "ava/42040.jpg": 37.26,
    "ava/42044.jpg": -0.22,
    "calibra_ref/I08.bmp": 4.17,
    "calibra_dist/I08.bmp": 8.87,
    "calibra_dist/I03.bmp": 83.02,
    "i01_01_5.bmp": 59.94,
}


@pytest.fixture(scope="module")
def stage() -> BrisqueScorer:
    return loaded(Config())


@pytest.fixture(scope="module")
def second() -> BrisqueScorer:
    return loaded(Config(models=[SECOND]))


def loaded(config: Config) -> BrisqueScorer:
    if not os.environ.get("VISION_MODELS_DIR"):
        pytest.skip("VISION_MODELS_DIR is not set")
    stage = BrisqueScorer(config)
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


@pytest.mark.parametrize("name", OPENCV)
def test_the_second_regression_has_opencvs_numbers(second: BrisqueScorer, media: Path, name: str) -> None:
    # OpenCV rounds otherwise where a window is nearly flat.
    assert raw(second, read(media / name)) == [pytest.approx(OPENCV[name], abs=0.15)]


def test_the_second_regression_is_as_far_from_the_first_as_is_said(
    stage: BrisqueScorer, second: BrisqueScorer, media: Path
) -> None:
    suffixes = {".bmp", ".gif", ".jpg", ".png"}
    pictures = [read(path) for path in sorted(media.parent.rglob("*")) if path.suffix.lower() in suffixes]
    pictures = [picture for picture in pictures if min(picture.shape[:2]) >= 14]
    for path in sorted((media / "calibra_ref").iterdir()):
        photo = Image.open(path).convert("RGB")
        pictures += [np.asarray(blurred(photo, sigma)) for sigma in (0.5, 1, 1.5, 2, 3, 4, 6)]
        pictures += [np.asarray(noisy(photo, sigma)) for sigma in (2, 5, 10, 15, 20, 30, 40)]
        pictures += [np.asarray(compressed(photo, quality)) for quality in (95, 80, 60, 40, 20, 10, 5)]
    scores = np.array([raw(stage, *pictures), raw(second, *pictures)]).clip(0, 100)
    ranks = scores.argsort().argsort()
    far = np.abs(scores[1] - scores[0])
    assert len(pictures) == 255
    assert far.mean() == pytest.approx(4.2, abs=0.1)
    assert far.max() == pytest.approx(61, abs=1)
    assert np.corrcoef(ranks)[0, 1] == pytest.approx(0.96, abs=0.005)  # docs/photos.md says it with two digits


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


def test_info_names_the_model_and_the_range(stage: BrisqueScorer, second: BrisqueScorer) -> None:
    info = stage.info()
    assert info["model_version"] == "brisque-live@7c8e2392"
    assert second.info()["model_version"] == "brisque-live-opencv@19526fb7"
    assert "brisque-live on average" in second.info()["accuracy"]
    assert "lower is better" in info["range"]


def test_a_flat_picture_gets_no_score(stage: BrisqueScorer) -> None:
    with pytest.raises(InvalidInput):
        stage.prepare(np.full((100, 100, 3), 128, np.uint8))
