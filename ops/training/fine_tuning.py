"""Fine-tune the last blocks of a backbone to muzzles, by the triplet loss of three temporary heads.

The members share one backbone, so one is tuned for all of them. The result is a model with its own name: register it,
calibrate it with ``python -m ops.calibration.muzzle``, and train the heads over it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ops.training.export import registry_entry
from ops.training.features import random_view
from ops.training.heads import animals_and_views, triplet_loss
from ops.training.loop import start_ray
from ops.training.photos import LabelledPhoto
from vision.embed.backbones import load_backbone
from vision.muzzle.ensemble import MEMBER_IDS, calibration, projections
from vision.muzzle.texture import TextureBackbone
from vision.weights import resolve_first

NAME: Final = "muzzle-backbone"
TUNED_BLOCKS: Final = 2
ANIMALS, VIEWS, BATCHES = 3, 3, 8
LEARNING_RATE: Final = 1e-5
MARGIN: Final = 0.3


def fine_tuned(photos: Sequence[LabelledPhoto], models: Sequence[str], epochs: int, folder: Path) -> str:
    """Train on Ray Train, write ``muzzle-backbone`` and its entry under the folder, and return what to do next."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    config = {
        "photos": [(photo.animal, str(photo.path)) for photo in photos],
        "models": list(models),
        "epochs": epochs,
        "folder": str(folder / NAME),
    }
    start_ray(workers=1)
    TorchTrainer(
        tune,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="fine-tuning", storage_path=str(folder / "ray")),
    ).fit()
    entry = registry_entry(
        folder / NAME,
        ("model.safetensors", "config.json", "preprocessor_config.json"),
        task="image-embedding",
        description="The first blocks of a backbone, fine-tuned on your own photos",
        architecture="transformers AutoModel",
    )
    (folder / f"{NAME}.json").write_text(json.dumps({NAME: entry}, indent=2) + "\n", encoding="utf-8")
    return (
        f"{folder / NAME} is ready. Add {NAME}.json to configs/models.yaml, put the folder under VISION_MODELS_DIR, "
        f"run `python -m ops.calibration.muzzle {NAME} …`, then this command again with `--models {NAME}`."
    )


def tune(config: dict[str, Any]) -> None:
    """Run Ray Train's loop of one worker. Raises ValueError for a backbone that is no ViT."""
    import torch
    from ray import train

    photos = [LabelledPhoto(animal, Path(path)) for animal, path in config["photos"]]
    weights = resolve_first(config["models"])
    texture = TextureBackbone(load_backbone(weights))
    if not texture.is_vit:
        raise ValueError(f"{weights.name} is no ViT; only these are fine-tuned")
    domain, share = calibration(weights.name, texture.dimensions)
    centre, scale, offset = (torch.from_numpy(part) for part in (domain.centre, domain.scale, share * domain.mean))
    module = texture.make_module()
    tuned = texture.last_parameters(module, TUNED_BLOCKS)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for parameter in tuned:
        parameter.requires_grad_(True)
    heads = [torch.from_numpy(weight) for weight in projections(texture.dimensions)]
    optimizer = torch.optim.AdamW(tuned, lr=LEARNING_RATE)
    labels, groups = _numbered(photos)
    images = [photo.pixels() for photo in photos]
    for epoch in range(config["epochs"]):
        rng = np.random.default_rng((0, epoch))
        total = 0.0
        for _ in range(BATCHES):
            rows = animals_and_views(labels, groups, ANIMALS, VIEWS, rng)
            optimizer.zero_grad()
            for number, head in zip(MEMBER_IDS, heads, strict=True):
                squares = [random_view(number, rng).of(images[row]) for row in rows]
                features = module(torch.from_numpy(np.stack([texture.normalize(each) for each in squares])))
                codes = torch.nn.functional.normalize(((features - centre) / scale - offset) @ head, dim=1)
                loss = triplet_loss(codes, torch.from_numpy(labels[rows]), MARGIN, "batch-hard")
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
            optimizer.step()
        train.report({"epoch": epoch + 1, "loss": total / BATCHES / len(heads)})
    _save(module, texture, Path(config["folder"]))


def _numbered(photos: Sequence[LabelledPhoto]) -> tuple[Any, Any]:
    """Return the photos' animals and data sets as numbers, int64[n] each."""
    names = sorted({photo.animal for photo in photos})
    datasets = sorted({photo.dataset for photo in photos})
    labels = np.array([names.index(photo.animal) for photo in photos], np.int64)
    return labels, np.array([datasets.index(photo.dataset) for photo in photos], np.int64)


def _save(module: Any, texture: TextureBackbone, folder: Path) -> None:
    """Save the blocks that are used, as a transformers model with as many layers."""
    from safetensors.torch import save_file

    source = texture.backbone.weights.files
    config = json.loads(source["config.json"].read_text(encoding="utf-8"))
    # What names the layers of the whole model does not fit a part of it.
    config = {name: value for name, value in config.items() if name not in ("out_features", "out_indices")}
    config.pop("stage_names", None)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().contiguous() for name, value in module.owner.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    text = json.dumps(config | {"num_hidden_layers": texture.blocks}, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    preprocessing = source["preprocessor_config.json"].read_bytes()
    (folder / "preprocessor_config.json").write_bytes(preprocessing)
