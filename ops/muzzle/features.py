"""Texture features of photos outside the service, by torch in fp32."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deployments.embed.backbones import load_backbone
from deployments.images import Pixels
from deployments.muzzle.photo import CLIP_LIMIT, WHOLE, Crop, muzzle_pixels
from deployments.muzzle.texture import TextureBackbone
from deployments.weights import resolve_first

if TYPE_CHECKING:
    import torch

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
    """The first of some models of models.yaml that can be had. Raises ModelNotLoaded."""

    def __init__(self, models: Sequence[str], device: str = "cpu") -> None:
        self.texture = TextureBackbone(load_backbone(resolve_first(models)))
        self.device = device
        self.module: torch.nn.Module = self.texture.make_module().eval().to(device)

    @property
    def name(self) -> str:
        """The model's name in models.yaml."""
        return self.texture.backbone.weights.name

    def __call__(self, squares: Iterable[Pixels]) -> Array:
        """uint8 (224, 224, 3) each → float32[n, d]."""
        import torch

        rows: list[Array] = []
        with torch.inference_mode():
            for some in _batches(squares):
                batch = torch.from_numpy(np.stack([self.texture.normalize(pixels) for pixels in some]))
                rows.append(self.module(batch.to(self.device)).float().cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, self.texture.dimensions), np.float32)


def _batches(squares: Iterable[Pixels]) -> Iterator[list[Pixels]]:
    rest = iter(squares)
    while some := list(islice(rest, BATCH)):
        yield some
