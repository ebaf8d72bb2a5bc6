"""MobileNetV1 with a softmax over ten ratings in plain torch, as NIMA uses it, and readers of its published weights.

Architecture: Howard et al. 2017 (https://arxiv.org/abs/1704.04861), width 1, batch normalisation folded into the
convolutions. As in the Keras 2.1.6 that NIMA was trained with, every 3x3 convolution is padded by one pixel on each
side; later versions pad those with stride 2 at one side only, which gives other scores with the same weights.

Keras HDF5 files hold the weights as trained; TensorFlow Lite files as 8-bit numbers with one scale for each output
channel, batch normalisation already folded in.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

STEM, FEATURES, RATINGS = 32, 1024, 10
# channels out, stride
BLOCKS = (
    (64, 1),
    *((128, 2), (128, 1)),
    *((256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((FEATURES, 2), (FEATURES, 1)),
)

Array = NDArray[np.float32]
Layer = tuple[Array, Array]
"""(weight, bias): float32[out, in / groups, height, width] or, of a dense layer, float32[out, in]; float32[out]."""

BATCH_NORM_EPSILON = 1e-3


class MobileNetV1(nn.Module):
    """Images [n, 3, h, w] in -1..1 to the probabilities of the ratings 1-10, [n, 10]."""

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
        probabilities: Tensor = self.ratings(self.features(x).mean((2, 3))).softmax(1)
        return probabilities


class Heads(nn.Module):
    """Several networks on one batch: [n, 3, h, w] to [n, 10 · networks]."""

    def __init__(self, networks: Sequence[MobileNetV1]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([network(x) for network in self.networks], 1)


def build(layers: Sequence[Layer]) -> MobileNetV1:
    """Return the network with these layers, first to last, in eval mode. Raises ValueError when they do not fit."""
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


def read_layers(path: Path) -> list[Layer]:
    """Read the layers of a weights file, first to last, by its suffix. Raises ValueError for another kind of file."""
    readers = {".hdf5": read_keras, ".tflite": read_tflite}
    if path.suffix not in readers:
        raise ValueError(f"{path.name} ends in none of {', '.join(readers)}")
    return readers[path.suffix](path)


def read_keras(path: Path) -> list[Layer]:
    """Read a weights file of Keras 2 for its own MobileNet with one dense layer."""
    import h5py

    def values(layer: str, name: str) -> NDArray[np.float64]:
        return np.asarray(file[f"{layer}/{layer}/{name}:0"], np.float64)

    def convolution(layer: str, kernel: str, axes: tuple[int, ...]) -> Layer:
        norm = f"{layer}_bn"
        scale = values(norm, "gamma") / np.sqrt(values(norm, "moving_variance") + BATCH_NORM_EPSILON)
        weight = values(layer, kernel).transpose(axes) * scale[:, None, None, None]
        bias = values(norm, "beta") - values(norm, "moving_mean") * scale
        return weight.astype(np.float32), bias.astype(np.float32)

    try:
        with h5py.File(path) as file:
            layers = [convolution("conv1", "kernel", (3, 2, 0, 1))]
            for block in range(1, len(BLOCKS) + 1):
                layers.append(convolution(f"conv_dw_{block}", "depthwise_kernel", (2, 3, 0, 1)))
                layers.append(convolution(f"conv_pw_{block}", "kernel", (3, 2, 0, 1)))
            weight, bias = values("dense_1", "kernel").T, values("dense_1", "bias")
            return [*layers, (weight.astype(np.float32), bias.astype(np.float32))]
    except (KeyError, OSError) as error:
        raise ValueError(f"{path.name} is no weights file of Keras for a MobileNet ({error})") from error


def read_tflite(path: Path) -> list[Layer]:
    """Read a TensorFlow Lite model, its weights multiplied by their scales."""
    import tflite

    model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
    graph = model.Subgraphs(0)

    def values(index: int) -> Array:
        tensor = graph.Tensors(index)
        raw, shape = model.Buffers(tensor.Buffer()).DataAsNumpy(), tensor.ShapeAsNumpy()
        if tensor.Type() == tflite.TensorType.FLOAT32:
            return np.asarray(raw.view("<f4").reshape(shape))
        quantization = tensor.Quantization()
        if tensor.Type() != tflite.TensorType.INT8 or np.any(quantization.ZeroPointAsNumpy()):
            raise ValueError(f"{path.name} has weights other than float32 and symmetric int8")
        along = [1] * len(shape)
        along[quantization.QuantizedDimension()] = -1
        scaled: Array = raw.view(np.int8).reshape(shape) * quantization.ScaleAsNumpy().reshape(along)
        return scaled

    operators = tflite.BuiltinOperator
    axes = {
        operators.CONV_2D: (0, 3, 1, 2),
        operators.DEPTHWISE_CONV_2D: (3, 0, 1, 2),
        operators.FULLY_CONNECTED: (0, 1),
    }
    layers = []
    for step in range(graph.OperatorsLength()):
        operator = graph.Operators(step)
        code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
        if code in axes:
            _, weight, bias = operator.InputsAsNumpy()
            layers.append((values(weight).transpose(axes[code]), values(bias)))
    return layers
