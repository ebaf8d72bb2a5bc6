"""Repositories of a hub with small random checkpoints of real architectures."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextForImageClassification,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    HubertConfig,
    HubertForSequenceClassification,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

from ops.bench.detectors import SMALL, SMALL_SIDE, preprocessing
from tests.unit.deployments.embed.test_clip import MERGES, vocabulary
from tests.unit.deployments.embed.test_clip import PREPROCESS as CLIP_PREPROCESS
from vision.faces.expressions import EXPRESSIONS

Files = dict[str, bytes]

SIDE = 32
FORGED = ("Realism", "Deepfake")
VIT = {"image_processor_type": "ViTImageProcessor", "size": {"height": SIDE, "width": SIDE}}
SIZES: dict[str, Any] = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SPEECH: dict[str, Any] = {
    **SIZES,
    "hidden_size": 32,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
}


def files_of(
    model: PreTrainedModel,
    more: Mapping[str, object],
    *,
    pickled: bool = False,
    broken: bool = False,
    std: float | None = 0.2,
) -> Files:
    """Files as the hub has them; ``pickled``: the checkpoint as old repositories have it; ``broken``: with weights that
    are no numbers; ``more``: JSON or text; ``std``: of all weights, None for those that it has."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        for parameter in model.parameters() if std else ():
            # As they are made, scales are all one and biases all zero: that would hide a mistake.
            torch.nn.init.normal_(parameter, std=std)
    if broken:
        torch.nn.init.constant_(next(model.parameters()), float("nan"))
    with tempfile.TemporaryDirectory() as folder:
        model.eval().save_pretrained(folder)
        if pickled:
            torch.save(model.state_dict(), Path(folder) / "pytorch_model.bin")
            (Path(folder) / "model.safetensors").unlink()
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return files | {n: (v if isinstance(v, str) else json.dumps(v)).encode() for n, v in more.items()}


def vit(labels: tuple[str, ...], **options: Any) -> Files:
    config = ViTConfig(**SIZES, hidden_size=48, image_size=SIDE, patch_size=16, id2label=dict(enumerate(labels)))
    return files_of(ViTForImageClassification(config), {"preprocessor_config.json": VIT}, **options)


def convnext(labels: tuple[str, ...]) -> Files:
    config = ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], id2label=dict(enumerate(labels)))
    return files_of(ConvNextForImageClassification(config), {"preprocessor_config.json": VIT}, pickled=True)


def dinov3(length: int = 384) -> Files:
    config = DINOv3ViTConfig(
        **SIZES | {"num_attention_heads": 6}, hidden_size=length, patch_size=16, image_size=64, num_register_tokens=4
    )
    processor = {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 64, "width": 64}}
    return files_of(DINOv3ViTModel(config), {"preprocessor_config.json": processor}, std=0.1)


def dinov2() -> Files:
    config = Dinov2Config(
        hidden_size=384, num_attention_heads=6, num_hidden_layers=1, mlp_ratio=1, patch_size=14, image_size=56
    )
    processor = {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 64},
        "crop_size": {"height": 56, "width": 56},
    }
    return files_of(Dinov2Model(config), {"preprocessor_config.json": processor}, pickled=True, std=0.1)


def clip(length: int = 512, **options: Any) -> Files:
    sizes = {**SIZES, "hidden_size": 64, "projection_dim": length}
    config = CLIPConfig(
        projection_dim=length,
        text_config={**sizes, "vocab_size": len(vocabulary()), "bos_token_id": 0, "eos_token_id": 2},
        vision_config={**sizes, "image_size": 64, "patch_size": 32},
    )
    more = {
        "preprocessor_config.json": CLIP_PREPROCESS,
        "vocab.json": vocabulary(),
        "merges.txt": "#version: 0.2\n" + "\n".join(MERGES) + "\n",
    }
    return files_of(CLIPModel(config), more, **options)


def bert(length: int = 384, pooling: str = "mean_tokens", tokens: int = 512, **options: Any) -> Files:
    words = {word: code for code, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "city", "night"))}
    config = BertConfig(**SIZES, vocab_size=len(words), hidden_size=length, max_position_embeddings=tokens)
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    more: dict[str, object] = {"tokenizer.json": tokenizer.to_str()}
    if pooling:
        modes = {f"pooling_mode_{mode}": mode == pooling for mode in ("cls_token", "mean_tokens", "max_tokens")}
        more["1_Pooling/config.json"] = {"word_embedding_dimension": length, **modes}
    return files_of(BertModel(config), more, **options)


