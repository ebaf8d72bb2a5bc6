"""muzzle/ensemble: three 128-d codes per muzzle photo, by the models 60, 62 and 64 over one pass of their backbone.

``checkpoints`` names the trained members (made by ``ops/training/muzzle.py``); those that are not available are missing
from every answer, and without any of them the stage does not load. With no checkpoint named, three fixed projections of
the same features serve, and the model name says so. Codes are of length 1; their cosine, −1 to 1, is higher the more
alike two muzzles are. The distance to the statistics of muzzles, 0 to 2, separates other pictures from muzzles.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs.settings import settings
from deployments.serving.engine_stage import EngineConfig, EngineStage
from deployments.serving.stage import StageRef
from vision.embed.backbones import load_backbone
from vision.engines import Engine
from vision.errors import ModelNotLoaded, StageError
from vision.images import decode
from vision.muzzle.checkpoint import trained_ensemble
from vision.muzzle.ensemble import CODE_LENGTH, MEMBER_IDS, Ensemble, MuzzleEncoding, default_ensemble
from vision.muzzle.photo import SIDE, described, muzzle_pixels
from vision.muzzle.texture import TextureBackbone, split
from vision.weights import resolve, resolve_first

CHAIN = ["dinov2-vits14-lineage", "efficientnet-lite0"]
"""Backbones that configs/muzzle_calibration.npz has numbers for."""


class Config(EngineConfig):
    """``user_config`` of muzzle/ensemble; models and engine are read at load, the rest changes in place."""

    checkpoints: list[str] = Field(
        default_factory=list, description="trained members, names of models.yaml; none: fixed projections"
    )
    models: list[str] = Field(
        default_factory=lambda: list(CHAIN),
        description="backbones of the projections; the first available one serves",
    )


ENSEMBLE: Final = StageRef[bytes, MuzzleEncoding]("muzzle/ensemble")


class MuzzleEncoder(EngineStage[Config, bytes, NDArray[np.float32], MuzzleEncoding]):
    """Encoded photo → MuzzleEncoding."""

    key = ENSEMBLE.key
    config_class = Config
    libraries = ("cv2",)
    prepare_threads = 2

    _texture: TextureBackbone
    _ensemble: Ensemble
    _version: str

    @classmethod
    def model_chains(cls, config: Config) -> list[list[str]]:
        return [[name] for name in config.checkpoints] or [list(config.models)]

    def load_engine(self) -> Engine:
        """Raises ModelNotLoaded with every reason when no member, or no backbone for them, is available."""
        self._texture, self._ensemble = _members(self.config)
        self._version = self._ensemble.version(self._texture.version)
        return self.build_engine(
            partial(self._texture.make_module, self._ensemble.domain),
            version=f"{self._texture.version}-likeness@{self._ensemble.domain.digest}",
            input_size=self._texture.size,
        )

    def prepare(self, item: bytes) -> NDArray[np.float32]:
        """Return float32[3, 224, 224]. Raises as ``decode`` and ``muzzle_pixels``."""
        image = decode(item, max_pixels=settings().max_image_pixels, shrink_to=SIDE)
        return self._texture.normalize(muzzle_pixels(image))

    def predict_batch(self, items: list[NDArray[np.float32]]) -> Sequence[MuzzleEncoding | StageError]:
        features, likeness = split(self._engine(np.stack(items)), self._texture.dimensions)
        codes = self._ensemble.encode(features)
        distances = self._ensemble.domain.distances(features)
        return [
            MuzzleEncoding(
                model_ids=self._ensemble.ids,
                codes=code,
                domain_distance=float(distance),
                domain_limit=self._ensemble.domain.limit,
                model_version=self._version,
                thresholds=self._ensemble.thresholds,
                likeness=skin,
            )
            for code, distance, skin in zip(codes, distances, likeness, strict=True)
        ]

    def info(self) -> dict[str, Any]:
        ensemble = self._ensemble
        trained = ensemble.method == "trained"
        thresholds = ensemble.thresholds
        return {
            "model": f"muzzle-{ensemble.method}",
            "model_version": self._version,
            "method": (
                "heads trained with a triplet loss on texture features"
                if trained
                else "untrained: fixed orthonormal projections of texture features, calibrated on a few muzzles"
            ),
            "models_loaded": list(ensemble.ids),
            "models_expected": list(MEMBER_IDS),
            "missing": list(ensemble.missing),
            "checkpoints": list(ensemble.details),
            "backbone": self._texture.version,
            "licence": self._texture.backbone.weights.licence,
            "weights": self._texture.backbone.weights.source,
            "preprocess": described(),
            **super().info(),
            "embedding_dim": CODE_LENGTH * len(ensemble.ids),
            "domain_limit": round(ensemble.domain.limit, 4),
            "thresholds": None
            if thresholds is None
            else {"cosine": thresholds.cosine, "distance": thresholds.distance, "mutual": thresholds.mutual},
            "score": "cosine of unit vectors, -1 to 1, higher is more alike",
            "domain": "1 - cosine to the statistics of muzzles, 0 to 2, above the limit it is none",
        }


def _members(config: Config) -> tuple[TextureBackbone, Ensemble]:
    """Return a backbone and the members that were made for it."""
    if not config.checkpoints:
        texture = TextureBackbone(load_backbone(resolve_first(config.models)))
        return texture, default_ensemble(texture.backbone.weights.name, texture.dimensions)
    ensemble, backbone, features = trained_ensemble(config.checkpoints)
    texture = TextureBackbone(load_backbone(resolve(backbone)))
    if texture.version != features:
        raise ModelNotLoaded(f"The checkpoints were made for {features}; here is {texture.version}.")
    return texture, ensemble
