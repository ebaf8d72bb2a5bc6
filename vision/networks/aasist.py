"""AASIST in plain torch: whether a voice is recorded or synthetic.

Jung et al. 2022, AASIST: audio anti-spoofing using integrated spectro-temporal graph attention networks
(https://arxiv.org/abs/2110.01200). Weights of clovaai/aasist (MIT), trained on ASVspoof 2019 LA. Modules have the
names of that checkpoint, so its state dict loads unchanged. Two peculiarities of the published code are kept, as the
weights were trained with them: the first normalisation of a block is not applied, and the first pass over the graph
starts from the same master node for every sound.
"""

from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

WEIGHT_FILE: Final = "AASIST.pth"
RATE: Final = 16_000
SAMPLES: Final = 64_600
"""Length of the input, 4.04 seconds."""

FILTERS: Final = 70
TAPS: Final = 129
WIDTHS: Final = (1, 32, 32, 64, 64, 64, 64)
"""Channels before and after each block."""
GRAPH: Final = (64, 32)
"""Width of a node in the first graphs, and in the joint one."""
KEPT: Final = (11, 20, 5, 10)
"""Nodes kept by pooling: half of the frequency bands and 0.7 of the time steps, then half of the rest."""
BANDS: Final = 23
TEMPERATURES: Final = (2.0, 100.0)
"""Softmax temperatures of the attention in the first graphs, and in the joint one."""


class _Block(nn.Module):
    """Two convolutions with a shortcut, then pooling to a third of the time steps."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        if inputs > 1:
            self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, (2, 3), padding=(1, 1))
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, (2, 3), padding=(0, 1))
        self.conv_downsample = nn.Conv2d(inputs, outputs, (1, 3), padding=(0, 1)) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(functional.selu(self.bn2(self.conv1(x))))
        shortcut = x if self.conv_downsample is None else self.conv_downsample(x)
        return functional.max_pool2d(y + shortcut, (1, 3))


class _Attention(nn.Module):
    """Graph attention: each node becomes a mixture of all nodes, weighted by their products, plus itself."""

    def __init__(self, inputs: int, outputs: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.att_proj = nn.Linear(inputs, outputs)
        self.att_weight = nn.Parameter(torch.zeros(outputs, 1))
        self.proj_with_att = nn.Linear(inputs, outputs)
        self.proj_without_att = nn.Linear(inputs, outputs)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.tanh(self.att_proj(_products(x))) @ self.att_weight
        shares = (scores / self.temperature).softmax(-2).squeeze(-1)
        y = self.proj_with_att(shares @ x) + self.proj_without_att(x)
        return functional.selu(_normalised(self.bn, y))


class _JointAttention(nn.Module):
    """Attention over two kinds of nodes at once, with a master node that reads all of them."""

    def __init__(self, inputs: int, outputs: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.proj_type1 = nn.Linear(inputs, inputs)
        self.proj_type2 = nn.Linear(inputs, inputs)
        self.att_proj = nn.Linear(inputs, outputs)
        self.att_projM = nn.Linear(inputs, outputs)
        self.att_weight11 = nn.Parameter(torch.zeros(outputs, 1))
        self.att_weight22 = nn.Parameter(torch.zeros(outputs, 1))
        self.att_weight12 = nn.Parameter(torch.zeros(outputs, 1))
        self.att_weightM = nn.Parameter(torch.zeros(outputs, 1))
        self.proj_with_att = nn.Linear(inputs, outputs)
        self.proj_without_att = nn.Linear(inputs, outputs)
        self.proj_with_attM = nn.Linear(inputs, outputs)
        self.proj_without_attM = nn.Linear(inputs, outputs)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, first: Tensor, second: Tensor, master: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.cat([self.proj_type1(first), self.proj_type2(second)], 1)
        count = first.shape[1]
        read = torch.tanh(self.att_projM(x * master)) @ self.att_weightM
        shares = (read / self.temperature).softmax(-2).squeeze(-1).unsqueeze(1)
        master = self.proj_with_attM(shares @ x) + self.proj_without_attM(master)
        pairs = torch.tanh(self.att_proj(_products(x)))
        scores = pairs @ self.att_weight12
        scores[:, :count, :count] = pairs[:, :count, :count] @ self.att_weight11
        scores[:, count:, count:] = pairs[:, count:, count:] @ self.att_weight22
        mixed = (scores / self.temperature).softmax(-2).squeeze(-1) @ x
        y = functional.selu(_normalised(self.bn, self.proj_with_att(mixed) + self.proj_without_att(x)))
        return y[:, :count], y[:, count:], master


class _Pool(nn.Module):
    """Keeps the ``count`` nodes with the highest scores, each multiplied by its score."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.count = count
        self.proj = nn.Linear(width, 1)

    def forward(self, nodes: Tensor) -> Tensor:
        scores = torch.sigmoid(self.proj(nodes))
        best = scores.topk(self.count, dim=1).indices.expand(-1, -1, nodes.shape[2])
        return (nodes * scores).gather(1, best)


