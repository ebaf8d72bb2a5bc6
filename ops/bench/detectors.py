"""Generate checkpoints of detection transformers, and have this process find them beside all other weights.

Trained weights of the detector cannot be had everywhere. What it costs, and whether its numbers are those of
transformers, can be measured without: random weights of the real architectures do. They rate the queries differently,
as trained ones do and those of a new network do not: else which of them are the best would be left to rounding.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from configs import settings as settings_module
from configs.settings import PREFIX, settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FULL: Final = "rtdetr-v2-r18vd"
"""The one of the real size; the others are as small as can be."""
CLASSES: Final = ("person", "Potted_Plant", "dog")
SIDE: Final = 640
SMALL_SIDE: Final = 128
_BASIC: Final[dict[str, Any]] = {"layer_type": "basic", "out_indices": [2, 3, 4]}
_SMALL: Final[dict[str, Any]] = {
    "encoder_in_channels": [16, 24, 32],
    "encoder_hidden_dim": 32,
    "encoder_ffn_dim": 32,
    "d_model": 32,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "encoder_attention_heads": 2,
    "num_queries": 12,
    "num_denoising": 0,
}


def names_of(classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of a configuration that name its classes."""
    return {"id2label": dict(enumerate(classes)), "label2id": {name: index for index, name in enumerate(classes)}}


def small_backbone() -> Any:
    """Return the configuration of a ResNet with a layer in each of its stages."""
    from transformers import RTDetrResNetConfig

    return RTDetrResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], **_BASIC)


def rt_detr_v2(classes: tuple[str, ...] = CLASSES) -> "PreTrainedModel":
    """Return a small RT-DETRv2."""
    from transformers import RTDetrV2Config, RTDetrV2ForObjectDetection

    return RTDetrV2ForObjectDetection(RTDetrV2Config(backbone_config=small_backbone(), **_SMALL, **names_of(classes)))


def rt_detr(classes: tuple[str, ...] = CLASSES) -> "PreTrainedModel":
    """Return a small RT-DETR."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection

    return RTDetrForObjectDetection(RTDetrConfig(backbone_config=small_backbone(), **_SMALL, **names_of(classes)))


def d_fine(classes: tuple[str, ...] = CLASSES) -> "PreTrainedModel":
    """Return a small D-FINE."""
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

    backbone = HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 16, 24, 32],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[16, 24, 32, 32],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        hidden_sizes=[16, 24, 32, 32],
        depths=[1, 1, 1, 1],
        embedding_size=8,
        out_indices=[2, 3, 4],
    )
    given = {**_SMALL, "encoder_in_channels": [24, 32, 32]}
    return DFineForObjectDetection(DFineConfig(backbone_config=backbone, **given, **names_of(classes)))


def rtdetr_v2_r18vd() -> "PreTrainedModel":
    """Return a network of the architecture and size of RT-DETRv2-R18."""
    from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

    backbone = RTDetrResNetConfig(embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], **_BASIC)
    config = RTDetrV2Config(
        backbone_config=backbone,
        encoder_in_channels=[128, 256, 512],
        hidden_expansion=0.5,
        decoder_layers=3,
        num_denoising=0,
        **names_of(tuple(f"class {number}" for number in range(80))),
    )
    return RTDetrV2ForObjectDetection(config)


SMALL: Final[Mapping[str, Callable[[], "PreTrainedModel"]]] = {
    "rt_detr": rt_detr,
    "rt_detr_v2": rt_detr_v2,
    "d_fine": d_fine,
}


def with_random_weights(make: Callable[[], "PreTrainedModel"], seed: int = 5) -> "PreTrainedModel":
    """Return a network in eval mode whose random weights rate its queries differently."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make().eval()
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                # Kaiming's, so that no layer of a large network makes its inputs grow.
                torch.nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
            elif ("class_embed" in name or "enc_score_head" in name) and name.endswith("bias"):
                torch.nn.init.zeros_(parameter)
    return model


def preprocessing(side: int, **others: Any) -> dict[str, Any]:
    """Return the ``preprocessor_config.json`` of RT-DETR for squares of ``side`` pixels."""
    size = {"size": {"height": side, "width": side}, "do_normalize": False}
    return {"image_processor_type": "RTDetrImageProcessor", **size, **others}


def save(model: "PreTrainedModel", folder: Path, preprocess: Mapping[str, Any]) -> None:
    """Write a checkpoint with what the detector reads beside it."""
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocess))


def register(root: Path, **folders: Path) -> None:
    """Have this process find the checkpoints in these folders by these names, ``_`` as ``-``, beside all other weights.

    What they are found by is written into ``root``, and so is what is compiled of them.
    """
    models = root / "models"
    models.mkdir()
    there = settings().models_dir
    for path in there.expanduser().iterdir() if there else ():
        (models / path.name).symlink_to(path.resolve())
    entries = {}
    for key, folder in folders.items():
        name = key.replace("_", "-")
        (models / name).unlink(missing_ok=True)
        (models / name).symlink_to(folder.resolve())
        entries[name] = _entry(name, folder)
    (root / "models.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))
    os.environ |= {
        f"{PREFIX}MODELS_DIR": str(models),
        f"{PREFIX}MODELS_FILE": str(root / "models.yaml"),
        f"{PREFIX}MODELS_CACHE": str(root / "cache"),
    }
    settings_module.settings.cache_clear()


def _entry(name: str, folder: Path) -> dict[str, Any]:
    # The first file is the main one: its checksum is the version, by which compiled networks are kept.
    files = sorted(folder.iterdir(), key=lambda path: (path.suffix != ".safetensors", path.name))
    return {
        "task": "object-detection",
        "licence": "none",
        "commercial": True,
        "description": "generated for a measurement",
        "architecture": name,
        "vram_mb": 400,
        "files": {
            path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}
            for path in files
        },
        "sources": [{"folder": {"path": name}}],
    }
