"""Weights of a MobileNetV1, from the files that NIMA's are published in, in the layout of torch.

Keras HDF5 files hold them as trained; TensorFlow Lite files as 8-bit numbers with one scale for each output channel,
batch normalisation already folded into them.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Layer = tuple[Array, Array]
"""(weight, bias): float32[out, in / groups, height, width] or, of a dense layer, float32[out, in]; float32[out]."""

BLOCKS = 13
BATCH_NORM_EPSILON = 1e-3


def read_layers(path: Path) -> list[Layer]:
    """The layers, first to last, by the suffix of the file. Raises ValueError for a file of another kind."""
    readers = {".hdf5": read_keras, ".tflite": read_tflite}
    if path.suffix not in readers:
        raise ValueError(f"{path.name} ends in none of {', '.join(readers)}")
    return readers[path.suffix](path)


def read_keras(path: Path) -> list[Layer]:
    """A weights file of Keras 2 for its own MobileNet with one dense layer."""
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
            for block in range(1, BLOCKS + 1):
                layers.append(convolution(f"conv_dw_{block}", "depthwise_kernel", (2, 3, 0, 1)))
                layers.append(convolution(f"conv_pw_{block}", "kernel", (3, 2, 0, 1)))
            weight, bias = values("dense_1", "kernel").T, values("dense_1", "bias")
            return [*layers, (weight.astype(np.float32), bias.astype(np.float32))]
    except (KeyError, OSError) as error:
        raise ValueError(f"{path.name} is no weights file of Keras for a MobileNet ({error})") from error


def read_tflite(path: Path) -> list[Layer]:
    """A TensorFlow Lite model, its weights multiplied by their scales."""
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
