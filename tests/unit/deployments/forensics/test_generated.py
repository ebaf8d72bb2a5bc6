"""forensics/generated on small generated checkpoints: one logit or two labels, the preprocessing, and two opinions."""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import (
    AutoImageProcessor,
    PreTrainedModel,
    SiglipConfig,
    SiglipForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from deployments.forensics.generated import Config, Generated, GeneratedDetector
from tests.tolerances import FP32_NETWORK
from vision.engines import build_engine
from vision.errors import InvalidInput, ModelNotLoaded
from vision.forensics.calibration import sigmoid
from vision.forensics.generated import CLIP_MEAN, CLIP_STD, COMMUNITY_FORENSICS, CROP, SHORTER_SIDE, GeneratedClassifier
from vision.images import Pixels
from vision.weights import Weights, load_registry

pytestmark = pytest.mark.numeric

HEADS, LAYERS, WIDTH = 2, 2, 48
REFERENCE = 1e-3
"""What an independent implementation may differ by."""


def files_of(folder: Path, name: str, model: PreTrainedModel, preprocess: dict[str, Any]) -> Weights:
    """Files as the hub has them, in a folder, with weights that make a difference."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for tensor, parameter in model.named_parameters():
            scale = "norm" in tensor and tensor.endswith("weight")
            torch.nn.init.normal_(parameter, mean=float(scale), std=0.2)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocess))
    files = {path.name: path for path in folder.iterdir()}
    digest = hashlib.sha256(files["model.safetensors"].read_bytes()).hexdigest()
    return Weights(name, folder, files, "folder here", "MIT", type(model).__name__, f"{name}@{digest[:8]}")


def community_forensics(folder: Path, **extra: Any) -> Weights:
    """As Community Forensics at 384 pixels, but small: one logit, and the epsilon of timm's layers."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    config = ViTConfig(**sizes, image_size=CROP, patch_size=16, layer_norm_eps=1e-6, num_labels=1)
    preprocess = {"image_processor_type": "ViTImageProcessor", "image_mean": CLIP_MEAN, "image_std": CLIP_STD, **extra}
    return files_of(folder, COMMUNITY_FORENSICS, ViTForImageClassification(config).eval(), preprocess)


def siglip(folder: Path, labels: dict[int, str]) -> Weights:
    """As the second opinion, but small."""
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
    }
    config = SiglipConfig(text_config={"vocab_size": 8, "hidden_size": 32}, vision_config=vision)
    config.id2label, config.label2id = labels, {label: index for index, label in labels.items()}
    preprocess = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 64, "width": 64}, "resample": 2}
    return files_of(folder, "ai-or-human", SiglipForImageClassification(config).eval(), preprocess)


