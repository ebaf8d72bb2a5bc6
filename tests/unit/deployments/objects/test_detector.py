"""objects/detector on a small generated checkpoint of the real architecture, beside transformers' own code."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PreTrainedModel, RTDetrImageProcessor, RTDetrImageProcessorPil

from configs import settings as settings_module
from deployments.objects.detector import Config, ObjectDetector
from ops.bench.detectors import CLASSES, SMALL, SMALL_SIDE, preprocessing, save, with_random_weights
from ops.bench.object_reference import resized_as_torchvision
from vision.engines import EngineName
from vision.errors import ModelNotLoaded
from vision.images import Pixels
from vision.objects.detection import DetectedObject, Detections
from vision.weights import Registry
from vision.weights.store import Store

pytestmark = pytest.mark.numeric

SIDE = SMALL_SIDE
LABELS = CLASSES
FILES = ("model.safetensors", "config.json", "preprocessor_config.json")
PREPROCESS = preprocessing(SIDE)
CLOSE = 1e-3  # of a box as a share of the picture, and of a score: what two engines differ by at most


@pytest.fixture(scope="module")
def network() -> PreTrainedModel:
    return with_random_weights(SMALL["rt_detr_v2"])


@pytest.fixture
def models(network: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store with this checkpoint and nothing else, on the CPU."""
    save(network, tmp_path / "detector", PREPROCESS)
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
    network: PreTrainedModel, image: Pixels, confidence: float, preprocess: Mapping[str, Any] = PREPROCESS
) -> list[tuple[str, float, list[float]]]:
    """Label, score and box (x, y, x, y as shares) by transformers alone."""
    processor = RTDetrImageProcessor(**preprocess)
    resized = resized_as_torchvision(image, preprocess)
    inputs = processor(resized, do_resize=False, input_data_format="channels_first", return_tensors="pt")
    with torch.inference_mode():
        output = network(**inputs)
    (found,) = processor.post_process_object_detection(output, confidence, target_sizes=[(1, 1)])
    rows = zip(found["labels"].tolist(), found["scores"].tolist(), found["boxes"].clamp(0, 1).tolist(), strict=True)
    return [(LABELS[label], score, box) for label, score, box in rows]


def shares(found: DetectedObject, image: Pixels) -> list[float]:
    height, width = image.shape[:2]
    right, bottom = found.x + found.width, found.y + found.height
    return [found.x / width, found.y / height, right / width, bottom / height]


