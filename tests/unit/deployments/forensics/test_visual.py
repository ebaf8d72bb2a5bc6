"""forensics/visual on a small generated checkpoint of a transformers classifier: labels, crops, whole pictures."""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification

from deployments.forensics.visual import Config, Crops, Visual, VisualDetector
from tests.tolerances import FP32_NETWORK
from vision.engines import BuildEngine, build_engine
from vision.errors import InvalidInput, ModelNotLoaded
from vision.faces.face import SIZE, TEMPLATE, Face
from vision.forensics.classifiers import MARGIN, TransformersClassifier, upright
from vision.images import Pixels
from vision.networks.aasist import SAMPLES, Aasist
from vision.networks.silero import Silero
from vision.weights import Weights

pytestmark = pytest.mark.numeric

SIDE = 32


def checkpoint(folder: Path, labels: dict[int, str]) -> Weights:
    """Files as the hub has them, in a folder."""
    config = ViTConfig(
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=16,
        id2label=labels,
        label2id={label: index for index, label in labels.items()},
    )
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = ViTForImageClassification(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    preprocess = {"image_processor_type": "ViTImageProcessor", "size": {"height": SIDE, "width": SIDE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocess))
    files = {path.name: path for path in folder.iterdir()}
    digest = hashlib.sha256(files["model.safetensors"].read_bytes()).hexdigest()
    return Weights("a-vit", folder, files, "folder here", "none", "ViT", f"a-vit@{digest[:8]}")


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    return checkpoint(tmp_path / "vit", {0: "Realism", 1: "Deepfake"})


@pytest.fixture
def stage(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> Iterator[VisualDetector]:
    monkeypatch.setattr("deployments.forensics.visual.resolve_first", lambda _: weights)
    threads = torch.get_num_threads()
    stage = VisualDetector(Config(models=["a-vit"], engine="torch-fp32"))
    stage.load()
    yield stage
    torch.set_num_threads(threads)


def picture(seed: int = 0, size: tuple[int, int] = (240, 200)) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def face(x: float, y: float, scale: float = 1.0) -> Face:
    """One whose landmarks lie as in the template, in a square of 112 times ``scale`` pixels at (x, y)."""
    landmarks = tuple((x + scale * a, y + scale * b) for a, b in TEMPLATE)
    return Face(x, y, SIZE * scale, SIZE * scale, 0.9, landmarks)


def by_transformers(weights: Weights, image: Pixels) -> float:
    """The chance of the second label, by the library itself."""
    processor = AutoImageProcessor.from_pretrained(weights.path)
    model = ViTForImageClassification.from_pretrained(weights.path).eval()
    with torch.inference_mode():
        logits = model(**processor(images=Image.fromarray(image), return_tensors="pt")).logits
    return float(logits.softmax(1)[0, 1])


def judged(stage: VisualDetector, *items: tuple[Pixels, tuple[Face, ...]]) -> list[Visual]:
    results = stage.predict_batch([stage.prepare(item) for item in items])
    return [visual for visual in results if isinstance(visual, Visual)]


def test_a_picture_without_faces_is_judged_as_a_whole(stage: VisualDetector, weights: Weights) -> None:
    (verdict,) = judged(stage, (picture(), ()))
    assert (verdict.level, verdict.model) == ("image_level", weights.version)
    assert verdict.probabilities == pytest.approx((by_transformers(weights, picture()),), abs=FP32_NETWORK)


def test_each_face_is_judged_alone(stage: VisualDetector, weights: Weights) -> None:
    image, faces = picture(1), (face(10, 20), face(110, 60, 0.7))
    (verdict,) = judged(stage, (image, faces))
    assert verdict.level == "face_level"
    expected = [by_transformers(weights, upright(image, one, SIDE)) for one in faces]
    assert verdict.probabilities == pytest.approx(expected, abs=FP32_NETWORK)
    assert abs(expected[0] - expected[1]) > 0.001  # it does look


def test_a_result_does_not_depend_on_its_batch(stage: VisualDetector) -> None:
    items: list[tuple[Pixels, tuple[Face, ...]]] = [
        (picture(2), (face(5, 5),)),
        (picture(3), ()),
        (picture(4), (face(0, 0), face(90, 50))),
    ]
    together = judged(stage, *items)
    for item, batched in zip(items, together, strict=True):
        (alone,) = judged(stage, item)
        assert alone.probabilities == pytest.approx(batched.probabilities, abs=FP32_NETWORK)


def fp32_engine(folder: Path) -> BuildEngine:
    return partial(build_engine, "torch-fp32", cache=folder)


@pytest.mark.parametrize(
    ("labels", "fake"),
    [
        ({0: "Fake", 1: "Real"}, [0]),
        ({0: "real", 1: "fake"}, [1]),
        ({0: "AI", 1: "Deepfake", 2: "Real"}, [0, 1]),
        ({0: "human_face", 1: "ai-generated"}, [1]),
    ],
)
def test_labels_of_all_kinds(tmp_path: Path, labels: dict[int, str], fake: list[int]) -> None:
    loaded = TransformersClassifier(
        checkpoint(tmp_path / "vit", labels), partial(build_engine, "torch-fp32", cache=tmp_path)
    )
    assert loaded._fake == fake


def test_other_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotLoaded, match="cat, dog"):
        TransformersClassifier(
            checkpoint(tmp_path / "vit", {0: "cat", 1: "dog"}), partial(build_engine, "torch-fp32", cache=tmp_path)
        )


def test_a_classifier_without_its_head_is_refused(tmp_path: Path) -> None:
    weights = checkpoint(tmp_path / "vit", {0: "real", 1: "fake"})
    whole = load_file(weights.files["model.safetensors"])
    headless = {name: tensor for name, tensor in whole.items() if not name.startswith("classifier")}
    save_file(headless, weights.files["model.safetensors"], {"format": "pt"})
    with pytest.raises(ModelNotLoaded, match=r"2 missing \(classifier\.bias, classifier\.weight\)"):
        TransformersClassifier(weights, fp32_engine(tmp_path))


def test_info_says_what_serves_and_what_it_is_worth(stage: VisualDetector) -> None:
    info: dict[str, Any] = stage.info()
    assert (info["model"], info["calibration"], info["whole_pictures"]) == ("a-vit", None, True)
    assert "model card" in info["worth"]


def test_a_face_is_turned_upright() -> None:
    # A face that lies on its side: its landmarks turned by a quarter, with a bright spot on its nose.
    turned = tuple((200 - y, x + 60) for x, y in TEMPLATE)
    image = np.zeros((240, 240, 3), np.uint8)
    x, y = (round(value) for value in turned[2])
    image[y - 2 : y + 3, x - 2 : x + 3] = 255
    cut = upright(image, Face(90, 60, 112, 112, 0.9, turned), 168)
    rows, columns = np.nonzero(cut[..., 0] > 128)
    centre, nose = np.mean(TEMPLATE, axis=0), np.array(TEMPLATE[2])
    expected = (nose - centre) * 168 / SIZE / MARGIN + 84
    assert (columns.mean(), rows.mean()) == pytest.approx(tuple(expected), abs=1.5)


def test_landmarks_on_one_point_are_refused(stage: VisualDetector) -> None:
    with pytest.raises(InvalidInput):
        stage.prepare((picture(), (Face(0, 0, 10, 10, 0.9, ((5.0, 5.0),) * 5),)))
    assert isinstance(stage.prepare((picture(), ())), Crops)


def test_networks_have_the_shapes_they_say() -> None:
    with torch.inference_mode():
        assert Silero().eval()(torch.zeros(16_000)).shape == (32,)
        model = Aasist().eval()
        assert sum(parameter.numel() for parameter in model.parameters()) == 297_866
        assert model(torch.zeros(2, SAMPLES)).shape == (2, 2)
