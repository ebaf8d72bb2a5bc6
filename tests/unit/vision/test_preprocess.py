"""Equality with transformers' own image processors; the stated tolerances are on normalised values."""

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.tolerances import FP32, FP32_DOT, assert_close, decimals
from vision.errors import InvalidInput
from vision.preprocess import Preprocess

pytestmark = pytest.mark.numeric

SIZES = [
    (480, 640),
    (1, 1),
    (3, 50),
    (50, 3),
    (224, 224),
    (257, 333),
    (100, 500),
    (501, 101),
    (255, 256),
    (2, 99),
]
IMAGENET: dict[str, Any] = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
DINOV2 = IMAGENET | {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_processor_type": "BitImageProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 256},
}
DINOV3 = IMAGENET | {
    "crop_size": None,
    "default_to_square": True,
    "do_center_crop": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_processor_type": "DINOv3ViTImageProcessorFast",
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}
CONFIGS = {
    "dinov2": DINOV2,
    "dinov2 unresized": DINOV2 | {"do_resize": False},
    "dinov2 odd crop": DINOV2 | {"size": {"shortest_edge": 97}, "crop_size": {"height": 150, "width": 121}},
    "dinov2 unnormalised": DINOV2 | {"do_normalize": False},
    "dinov2 raw": DINOV2 | {"do_normalize": False, "do_rescale": False},
    "bit": {"image_processor_type": "BitImageProcessor"},
    "clip": {"image_processor_type": "CLIPImageProcessor"},
    "clip of 2021": {"feature_extractor_type": "CLIPFeatureExtractor", "size": 100, "crop_size": 301},
    "vit": {"image_processor_type": "ViTImageProcessor"},
    "vit of 2021": {"feature_extractor_type": "ViTFeatureExtractor", "size": 96, **IMAGENET},
    "siglip": {"image_processor_type": "SiglipImageProcessor"},
}


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """A smooth image with full contrast."""
    small = np.random.default_rng(height).integers(0, 256, (max(height // 8, 2), max(width // 8, 2), 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def reference(config: dict[str, Any]) -> Any:
    kind = (config.get("image_processor_type") or config["feature_extractor_type"]).lower()
    kind = kind.removesuffix("imageprocessor").removesuffix("featureextractor")
    module = import_module(f"transformers.models.{kind}.image_processing_pil_{kind}")
    (name,) = (name for name in module.__all__ if name.endswith("ImageProcessorPil"))
    options = {key: value for key, value in config.items() if not key.endswith("_type")}
    process = getattr(module, name)(**options)

    def apply(image: NDArray[np.uint8]) -> Any:
        return process(image, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]

    return apply


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_transformers(name: str) -> None:
    ours, theirs = Preprocess.from_config(CONFIGS[name]), reference(CONFIGS[name])
    for size in SIZES:
        image = picture(*size)
        got, wanted = ours(image), theirs(image)
        assert got.dtype == np.float32
        assert got.shape == wanted.shape
        assert_close(got, wanted, FP32)


@pytest.mark.parametrize("name", CONFIGS)
def test_fast_is_within_two_grey_levels(name: str) -> None:
    exact = Preprocess.from_config(CONFIGS[name])
    fast = Preprocess.from_config(CONFIGS[name], fast=True)
    for size in SIZES:
        image = picture(*size)
        moved = np.abs(exact(image) - fast(image)) * np.array(exact.std)[:, None, None] / exact.rescale
        assert moved.max() < 2.01
        assert moved.mean() < 0.25


def dinov3_reference(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``DINOv3ViTImageProcessor._preprocess``: rescale, resize with antialias in float32, normalise.

    Its class needs torchvision, whose float resize is this call.
    """
    torch = import_module("torch")
    values = torch.tensor(image).permute(2, 0, 1)[None] * DINOV3["rescale_factor"]
    values = torch.nn.functional.interpolate(
        values, size=(224, 224), mode="bilinear", align_corners=False, antialias=True
    )[0]
    mean, std = torch.tensor(DINOV3["image_mean"]), torch.tensor(DINOV3["image_std"])
    result: NDArray[np.float32] = ((values - mean[:, None, None]) / std[:, None, None]).numpy()
    return result


def test_dinov3_equals_torch() -> None:
    exact, fast = Preprocess.from_config(DINOV3), Preprocess.from_config(DINOV3, fast=True)
    for size in SIZES:
        image = picture(*size)
        wanted = dinov3_reference(image)
        assert_close(exact(image), wanted, FP32_DOT)  # pixels of both axes, up to 30 times 30
        moved = np.abs(fast(image) - wanted) * np.array(exact.std)[:, None, None] * 255
        assert moved.max() < 1.01


def test_out_is_written_in_place() -> None:
    preprocess = Preprocess.from_config(DINOV2)
    batch = np.full((2, 3, 224, 224), np.nan, np.float32)
    for image, out in zip((picture(480, 640), picture(9, 300)), batch, strict=True):
        assert preprocess(image, out) is out
        np.testing.assert_array_equal(out, preprocess(image))
    with pytest.raises(ValueError, match="out is"):
        preprocess(picture(9, 9), np.empty((3, 9, 9), np.float32))


def test_padding_is_a_normalised_zero() -> None:
    values = Preprocess.from_config(DINOV2 | {"do_resize": False})(np.full((2, 2, 3), 255, np.uint8))
    np.testing.assert_allclose(values[:, 0, 0], [-2.1179, -2.0357, -1.8044], atol=decimals(4))
    np.testing.assert_allclose(values[:, 111:113, 111:113].mean((1, 2)), [2.2489, 2.4286, 2.6400], atol=decimals(4))


def test_reducing_gap_stays_close() -> None:
    exact = Preprocess.from_config(DINOV2)
    hasty = replace(exact, reducing_gap=2.0)
    image = picture(1200, 1600)
    assert np.abs(exact(image) - hasty(image)).max() < 0.2


def test_a_strip_is_refused_before_it_is_stretched() -> None:
    with pytest.raises(InvalidInput, match="100000 x 1 pixels"):
        Preprocess.from_config(DINOV2)(np.zeros((1, 100_000, 3), np.uint8))
    assert Preprocess.from_config(DINOV3)(np.zeros((1, 100_000, 3), np.uint8)).shape == (3, 224, 224)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"image_processor_type": "DonutImageProcessor"},
        DINOV2 | {"do_pad": True},
        DINOV2 | {"size": {"longest_edge": 9}},
    ],
)
def test_what_is_not_reproduced_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown|not supported"):
        Preprocess.from_config(config)
