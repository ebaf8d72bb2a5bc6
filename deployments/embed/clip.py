"""embed/clip: one 512-d unit vector per picture or text, for semantic similarity, clusters and text search.

CLIP ViT-B/32 (Radford et al. 2021, https://arxiv.org/abs/2103.00020). Where its weights are not available, a backbone
of embed/dinov3 serves pictures under its own name, and a text is answered with ``TextNotSupported``.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs.settings import settings
from deployments.serving.engine_stage import EngineConfig, EngineStage
from deployments.serving.stage import HubModels, SharedImage, StageRef
from vision.embed.clip import (
    MODEL_IDS,
    ClipEmbedding,
    Encoder,
    TextNotSupported,
    TextTower,
    clip_models,
    load_encoder,
    shrink,
)
from vision.engines import Engine, EngineName, item_shape
from vision.errors import InvalidInput, ModelNotLoaded, StageError
from vision.images import Pixels
from vision.weights import resolve_first

Ready = NDArray[Any]
"""float32[3, H, W] of a picture, int64[n] of a text."""

CLIP_MODEL = "clip-vit-base-patch32"
BACKBONES = ["dinov3-vits16", "dinov2-small", "dinov2-vits14-lineage", "efficientnet-lite0"]
CHAIN = [CLIP_MODEL, *BACKBONES]
DIMENSIONS = 512


def no_text() -> str:
    """Say that texts need a CLIP, which one, and how to get it."""
    name = configured_chain()[0]
    return (
        f"Texts need the model {name}, which is not installed. Get it with `visiongraph models pull {name}` where a "
        f"model hub can be reached, or put its files under VISION_MODELS_DIR/{name}; then restart the stage."
    )


def configured_chain() -> list[str]:
    """Return the models to try: the CLIP that CLIP_MODEL_NAME names, then what serves pictures in its place."""
    name = settings().clip_model_name
    known = {each: model for model, each in MODEL_IDS.items()}
    return [known[name] if name in known else clip_models().get(name, name), *BACKBONES]


class Config(EngineConfig):
    """``user_config`` of embed/clip; models and engine are read at load, the rest changes in place."""

    models: list[str] = Field(
        default_factory=configured_chain,
        min_length=1,
        description="names of models.yaml; the first available one serves. Without them as CLIP_MODEL_NAME says",
    )
    engine: EngineName = Field(default="auto", description="what runs the image tower; texts run in torch fp32")
    torch_threads: int = Field(
        default=1, ge=1, description="threads of torch on the CPU; raise for texts or a torch engine"
    )


CLIP: Final = StageRef[SharedImage | str, ClipEmbedding]("embed/clip")


class ClipEmbedder(EngineStage[Config, Pixels | str, Ready, ClipEmbedding]):
    """Image or text → ClipEmbedding."""

    # Where CLIP is missing and embed/dinov3 shares the process, both run the same backbone on the same picture: one
    # forward pass could serve them.
    key = CLIP.key
    config_class = Config
    libraries = ("cv2",)
    prepare_threads = 2
    shrink = 2
    """A picture is averaged down first, to no less than this many times the model's input size."""

    hub = HubModels(
        task="image-text-embedding",
        kind="a CLIP whose two towers project to 512 numbers",
        architecture="CLIPModel",
        files=("config.json", "preprocessor_config.json", "vocab.json", "merges.txt"),
        samples=lambda: [np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8), "a photo of a cat"],
    )

    _encoder: Encoder
    _texts: TextTower | None

    def load_engine(self) -> Engine:
        self._encoder = load_encoder(resolve_first(self.config.models))
        size = self._encoder.preprocess.size
        engine = self.build_engine(self._encoder.make_image_module, version=self._encoder.version, input_size=size)
        length = self._encoder.finish(engine(np.zeros((1, *item_shape(size)), np.float32))).shape[1]
        if length != DIMENSIONS:
            raise ModelNotLoaded(
                f"{self._encoder.version} gives vectors of {length} numbers; {self.key} gives {DIMENSIONS}."
            )
        self._texts = self._encoder.make_text_tower(engine.device)
        return engine

    def warm_up(self) -> None:
        super().warm_up()
        if self._texts is not None:
            self._texts([self._texts.tokenize("a photo")])

    def prepare(self, item: Pixels | str) -> Ready:
        """Return float32[3, H, W] of an image by the model's own preprocessing; int64[n] of a text.

        Raises TextNotSupported, and InvalidInput for a blank text or an image too elongated.
        """
        if not isinstance(item, str):
            return self._encoder.preprocess(shrink(item, self.shrink * max(self._encoder.preprocess.size)))
        if self._texts is None:
            raise TextNotSupported(no_text())
        if not item.strip():
            raise InvalidInput("The text is blank; send a few words.")
        return self._texts.tokenize(item)

    def predict_batch(self, items: list[Ready]) -> Sequence[ClipEmbedding | StageError]:
        vectors = np.empty((len(items), DIMENSIONS), np.float32)
        is_image = np.array([item.ndim == 3 for item in items])
        if images := [item for item in items if item.ndim == 3]:
            vectors[is_image] = self._encoder.finish(self._engine(np.stack(images)))
        if texts := [item for item in items if item.ndim == 1]:
            assert self._texts is not None
            vectors[~is_image] = self._texts(texts)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        model, fallback = self._encoder.model, self._encoder.fallback
        return [ClipEmbedding(vector, model, fallback) for vector in vectors]

    def info(self) -> dict[str, Any]:
        return {
            **self._encoder.info(),
            "text": self._texts is not None,
            "fallback": self._encoder.fallback,
            "embedding_dim": DIMENSIONS,
            "score": "cosine of unit vectors, -1 to 1, higher is more alike",
            **super().info(),
        }
