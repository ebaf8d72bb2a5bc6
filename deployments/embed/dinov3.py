"""embed/dinov3: one 384-d feature vector per image.

DINOv3 ViT-S/16 (Siméoni et al. 2025, https://arxiv.org/abs/2508.10104); where its weights are not available, the next
model of the configured chain serves, under its own name. Features are the CLS token of the last layer after the
final norm, as the model gives it (float32[384], unbounded); ``unit`` is the same minus the model's reference mean
where it has one, divided by its length, and is what similarities are taken on.
"""

import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from configs.settings import settings
from deployments.serving.engine_stage import EngineConfig, EngineStage, model_chain
from deployments.serving.stage import HubModels, StageRef
from deployments.serving.stored import StoredPictures
from vision.embed.backbones import Backbone, Embedding, load_backbone
from vision.engines import Engine, item_shape
from vision.errors import ModelNotLoaded, StageError
from vision.images import decode
from vision.weights import resolve_first

CHAIN = ["dinov3-vits16", "dinov2-small", "dinov2-vits14-lineage", "efficientnet-lite0"]
DIMENSIONS = 384


class Config(EngineConfig):
    """``user_config`` of embed/dinov3; models and engine are read at load, the rest changes in place."""

    models: list[str] = model_chain(CHAIN)


DINOV3: Final = StageRef[str | bytes, Embedding]("embed/dinov3")


class Dinov3Embedder(EngineStage[Config, str | bytes, NDArray[np.float32], Embedding]):
    """Encoded image, or its key in the object store, → Embedding."""

    key = DINOV3.key
    stores = ("objects",)
    config_class = Config
    prepare_threads = 2
    shrink = 2
    """A JPEG may be decoded smaller than it is, but to no less than twice this many times the model's input."""

    hub = HubModels(
        task="image-embedding",
        kind="a vision transformer whose CLS token has 384 numbers, such as DINOv2 or DINOv3",
        architecture="MODEL_MAPPING",
        files=("config.json", "preprocessor_config.json"),
        samples=lambda: [_photo()],
    )

    _pictures: StoredPictures
    _backbone: Backbone

    def load_engine(self) -> Engine:
        self._pictures = StoredPictures()
        self._backbone = load_backbone(resolve_first(self.config.models))
        size = self._backbone.preprocess.size
        engine = self.build_engine(self._backbone.make_module, version=self._backbone.weights.version, input_size=size)
        shape = self._backbone.project(engine(np.zeros((1, *item_shape(size)), np.float32))).shape
        if shape != (1, DIMENSIONS):
            raise ModelNotLoaded(
                f"{self._backbone.weights.name} gives {' x '.join(map(str, shape[1:]))} numbers for a picture; "
                f"{self.key} stores vectors of {DIMENSIONS}."
            )
        return engine

    def prepare(self, item: str | bytes) -> NDArray[np.float32]:
        """Return float32[3, H, W] by the model's own preprocessing. Raises as ``encoded`` and ``decode``."""
        preprocess = self._backbone.preprocess
        data = self._pictures.encoded(item)
        return preprocess(
            decode(data, max_pixels=settings().max_image_pixels, shrink_to=self.shrink * min(preprocess.size))
        )

    def predict_batch(self, items: list[NDArray[np.float32]]) -> Sequence[Embedding | StageError]:
        raw = self._backbone.project(self._engine(np.stack(items)))
        centred = raw - self._backbone.mean
        unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        version = self._backbone.version
        return [Embedding(r, u, version) for r, u in zip(raw, unit, strict=True)]

    def info(self) -> dict[str, Any]:
        return {
            **self._backbone.info(),
            "embedding_dim": DIMENSIONS,
            "score": "cosine of the centred unit vectors, -1 to 1, higher is more alike",
            **super().info(),
        }


def _photo() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
