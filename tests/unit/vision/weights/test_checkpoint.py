"""Small generated checkpoints of the real architectures: none is loaded with made-up weights."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
)

from vision.embed import sentence
from vision.embed.backbones import load_backbone
from vision.embed.clip import ClipTowers
from vision.engines import build_engine
from vision.errors import ModelNotLoaded
from vision.faces import expressions
from vision.forensics import classifiers, voices
from vision.weights import Weights
from vision.weights.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[4]
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
IMAGE = {"image_size": 32, "patch_size": 16}
SOUND = {
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
}


def labels(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


def clip_model() -> CLIPModel:
    text, vision = {**SMALL, "vocab_size": 64, "projection_dim": 16}, {**SMALL, **IMAGE, "projection_dim": 16}
    return CLIPModel(CLIPConfig(projection_dim=16, text_config=text, vision_config=vision))


@dataclass(frozen=True)
class Case:
    """A model to save, how the product loads it, and the end of the name of a weight that is taken out."""

    make: Callable[[], PreTrainedModel]
    load: Callable[[Weights], object]
    removed: str
    extractor: str = "ViTImageProcessor"


CASES = {
    "DINOv3": Case(
        lambda: DINOv3ViTModel(DINOv3ViTConfig(**SMALL, **IMAGE, num_register_tokens=4)),
        lambda weights: load_backbone(weights).make_module(),
        "1.norm2.weight",
    ),
    "CLIP, pictures": Case(
        clip_model, lambda weights: ClipTowers(weights).make_image_module(), "visual_projection.weight"
    ),
    "CLIP, texts": Case(
        clip_model, lambda weights: ClipTowers(weights).make_text_tower("cpu"), "final_layer_norm.bias"
    ),
    "ViT, expressions": Case(
        lambda: ViTForImageClassification(ViTConfig(**SMALL, **IMAGE, **labels(*expressions.EXPRESSIONS))),
        lambda weights: expressions.load_classifier(weights, partial(build_engine, "torch-fp32", cache=weights.path)),
        "classifier.weight",
    ),
    "ViT, fakes": Case(
        lambda: ViTForImageClassification(ViTConfig(**SMALL, **IMAGE, **labels("fake", "real"))),
        lambda weights: classifiers.load_classifier(weights, partial(build_engine, "torch-fp32", cache=weights.path)),
        "layernorm.weight",
    ),
    "wav2vec2": Case(
        lambda: Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**SMALL, **SOUND, **labels("fake", "real"))),
        lambda weights: voices.load_network(weights, partial(build_engine, "torch-fp32", cache=weights.path)),
        "projector.bias",
        "Wav2Vec2FeatureExtractor",
    ),
    "BERT": Case(
        lambda: BertModel(BertConfig(**SMALL, vocab_size=64)),
        sentence.load_network,
        "1.attention.self.query.weight",
    ),
}


def saved(case: Case, folder: Path, model: PreTrainedModel | None = None) -> Weights:
    """Files as a hub has them."""
    (model or case.make()).save_pretrained(folder)
    preprocess = {"image_processor_type": case.extractor, "feature_extractor_type": case.extractor}
    (folder / "preprocessor_config.json").write_text(json.dumps({**preprocess, "size": {"height": 32, "width": 32}}))
    return Weights("tiny", folder, {path.name: path for path in folder.iterdir()}, *"abcd")


def rewrite(weights: Weights, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    state = load_file(weights.files["model.safetensors"])
    change(state)
    save_file(state, weights.files["model.safetensors"], {"format": "pt"})


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_missing_weight_is_refused_by_name(case: Case, tmp_path: Path) -> None:
    weights = saved(case, tmp_path)

    def remove(state: dict[str, torch.Tensor]) -> None:
        (name,) = [name for name in state if name.endswith(case.removed) and not name.startswith("vision_model")]
        del state[name]

    rewrite(weights, remove)
    message = rf"weights of tiny do not fit \w+: 1 missing \(\S*{re.escape(case.removed)}\)\. Use a complete checkpoint"
    with pytest.raises(ModelNotLoaded, match=message):
        case.load(weights)


@pytest.mark.parametrize("name", ["DINOv3", "BERT"])
def test_unexpected_weights_and_other_shapes_are_refused_by_name(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    weights = saved(case, tmp_path)

    def change(state: dict[str, torch.Tensor]) -> None:
        (name,) = [name for name in state if name.endswith(case.removed)]
        state[name] = torch.zeros(3)
        state["adapter.weight"] = torch.zeros(3)

    rewrite(weights, change)
    message = rf"1 unexpected \(adapter\.weight\), 1 of another shape \(\S*{re.escape(case.removed)}\)\."
    with pytest.raises(ModelNotLoaded, match=message):
        case.load(weights)


@pytest.mark.parametrize("name", [name for name in CASES if name != "CLIP, texts"])
def test_a_whole_checkpoint_is_loaded_as_it_was_saved_in_fp32_and_eval_mode(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = case.make().bfloat16()
    weights = saved(case, tmp_path, model)
    case.load(weights)
    loaded = load_checkpoint(type(model), weights)
    assert not loaded.training
    expected, state = model.state_dict(), loaded.state_dict()
    assert state.keys() == expected.keys()
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    assert all(torch.equal(state[name], value.float()) for name, value in expected.items())


def test_only_the_files_of_the_registry_are_read(tmp_path: Path) -> None:
    case = CASES["DINOv3"]
    weights = saved(case, tmp_path)
    renamed = {name: path.rename(path.with_name(f"our-{path.name}")) for name, path in weights.files.items()}
    for name in renamed:
        (tmp_path / name).write_text("rubbish")
    (tmp_path / "code.py").write_text("raise SystemExit")
    config = json.loads(renamed["config.json"].read_text())
    renamed["config.json"].write_text(json.dumps({**config, "auto_map": {"AutoModel": "code.Model"}}))
    case.load(replace(weights, files=renamed))
    del renamed["model.safetensors"]
    with pytest.raises(ModelNotLoaded, match=r"lists neither model\.safetensors nor pytorch_model\.bin"):
        case.load(replace(weights, files=renamed))


@pytest.mark.parametrize("config", [{}, {"model_type": "unheard-of"}, {"model_type": "clip_vision_model"}])
def test_a_configuration_of_another_kind_is_refused(config: dict[str, str], tmp_path: Path) -> None:
    case = CASES["ViT, fakes"]
    weights = saved(case, tmp_path)
    weights.files["config.json"].write_text(json.dumps({**labels("fake", "real"), **config}))
    with pytest.raises(ModelNotLoaded, match=r"The config\.json of tiny describes no model"):
        case.load(weights)


def test_transformers_loads_weights_in_one_place_only() -> None:
    folders = ("configs", "vision", "stores", "deployments", "graphs", "ops")
    bench = ROOT / "ops" / "bench"  # whose references are transformers' own, on folders that somebody names
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if bench not in path.parents]
    calls = {path: path.read_text(encoding="utf-8").count("from_pretrained") for path in sources}
    assert {path: count for path, count in calls.items() if count} == {ROOT / "vision/weights/checkpoint.py": 1}
