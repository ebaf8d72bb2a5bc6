"""NIMA without its weights: the resize, ratings by hand, and the network from generated files."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from torch.nn import functional

from deployments.quality.nima import Config, NimaScorer, Rating, Ratings, nearest, rating
from tests.tolerances import FP32_DEEP, FP64, assert_close
from vision.engines import TorchEngine
from vision.errors import ModelNotLoaded
from vision.images import Pixels
from vision.networks.mobilenet_v1 import BLOCKS, Heads, MobileNetV1, build, read_layers
from vision.weights import Weights

pytestmark = pytest.mark.numeric

Array = NDArray[np.float32]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def picture(height: int, width: int, seed: int = 0) -> Pixels:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image.flags.writeable = False
    return image


def keras_file(path: Path, seed: int = 0) -> dict[str, Array]:
    """A weights file as Keras 2 writes one for MobileNet and a dense layer, and its arrays."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}

    def add(layer: str, kernel: str, *shape: int) -> None:
        scale = math.sqrt(2 / (shape[0] * shape[1] * (shape[2] if kernel == "kernel" else 1)))
        channels = shape[3] if kernel == "kernel" else shape[2]
        arrays[f"{layer}/{kernel}"] = rng.normal(0, scale, shape)
        arrays[f"{layer}_bn/gamma"] = rng.uniform(0.5, 1.5, channels)
        arrays[f"{layer}_bn/beta"] = rng.normal(0.5, 0.3, channels)
        arrays[f"{layer}_bn/moving_mean"] = rng.normal(0, 0.2, channels)
        arrays[f"{layer}_bn/moving_variance"] = rng.uniform(0.5, 2, channels)

    add("conv1", "kernel", 3, 3, 3, 32)
    inputs = 32
    for block, (outputs, _) in enumerate(BLOCKS, 1):
        add(f"conv_dw_{block}", "depthwise_kernel", 3, 3, inputs, 1)
        add(f"conv_pw_{block}", "kernel", 1, 1, inputs, outputs)
        inputs = outputs
    arrays["dense_1/kernel"] = rng.normal(0, 0.05, (1024, 10))
    arrays["dense_1/bias"] = rng.normal(0, 0.5, 10)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            layer, _, rest = name.partition("/")
            file[f"{layer}/{layer}/{rest}:0"] = arrays[name] = values.astype(np.float32)
    return arrays


def plain(arrays: dict[str, Array], images: torch.Tensor) -> torch.Tensor:
    """The network written out, batch normalisation and padding as Keras 2.1.6 has them."""

    def values(name: str) -> torch.Tensor:
        return torch.from_numpy(arrays[name])

    def step(x: torch.Tensor, layer: str, weight: torch.Tensor, stride: int, groups: int) -> torch.Tensor:
        side = weight.shape[2] // 2
        x = functional.conv2d(functional.pad(x, [side] * 4), weight, stride=stride, groups=groups)
        norm = [values(f"{layer}_bn/{name}") for name in ("moving_mean", "moving_variance", "gamma", "beta")]
        return functional.relu6(functional.batch_norm(x, *norm, eps=1e-3))

    x = step(images, "conv1", values("conv1/kernel").permute(3, 2, 0, 1), 2, 1)
    for block, (_, stride) in enumerate(BLOCKS, 1):
        depthwise = values(f"conv_dw_{block}/depthwise_kernel").permute(2, 3, 0, 1)
        x = step(x, f"conv_dw_{block}", depthwise, stride, len(depthwise))
        x = step(x, f"conv_pw_{block}", values(f"conv_pw_{block}/kernel").permute(3, 2, 0, 1), 1, 1)
    return (x.mean((2, 3)) @ values("dense_1/kernel") + values("dense_1/bias")).softmax(1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Array]]:
    path = tmp_path_factory.mktemp("keras") / "weights.hdf5"
    return path, keras_file(path)


def test_nearest_neighbours_are_pillows() -> None:
    for length in [*range(1, 700), 1080, 1920, 3024, 4000, 4032, 6720, 8192]:
        index = np.arange(length, dtype=np.int32)
        resized = Image.fromarray(np.stack([index, index])).resize((224, 2), Image.Resampling.NEAREST)
        np.testing.assert_array_equal(nearest(length), np.asarray(resized)[0], str(length))


def test_a_picture_is_prepared_as_the_networks_were_trained() -> None:
    for size in ((300, 400), (640, 427), (50, 1000), (1, 1), (224, 224)):
        image = picture(*size)
        resized = Image.fromarray(image).resize((224, 224), Image.Resampling.NEAREST)
        ready = NimaScorer(Config()).prepare(image)
        assert (ready.shape, ready.dtype) == ((3, 224, 224), np.float32)
        np.testing.assert_array_equal(np.rint((ready.transpose(1, 2, 0) + 1) * 127.5), np.asarray(resized))
    assert (ready.min(), ready.max()) == (-1, 1)


