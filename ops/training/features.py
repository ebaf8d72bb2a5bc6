"""Texture features of photos outside the service, by the engines that it uses too."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from configs.settings import settings
from vision.embed.backbones import load_backbone
from vision.engines import EngineName, build_engine
from vision.images import Pixels
from vision.muzzle.photo import CLIP_LIMIT, WHOLE, Crop, muzzle_pixels
from vision.muzzle.texture import TextureBackbone
from vision.weights import resolve_first

Array = NDArray[np.float32]
BATCH = 16


@dataclass(frozen=True, slots=True)
class View:
    """How a photo is looked at: which part of it, how much contrast, and whether from the other side."""

    crop: Crop = WHOLE
    clip_limit: float = CLIP_LIMIT
    gain: float = 1.0
    """What the pixels are multiplied by before CLAHE."""

    def of(self, image: Pixels) -> Pixels:
        """uint8 (224, 224, 3)."""
        if self.gain != 1.0:
            image = np.clip(image * np.float32(self.gain), 0, 255).astype(np.uint8)
        return muzzle_pixels(image, self.crop, self.clip_limit)


PLAIN = View()
"""As the service looks at a photo."""


class FeatureExtractor:
    """The first of some models of models.yaml that can be had, on the engine given. Raises ModelNotLoaded."""

    def __init__(self, models: Sequence[str], engine: EngineName = "auto") -> None:
        self.texture = TextureBackbone(load_backbone(resolve_first(models)))
        self._engine = build_engine(
            engine,
            self.texture.make_module,
            version=self.texture.version,
            input_size=self.texture.size,
            cache=settings().models_cache.expanduser(),
        )

    @property
    def name(self) -> str:
        """The model's name in models.yaml."""
        return self.texture.backbone.weights.name

    def __call__(self, squares: Iterable[Pixels]) -> Array:
        """uint8 (224, 224, 3) each → float32[n, d]."""
        rows = [
            self._engine(np.stack([self.texture.normalize(pixels) for pixels in some])) for some in _batches(squares)
        ]
        return np.concatenate(rows) if rows else np.zeros((0, self.texture.dimensions), np.float32)


def _batches(squares: Iterable[Pixels]) -> Iterator[list[Pixels]]:
    rest = iter(squares)
    while some := list(islice(rest, BATCH)):
        yield some
