"""quality/nima with real weights: the numbers of the original network, its engines, what 8 bits cost.

Pictures come from the folder ``media`` beside VISION_MODELS_DIR.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from configs import settings as settings_module
from deployments.quality.nima import Config, NimaScorer, Rating, Ratings
from tests.tolerances import FP32_DEEP, FP64, assert_close
from vision.errors import ModelNotLoaded
from vision.images import Pixels, decode
from vision.networks.mobilenet_v1 import read_layers
from vision.weights.store import store

pytestmark = [
    pytest.mark.numeric,
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
]  # by which OpenVINO converts

AESTHETIC = {
    "ava/42040.jpg": 4.655,
    "ava/42044.jpg": 5.795,
    "calibra_ref/I03.bmp": 5.231,
    "calibra_dist/I19.bmp": 4.054,
}
TECHNICAL = {"calibra_dist/I03.bmp": 1.718, "calibra_ref/I03.bmp": 6.523, "calibra_dist/I19.bmp": 4.260}


@pytest.fixture(scope="module")
def stages() -> Iterator[dict[str, NimaScorer]]:
    """The stage loaded by both engines."""
    if not os.environ.get("VISION_MODELS_DIR"):
        pytest.skip("VISION_MODELS_DIR is not set")
    threads = torch.get_num_threads()
    settings_module.settings.cache_clear()
    store.cache_clear()
    loaded = {}
    for engine in ("torch-fp32", "openvino-fp32"):
        loaded[engine] = NimaScorer(Config(engine=engine, max_batch_size=2, torch_threads=2))
        try:
            loaded[engine].load()
        except ModelNotLoaded as error:
            pytest.skip(error.message)
    if missing := loaded["torch-fp32"]._missing:
        pytest.skip("\n".join(missing.values()))
    loaded["openvino-fp32"].warm_up()
    yield loaded
    torch.set_num_threads(threads)
    settings_module.settings.cache_clear()
    store.cache_clear()


@pytest.fixture(scope="module")
def media() -> Path:
    media = Path(os.environ.get("VISION_MODELS_DIR", "")).parent / "media" / "iqa"
    if not media.is_dir():
        pytest.skip("no folder media/iqa beside VISION_MODELS_DIR")
    return media


def read(path: Path) -> Pixels:
    return decode(path.read_bytes(), max_pixels=10**7)


def rate(stage: NimaScorer, *images: Pixels, batch: int = 8) -> list[tuple[Rating, Rating]]:
    """(technical, aesthetic) of each."""
    ready = [stage.prepare(image) for image in images]
    results: list[tuple[Rating, Rating]] = []
    for start in range(0, len(ready), batch):
        for ratings in stage.predict_batch(ready[start : start + batch]):
            assert isinstance(ratings, Ratings)
            assert ratings.technical is not None
            assert ratings.aesthetic is not None
            results.append((ratings.technical, ratings.aesthetic))
    return results


@pytest.mark.parametrize("engine", ["torch-fp32", "openvino-fp32"])
def test_the_numbers_of_the_original_network(stages: dict[str, NimaScorer], media: Path, engine: str) -> None:
    for head, expected in enumerate((TECHNICAL, AESTHETIC)):
        rated = rate(stages[engine], *(read(media / name) for name in expected))
        assert [ratings[head].mean for ratings in rated] == pytest.approx(list(expected.values()), abs=0.01)


def test_a_photo_is_rated_as_people_did(stages: dict[str, NimaScorer], media: Path) -> None:
    # AVA 42040, of the part of the set that the network was not trained on.
    votes = np.array([7, 15, 25, 41, 67, 41, 12, 11, 4, 1])
    ((_, aesthetic),) = rate(stages["openvino-fp32"], read(media / "ava/42040.jpg"))
    shares = votes / votes.sum()
    assert aesthetic.mean == pytest.approx(float(shares @ np.arange(1, 11)), abs=0.2)
    assert np.abs(np.cumsum(aesthetic.distribution) - np.cumsum(shares)).max() < 0.1


def test_distributions_have_their_form(stages: dict[str, NimaScorer], media: Path) -> None:
    for rating in rate(stages["openvino-fp32"], read(media / "ava/42041.jpg"))[0]:
        chances = np.array(rating.distribution)
        assert chances.sum() == pytest.approx(1, rel=FP64)
        assert chances.min() >= 0
        assert rating.mean == pytest.approx(float(chances @ np.arange(1, 11)))
        assert rating.std == pytest.approx(float(np.sqrt(chances @ (np.arange(1, 11) - rating.mean) ** 2)))


def test_a_result_does_not_depend_on_its_batch(stages: dict[str, NimaScorer], media: Path) -> None:
    images = [read(media / name) for name in (*AESTHETIC, *TECHNICAL)]
    for stage in stages.values():
        alone, together = rate(stage, *images, batch=1), rate(stage, *images, batch=7)
        for one, many in zip(alone, together, strict=True):
            for head in (0, 1):
                assert_close(many[head].distribution, one[head].distribution, FP32_DEEP)


def test_one_head_serves_without_the_other(stages: dict[str, NimaScorer], media: Path) -> None:
    both, image = stages["torch-fp32"], read(media / "ava/42040.jpg")
    single = NimaScorer(Config(models=["nima-aesthetic"], engine="torch-fp32"))
    single.load()
    (ratings,) = single.predict_batch([single.prepare(image)])
    assert isinstance(ratings, Ratings)
    assert ratings.technical is None
    assert ratings.aesthetic is not None
    assert ratings.aesthetic.mean == pytest.approx(rate(both, image)[0][1].mean, rel=FP32_DEEP)
    assert single.info()["technical"] == {"error": "not configured"}
    assert both.info()["technical"]["model_version"] == "nima-technical-int8@c5ed895d"


def test_eight_bits_are_within_half_a_step(stages: dict[str, NimaScorer]) -> None:
    folder = stages["torch-fp32"]._weights["aesthetic"].path
    twin = folder / "aesthetic_model.tflite"
    if not twin.is_file():
        pytest.skip(f"no {twin.name} among the weights")
    exact, rounded = read_layers(folder / "weights_mobilenet_aesthetic_0.07.hdf5"), read_layers(twin)
    assert len(exact) == len(rounded) == 28
    for (weight, bias), (coarse, coarse_bias) in zip(exact, rounded, strict=True):
        np.testing.assert_allclose(coarse_bias, bias, atol=1e-4)  # biases are stored as they are
        steps = np.abs(weight).reshape(len(weight), -1).max(1) / 127
        assert (np.abs(coarse - weight).reshape(len(weight), -1).max(1) <= 0.51 * steps + 1e-6).all()


def test_another_resize_filter_moves_the_score(stages: dict[str, NimaScorer], media: Path) -> None:
    image = Image.fromarray(read(media / "calibra_ref/I03.bmp"))
    smooth = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC))
    (as_trained, _), (filtered, _) = rate(stages["openvino-fp32"], np.asarray(image), smooth)
    assert abs(as_trained.mean - filtered.mean) > 0.05


@pytest.mark.parametrize("name", ["I03.bmp", "I04.bmp", "I06.bmp"])
def test_distortion_lowers_the_technical_score(stages: dict[str, NimaScorer], media: Path, name: str) -> None:
    photo = Image.open(media / "calibra_ref" / name).convert("RGB")
    noise = np.random.default_rng(0).normal(0, 1, (*photo.size[::-1], 3))
    blurred = [np.asarray(photo.filter(ImageFilter.GaussianBlur(sigma))) for sigma in (1, 2, 4, 6)]
    noisy = [(np.asarray(photo) + sigma * noise).clip(0, 255).astype(np.uint8) for sigma in (5, 10, 20, 40)]
    compressed = []
    for quality in (40, 20, 10, 5):
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=quality)
        compressed.append(np.asarray(Image.open(file)))
    for distorted in (blurred, noisy, compressed):
        rated = rate(stages["openvino-fp32"], np.asarray(photo), *distorted)
        means = [technical.mean for technical, _ in rated]
        assert means == sorted(means, reverse=True)
        assert means[-1] < means[0] - 1.5