class Aasist(nn.Module):
    """Sound float32[n, 64600] at 16 kHz, -1 to 1, to logits [n, 2]: synthetic, recorded."""

    band_pass: Tensor

    def __init__(self) -> None:
        super().__init__()
        wide, narrow = GRAPH
        self.register_buffer("band_pass", _filters(), persistent=False)
        self.first_bn = nn.BatchNorm2d(1)
        self.encoder = nn.Sequential(*(nn.Sequential(_Block(*pair)) for pair in pairwise(WIDTHS)))
        self.pos_S = nn.Parameter(torch.zeros(1, BANDS, WIDTHS[-1]))
        self.master1 = nn.Parameter(torch.zeros(1, 1, wide))
        self.master2 = nn.Parameter(torch.zeros(1, 1, wide))
        self.GAT_layer_S = _Attention(WIDTHS[-1], wide, TEMPERATURES[0])
        self.GAT_layer_T = _Attention(WIDTHS[-1], wide, TEMPERATURES[0])
        self.HtrgGAT_layer_ST11 = _JointAttention(wide, narrow, TEMPERATURES[1])
        self.HtrgGAT_layer_ST12 = _JointAttention(narrow, narrow, TEMPERATURES[1])
        self.HtrgGAT_layer_ST21 = _JointAttention(wide, narrow, TEMPERATURES[1])
        self.HtrgGAT_layer_ST22 = _JointAttention(narrow, narrow, TEMPERATURES[1])
        self.pool_S, self.pool_T = _Pool(KEPT[0], wide), _Pool(KEPT[1], wide)
        self.pool_hS1, self.pool_hT1 = _Pool(KEPT[2], narrow), _Pool(KEPT[3], narrow)
        self.pool_hS2, self.pool_hT2 = _Pool(KEPT[2], narrow), _Pool(KEPT[3], narrow)
        self.out_layer = nn.Linear(5 * narrow, 2)

    def forward(self, sound: Tensor) -> Tensor:
        logits: Tensor = self.out_layer(self.embed(sound))
        return logits

    def embed(self, sound: Tensor) -> Tensor:
        """Return what the logits are made of, [n, 160]."""
        bands = functional.conv1d(sound.unsqueeze(1), self.band_pass)
        x = functional.max_pool2d(bands.abs().unsqueeze(1), (3, 3))
        x = self.encoder(functional.selu(self.first_bn(x))).abs()
        spectral = self.pool_S(self.GAT_layer_S(x.amax(3).transpose(1, 2) + self.pos_S))
        temporal = self.pool_T(self.GAT_layer_T(x.amax(2).transpose(1, 2)))

        t1, s1, first = self.HtrgGAT_layer_ST11(temporal, spectral, self.master1)
        t1, s1 = self.pool_hT1(t1), self.pool_hS1(s1)
        t_more, s_more, more = self.HtrgGAT_layer_ST12(t1, s1, first)
        t1, s1, first = t1 + t_more, s1 + s_more, first + more

        t2, s2, second = self.HtrgGAT_layer_ST21(temporal, spectral, self.master2)
        t2, s2 = self.pool_hT2(t2), self.pool_hS2(s2)
        t_more, s_more, more = self.HtrgGAT_layer_ST22(t2, s2, second)
        t2, s2, second = t2 + t_more, s2 + s_more, second + more

        t, s, master = torch.maximum(t1, t2), torch.maximum(s1, s2), torch.maximum(first, second)
        parts = [t.abs().amax(1), t.mean(1), s.abs().amax(1), s.mean(1), master.squeeze(1)]
        return torch.cat(parts, 1)


class AasistWithEmbedding(nn.Module):
    """Sound float32[n, 64600] to logits and what they are made of, [n, 2 + 160]."""

    def __init__(self, model: Aasist) -> None:
        super().__init__()
        self.model = model

    def forward(self, sound: Tensor) -> Tensor:
        embedding = self.model.embed(sound)
        return torch.cat([self.model.out_layer(embedding), embedding], 1)


def load_with_embedding(path: Path) -> AasistWithEmbedding:
    """Return the network with the published weights, in eval mode. Raises RuntimeError when they do not fit."""
    return AasistWithEmbedding(load(path)).eval()


def load(path: Path) -> Aasist:
    """Return the network with the published weights, in eval mode. Raises RuntimeError when they do not fit."""
    model = Aasist()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def _products(x: Tensor) -> Tensor:
    """Return the products of all pairs of nodes, [n, nodes, nodes, width], for [n, nodes, width]."""
    return x.unsqueeze(2) * x.unsqueeze(1)


def _normalised(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    y: Tensor = norm(x.flatten(0, 1))
    return y.view_as(x)


def _filters() -> Tensor:
    """Return band-pass filters [70, 1, 129]: windowed sincs with bands evenly spaced on the mel scale up to 8 kHz."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    borders = 700 * (10 ** (np.linspace(0, top, FILTERS + 1) / 2595) - 1)
    places = np.arange(-(TAPS - 1) / 2, (TAPS - 1) / 2 + 1)
    low_passes = [2 * border / RATE * np.sinc(2 * border * places / RATE) for border in borders]
    kernels = np.hamming(TAPS) * np.diff(np.stack(low_passes), axis=0)
    return torch.from_numpy(kernels.astype(np.float32)).unsqueeze(1)
