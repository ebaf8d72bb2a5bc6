"""EfficientNet-Lite0: shapes and projection always; numbers and ImageNet classes where there are weights.

The expected features were computed by efficientnet-lite-pytorch 0.1.0, the code these weights were
published with. Photos come from the folder ``media`` beside VISION_MODELS_DIR.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tolerances import FP32_DEEP, U_FP32, assert_close, decimals, rounding
from vision.networks.efficientnet_lite import (
    FEATURES,
    PREPROCESS,
    WEIGHT_FILE,
    EfficientNetLite0,
    load,
    projection,
)
from vision.preprocess import Preprocess
from vision.weights import WeightsUnavailable, resolve

pytestmark = pytest.mark.numeric

PHOTOS = {
    "near_duplicates/base/ukbench09012.jpg": 402,  # acoustic guitar
    "near_duplicates/base/ukbench09348.jpg": 838,  # sunscreen
    "iqa/ava/42039.jpg": 487,  # cellular telephone
    "iqa/ava/42042.jpg": 479,  # car wheel
    "iqa/ava/42044.jpg": 994,  # gyromitra, a mushroom
    "iqa/calibra_ref/I19.bmp": 716,  # picket fence
}


@pytest.fixture(scope="module")
def folder() -> Path:
    if not os.environ.get("VISION_MODELS_DIR"):
        pytest.skip("VISION_MODELS_DIR is not set")
    try:
        return resolve("efficientnet-lite0").path
    except WeightsUnavailable as error:
        pytest.skip(error.message)


@pytest.fixture(scope="module")
def network(folder: Path) -> EfficientNetLite0:
    return load(folder)


def waves() -> torch.Tensor:
    """A picture [1, 3, 224, 224] that can be made anywhere."""
    y, x = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    planes = [torch.sin(x / 9) * torch.cos(y / 7), torch.sin((x + y) / 11), torch.cos(x * y / 900)]
    return torch.stack(planes)[None]


def test_the_network_has_the_published_size() -> None:
    state = EfficientNetLite0().state_dict()
    assert len(state) == 294
    assert sum(value.numel() for name, value in state.items() if "running" not in name) == 3_371_008 + 49
    assert state["_blocks.15._project_conv.weight"].shape == (320, 1152, 1, 1)


@pytest.mark.parametrize("side", [224, 256])
def test_features_are_one_vector_a_picture(side: int) -> None:
    with torch.inference_mode():
        assert EfficientNetLite0().eval()(torch.zeros(2, 3, side, side)).shape == (2, FEATURES)


def test_the_projection_is_orthonormal_and_the_same_everywhere() -> None:
    matrix = projection()
    assert (matrix.shape, matrix.dtype) == ((1280, 384), np.float32)
    assert_close(matrix.T @ matrix, np.eye(384), rounding(FEATURES, U_FP32))
    np.testing.assert_allclose(matrix[0, :3], [-0.03225719, -0.03662189, -0.00120297], atol=decimals(8))
    np.testing.assert_allclose(matrix[-1, -3:], [-0.0312209, -0.0032219, 0.03262632], atol=decimals(8))
    np.testing.assert_allclose(np.abs(matrix).sum(dtype=np.float64), 10970.410623636606, rtol=U_FP32)


def test_the_state_dict_fits_name_by_name(folder: Path) -> None:
    state = torch.load(folder / WEIGHT_FILE, weights_only=True)
    shapes = {name: value.shape for name, value in state.items() if not name.startswith("_fc.")}
    assert {name: value.shape for name, value in EfficientNetLite0().state_dict().items()} == shapes
    assert sorted(set(state) - set(shapes)) == ["_fc.bias", "_fc.weight"]


def test_another_state_dict_is_refused(tmp_path: Path) -> None:
    state = EfficientNetLite0().state_dict()
    del state["_bn1.running_mean"]
    torch.save(state, tmp_path / WEIGHT_FILE)
    with pytest.raises(RuntimeError, match=r"_bn1\.running_mean"):
        load(tmp_path)


def test_features_equal_the_published_code(network: EfficientNetLite0) -> None:
    with torch.inference_mode():
        features = network(waves())[0]
    values, places = features.topk(5)
    assert places.tolist() == [848, 61, 600, 674, 439]
    assert_close(values.numpy(), [4.6484, 4.5185, 4.3976, 4.2027, 3.7383], FP32_DEEP)
    assert float(features.sum()) == pytest.approx(253.77145, rel=FP32_DEEP)


def test_a_result_does_not_depend_on_its_batch(network: EfficientNetLite0) -> None:
    pictures = torch.cat([waves(), -waves(), waves().flip(3)])
    with torch.inference_mode():
        alone = torch.cat([network(picture[None]) for picture in pictures])
        assert_close(network(pictures), alone, FP32_DEEP)


def test_photos_get_their_imagenet_class(folder: Path, network: EfficientNetLite0) -> None:
    media = Path(os.environ["VISION_MODELS_DIR"]).parent / "media"
    if not media.is_dir():
        pytest.skip("no folder media beside VISION_MODELS_DIR")
    state = torch.load(folder / WEIGHT_FILE, weights_only=True)
    prepare = Preprocess.from_config(PREPROCESS)
    pictures = [prepare(np.asarray(Image.open(media / name).convert("RGB"))) for name in PHOTOS]
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.stack(pictures))) @ state["_fc.weight"].T + state["_fc.bias"]
    assert logits.argmax(1).tolist() == list(PHOTOS.values())
    chances = logits.softmax(1)[range(len(PHOTOS)), list(PHOTOS.values())]
    assert float(chances.mean()) == pytest.approx(0.716, abs=0.03)
