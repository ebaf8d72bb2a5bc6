"""The three models of the muzzle ensemble after their common backbone: affine maps of texture features to 128 numbers.

Trained ones come from checkpoints (``checkpoint``). Without any, three fixed orthonormal projections serve: of features
in units of their deviation over general pictures, less a share of the mean muzzle, so that the cosines of muzzles lie
where the thresholds of the API expect them (``configs/muzzle_calibration.npz``, made by ``ops/calibration/muzzle.py``).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vision.errors import ModelNotLoaded

MEMBER_IDS: Final = (60, 62, 64)
CODE_LENGTH: Final = 128
Array = NDArray[np.float32]
CALIBRATION: Final = Path(__file__).parents[2] / "configs" / "muzzle_calibration.npz"
SEED: Final = 60_62_64


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Least cosine and greatest distance of a probe and its template; least mean cosine among references."""

    cosine: float
    distance: float
    mutual: float


@dataclass(frozen=True, slots=True, eq=False)
class MuzzleEncoding:
    """Codes of one photo.

    ``codes``: float32[n, 128], one row of length 1 for each of ``model_ids``: 60, 62 and 64, or those of them that are
    loaded. ``domain_distance``: 1 − cosine to the statistics of muzzles, 0 (similar) to 2; above ``domain_limit`` the
    photo shows no muzzle. ``thresholds``: of the calibration of trained models, None without training. Codes of
    different ``model_version`` are not comparable. ``likeness``: float32[s, s], −1 to 1, how much each part of the
    photo looks like the skin of a muzzle, from its top left corner; None from a version that did not tell.
    """

    model_ids: tuple[int, ...]
    codes: NDArray[np.float32]
    domain_distance: float
    domain_limit: float
    model_version: str
    thresholds: Thresholds | None
    likeness: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A model of the ensemble: ``features @ weight + bias``, normalised; float32[d, 128] and float32[128]."""

    member_id: int
    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """Statistics of muzzles: ``mean`` of muzzles after ``(x − centre) / scale``; float32[d] each.

    A photo whose distance is above ``limit`` shows no muzzle.
    """

    centre: Array
    scale: Array
    mean: Array
    limit: float

    @property
    def digest(self) -> str:
        """Return eight hex digits of the statistics."""
        return hashlib.sha256(b"".join(part.tobytes() for part in (self.centre, self.scale, self.mean))).hexdigest()[:8]

    def standard(self, features: Array) -> Array:
        """Return features float32[N, d] in units of their standard deviation over general images."""
        standard: Array = (features - self.centre) / self.scale
        return standard

    def distances(self, features: Array) -> Array:
        """Return float32[N], 1 − cosine of features float32[N, d] to the mean muzzle, 0 (similar) to 2."""
        standard = self.standard(features)
        lengths = np.linalg.norm(standard, axis=1) * np.linalg.norm(self.mean)
        cosines: Array = standard @ self.mean / np.maximum(lengths, 1e-12)
        return 1 - np.clip(cosines, -1, 1)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Members over features of one backbone; ``missing`` has the reasons why the others are not loaded."""

    members: tuple[Member, ...]
    domain: Domain
    method: str
    thresholds: Thresholds | None = None
    missing: tuple[str, ...] = ()
    details: tuple[dict[str, Any], ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        """Return those of 60, 62 and 64 that are loaded, in this order."""
        return tuple(member.member_id for member in self.members)

    def encode(self, features: Array) -> Array:
        """Return codes float32[N, n, 128] of length 1 for features float32[N, d]."""
        weight = np.concatenate([member.weight for member in self.members], axis=1)
        bias = np.concatenate([member.bias for member in self.members])
        codes = (features @ weight + bias).reshape(len(features), len(self.members), CODE_LENGTH)
        unit: Array = codes / np.maximum(np.linalg.norm(codes, axis=2, keepdims=True), 1e-12)
        return unit

    def version(self, backbone: str) -> str:
        """Return a name of everything that codes depend on: method, members and backbone."""
        digest = hashlib.sha256(backbone.encode())
        for member in self.members:
            digest.update(member.weight.tobytes() + member.bias.tobytes())
        return f"muzzle-{self.method}@{digest.hexdigest()[:8]}"


def projections(dimensions: int) -> list[Array]:
    """Return three fixed matrices float32[d, 128] of orthonormal columns, which are orthogonal across matrices too.

    They come from one QR decomposition in float64 with the sign of each column fixed, and are the same on every
    machine. Distances are preserved to about 1/sqrt(384) together (exactly when d is 384), to 1/sqrt(128) each.
    """
    gaussian = np.random.Generator(np.random.PCG64(SEED)).standard_normal((dimensions, len(MEMBER_IDS) * CODE_LENGTH))
    q, r = np.linalg.qr(gaussian)
    return np.split(np.asarray(q * np.sign(np.diag(r)), dtype=np.float32), len(MEMBER_IDS), axis=1)


def affine(domain: Domain, weight: Array, offset: Array) -> tuple[Array, Array]:
    """Return ``((x − centre) / scale − offset) @ weight`` as one matrix and one bias of the raw features."""
    folded = weight / domain.scale[:, None]
    bias = -(domain.centre @ folded) - offset @ weight
    return folded.astype(np.float32), bias.astype(np.float32)


def projected(domain: Domain, share: float) -> Ensemble:
    """Return the untrained ensemble that subtracts a ``share`` of the mean muzzle, 0 (none of it) to 1 (all)."""
    maps = [affine(domain, weight, share * domain.mean) for weight in projections(len(domain.mean))]
    members = tuple(Member(number, *parts) for number, parts in zip(MEMBER_IDS, maps, strict=True))
    return Ensemble(members, domain, "projection")


def default_ensemble(backbone: str, dimensions: int) -> Ensemble:
    """Return the untrained ensemble over a backbone of models.yaml. Raises ModelNotLoaded without calibration."""
    return projected(*calibration(backbone, dimensions))


def calibration(backbone: str, dimensions: int) -> tuple[Domain, float]:
    """Return the domain of a backbone and the share of its mean to subtract. Raises ModelNotLoaded without one."""
    with np.load(CALIBRATION, allow_pickle=False) as stored:
        if f"{backbone}/centre" not in stored:
            raise ModelNotLoaded(
                f"There is no muzzle calibration for {backbone}; make one with `python -m ops.calibration.muzzle`."
            )
        parts = {part: stored[f"{backbone}/{part}"] for part in ("centre", "scale", "mean", "numbers")}
    limit, share = parts.pop("numbers").tolist()
    domain = Domain(**{name: np.asarray(values, np.float32) for name, values in parts.items()}, limit=limit)
    if len(domain.mean) != dimensions:
        raise ModelNotLoaded(f"The muzzle calibration for {backbone} has {len(domain.mean)} numbers, not {dimensions}.")
    return domain, share


def save_calibration(backbone: str, domain: Domain, share: float, path: Path = CALIBRATION) -> None:
    """Write the calibration that ``default_ensemble`` reads; those of other backbones stay."""
    stored: dict[str, Any] = dict(np.load(path, allow_pickle=False)) if path.exists() else {}
    parts: Sequence[tuple[str, Any]] = (
        ("centre", domain.centre),
        ("scale", domain.scale),
        ("mean", domain.mean),
    )
    stored |= {f"{backbone}/{name}": np.asarray(values, np.float32) for name, values in parts}
    stored[f"{backbone}/numbers"] = np.array([domain.limit, share])
    np.savez_compressed(path, allow_pickle=False, **stored)
