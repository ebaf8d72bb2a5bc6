"""objects/detector on a small generated checkpoint of the real architecture, beside transformers' own code."""

import hashlib
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import RTDetrImageProcessor, RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

from configs import settings as settings_module
from deployments.objects.detector import Config, ObjectDetector
from vision.engines import EngineName
from vision.errors import ModelNotLoaded
from vision.images import Pixels
from vision.objects.detection import DetectedObject, Detections
from vision.weights import Registry
from vision.weights.store import Store

pytestmark = pytest.mark.numeric

SIDE = 128
LABELS = ("person", "Potted_Plant", "dog")
FILES = ("model.safetensors", "config.json", "preprocessor_config.json")
PREPROCESS = {
    "image_processor_type": "RTDetrImageProcessor",
    "size": {"height": SIDE, "width": SIDE},
    "do_normalize": False,
}
CLOSE = 1e-3  # of a box as a share of the picture, and of a score: what two resizings of it differ by at most


def tiny_network() -> RTDetrV2ForObjectDetection:
    """RT-DETRv2 with its real parts, each as small as can be, and random weights that rate queries differently."""
    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_indices=[2, 3, 4],
    )
    config = RTDetrV2Config(
        backbone_config=backbone,
        encoder_in_channels=[16, 24, 32],
        encoder_hidden_dim=32,
        encoder_ffn_dim=32,
        d_model=32,
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=32,
        decoder_layers=2,
        decoder_attention_heads=2,
        encoder_attention_heads=2,
        num_queries=12,
        num_denoising=0,
        id2label=dict(enumerate(LABELS)),
        label2id={name: index for index, name in enumerate(LABELS)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = RTDetrV2ForObjectDetection(config).eval()
        for name, parameter in model.named_parameters():
            # As they are made, all queries score alike: which ones are the best would be left to rounding.
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.15)
            elif "class_embed" in name or "enc_score_head" in name:
                torch.nn.init.zeros_(parameter)
    return model


@pytest.fixture(scope="module")
def network() -> RTDetrV2ForObjectDetection:
    return tiny_network()


@pytest.fixture
def models(network: RTDetrV2ForObjectDetection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store with this checkpoint and nothing else, on the CPU."""
    folder = tmp_path / "detector"
    network.save_pretrained(folder)
    (folder / FILES[2]).write_text(json.dumps(PREPROCESS))
    settle(tmp_path, monkeypatch)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)
    settings_module.settings.cache_clear()


def settle(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the store read what is in the folder now."""
    files = {name: root / "detector" / name for name in FILES}
    entry = {
        "task": "object-detection",
        "licence": "none",
        "commercial": True,
        "description": "a test",
        "architecture": "RT-DETRv2",
        "vram_mb": 1,
        "files": {
            name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}
            for name, path in files.items()
        },
        "sources": [{"folder": {"path": "detector"}}],
    }
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("VISION_MODELS_CACHE", str(root / "cache"))
    settings_module.settings.cache_clear()
    store = Store(Registry.model_validate({"tiny": entry}), root / "models", root)
    monkeypatch.setattr(import_module("vision.weights.store"), "store", lambda: store)


def loaded(engine: EngineName = "torch-fp32", **options: Any) -> ObjectDetector:
    stage = ObjectDetector(Config(models=["tiny"], engine=engine, **options))
    stage.load()
    return stage


def pictures() -> list[Pixels]:
    """A wide one, a tall one and one of the model's own size."""
    random = np.random.default_rng(1)
    sizes = ((90, 200), (300, 120), (SIDE, SIDE))
    coarse = [random.integers(0, 256, (6, 6, 3), dtype=np.uint8) for _ in sizes]
    return [
        np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
        for pixels, (height, width) in zip(coarse, sizes, strict=True)
    ]


def reference(
    network: RTDetrV2ForObjectDetection, image: Pixels, confidence: float
) -> list[tuple[str, float, list[float]]]:
    """Label, score and box (x, y, x, y as shares) by transformers alone."""
    processor = RTDetrImageProcessor(size={"height": SIDE, "width": SIDE})
    inputs = processor(Image.fromarray(image), return_tensors="pt")
    with torch.inference_mode():
        output = network(**inputs)
    (found,) = processor.post_process_object_detection(output, confidence, target_sizes=[(1, 1)])
    rows = zip(found["labels"].tolist(), found["scores"].tolist(), found["boxes"].clamp(0, 1).tolist(), strict=True)
    return [(LABELS[label], score, box) for label, score, box in rows]


def shares(found: DetectedObject, image: Pixels) -> list[float]:
    height, width = image.shape[:2]
    right, bottom = found.x + found.width, found.y + found.height
    return [found.x / width, found.y / height, right / width, bottom / height]


def threshold(network: RTDetrV2ForObjectDetection) -> float:
    """A confidence in the widest gap of the scores, that some of the objects have and others have not."""
    scores = sorted(score for image in pictures() for _, score, _ in reference(network, image, 0.0))
    gaps = np.diff(scores[len(scores) // 4 :])
    place = len(scores) // 4 + int(gaps.argmax())
    return float((scores[place] + scores[place + 1]) / 2)


@pytest.mark.parametrize("engine", ["torch-fp32", "openvino-fp32"])
def test_objects_are_those_of_transformers(
    models: Path, network: RTDetrV2ForObjectDetection, engine: EngineName
) -> None:
    least = max(0.05, threshold(network))
    stage = loaded(engine, confidence=least)
    images = pictures()
    results = stage.predict_batch([stage.prepare(image) for image in images])
    number = 0
    for image, result in zip(images, results, strict=True):
        assert isinstance(result, Detections)
        expected = reference(network, image, least)
        assert len(result.objects) == len(expected)
        number += len(result.objects)
        for found, (label, score, box) in zip(result.objects, expected, strict=True):
            assert found.label == label.lower().replace("_", " ")
            assert found.confidence == pytest.approx(score, abs=CLOSE)
            assert shares(found, image) == pytest.approx(box, abs=2 * CLOSE)
    assert number > 0


def test_a_batch_gives_what_its_items_give_alone(models: Path) -> None:
    stage = loaded(confidence=0.05)
    prepared = [stage.prepare(image) for image in pictures()]
    alone = [stage.predict_batch([item])[0] for item in prepared]
    together = stage.predict_batch(prepared)
    for one, other in zip(alone, together, strict=True):
        assert isinstance(one, Detections)
        assert isinstance(other, Detections)
        assert [each.label for each in one.objects] == [each.label for each in other.objects]
        scores, others = ([each.confidence for each in found.objects] for found in (one, other))
        assert scores == pytest.approx(others, abs=CLOSE)


def test_boxes_lie_in_the_picture_and_the_surest_comes_first(models: Path) -> None:
    stage = loaded(confidence=0.05)
    for image in pictures():
        (found,) = stage.predict_batch([stage.prepare(image)])
        assert isinstance(found, Detections)
        assert found.model_version.startswith("tiny@")
        scores = [each.confidence for each in found.objects]
        assert scores == sorted(scores, reverse=True)
        for each in found.objects:
            assert 0 <= each.x < each.x + each.width <= image.shape[1]
            assert 0 <= each.y < each.y + each.height <= image.shape[0]


def test_its_info_names_the_classes_and_the_weights(models: Path) -> None:
    info = loaded().info()
    assert info["classes"] == ["person", "potted plant", "dog"]
    assert info["engine"] == "torch-fp32"
    assert str(info["model_version"]).startswith("tiny@")


def test_a_checkpoint_that_does_not_fit_is_refused(
    models: Path, network: RTDetrV2ForObjectDetection, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models / "detector" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"decoder_layers": 3}))
    settle(models, monkeypatch)
    with pytest.raises(ModelNotLoaded, match="missing"):
        loaded()


def test_without_weights_it_says_what_to_do(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = ObjectDetector(Config(models=["absent"]))
    with pytest.raises(ModelNotLoaded, match="absent"):
        stage.load()