def threshold(network: PreTrainedModel, preprocess: Mapping[str, Any] = PREPROCESS) -> float:
    """A confidence in the widest gap of the scores, that some of the objects have and others have not."""
    scores = sorted(score for image in pictures() for _, score, _ in reference(network, image, 0.0, preprocess))
    gaps = np.diff(scores[len(scores) // 4 :])
    place = len(scores) // 4 + int(gaps.argmax())
    return float((scores[place] + scores[place + 1]) / 2)


def compare(stage: ObjectDetector, network: PreTrainedModel, preprocess: Mapping[str, Any], least: float) -> int:
    """Compare the objects of all pictures in one batch with transformers'; return their number."""
    images, number = pictures(), 0
    results = stage.predict_batch([stage.prepare(image) for image in images])
    for image, result in zip(images, results, strict=True):
        assert isinstance(result, Detections)
        expected = reference(network, image, least, preprocess)
        assert len(result.objects) == len(expected)
        number += len(expected)
        for found, (label, score, box) in zip(result.objects, expected, strict=True):
            assert found.label == label.lower().replace("_", " ")
            assert found.confidence == pytest.approx(score, abs=CLOSE)
            assert shares(found, image) == pytest.approx(box, abs=CLOSE)
    return number


@pytest.mark.parametrize("engine", ["torch-fp32", "openvino-fp32"])
def test_objects_are_those_of_transformers(models: Path, network: PreTrainedModel, engine: EngineName) -> None:
    least = max(0.05, threshold(network))
    assert compare(loaded(engine, confidence=least), network, PREPROCESS, least) > 0


@pytest.mark.parametrize("kind", ["rt_detr", "d_fine"])
def test_others_of_its_family_are_read_alike(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = with_random_weights(SMALL[kind])
    save(other, tmp_path / "detector", PREPROCESS)
    settle(tmp_path, monkeypatch)
    least = max(0.05, threshold(other))
    assert compare(loaded(confidence=least), other, PREPROCESS, least) > 0


@pytest.mark.parametrize(
    "others",
    [
        {"size": {"height": 96, "width": 160}},
        {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]},
        {"do_normalize": True},
        {"resample": 3},
        {"rescale_factor": 1 / 128},
        {"image_processor_type": "RTDetrImageProcessorFast"},
    ],
    ids=["no square", "normalised", "normalised as usual", "bicubic", "another range", "the other processor"],
)
def test_a_picture_is_prepared_as_the_checkpoint_says(
    models: Path, network: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, others: dict[str, Any]
) -> None:
    preprocess = PREPROCESS | others
    (models / "detector" / FILES[2]).write_text(json.dumps(preprocess))
    settle(models, monkeypatch)
    least = max(0.05, threshold(network, preprocess))
    stage = loaded(confidence=least)
    assert compare(stage, network, preprocess, least) > 0
    if "image_processor_type" not in others:
        noise = np.random.default_rng(3).integers(0, 256, (90, 200, 3), dtype=np.uint8)
        plain = RTDetrImageProcessor(**PREPROCESS)(Image.fromarray(noise), return_tensors="np")["pixel_values"][0]
        prepared = stage.prepare(noise)[0]
        assert prepared.shape != plain.shape or np.abs(prepared - plain).max() > 10 * CLOSE, "nothing was changed"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "detr"}, "of the kind detr"),
        ({"model_type": "yolos"}, "of the kind yolos"),
        ({"model_type": "conditional_detr"}, "of the kind conditional_detr"),
        ({"model_type": "deformable_detr"}, "of the kind deformable_detr"),
        ({"model_type": None}, "use a checkpoint of RT-DETR, RT-DETRv2, D-FINE"),
        ({"use_focal_loss": False}, "without focal loss"),
        ({"id2label": None}, "does not name its classes"),
        ({"id2label": {"1": "dog", "2": "cat", "3": "cow"}}, "does not name its classes"),
        ({"id2label": {"0": "dog", "1": "cat"}}, "of another shape"),
    ],
)
def test_a_network_whose_outputs_mean_something_else_is_refused(
    models: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], said: str
) -> None:
    path = models / "detector" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    settle(models, monkeypatch)
    with pytest.raises(ModelNotLoaded, match=said):
        loaded()


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"image_processor_type": "DetrImageProcessor"}, "'Detr' is unknown"),
        ({"image_processor_type": "YolosImageProcessor"}, "'Yolos' is unknown"),
        ({"image_processor_type": "ConditionalDetrImageProcessor"}, "'ConditionalDetr' is unknown"),
        ({"size": {"shortest_edge": 480, "longest_edge": 640}}, "use height and width"),
        ({"do_pad": True}, "do_pad"),
        ({"do_resize": False}, "no fixed size"),
    ],
)
def test_a_picture_that_would_be_prepared_otherwise_is_refused(
    models: Path, monkeypatch: pytest.MonkeyPatch, others: dict[str, Any], said: str
) -> None:
    (models / "detector" / FILES[2]).write_text(json.dumps(PREPROCESS | others))
    settle(models, monkeypatch)
    with pytest.raises(ModelNotLoaded, match=said):
        loaded()


@pytest.mark.parametrize("size", [(480, 640), (41, 700), (4, 9), (1080, 607), (SIDE, SIDE)])
def test_pixels_are_those_of_transformers_with_pillow_but_for_rounding(models: Path, size: tuple[int, int]) -> None:
    image = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    ours, _ = loaded().prepare(image)
    theirs = RTDetrImageProcessorPil(**PREPROCESS)(Image.fromarray(image), return_tensors="np")["pixel_values"][0]
    levels = np.abs(ours - theirs) * 255
    assert levels.max() < 1.01  # of 255: a value that lies in the middle is rounded up or down
    assert (levels > 0.5).mean() < 0.05  # in the worst of these pictures, which are noise


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
    models: Path, network: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
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