def picture(seed: int = 0, size: tuple[int, int] = (600, 480)) -> Pixels:
    """Coloured noise on a gradient, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 160, size[0])[None, :, None] * np.array([1.0, 0.5, 0.1 * seed])
    return np.asarray(np.clip(ramp + rng.normal(60, 30, (size[1], size[0], 3)), 0, 255), np.uint8)


def expected_input(image: Pixels) -> torch.Tensor:
    """Shorter side to 440 by Pillow's bilinear filter, the middle 384 x 384, CLIP's mean and deviation."""
    whole = Image.fromarray(image)
    scale = SHORTER_SIDE / min(whole.size)
    width, height = (max(SHORTER_SIDE, int(side * scale)) for side in whole.size)
    shrunk = whole.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - CROP) // 2, (height - CROP) // 2
    cut = np.asarray(shrunk.crop((left, top, left + CROP, top + CROP)), np.float64) / 255
    return torch.from_numpy((cut - CLIP_MEAN) / CLIP_STD).permute(2, 0, 1)[None]


def logit_of_timm(weights: Weights, pixels: torch.Tensor) -> float:
    """A ViT as timm computes it, in float64, from the tensors of the checkpoint: it knows nothing of transformers."""
    from safetensors.torch import load_file

    tensors = {name: tensor.double() for name, tensor in load_file(weights.files["model.safetensors"]).items()}
    vit = {name.removeprefix("vit."): tensor for name, tensor in tensors.items()}

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ vit[f"{name}.weight"].T + vit[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, (WIDTH,), vit[f"{name}.weight"], vit[f"{name}.bias"], 1e-6)

    patch = "embeddings.patch_embeddings.projection"
    tokens = functional.conv2d(pixels.double(), vit[f"{patch}.weight"], vit[f"{patch}.bias"], stride=16)
    x = torch.cat([vit["embeddings.cls_token"], tokens.flatten(2).transpose(1, 2)], 1)
    x = x + vit["embeddings.position_embeddings"]
    for number in range(LAYERS):
        at = next(name for name in vit if f"layer.{number}." in name or f"layers.{number}." in name)
        block = at[: at.index(f".{number}.") + len(f".{number}.")]
        names = [name.removesuffix(".weight") for name in vit if name.startswith(block) and name.endswith(".weight")]

        def named(*words: str, names: list[str] = names) -> str:
            (name,) = [name for name in names if any(name.endswith(word) for word in words)]
            return name

        y = norm(x, named("layernorm_before"))
        q, k, v = (
            linear(y, named(f"attention.{part}", f"{short}_proj")).view(1, -1, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part, short in (("query", "q"), ("key", "k"), ("value", "v"))
        )
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, -1, WIDTH)
        x = x + linear(mixed, named("attention.output.dense", "o_proj"))
        hidden = functional.gelu(linear(norm(x, named("layernorm_after")), named("intermediate.dense", "fc1")))
        last = [name for name in names if name.endswith(("output.dense", "fc2")) and "attention" not in name]
        x = x + linear(hidden, last[0])
    last_norm = norm(x[:, 0], "layernorm")
    return float(last_norm @ tensors["classifier.weight"].T + tensors["classifier.bias"])


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., GeneratedDetector]]:
    """Load a stage over checkpoints by their names; a name without one has no weights."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def load(*checkpoints: Weights, second: tuple[str, ...] = (), engine: str = "torch-fp32") -> GeneratedDetector:
        here = {weights.name: weights for weights in checkpoints}

        def resolve(names: list[str]) -> Weights:
            for name in names:
                if name in here:
                    return here[name]
            raise ModelNotLoaded(f"no verified weights for {names[0]}")

        monkeypatch.setattr("deployments.forensics.generated.resolve_first", resolve)
        stage = GeneratedDetector(Config(second=list(second), engine=engine, max_batch_size=2))
        stage.load()
        return stage

    yield load
    torch.set_num_threads(threads)


def judged(stage: GeneratedDetector, *images: Pixels) -> list[Generated]:
    results = stage.predict_batch([stage.prepare(image) for image in images])
    return [result for result in results if isinstance(result, Generated)]


@pytest.mark.parametrize("size", [(600, 480), (300, 1000), (440, 440), (97, 64)], ids=str)
def test_it_is_the_network_of_the_paper(tmp_path: Path, size: tuple[int, int]) -> None:
    weights = community_forensics(tmp_path / "cf")
    loaded = GeneratedClassifier(weights, partial(build_engine, "torch-fp32", cache=tmp_path))
    prepared = loaded.prepare(picture(1, size))
    expected = expected_input(picture(1, size))
    assert prepared.shape == (3, CROP, CROP)
    assert prepared == pytest.approx(expected[0].numpy(), abs=REFERENCE)
    assert float(loaded(prepared[None])[0]) == pytest.approx(logit_of_timm(weights, expected), abs=REFERENCE)


def test_the_pinned_file_is_as_large_as_the_weights_of_this_architecture() -> None:
    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6}
    with torch.device("meta"):
        model = ViTForImageClassification(ViTConfig(**sizes, image_size=CROP, patch_size=16, num_labels=1))
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    pinned = load_registry().root[COMMUNITY_FORENSICS].files["model.safetensors"].size
    assert pinned is not None
    assert 0 < pinned - weights < 30_000  # the names and shapes of 200 tensors


def test_pictures_differ(serving: Callable[..., GeneratedDetector], tmp_path: Path) -> None:
    stage = serving(community_forensics(tmp_path / "cf"))
    stage.warm_up()
    first, second = judged(stage, picture(1), picture(9))
    assert abs(first.probability - second.probability) > 0.01
    (alone,) = judged(stage, picture(9))
    assert alone.probability == pytest.approx(second.probability, abs=FP32_NETWORK)
    assert list(first.opinions) == [stage.info()["model_version"]]