def speech(kind: str, labels: tuple[str, ...] = ("bonafide", "spoof"), rate: int = 16_000, **options: Any) -> Files:
    named = {"id2label": dict(enumerate(labels))}
    model: PreTrainedModel = (
        HubertForSequenceClassification(HubertConfig(**SPEECH, **named))
        if kind == "hubert"
        else Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**SPEECH, **named))
    )
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=rate).to_dict()
    return files_of(model, {"preprocessor_config.json": extractor}, std=0.6, **options)


SEVEN = tuple(name.capitalize() for name in EXPRESSIONS)


def detector(**options: Any) -> Files:
    return files_of(SMALL["rt_detr_v2"](), {"preprocessor_config.json": preprocessing(SMALL_SIDE) | options}, std=None)


GOOD: dict[str, tuple[str, Any]] = {
    "embed/dinov3, DINOv3": ("embed/dinov3", dinov3),
    "embed/dinov3, DINOv2 in an old file": ("embed/dinov3", dinov2),
    "embed/clip": ("embed/clip", clip),
    "embed/clip in an old file": ("embed/clip", lambda: clip(pickled=True)),
    "embed/sentence": ("embed/sentence", bert),
    "embed/sentence in an old file": ("embed/sentence", lambda: bert(pooling="", pickled=True)),
    "objects/detector": ("objects/detector", detector),
    "people/emotion, ViT": ("people/emotion", lambda: vit(tuple(reversed(SEVEN)))),
    "people/emotion, ConvNeXt in an old file": ("people/emotion", lambda: convnext(SEVEN)),
    "forensics/visual, ViT": ("forensics/visual", lambda: vit(FORGED)),
    "forensics/visual, ConvNeXt in an old file": ("forensics/visual", lambda: convnext(("fake", "real"))),
    "forensics/generated, ViT": ("forensics/generated", lambda: vit(("hum", "ai"))),
    "forensics/voice, wav2vec 2.0": ("forensics/voice", lambda: speech("wav2vec2")),
    "forensics/voice, HuBERT in an old file": (
        "forensics/voice",
        lambda: speech("hubert", ("fake", "real"), pickled=True),
    ),
}
BAD: dict[str, tuple[str, Any, str]] = {
    "vectors of 192": ("embed/dinov3", lambda: dinov3(192), "gives 192 numbers for a picture; embed/dinov3 stores"),
    "projections to 256": ("embed/clip", lambda: clip(256), "gives vectors of 256 numbers; embed/clip gives 512"),
    "a vector of the first token": ("embed/sentence", lambda: bert(pooling="cls_token"), "has pooling_mode_cls_token"),
    "sentences of 128 numbers": ("embed/sentence", lambda: bert(128), "gives vectors of 128 numbers; 384 are stored"),
    "few tokens": ("embed/sentence", lambda: bert(tokens=64), "takes 64 tokens; texts here have up to 256"),
    "pictures of no one size": (
        "objects/detector",
        lambda: detector(size={"shortest_edge": 128}),
        "takes pictures of no fixed size",
    ),
    "six expressions": ("people/emotion", lambda: vit(SEVEN[1:]), "has the labels disgust, fear, happy, sad, surprise"),
    "cats and dogs": ("forensics/visual", lambda: vit(("cat", "dog")), "are cat, dog; they have to mean real and fake"),
    "dogs and wolves": ("forensics/generated", lambda: vit(("dog", "wolf")), "are dog, wolf; they have to mean real"),
    "telephone speech": ("forensics/voice", lambda: speech("wav2vec2", rate=8000), "takes sound at 8000 Hz"),
    "speakers": ("forensics/voice", lambda: speech("hubert", ("Ann", "Bob")), "are ann, bob; they have to mean real"),
    "no numbers": ("embed/sentence", lambda: bert(broken=True), "its outputs are not finite numbers"),
    "another image processor": (
        "people/emotion",
        lambda: vit(SEVEN) | {"preprocessor_config.json": b'{"image_processor_type": "OwlViTImageProcessor"}'},
        "image processor 'OwlViT' is unknown",
    ),
    "a checkpoint of another size": (
        "forensics/visual",
        lambda: vit(FORGED) | {"model.safetensors": convnext_tensors()},
        "do not fit ViTForImageClassification",
    ),
}
"""Stage, repository, and what is wrong with it."""


def convnext_tensors() -> bytes:
    """A checkpoint of another model in the new format."""
    config = ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], num_labels=2)
    return files_of(ConvNextForImageClassification(config), {})["model.safetensors"]
