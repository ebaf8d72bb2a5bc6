"""Checkpoints of trained members: ``model.safetensors`` and ``model.json``, both listed in models.yaml.

The tensors are ``weight`` float32[d, 128], ``bias`` float32[128], and ``centre``, ``scale``, ``mean`` float32[d] of the
muzzles of training. The JSON describes them; nothing in it is executed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from vision.errors import ModelNotLoaded
from vision.muzzle.ensemble import CODE_LENGTH, MEMBER_IDS, Domain, Ensemble, Member, Thresholds
from vision.muzzle.photo import described
from vision.weights import Weights, WeightsUnavailable, resolve

TENSORS: Final = "model.safetensors"
CARD: Final = "model.json"


class CalibratedThresholds(BaseModel):
    """Thresholds of equal error rate on animals held out of training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cosine: float
    distance: float
    mutual: float
    domain: float


class Card(BaseModel):
    """``model.json``; ``backbone``: a name of models.yaml, ``features``: its version in training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    member_id: Literal[60, 62, 64]
    backbone: str
    features: str
    preprocessing: dict[str, Any]
    thresholds: CalibratedThresholds
    training: dict[str, Any]
    metrics: dict[str, Any]


def save_member(folder: Path, card: Card, member: Member, domain: Domain) -> None:
    """Write both files; the JSON last, so that it exists only beside complete tensors."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"weight": member.weight, "bias": member.bias}
    tensors |= {"centre": domain.centre, "scale": domain.scale, "mean": domain.mean}
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, folder / TENSORS)
    (folder / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_member(weights: Weights) -> tuple[Card, Member, Domain]:
    """Read a registered checkpoint. Raises ModelNotLoaded with what does not fit."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        card = Card.model_validate_json(weights.files[CARD].read_text(encoding="utf-8"))
        tensors = load_file(weights.files[TENSORS])
        domain = Domain(tensors["centre"], tensors["scale"], tensors["mean"], card.thresholds.domain)
        member = Member(card.member_id, tensors["weight"], tensors["bias"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelNotLoaded(f"{weights.name}: {CARD} is unusable: {where}: {first['msg']}") from error
    except (SafetensorError, KeyError, OSError) as error:
        raise ModelNotLoaded(f"{weights.name}: {TENSORS} is unusable ({type(error).__name__})") from error
    if card.preprocessing != described():
        raise ModelNotLoaded(f"{weights.name} was trained with another preprocessing; train it again.")
    length = len(domain.mean)
    if member.weight.shape != (length, CODE_LENGTH) or member.bias.shape != (CODE_LENGTH,):
        raise ModelNotLoaded(f"{weights.name}: a weight of {length} x {CODE_LENGTH} numbers is expected.")
    return card, member, domain


def trained_ensemble(names: Sequence[str]) -> tuple[Ensemble, str, str]:
    """Return the ensemble of the available checkpoints, its backbone and the version of that.

    All members share one backbone. ``missing`` of the ensemble has the reasons why others are not loaded. Raises
    ModelNotLoaded when none can be loaded.
    """
    loaded: dict[int, tuple[Card, Member, Domain, Weights]] = {}
    missing: list[str] = []
    for name in names:
        try:
            weights = resolve(name)
            card, member, domain = read_member(weights)
        except WeightsUnavailable as error:
            missing += error.reasons
        except ModelNotLoaded as error:
            missing.append(error.message)
        else:
            first = next(iter(loaded.values()), None)
            if card.member_id in loaded:
                missing.append(f"{name}: model {card.member_id} is already loaded")
            elif first is not None and first[0].features != card.features:
                missing.append(f"{name}: made for {card.features}, the others for {first[0].features}")
            else:
                loaded[card.member_id] = card, member, domain, weights
    if not loaded:
        raise ModelNotLoaded("\n- ".join(["no muzzle checkpoint could be loaded", *missing]))
    parts = [loaded[number] for number in MEMBER_IDS if number in loaded]
    leading, _, domain, _ = parts[0]
    ensemble = Ensemble(
        members=tuple(member for _, member, _, _ in parts),
        domain=domain,
        method="trained",
        thresholds=Thresholds(leading.thresholds.cosine, leading.thresholds.distance, leading.thresholds.mutual),
        missing=tuple(missing),
        details=tuple(
            {"checkpoint": weights.version, "training": card.training, "metrics": card.metrics}
            for card, _, _, weights in parts
        ),
    )
    return ensemble, leading.backbone, leading.features
