"""Muzzle stage without weights: photos, members, domain, checkpoints, partial sets."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tolerances import FP32, FP32_DOT, assert_close, decimals
from vision.errors import InvalidInput, ModelNotLoaded
from vision.muzzle import checkpoint
from vision.muzzle.checkpoint import CARD, TENSORS, CalibratedThresholds, Card, save_member, trained_ensemble
from vision.muzzle.ensemble import (
    CALIBRATION,
    MEMBER_IDS,
    Domain,
    Member,
    affine,
    default_ensemble,
    projected,
    projections,
)
from vision.muzzle.photo import Crop, described, muzzle_pixels, normalized
from vision.weights.registry import Registry
from vision.weights.store import Store

pytestmark = pytest.mark.numeric

RNG = np.random.default_rng(0)
DOMAIN = Domain(
    centre=RNG.normal(size=384).astype(np.float32),
    scale=RNG.uniform(0.5, 2, 384).astype(np.float32),
    mean=RNG.normal(size=384).astype(np.float32),
    limit=0.4,
)
FEATURES = RNG.normal(size=(5, 384)).astype(np.float32)


def test_photos_become_squares_with_even_light() -> None:
    ramp = np.linspace(0, 60, 300).astype(np.uint8)
    dark = np.repeat(np.broadcast_to(ramp, (200, 300))[..., None], 3, 2)
    square = muzzle_pixels(dark)
    assert (square.shape, square.dtype) == ((224, 224, 3), np.uint8)
    assert int(square.max()) > int(dark.max())
    with pytest.raises(InvalidInput, match="300 x 31 pixels"):
        muzzle_pixels(np.zeros((31, 300, 3), np.uint8))


def test_a_crop_is_a_part_of_the_photo() -> None:
    image = np.arange(100 * 50 * 3, dtype=np.uint32).astype(np.uint8).reshape(100, 50, 3)
    np.testing.assert_array_equal(Crop(0.1, 0.5, 0.2, 1.0).of(image), image[10:50, 10:50])
    assert Crop(0.5, 0.5, 0.5, 0.5).of(image).shape == (1, 1, 3)


def test_pixels_are_normalized_as_the_backbone_wants() -> None:
    pixels = np.full((2, 2, 3), 255, np.uint8)
    planes = normalized(pixels, 1 / 255, (0.5, 0.25, 0.0), (0.5, 0.5, 2.0))
    np.testing.assert_allclose(planes[:, 0, 0], [1.0, 1.5, 0.5], atol=FP32)


@pytest.mark.parametrize("dimensions", [384, 768])
def test_projections_are_orthonormal_and_orthogonal_to_each_other(dimensions: int) -> None:
    joined = np.concatenate(projections(dimensions), axis=1)
    assert_close(joined.T @ joined, np.eye(384), FP32_DOT)
    if dimensions == 384:
        np.testing.assert_allclose(
            np.linalg.norm(FEATURES @ joined, axis=1), np.linalg.norm(FEATURES, axis=1), rtol=FP32_DOT
        )


def test_projections_are_the_same_everywhere() -> None:
    np.testing.assert_allclose(
        projections(384)[0][:2, :2], [[-0.04392, -0.08844], [0.09564, -0.03315]], atol=decimals(5)
    )


def test_an_affine_map_is_that_of_standardised_features() -> None:
    weight = projections(384)[1]
    folded, bias = affine(DOMAIN, weight, 0.3 * DOMAIN.mean)
    expected = (DOMAIN.standard(FEATURES) - 0.3 * DOMAIN.mean) @ weight
    scale = float(np.linalg.norm(DOMAIN.standard(FEATURES), axis=1).max())
    assert_close(FEATURES @ folded + bias, expected, FP32_DOT, scale=scale)


def test_codes_have_length_one_and_do_not_depend_on_their_batch() -> None:
    ensemble = projected(DOMAIN, 0.25)
    codes = ensemble.encode(FEATURES)
    assert codes.shape == (5, 3, 128)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=2), 1, atol=FP32)
    np.testing.assert_allclose(ensemble.encode(FEATURES[2:3])[0], codes[2], atol=FP32_DOT)
    assert ensemble.ids == MEMBER_IDS


def test_the_domain_distance_is_that_to_the_mean_muzzle() -> None:
    like, unlike = DOMAIN.centre + 3 * DOMAIN.scale * DOMAIN.mean, DOMAIN.centre - DOMAIN.scale * DOMAIN.mean
    distances = DOMAIN.distances(np.stack([like, unlike, DOMAIN.centre]))
    np.testing.assert_allclose(distances, [0, 2, 1], atol=FP32_DOT)


def test_a_version_names_everything_that_codes_depend_on() -> None:
    versions = {
        projected(DOMAIN, 0.25).version("a@1"),
        projected(DOMAIN, 0.5).version("a@1"),
        projected(DOMAIN, 0.25).version("a@2"),
    }
    assert len(versions) == 3
    assert projected(DOMAIN, 0.25).version("a@1") in versions


def test_calibration_is_there_for_the_backbones_of_the_chain() -> None:
    assert CALIBRATION.stat().st_size < 50_000
    assert 0.3 < default_ensemble("dinov2-vits14-lineage", 768).domain.limit < 0.6
    assert default_ensemble("efficientnet-lite0", 384).ids == MEMBER_IDS
    with pytest.raises(ModelNotLoaded, match="no muzzle calibration for dinov3-vits16"):
        default_ensemble("dinov3-vits16", 768)
    with pytest.raises(ModelNotLoaded, match="768 numbers, not 384"):
        default_ensemble("dinov2-vits14-lineage", 384)


MakeCheckpoints = Callable[..., list[str]]


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeCheckpoints:
    """Writes members, some of them damaged, and registers them; returns their names."""

    def make(**changes: dict[str, Any]) -> list[str]:
        entries: dict[str, Any] = {}
        for number, weight in zip(MEMBER_IDS, projections(384), strict=True):
            name = f"muzzle-{number}"
            values = {
                "member_id": number,
                "backbone": "efficientnet-lite0",
                "features": "efficientnet-lite0@57934424-texture15",
                "preprocessing": described(),
                "thresholds": CalibratedThresholds(cosine=0.5, distance=1.0, mutual=0.3, domain=0.42),
                "training": {"animals": 11},
                "metrics": {},
            }
            change = dict(changes.get(f"m{number}", {}))
            tensors = change.pop("tensors", None)
            save_member(
                tmp_path / name,
                Card.model_validate(values | change),
                Member(number, *affine(DOMAIN, weight, 0 * DOMAIN.mean)),
                DOMAIN,
            )
            if tensors is not None:
                (tmp_path / name / TENSORS).write_bytes(tensors)
            entries[name] = _entry(tmp_path / name)
        models = Registry.model_validate(entries)
        store = Store(models, tmp_path / "cache", tmp_path)
        monkeypatch.setattr(checkpoint, "resolve", store.resolve)
        return list(entries)

    return make


def _entry(folder: Path) -> dict[str, Any]:
    files = {
        name: {
            "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
            "size": (folder / name).stat().st_size,
        }
        for name in (TENSORS, CARD)
    }
    return {
        **{"task": "muzzle", "licence": "none", "commercial": False, "description": "d", "architecture": "affine"},
        **{"vram_mb": 1, "files": files, "sources": [{"folder": {"path": folder.name}}]},
    }


def test_trained_members_are_loaded(checkpoints: MakeCheckpoints) -> None:
    ensemble, backbone, features = trained_ensemble(checkpoints())
    assert (ensemble.ids, ensemble.missing, ensemble.method) == (MEMBER_IDS, (), "trained")
    assert (backbone, features) == ("efficientnet-lite0", "efficientnet-lite0@57934424-texture15")
    assert ensemble.domain.limit == 0.42
    assert ensemble.thresholds is not None
    assert (ensemble.thresholds.cosine, ensemble.thresholds.mutual) == (0.5, 0.3)
    np.testing.assert_array_equal(ensemble.encode(FEATURES), projected(DOMAIN, 0.0).encode(FEATURES))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"features": "another@1-texture15"}, "made for another@1-texture15"),
        ({"member_id": 60}, "model 60 is already loaded"),
        ({"preprocessing": {"side": 100}}, "another preprocessing"),
        ({"tensors": b"no tensors at all"}, "unusable"),
    ],
)
def test_a_member_that_does_not_fit_is_missing(checkpoints: MakeCheckpoints, change: dict[str, Any], why: str) -> None:
    ensemble, _, _ = trained_ensemble(checkpoints(m64=change))
    assert ensemble.ids == (60, 62)
    (reason,) = ensemble.missing
    assert why in reason
    assert ensemble.encode(FEATURES).shape == (5, 2, 128)


def test_without_any_member_there_is_no_answer(checkpoints: MakeCheckpoints, tmp_path: Path) -> None:
    names = checkpoints()
    for name in names:
        (tmp_path / name / TENSORS).write_bytes(b"changed after it was registered")
    with pytest.raises(ModelNotLoaded, match="no muzzle checkpoint could be loaded"):
        trained_ensemble(names)
    with pytest.raises(ModelNotLoaded, match="not registered"):
        trained_ensemble(["muzzle-61"])


def test_a_card_says_what_its_thresholds_rest_on(checkpoints: MakeCheckpoints, tmp_path: Path) -> None:
    checkpoints()
    card = json.loads((tmp_path / "muzzle-62" / CARD).read_text())
    assert (card["format"], card["member_id"], card["training"]) == (1, 62, {"animals": 11})
