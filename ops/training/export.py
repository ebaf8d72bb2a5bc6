"""Write trained members as the service loads them, with their entries for configs/models.yaml."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from graphs.muzzle.verdicts import CONTRACT
from ops.training.features import FeatureExtractor
from vision.muzzle.checkpoint import CARD, TENSORS, CalibratedThresholds, Card, save_member
from vision.muzzle.ensemble import CODE_LENGTH, Ensemble
from vision.muzzle.photo import described


def export(
    ensemble: Ensemble,
    extractor: FeatureExtractor,
    thresholds: CalibratedThresholds | None,
    *,
    training: dict[str, Any],
    metrics: dict[str, Any],
    folder: Path,
) -> None:
    """Write ``muzzle-60``, ``-62``, ``-64`` and ``models.yaml`` under the folder.

    ``thresholds`` are None without held-out animals: nothing can be calibrated then, and those of the API are written.
    """
    limit = ensemble.domain.limit
    chosen = thresholds or CalibratedThresholds(
        cosine=CONTRACT.cosine, distance=CONTRACT.distance, mutual=CONTRACT.mutual, domain=limit
    )
    entries = {}
    for member in ensemble.members:
        name = f"muzzle-{member.member_id}"
        card = Card(
            member_id=member.member_id,
            backbone=extractor.name,
            features=extractor.texture.version,
            preprocessing=described(),
            thresholds=chosen,
            training=training | {"calibrated": thresholds is not None},
            metrics=metrics,
        )
        save_member(folder / name, card, member, replace(ensemble.domain, limit=chosen.domain))
        entries[name] = registry_entry(
            folder / name,
            (TENSORS, CARD),
            task="muzzle-verification",
            description=f"Muzzle model {member.member_id}, trained on your own photos",
            architecture="affine map of texture features",
        ) | {"dims": CODE_LENGTH}
    (folder / "models.yaml").write_text(yaml.safe_dump(entries, sort_keys=False, width=120), encoding="utf-8")


def registry_entry(
    folder: Path, files: Sequence[str], *, task: str, description: str, architecture: str
) -> dict[str, Any]:
    """Return the entry in configs/models.yaml of a folder under VISION_MODELS_DIR; the main weight comes first."""
    specs = {
        name: {
            "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
            "size": (folder / name).stat().st_size,
        }
        for name in files
    }
    return {
        "task": task,
        "licence": "as your photos allow",
        "commercial": False,
        "description": description,
        "architecture": architecture,
        "vram_mb": 350,
        "files": specs,
        "sources": [{"folder": {"path": folder.name}}],
    }
