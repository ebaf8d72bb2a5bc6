"""MesoNet in plain torch: whether a face is swapped.

Afchar, Nozick, Yamagishi, Echizen 2018, MesoNet: a compact facial video forgery detection network
(https://arxiv.org/abs/1809.00888); here its variant MesoInception-4. The weights (Apache-2.0) are Keras HDF5 files,
read without Keras by the names of their layers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from vision.networks.keras import load_layers

WEIGHT_FILE: Final = "MesoInception_DF.h5"
SIDE: Final = 256
EPSILON: Final = 1e-3


class _Inception(nn.Module):
    """Four parallel convolutions of growing dilation; ``widths``: channels of each."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        near, *far = widths
        self.near = nn.Conv2d(inputs, near, 1)
        self.narrow = nn.ModuleList(nn.Conv2d(inputs, width, 1) for width in far)
        self.wide = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=reach, dilation=reach) for reach, width in enumerate(far, 1)
        )
        self.norm = nn.BatchNorm2d(sum(widths), EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        views = [functional.relu(self.near(x))]
        for narrow, wide in zip(self.narrow, self.wide, strict=True):
            views.append(functional.relu(wide(functional.relu(narrow(x)))))
        y: Tensor = self.norm(torch.cat(views, 1))
        return functional.max_pool2d(y, 2)


class MesoInception(nn.Module):
    """RGB faces [n, 3, 256, 256] in 0..1 to logits [n] of being real."""

    def __init__(self) -> None:
        super().__init__()
        self.inceptions = nn.ModuleList([_Inception(3, (1, 4, 4, 2)), _Inception(11, (2, 4, 4, 2))])
        self.convs = nn.ModuleList([nn.Conv2d(12, 16, 5, padding=2), nn.Conv2d(16, 16, 5, padding=2)])
        self.norms = nn.ModuleList(nn.BatchNorm2d(16, EPSILON) for _ in self.convs)
        self.hidden = nn.Linear(1024, 16)
        self.head = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        for inception in self.inceptions:
            x = inception(x)
        for conv, norm, pool in zip(self.convs, self.norms, (2, 4), strict=True):
            x = functional.max_pool2d(norm(functional.relu(conv(x))), pool)
        # Keras flattens height, width, channels.
        x = functional.leaky_relu(self.hidden(x.permute(0, 2, 3, 1).flatten(1)), 0.1)
        logits: Tensor = self.head(x).squeeze(1)
        return logits


def load(path: Path) -> MesoInception:
    """Return the network with the weights of a Keras HDF5 file, in eval mode.

    Raises KeyError when a layer is missing, RuntimeError when it has another shape.
    """
    model = MesoInception()
    load_layers(path, ((module, f"{layer}/{layer}") for module, layer in _layers(model)))
    return model.eval()


def _layers(model: MesoInception) -> Iterator[tuple[nn.Module, str]]:
    """Yield each module with weights and its name in the file, numbered in the order of creation."""
    convs: list[nn.Module] = []
    norms: list[nn.Module] = []
    for inception in model.inceptions:
        assert isinstance(inception, _Inception)
        convs.append(inception.near)
        for pair in zip(inception.narrow, inception.wide, strict=True):
            convs += pair
        norms.append(inception.norm)
    convs += model.convs
    norms += model.norms
    yield from ((conv, f"conv2d_{number}") for number, conv in enumerate(convs, 1))
    yield from ((norm, f"batch_normalization_{number}") for number, norm in enumerate(norms, 1))
    yield from ((model.hidden, "dense_1"), (model.head, "dense_2"))
