"""people/emotion on small generated checkpoints of the real architectures: labels, crops, batches, the fallback."""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import ViTConfig, ViTForImageClassification

from configs import settings as settings_module
from deployments.people.emotion import CHAIN, FACES_AT_ONCE, Config, Emotion, EmotionRecognizer
from deployments.serving.catalog import local_handle
from tests.tolerances import FP32, FP32_NETWORK, FP64, assert_close
from vision.engines import Engine, EngineName, MakeModule, build_engine
from vision.errors import ModelNotLoaded
from vision.faces.expressions import EXPRESSIONS, MARGIN, MiniXceptionClassifier, load_classifier
from vision.faces.face import Face, Square
from vision.images import Pixels
from vision.networks import mini_xception
from vision.networks.mini_xception import LABELS, MiniXception
from vision.weights import Registry, Weights, registry
from vision.weights.store import Store

pytestmark = pytest.mark.numeric

SIDE = 32
ALPHABETICAL = sorted(EXPRESSIONS)
FACES = (Face(40, 30, 30, 40, 0.9, ()), Face(100, 60, 50, 44, 0.9, ()), Face(150, 0, 9, 12, 0.9, ()))
"""In the picture, at its middle, and a small one at its edge."""


@pytest.fixture(scope="module")
def vit() -> ViTForImageClassification:
    """Outputs in alphabetical order, unlike FER2013's, and labels in capitals."""
    config = ViTConfig(
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=16,
        id2label={index: name.capitalize() for index, name in enumerate(ALPHABETICAL)},
        label2id={name.capitalize(): index for index, name in enumerate(ALPHABETICAL)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = ViTForImageClassification(config).eval()
        for parameter in model.parameters():
            # As they are made, scales are all one and biases all zero: that would hide a mistake.
            torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def folder(vit: ViTForImageClassification, tmp_path: Path) -> Path:
    """Files as the hub has them."""
    vit.save_pretrained(tmp_path / "vit")
    preprocess = {"image_processor_type": "ViTImageProcessor", "size": {"height": SIDE, "width": SIDE}}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(preprocess))
    write_keras(tmp_path / "xception" / mini_xception.WEIGHT_FILE)
    return tmp_path


@pytest.fixture
def models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store that has what lies in the folder and nothing else, on the CPU."""
    names = {
        "vit": ("vit", ["model.safetensors", "config.json", "preprocessor_config.json"]),
        "mini-xception-fer2013": ("xception", [mini_xception.WEIGHT_FILE]),
    }
    entries = {
        name: {
            "task": "facial-expression",
            "licence": "none",
            "commercial": True,
            "description": "a test",
            "architecture": name,
            "vram_mb": 1,
            "files": {file: stated(folder / place / file) for file in files},
            "sources": [{"folder": {"path": place}}],
        }
        for name, (place, files) in names.items()
    }
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("VISION_MODELS_CACHE", str(folder / "cache"))
    settings_module.settings.cache_clear()
    store = Store(Registry.model_validate(entries), folder / "models", folder)
    # the package has a function of the module's name
    monkeypatch.setattr(import_module("vision.weights.store"), "store", lambda: store)
    threads = torch.get_num_threads()
    yield folder
    torch.set_num_threads(threads)
    settings_module.settings.cache_clear()


@pytest.fixture
def stage(models: Path) -> EmotionRecognizer:
    stage = EmotionRecognizer(Config(models=["absent", "vit"], engine="torch-fp32"))
    stage.load()
    stage.warm_up()
    return stage


def stated(path: Path) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}


def write_keras(path: Path) -> dict[str, NDArray[np.float32]]:
    """Random weights in the layout of the published file; name in the file → values."""
    rng = np.random.default_rng(3)
    path.parent.mkdir()
    written = {}
    widths = (8, 16, 32, 64, 128)
    layers: dict[str, dict[str, tuple[int, ...]]] = {
        "conv2d_1": {"kernel": (3, 3, 1, 8)},
        "conv2d_2": {"kernel": (3, 3, 8, 8)},
        "conv2d_7": {"kernel": (3, 3, 128, 7), "bias": (7,)},
    }
    norms = [8, 8]
    for block, (inputs, outputs) in enumerate(pairwise(widths), 1):
        layers[f"conv2d_{block + 2}"] = {"kernel": (1, 1, inputs, outputs)}
        for number, channels in ((2 * block - 1, inputs), (2 * block, outputs)):
            layers[f"separable_conv2d_{number}"] = {
                "depthwise_kernel": (3, 3, channels, 1),
                "pointwise_kernel": (1, 1, channels, outputs),
            }
        norms += [outputs] * 3
    for number, channels in enumerate(norms, 1):
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        layers[f"batch_normalization_{number}"] = dict.fromkeys(names, (channels,))
    with h5py.File(path, "w") as file:
        for layer, weights in layers.items():
            for weight, shape in weights.items():
                name = f"model_weights/{layer}/{layer}_1/{weight}:0"
                values = rng.uniform(0.1, 1, shape) if weight == "moving_variance" else rng.normal(0, 0.3, shape)
                written[name] = file.create_dataset(name, data=values.astype(np.float32))[:]
    return written


def xception(folder: Path) -> MiniXceptionClassifier:
    path = folder / "xception" / mini_xception.WEIGHT_FILE

    def build(
        make: MakeModule, *, version: str, input_size: tuple[int, ...], engine: EngineName | None = None
    ) -> Engine:
        return build_engine(engine or "auto", make, version=version, input_size=input_size, cache=folder)

    return MiniXceptionClassifier(Weights("w", path.parent, {path.name: path}, *"abcd"), build)


def picture() -> Pixels:
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
    image.flags.writeable = False
    return image


def expected(vit: ViTForImageClassification, image: Pixels, face: Face) -> dict[str, float]:
    """What plain transformers makes of the square around a face."""
    square = Square.around(face.x, face.y, face.width, face.height, MARGIN).cut(image, SIDE)
    pixels = torch.from_numpy((square.transpose(2, 0, 1).astype(np.float32) / 255 - 0.5) / 0.5)[None]
    with torch.inference_mode():
        chances = vit(pixel_values=pixels).logits.softmax(1)[0]
    return {vit.config.id2label[index].lower(): 100 * float(chance) for index, chance in enumerate(chances)}


def recognize(stage: EmotionRecognizer, *items: tuple[Pixels, tuple[Face, ...]]) -> list[tuple[Emotion, ...]]:
    results = stage.predict_batch([stage.prepare(item) for item in items])
    assert all(isinstance(result, tuple) for result in results)
    return list(results)  # type: ignore[arg-type]


def test_scores_are_those_of_transformers_under_their_labels(
    stage: EmotionRecognizer, vit: ViTForImageClassification
) -> None:
    image = picture()
    (emotions,) = recognize(stage, (image, FACES))
    assert len(emotions) == len(FACES)
    for result, face in zip(emotions, FACES, strict=True):
        want = expected(vit, image, face)
        assert result.scores == pytest.approx(want, abs=100 * FP32_NETWORK)
        assert list(result.scores) == list(EXPRESSIONS)
        assert result.dominant == max(want, key=want.__getitem__)
        assert sum(result.scores.values()) == pytest.approx(100, rel=FP64)
        assert all(type(score) is float for score in result.scores.values())
    assert (
        max(abs(a - b) for a, b in zip(emotions[0].scores.values(), emotions[1].scores.values(), strict=True)) > 0.5
    )  # it does look


def test_each_picture_gets_its_own_faces_and_none_is_an_answer(stage: EmotionRecognizer) -> None:
    image = picture()
    alone = [recognize(stage, (image, (face,)))[0][0] for face in FACES]
    together = recognize(stage, (image, ()), (image, FACES[:2]), (image, ()), (image, FACES[2:]), (image, ()))
    assert [len(emotions) for emotions in together] == [0, 2, 0, 1, 0]
    for one, other in zip(alone, [*together[1], *together[3]], strict=True):
        assert one.scores == pytest.approx(other.scores, abs=100 * FP32_NETWORK)
    assert recognize(stage, (image, ())) == [()]


def test_more_faces_than_one_forward_takes(stage: EmotionRecognizer) -> None:
    image = picture()
    count = 2 * FACES_AT_ONCE + 3
    (emotions,) = recognize(stage, (image, tuple(FACES[index % 3] for index in range(count))))
    assert len(emotions) == count
    assert emotions[-1].scores == pytest.approx(emotions[(count - 1) % 3].scores, abs=100 * FP32_NETWORK)


def test_info_names_the_model(stage: EmotionRecognizer) -> None:
    info = stage.info()
    assert (info["model"], info["engine"], info["device"]) == ("vit", "torch-fp32", "cpu")
    assert info["model_version"].startswith("vit@")
    assert info["accuracy"] == "as its model card says"


def test_other_labels_are_refused(models: Path, vit: ViTForImageClassification) -> None:
    config = models / "vit" / "config.json"
    config.write_text(config.read_text().replace('"Angry"', '"Contempt"'))
    files = {path.name: path for path in (models / "vit").iterdir()}
    with pytest.raises(ModelNotLoaded, match=r"w has the labels contempt, disgust, .* instead of angry"):
        load_classifier(Weights("w", models / "vit", files, *"abcd"), partial(build_engine, "torch-fp32", cache=models))


async def test_the_next_model_serves_where_the_first_is_not_there(models: Path) -> None:
    image = picture()
    handle = await local_handle(EmotionRecognizer, {})
    emotions = await handle((image, FACES))
    assert await handle((image, ())) == ()
    assert [sum(result.scores.values()) for result in emotions] == pytest.approx([100] * 3, rel=FP64)
    classifier = xception(models)
    logits = classifier(np.stack([classifier.prepare(image, face) for face in FACES]))
    assert [result.dominant for result in emotions] == [EXPRESSIONS[index] for index in logits.argmax(1)]


async def test_without_weights_there_is_no_answer(models: Path) -> None:
    handle = await local_handle(EmotionRecognizer, {"models": ["absent"]})
    with pytest.raises(ModelNotLoaded, match="absent: not registered"):
        await handle((picture(), FACES))


def test_the_chain_is_registered_and_free_to_use() -> None:
    assert all(registry().root[name].commercial for name in CHAIN)
    assert CHAIN[-1] == "mini-xception-fer2013"


def test_a_grey_face_is_scaled_to_minus_one_to_one(folder: Path) -> None:
    classifier = xception(folder)
    face = Face(20, 20, 20, 20, 1, ())
    for grey, value in ((0, -1), (255, 1), (51, -0.6)):
        prepared = classifier.prepare(np.full((60, 60, 3), grey, np.uint8), face)
        assert (prepared.shape, prepared.dtype) == ((5, 64, 64), np.float32)
        np.testing.assert_allclose(prepared, value, atol=FP32)
    outside = classifier.prepare(np.full((60, 60, 3), 255, np.uint8), Face(-20, 10, 40, 40, 1, ()))
    assert outside[0, 32, 10] == -1
    assert outside[0, 32, 60] == 1
    edges = (outside[:, 32] < 0).sum(1)  # in the middle, up and down alike; moved by 2 of 48 pixels to either side
    assert edges[0] == edges[1] == edges[2]
    assert edges[3] - edges[0] == edges[0] - edges[4] == pytest.approx(2 * 64 / 48, abs=1)


def test_a_face_is_the_mean_of_its_readings(folder: Path) -> None:
    classifier = xception(folder)
    readings = np.random.default_rng(5).uniform(-1, 1, (2, 5, 64, 64)).astype(np.float32)
    network = mini_xception.load(folder / "xception" / mini_xception.WEIGHT_FILE)
    with torch.inference_mode():
        chances = network(torch.from_numpy(readings.reshape(10, 1, 64, 64))).softmax(1).reshape(2, 5, 7).mean(1)
    measured = np.exp(classifier(readings))
    assert [LABELS.index(name) for name in EXPRESSIONS] == list(range(7))
    assert_close(measured, chances, FP32_NETWORK)


def test_keras_weights_are_turned_the_right_way_round(tmp_path: Path) -> None:
    path = tmp_path / "x" / mini_xception.WEIGHT_FILE
    written = write_keras(path)
    state = mini_xception.load(path).state_dict()
    kernel = written["model_weights/conv2d_7/conv2d_7_1/kernel:0"]
    assert float(state["head.weight"][5, 100, 0, 2]) == kernel[0, 2, 100, 5]
    depthwise = written["model_weights/separable_conv2d_4/separable_conv2d_4_1/depthwise_kernel:0"]
    assert float(state["blocks.1.second.depthwise.weight"][30, 0, 2, 1]) == depthwise[2, 1, 30, 0]
    pointwise = written["model_weights/separable_conv2d_3/separable_conv2d_3_1/pointwise_kernel:0"]
    assert float(state["blocks.1.first.pointwise.weight"][31, 15, 0, 0]) == pointwise[0, 0, 15, 31]
    for number, name in ((2, "conv_norm"), (3, "blocks.0.shortcut_norm"), (13, "blocks.3.first_norm")):
        layer = f"batch_normalization_{number}"
        variance = written[f"model_weights/{layer}/{layer}_1/moving_variance:0"]
        assert state[f"{name}.running_var"].tolist() == variance.tolist()
    # every dataset of the file is somewhere in the network, and nothing of it was left as it was made
    assert sum(value.numel() for key, value in state.items() if "tracked" not in key) == 58_423
    assert sum(values.size for values in written.values()) == 58_423
    with h5py.File(path, "a") as file:
        del file["model_weights/conv2d_5"]
    with pytest.raises(KeyError):
        mini_xception.load(path)


def test_the_network_is_of_the_published_size() -> None:
    network = MiniXception().eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 56_951
    with torch.inference_mode():
        assert network(torch.zeros(2, 1, 64, 64)).shape == (2, len(LABELS))


def test_pooling_pads_an_even_side_at_its_end_only() -> None:
    ramp = torch.arange(36.0).reshape(1, 1, 6, 6)
    assert mini_xception._max_pool(ramp)[0, 0].tolist() == [[14, 16, 17], [26, 28, 29], [32, 34, 35]]
    odd = torch.arange(25.0).reshape(1, 1, 5, 5)
    assert mini_xception._max_pool(odd)[0, 0].tolist() == [[6, 8, 9], [16, 18, 19], [21, 23, 24]]
    assert mini_xception._max_pool(-ramp)[0, 0, -1, -1] == -28  # the padding is no zero
