"""MobileNetV1 with a softmax over ten ratings in plain torch, as NIMA uses it.

Architecture: Howard et al. 2017 (https://arxiv.org/abs/1704.04861), width 1, batch normalisation folded into the
convolutions. As in the Keras 2.1.6 that NIMA was trained with, every 3x3 convolution is padded by one pixel on each
side; later versions pad those with stride 2 at one side only, which gives other scores with the same weights.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from vision.quality.nima_weights import Layer

STEM, FEATURES, RATINGS = 32, 1024, 10
# channels out, stride
BLOCKS = (
    (64, 1),
    *((128, 2), (128, 1)),
    *((256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((FEATURES, 2), (FEATURES, 1)),
)


class MobileNetV1(nn.Module):
    """Pictures [n, 3, h, w] in -1..1 to the chances of the ratings 1-10, [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, STEM, 3, 2, 1), nn.ReLU6()]
        inputs = STEM
        for outputs, stride in BLOCKS:
            layers += [nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs), nn.ReLU6()]
            layers += [nn.Conv2d(inputs, outputs, 1), nn.ReLU6()]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.ratings = nn.Linear(FEATURES, RATINGS)

    def forward(self, x: Tensor) -> Tensor:
        chances: Tensor = self.ratings(self.features(x).mean((2, 3))).softmax(1)
        return chances


class Heads(nn.Module):
    """Several networks on one batch: [n, 3, h, w] to [n, 10 for each of them]."""

    def __init__(self, networks: Sequence[MobileNetV1]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([network(x) for network in self.networks], 1)


def build(layers: Sequence[Layer]) -> MobileNetV1:
    """The network with these weights, first layer first, in eval mode. Raises ValueError when they do not fit."""
    network = MobileNetV1()
    modules = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    if len(modules) != len(layers):
        raise ValueError(f"{len(layers)} layers instead of {len(modules)}")
    for index, (module, layer) in enumerate(zip(modules, layers, strict=True)):
        for parameter, values in zip((module.weight, module.bias), layer, strict=True):
            if parameter is None or tuple(parameter.shape) != values.shape:
                raise ValueError(f"layer {index} has the shape {values.shape}")
            parameter.data = torch.from_numpy(np.array(values, np.float32, order="C"))
    return network.eval()