def test_ratings_by_hand() -> None:
    even = rating(np.full(10, 0.1, np.float32))
    assert (even.mean, even.std) == (pytest.approx(5.5), pytest.approx(math.sqrt(8.25)))
    certain = rating(np.eye(10, dtype=np.float32)[6])
    assert certain == Rating(7.0, 0.0, (0, 0, 0, 0, 0, 0, 1, 0, 0, 0))
    split = rating(np.array([0.25, 0, 0, 0, 0, 0, 0, 0, 0, 0.75], np.float32))
    assert (split.mean, split.std) == (pytest.approx(7.75), pytest.approx(9 * math.sqrt(3) / 4))


def test_the_network_has_the_published_size() -> None:
    # Keras' MobileNet without its top has 3,206,976 trained parameters; folding makes of two of a channel's one bias.
    channels = 32 + sum(outputs for outputs, _ in BLOCKS) + 32 + sum(outputs for outputs, _ in BLOCKS[:-1])
    assert sum(parameter.numel() for parameter in MobileNetV1().parameters()) == 3_206_976 - channels + 10_250


def test_a_keras_file_gives_the_network_it_was_saved_from(saved: tuple[Path, dict[str, Array]]) -> None:
    path, arrays = saved
    network = build(read_layers(path))
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        got, expected = network(images), plain(arrays, images)
    assert got.shape == (2, 10)
    assert float(expected.std()) > 0.01
    assert_close(got, expected, FP32_DEEP)


def test_files_that_are_no_such_weights_are_refused(saved: tuple[Path, dict[str, Array]], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["conv1/conv1/kernel:0"] = np.zeros((3, 3, 3, 32))
    (tmp_path / "text.hdf5").write_text("no HDF5")
    for name, why in (("other.hdf5", "no weights file"), ("text.hdf5", "no weights file"), ("a.pt", "ends in none")):
        with pytest.raises(ValueError, match=why):
            read_layers(tmp_path / name)
    layers = read_layers(saved[0])
    with pytest.raises(ValueError, match="26 layers instead of 28"):
        build(layers[2:])
    with pytest.raises(ValueError, match="layer 0 has the shape"):
        build([layers[1], *layers[1:]])


def weights(name: str) -> Weights:
    return Weights(name, Path(), {}, "a test", "none", "MobileNetV1", f"{name}@00000000")


def loaded(path: Path, *heads: str) -> NimaScorer:
    """The stage as ``load`` leaves it, with the same network for each head."""
    stage = NimaScorer(Config())
    stage._weights = {head: weights(f"nima-{head}") for head in heads}
    stage._missing = {"technical": "nowhere to be had"}
    stage._engine = TorchEngine(Heads([build(read_layers(path)) for _ in heads]), "torch-fp32", "cpu", None)
    return stage


def test_a_head_without_weights_is_none(saved: tuple[Path, dict[str, Array]]) -> None:
    both = loaded(saved[0], "technical", "aesthetic")
    ready = both.prepare(picture(90, 120))
    (complete,) = both.predict_batch([ready])
    (partial,) = loaded(saved[0], "aesthetic").predict_batch([ready])
    assert isinstance(complete, Ratings)
    assert isinstance(partial, Ratings)
    assert complete.technical == complete.aesthetic == partial.aesthetic
    assert partial.technical is None
    with pytest.raises(ModelNotLoaded, match="nowhere to be had"):
        partial.of("technical")
    assert partial.of("aesthetic") is partial.aesthetic
    assert partial.aesthetic is not None
    assert 1 <= partial.aesthetic.mean <= 10
    assert sum(partial.aesthetic.distribution) == pytest.approx(1, rel=FP64)


def test_a_result_does_not_depend_on_its_batch(saved: tuple[Path, dict[str, Array]]) -> None:
    stage = loaded(saved[0], "technical", "aesthetic")
    ready = [stage.prepare(picture(100, 80, seed)) for seed in range(3)]
    together: Any = stage.predict_batch(ready)
    alone: Any = [stage.predict_batch([one])[0] for one in ready]
    for many, single in zip(together, alone, strict=True):
        assert many.technical.mean == pytest.approx(single.technical.mean, rel=FP32_DEEP)
    assert len({round(result.technical.mean, 6) for result in together}) == 3


def test_a_model_of_another_task_is_refused() -> None:
    for name in ("dinov2-small", "nothing"):
        with pytest.raises(ModelNotLoaded, match=f"{name} is not for quality/nima"):
            NimaScorer(Config(models=[name])).load()
    with pytest.raises(ValidationError):
        Config(models=[])
