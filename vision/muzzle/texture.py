"""Features of muzzle photos: texture statistics of a backbone of embed/dinov3.

A muzzle print is a texture, which the last layer of a backbone has discarded in favour of the content of the image. So
the features are mean and standard deviation, over all positions, of the channels of a middle layer (Gram statistics of
style, Gatys et al. 2016, reduced to their diagonal): 768 numbers of a ViT-S after its 8th block, 384 of
EfficientNet-Lite0 after its 15th. On the 18 muzzle photos that the defaults were chosen on, the cosine of the 768
separates pairs of one animal from pairs of two with an AUC of 0.98; the CLS token of the last layer reaches 0.82.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from vision.embed.backbones import Backbone, EfficientNetBackbone
from vision.images import Pixels
from vision.muzzle.ensemble import Domain
from vision.muzzle.photo import SIDE, normalized

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float32]

BLOCKS: Final = {"vit": 8, "efficientnet": 15}
EPSILON: Final = 1e-6


class TextureBackbone:
    """The first blocks of a backbone and the texture statistics of their output."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.is_vit = not isinstance(backbone, EfficientNetBackbone)
        self.blocks = BLOCKS["vit" if self.is_vit else "efficientnet"]

    @property
    def version(self) -> str:
        """Return name and hash of the weights, and the number of blocks used."""
        return f"{self.backbone.version}-texture{self.blocks}"

    @property
    def dimensions(self) -> int:
        """Return the length of the features."""
        return 768 if self.is_vit else 384

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width) of the input in pixels."""
        return SIDE, SIDE

    def normalize(self, pixels: Pixels) -> Array:
        """Return the input float32 (3, 224, 224) of the backbone for pixels uint8 (224, 224, 3)."""
        preprocess = self.backbone.preprocess
        return normalized(pixels, preprocess.rescale, preprocess.mean, preprocess.std)

    def make_module(self, domain: Domain | None = None) -> "torch.nn.Module":
        """Return a new torch module, float32[N, 3, 224, 224] → float32[N, d]: means, then deviations, of each
        channel.

        With a domain the rows go on with the likeness of each position to the mean muzzle, −1 to 1, row by row of a
        square grid: 16 x 16 of a ViT-S/14, 14 x 14 of EfficientNet-Lite0. Skin with ridges and beads is alike,
        nostrils, hair and what is behind the animal are not.
        """
        module = self.backbone.make_module()
        return _vit_texture(module, self.blocks, domain) if self.is_vit else _cnn_texture(module, self.blocks, domain)

    def last_parameters(self, module: "torch.nn.Module", blocks: int) -> "list[torch.nn.Parameter]":
        """Return the parameters of the last used blocks of a ViT module, for training."""
        assert self.is_vit
        return [parameter for block in list(_layers(module))[-blocks:] for parameter in block.parameters()]


def split(rows: Array, dimensions: int) -> tuple[Array, Array]:
    """Split rows of a module that was made with a domain: features float32[N, d] and likeness float32[N, s, s]."""
    likeness = rows[:, dimensions:]
    side = math.isqrt(likeness.shape[1])
    return rows[:, :dimensions], likeness.reshape(-1, side, side)


def _statistics(
    forward: "Callable[[torch.Tensor], torch.Tensor]", owner: "torch.nn.Module", domain: Domain | None
) -> "torch.nn.Module":
    """Return the module of statistics over positions, and of their likeness to a domain if one is given.

    ``forward`` returns float32[N, p, c], ``owner`` has its weights.
    """
    import torch

    class TextureStatistics(torch.nn.Module):
        centre: torch.Tensor
        scale: torch.Tensor
        direction: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.owner = owner
            if domain is not None:
                channels = len(domain.mean) // 2  # the features are means, then deviations
                direction = domain.mean[:channels] / max(float(np.linalg.norm(domain.mean[:channels])), EPSILON)
                for name, values in (
                    ("centre", domain.centre[:channels]),
                    ("scale", domain.scale[:channels]),
                    ("direction", direction),
                ):
                    self.register_buffer(name, torch.from_numpy(np.array(values, np.float32)))

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            positions = forward(pixel_values)
            mean = positions.mean(1)
            variance = (positions - mean[:, None]).square().mean(1)
            parts = [mean, (variance + EPSILON).sqrt()]
            if domain is not None:
                standard = (positions - self.centre) / self.scale
                parts.append((standard * self.direction).sum(-1) / standard.norm(dim=-1).clamp_min(EPSILON))
            return torch.cat(parts, 1)

    return TextureStatistics()


def _vit_texture(cls_module: "torch.nn.Module", blocks: int, domain: Domain | None) -> "torch.nn.Module":
    import torch

    model = cls_module.model
    assert isinstance(model, torch.nn.Module)
    layers = _layers(model)
    special = 1 + int(getattr(model.config, "num_register_tokens", 0) or 0)
    del layers[blocks:]

    def positions(pixel_values: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = model(pixel_values=pixel_values).last_hidden_state
        return tokens[:, special:]

    return _statistics(positions, model, domain)


def _layers(model: "torch.nn.Module") -> "torch.nn.ModuleList":
    """Return the blocks of a ViT of transformers, whose name differs between architectures."""
    import torch

    lists = [part for part in model.modules() if isinstance(part, torch.nn.ModuleList)]
    return max(lists, key=len)


def _cnn_texture(network: "torch.nn.Module", blocks: int, domain: Domain | None) -> "torch.nn.Module":
    import torch

    from vision.networks.efficientnet_lite import EfficientNetLite0

    assert isinstance(network, EfficientNetLite0)
    beginning = network.beginning(blocks)

    def positions(pixel_values: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = beginning(pixel_values)
        return maps.flatten(2).transpose(1, 2)

    return _statistics(positions, beginning, domain)