def test_the_engine_of_a_cpu_says_the_same(serving: Callable[..., GeneratedDetector], tmp_path: Path) -> None:
    weights = community_forensics(tmp_path / "cf")
    stage = serving(weights, engine="openvino-fp32")
    (verdict,) = judged(stage, picture(1))
    expected = sigmoid(logit_of_timm(weights, expected_input(picture(1))))
    assert verdict.probability == pytest.approx(expected, abs=REFERENCE)
    assert stage.info()["engine"] == "openvino-fp32"


@pytest.mark.parametrize("labels", [{0: "ai", 1: "hum"}, {0: "real", 1: "generated"}])
def test_a_second_opinion(serving: Callable[..., GeneratedDetector], tmp_path: Path, labels: dict[int, str]) -> None:
    first, second = community_forensics(tmp_path / "cf"), siglip(tmp_path / "siglip", labels)
    stage = serving(first, second, second=("ai-or-human",))
    stage.warm_up()
    (verdict,) = judged(stage, picture(1))
    processor = AutoImageProcessor.from_pretrained(second.path)
    model = SiglipForImageClassification.from_pretrained(second.path).eval()
    with torch.inference_mode():
        logits = model(**processor(images=Image.fromarray(picture(1)), return_tensors="pt")).logits
    other = float(logits.softmax(1)[0, 0 if labels[0] == "ai" else 1])
    assert verdict.opinions[second.version] == pytest.approx(other, abs=REFERENCE)
    mean = np.mean([np.log(each / (1 - each)) for each in verdict.opinions.values()])
    assert verdict.probability == pytest.approx(sigmoid(float(mean)), abs=FP32_NETWORK)
    assert stage.info()["second_opinion"] == second.version
    assert stage.model_chains(stage.config) == [[COMMUNITY_FORENSICS], ["ai-or-human"]]


def test_two_models_that_disagree() -> None:
    assert Generated(0.5, {"a": 0.9, "b": 0.1}).divided
    assert not Generated(0.9, {"a": 0.95, "b": 0.8}).divided
    assert not Generated(0.9, {"a": 0.9}).divided


def test_a_second_opinion_that_is_not_there_costs_nothing(
    serving: Callable[..., GeneratedDetector], tmp_path: Path
) -> None:
    stage = serving(community_forensics(tmp_path / "cf"), second=("ai-or-human",))
    (verdict,) = judged(stage, picture(1))
    assert len(verdict.opinions) == 1
    assert stage.info()["second_opinion"] == "not available: no verified weights for ai-or-human"


def test_without_weights_it_does_not_load(serving: Callable[..., GeneratedDetector]) -> None:
    with pytest.raises(ModelNotLoaded, match="no verified weights for community-forensics-384"):
        serving()


def test_labels_that_mean_something_else_are_refused(tmp_path: Path) -> None:
    build = partial(build_engine, "torch-fp32", cache=tmp_path)
    with pytest.raises(ModelNotLoaded, match="cat, dog"):
        GeneratedClassifier(siglip(tmp_path / "pets", {0: "cat", 1: "dog"}), build)
    weights = community_forensics(tmp_path / "cf")
    config = json.loads(weights.files["config.json"].read_text())
    weights.files["config.json"].write_text(json.dumps(config | {"id2label": {"0": "Human"}}))
    with pytest.raises(ModelNotLoaded, match="means Human"):
        GeneratedClassifier(weights, build)


def test_a_preprocessing_of_no_fixed_size_is_refused(tmp_path: Path) -> None:
    weights = siglip(tmp_path / "siglip", {0: "ai", 1: "hum"})
    config = {"image_processor_type": "ViTImageProcessor", "size": {"shortest_edge": 64}}
    weights.files["preprocessor_config.json"].write_text(json.dumps(config))
    with pytest.raises(ModelNotLoaded, match="has no fixed size"):
        GeneratedClassifier(weights, partial(build_engine, "torch-fp32", cache=tmp_path))


def test_a_strip_is_refused_alone(serving: Callable[..., GeneratedDetector], tmp_path: Path) -> None:
    stage = serving(community_forensics(tmp_path / "cf"))
    with pytest.raises(InvalidInput, match="less than 64 pixels"):
        stage.prepare(np.zeros((63, 200, 3), np.uint8))
    with pytest.raises(InvalidInput, match="50 times"):
        stage.prepare(np.zeros((70, 4000, 3), np.uint8))
