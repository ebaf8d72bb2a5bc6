"""Tiny random checkpoints of the real architectures give the CLS token of plain transformers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model, DINOv3ViTConfig, DINOv3ViTModel, PreTrainedModel

from tests.tolerances import FP32_NETWORK, assert_close
from vision.embed.backbones import Backbone, load_backbone
from vision.engines import EngineName, build_engine
from vision.weights import Weights

pytestmark = pytest.mark.numeric

COMMON = {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 2}
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "DINOv3": lambda: DINOv3ViTModel(
        DINOv3ViTConfig(**COMMON, intermediate_size=768, patch_size=16, image_size=64, num_register_tokens=4)
    ),
    "DINOv2": lambda: Dinov2Model(Dinov2Config(**COMMON, mlp_ratio=2, patch_size=14, image_size=70)),
}
PREPROCESS = {
    "DINOv3": {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 64, "width": 64}},
    "DINOv2": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 64},
        "crop_size": {"height": 56, "width": 56},
    },
}


@pytest.fixture(scope="module", params=list(MODELS))
def checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PreTrainedModel, Backbone]:
    """A plain model, and the backbone of the files it was saved to."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = MODELS[request.param]().eval()
        for parameter in model.parameters():
            # As they are made, scales are all one, biases and registers all zero: that would hide a mistake.
            torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("weights")
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESS[request.param]))
    files = {path.name: path for path in folder.iterdir()}
    assert set(files) == {"config.json", "model.safetensors", "preprocessor_config.json"}
    weights = Weights("tiny", folder, files, "a test", "none", request.param, f"{request.param}@00000000")
    return model, load_backbone(weights)


def pictures(backbone: Backbone, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Preprocessed pictures: float32[count, 3, height, width]."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 90, 120, 3), dtype=np.uint8)
    return np.stack([backbone.preprocess(picture) for picture in pixels])


def cls_of(model: PreTrainedModel, batch: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        output = model(pixel_values=torch.from_numpy(batch))
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state[:, 0])
    cls: np.ndarray[Any, Any] = output.pooler_output.numpy()
    return cls


def test_the_module_gives_the_cls_token(checkpoint: tuple[PreTrainedModel, Backbone]) -> None:
    model, backbone = checkpoint
    batch = pictures(backbone, 3)
    expected = cls_of(model, batch)
    assert expected.shape == (3, 384)
    assert np.abs(expected[0] - expected[1]).max() > 0.01  # it does look at the picture
    with torch.inference_mode():
        got = backbone.make_module().eval()(torch.from_numpy(batch)).numpy()
    assert_close(backbone.project(got), expected, FP32_NETWORK)


@pytest.mark.filterwarnings("ignore")  # those of tracing are no business of ours
@pytest.mark.parametrize("engine", ["torch-fp32", "openvino-fp32"])
def test_every_engine_takes_the_architecture(
    checkpoint: tuple[PreTrainedModel, Backbone],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: EngineName,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model, backbone = checkpoint
    built = build_engine(
        engine,
        backbone.make_module,
        version=backbone.version,
        input_size=backbone.preprocess.size,
        cache=tmp_path,
    )
    for count in (1, 5):
        batch = pictures(backbone, count)
        expected = cls_of(model, batch)
        assert_close(built(batch), expected, FP32_NETWORK)


def test_an_unknown_model_is_not_centred(checkpoint: tuple[PreTrainedModel, Backbone]) -> None:
    _, backbone = checkpoint
    assert backbone.mean.shape == (384,)
    assert not backbone.mean.any()
