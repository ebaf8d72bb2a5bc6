"""Convolutional networks of ONNX files as torch modules, so that torch runs them on a GPU without a second runtime.

The operators are those of the networks of this project, as https://onnx.ai/onnx/operators defines them. onnxruntime-gpu
would run any network, but brings a CUDA and a cuDNN of its own, which have to suit those of torch in the same process.
"""

import inspect
from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    import onnx


class OnnxGraph(nn.Module):
    """A network with one input, float[N, C, H, W] → its outputs by name."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        """Take the weights over, as buffers. Raises ValueError for another operator, or for more inputs than one."""
        from onnx import helper, numpy_helper

        super().__init__()
        graph = model.graph
        self._places: dict[str, str] = {}
        self._steps: list[tuple[Callable[..., Tensor], list[str], str, dict[str, Any]]] = []
        for tensor in graph.initializer:
            self._keep(tensor.name, torch.from_numpy(numpy_helper.to_array(tensor).copy()))
        inputs = [value.name for value in graph.input if value.name not in self._places]
        if len(inputs) != 1:
            raise ValueError(f"The network has {len(inputs)} inputs instead of one.")
        (self._input,) = inputs
        self._outputs = [value.name for value in graph.output]
        for node in graph.node:
            attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
            if node.op_type == "Constant":
                self._keep(node.output[0], torch.from_numpy(numpy_helper.to_array(attributes["value"]).copy()))
            else:
                self._add(node.op_type, list(node.input), node.output[0], attributes)
        last = {name: step for step, (_, names, _, _) in enumerate(self._steps) for name in names}
        for name in (*self._places, *self._outputs):
            last.pop(name, None)
        self._freed = [[name for name in last if last[name] == step] for step in range(len(self._steps))]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return all outputs of the network. Raises ValueError for a variant of an operator that is not known here."""
        values = {name: getattr(self, place) for name, place in self._places.items()}
        values[self._input] = images
        for step, (operator, names, output, attributes) in enumerate(self._steps):
            values[output] = operator(*(values[name] for name in names), **attributes)
            for name in self._freed[step]:
                del values[name]
        return {name: values[name] for name in self._outputs}

    def _add(self, kind: str, names: list[str], output: str, attributes: dict[str, Any]) -> None:
        """Add a step; one of constants alone is done here and now."""
        if kind not in _OPERATORS:
            raise ValueError(f"The network has the operator {kind}, which is not known here.")
        operator = _OPERATORS[kind]
        # Shapes and scales are plain numbers: read from a GPU they would stop it in each step.
        for index, name in _NUMBERS.get(kind, {}).items():
            if names[index] not in self._places:
                raise ValueError(f"The {name} of {kind} are computed by the network, which is not known here.")
            attributes[name] = getattr(self, self._places[names[index]]).tolist()
        names = [name for index, name in enumerate(names) if name and index not in _LEFT_OUT.get(kind, ())]
        try:
            inspect.signature(operator).bind(*names, **attributes)
        except TypeError as error:
            raise ValueError(f"{kind} of the network is another than the one known here: {error}.") from error
        if all(name in self._places for name in names):
            self._keep(output, operator(*(getattr(self, self._places[name]) for name in names), **attributes))
        else:
            self._steps.append((operator, names, output, attributes))

    def _keep(self, name: str, values: Tensor) -> None:
        self._places[name] = f"constant_{len(self._places)}"
        self.register_buffer(self._places[name], values)


def _conv(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    kernel_shape: Sequence[int] = (),
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    group: int = 1,
) -> Tensor:
    images, padding = _padding(images, pads, 0.0)
    return functional.conv2d(images, weight, bias, tuple(strides), padding, tuple(dilations), group)


def _max_pool(
    images: Tensor,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    ceil_mode: int = 0,
) -> Tensor:
    images, padding = _padding(images, pads, -torch.inf)
    return functional.max_pool2d(images, tuple(kernel_shape), tuple(strides), padding, ceil_mode=bool(ceil_mode))


def _padding(images: Tensor, pads: Sequence[int], value: float) -> tuple[Tensor, tuple[int, int]]:
    """Return the images, padded here where the two sides differ, and what the operator pads itself."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return images, (top, left)
    return functional.pad(images, (left, right, top, bottom), value=value), (0, 0)


def _batch_norm(
    images: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float,
    momentum: float = 0.9,
) -> Tensor:
    return functional.batch_norm(images, mean, variance, scale, bias, eps=epsilon)


def _gemm(
    first: Tensor,
    second: Tensor,
    bias: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> Tensor:
    return torch.addmm(bias, first.t() if transA else first, second.t() if transB else second, beta=beta, alpha=alpha)


def _resize(
    images: Tensor,
    *,
    scales: Sequence[float],
    mode: bytes = b"nearest",
    coordinate_transformation_mode: bytes = b"half_pixel",
    nearest_mode: bytes = b"round_prefer_floor",
    cubic_coeff_a: float = -0.75,
) -> Tensor:
    how = (mode, coordinate_transformation_mode, nearest_mode)
    if how != (b"nearest", b"asymmetric", b"floor"):
        raise ValueError(f"Resize of the network is {b', '.join(how).decode()}, which is not known here.")
    return functional.interpolate(images, scale_factor=tuple(scales[2:]), mode="nearest")


_OPERATORS: Final[dict[str, Callable[..., Tensor]]] = {
    "Add": lambda first, second: first + second,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "Dropout": lambda images: images,
    "Flatten": lambda images, *, axis=1: images.reshape(prod(images.shape[:axis]), -1),
    "Gemm": _gemm,
    "MaxPool": _max_pool,
    "Mul": lambda first, second: first * second,
    "PRelu": lambda images, slope: functional.prelu(images, slope.flatten()),
    "Relu": lambda images: images.relu(),
    "Reshape": lambda images, *, shape: images.reshape(shape),
    "Resize": _resize,
    "Sigmoid": lambda images: images.sigmoid(),
    "Sub": lambda first, second: first - second,
    "Transpose": lambda images, *, perm: images.permute(perm),
}
_NUMBERS: Final = {"Reshape": {1: "shape"}, "Resize": {2: "scales"}}
"""Inputs that are numbers, by their places."""
_LEFT_OUT: Final = {"Dropout": {1, 2}, "Reshape": {1}, "Resize": {1, 2}}
