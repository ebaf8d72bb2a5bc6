"""mini-XCEPTION in plain torch: seven expressions of a grey face.

Architecture and weights: Arriaga, Valdenegro-Toro, Plöger 2017, https://arxiv.org/abs/1710.07557 (MIT). The weights
are a full Keras 2.0.5 model in HDF5, read without Keras by the names of its layers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from vision.networks.keras import load_layers

WEIGHT_FILE: Final = "fer2013_mini_XCEPTION.102-0.66.hdf5"
SIDE: Final = 64
LABELS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Order of the outputs, as in FER2013."""

WIDTHS: Final = (8, 16, 32, 64, 128)
EPSILON: Final = 1e-3


class _Separable(nn.Module):
    """3x3 convolution of each channel, then 1x1 over the channels, of the same size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise(self.depthwise(x))
        return y


class _Block(nn.Module):
    """Two separable convolutions and pooling to half the size, with a strided 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = _Separable(inputs, outputs)
        self.first_norm = nn.BatchNorm2d(outputs, EPSILON)
        self.second = _Separable(outputs, outputs)
        self.second_norm = nn.BatchNorm2d(outputs, EPSILON)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, 2, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(outputs, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        y = _max_pool(self.second_norm(self.second(y)))
        shortcut: Tensor = self.shortcut_norm(self.shortcut(x))
        return y + shortcut


class MiniXception(nn.Module):
    """Grey faces [n, 1, 64, 64] in -1..1 to logits [n, 7] in the order of ``LABELS``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, WIDTHS[0], 3, bias=False)
        self.stem_norm = nn.BatchNorm2d(WIDTHS[0], EPSILON)
        self.conv = nn.Conv2d(WIDTHS[0], WIDTHS[0], 3, bias=False)
        self.conv_norm = nn.BatchNorm2d(WIDTHS[0], EPSILON)
        self.blocks = nn.Sequential(*map(_Block, WIDTHS, WIDTHS[1:]))
        self.head = nn.Conv2d(WIDTHS[-1], len(LABELS), 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem_norm(self.stem(x)))
        x = functional.relu(self.conv_norm(self.conv(x)))
        logits: Tensor = self.head(self.blocks(x)).mean((2, 3))
        return logits


def _max_pool(x: Tensor) -> Tensor:
    """Pool by 3x3 with stride 2, padded like TensorFlow's SAME: an even side by one at its end, an odd one at both."""
    pads = [pad for side in (x.shape[3], x.shape[2]) for pad in ((0, 1) if side % 2 == 0 else (1, 1))]
    return functional.max_pool2d(functional.pad(x, pads, value=-torch.inf), 3, 2)


def load(path: Path) -> MiniXception:
    """Return the network with the weights of a Keras HDF5 file, in eval mode.

    Raises KeyError when a layer is missing, RuntimeError when it has another shape.
    """
    model = MiniXception()
    load_layers(path, ((module, f"model_weights/{layer}/{layer}_1") for module, layer in _layers(model)))
    return model.eval()


def _layers(model: MiniXception) -> Iterator[tuple[nn.Module, str]]:
    """Yield each module with weights and its name in the file; Keras numbered the shortcut of a block first."""
    yield from ((model.stem, "conv2d_1"), (model.stem_norm, "batch_normalization_1"))
    yield from ((model.conv, "conv2d_2"), (model.conv_norm, "batch_normalization_2"))
    for number, block in enumerate(model.blocks, 1):
        assert isinstance(block, _Block)
        yield block.shortcut, f"conv2d_{number + 2}"
        yield block.shortcut_norm, f"batch_normalization_{3 * number}"
        yield block.first, f"separable_conv2d_{2 * number - 1}"
        yield block.first_norm, f"batch_normalization_{3 * number + 1}"
        yield block.second, f"separable_conv2d_{2 * number}"
        yield block.second_norm, f"batch_normalization_{3 * number + 2}"
    yield model.head, "conv2d_7"
