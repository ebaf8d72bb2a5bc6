"""Face vectors by SFace (Zhong et al. 2021, https://doi.org/10.1109/TIP.2020.3048632, Apache-2.0), by
OpenVINO on the CPU or by torch on a GPU.

The block-quantised file is computed in the engine's precision: its weights are dequantised when it is loaded, as
OpenVINO refuses one of their nodes and reads others wrongly. Results equal those of OpenCV's classic engine, by
OpenVINO in a third of its time in fp32 and an eighth in bf16.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vision.engines import RequestPool, TorchEngine, build_torch_engine, has_bf16, has_cuda
from vision.faces.face import SIZE
from vision.images import Pixels

if TYPE_CHECKING:
    import onnx
    import torch

Vectors = NDArray[np.float32]
EngineName = Literal["auto", "torch-fp32", "openvino-bf16", "openvino-fp32"]

DIMENSIONS: Final = 128
PART: Final = 8
"""Crops per inference of a stream; more make it slower."""
PART_TORCH: Final = 64
"""Crops per inference of torch, with 0.4 GB between the layers."""


class SFace:
    """The loaded network; ``streams`` threads may call it at the same time, and should, to use the whole device."""

    def __init__(self, model: Path, engine: EngineName, cuda_memory_fraction: float | None = None) -> None:
        """Take the engine auto for torch in fp32 on a GPU that the process has, else for OpenVINO.

        Raises ValueError for a file of another network, and ModelNotLoaded when torch gives other numbers on the GPU.
        """
        if engine == "auto":
            engine = "torch-fp32" if has_cuda() else "openvino-bf16" if has_bf16() else "openvino-fp32"
        self._network: _OpenVino | TorchEngine
        if engine == "torch-fp32":
            size = (SIZE, SIZE, 3)
            self._network = build_torch_engine(engine, lambda: _module(model), size, cuda_memory_fraction)
            self._part = PART_TORCH
        else:
            self._network, self._part = _OpenVino(model, bf16=engine == "openvino-bf16"), PART
        self.engine, self.device, self.streams = engine, self._network.device, self._network.streams

    def __call__(self, crops: Pixels) -> Vectors:
        """Return float32 (N, 128) of length 1 for aligned crops, uint8 (N, 112, 112, 3) RGB."""
        return self.with_strengths(crops)[0]

    def with_strengths(self, crops: Pixels) -> tuple[Vectors, NDArray[np.float32]]:
        """Return the vectors, and float32 (N,), how long each was before: the longer, the surer it is a face."""
        raw = np.empty((len(crops), DIMENSIONS), np.float32)
        for start in range(0, len(crops), self._part):
            raw[start : start + self._part] = self._network(crops[start : start + self._part])
        strengths = np.linalg.norm(raw, axis=1)
        unit: Vectors = raw / np.maximum(strengths[:, None], 1e-12)
        return unit, strengths


class _OpenVino:
    """uint8 (N, 112, 112, 3) RGB → float32 (N, 128), by OpenVINO on the CPU."""

    device = "cpu"

    def __init__(self, model: Path, *, bf16: bool) -> None:
        import openvino
        from openvino.preprocess import PrePostProcessor

        core = openvino.Core()
        network = core.read_model(plain_network(model))
        if len(network.inputs) != 1 or len(network.outputs) != 1 or network.output().shape != (1, DIMENSIONS):
            raise _another(model)
        network.reshape([-1, 3, SIZE, SIZE])
        steps = PrePostProcessor(network)
        steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        steps.input().preprocess().convert_element_type(openvino.Type.f32)
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        self._pool = RequestPool(core, steps.build(), bf16=bf16)
        self.streams = self._pool.streams

    def __call__(self, crops: Pixels) -> Vectors:
        with self._pool.request() as request:
            request.infer([crops], share_inputs=True)
            vectors: Vectors = request.get_output_tensor(0).data.copy()
        return vectors


def _module(model: Path) -> "torch.nn.Module":
    """Return the network as a torch module, float[N, 112, 112, 3] RGB → float[N, 128]."""
    import onnx
    import torch

    from vision.networks.onnx_graph import OnnxGraph

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.graph = OnnxGraph(onnx.load_from_string(plain_network(model)))

        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            outputs: dict[str, torch.Tensor] = self.graph(crops.permute(0, 3, 1, 2))
            (vectors,) = outputs.values()
            return vectors

    try:
        network = Network()
        with torch.inference_mode():
            shape = network(torch.zeros(1, SIZE, SIZE, 3)).shape
    except (ValueError, RuntimeError) as error:
        raise _another(model) from error
    if shape != (1, DIMENSIONS):
        raise _another(model)
    return network


def _another(model: Path) -> ValueError:
    return ValueError(f"{model.name} is no network from one picture to {DIMENSIONS} numbers")


def plain_network(path: Path) -> bytes:
    """Return the ONNX file in fp32: block-quantised weights dequantised, unused inputs removed."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            values = _dequantised(node, [onnx.numpy_helper.to_array(weights[name]) for name in node.input])
            weights[node.output[0]] = onnx.numpy_helper.from_array(values, node.output[0])
        else:
            nodes.append(node)
    taken = {name for node in nodes for name in node.input}
    inputs = [value for value in graph.input if value.name in taken and value.name not in weights]
    kept = [tensor for name, tensor in weights.items() if name in taken]
    for field, items in ((graph.node, nodes), (graph.input, inputs), (graph.initializer, kept)):
        del field[:]
        field.extend(items)
    data: bytes = model.SerializeToString()
    return data


def _dequantised(node: "onnx.NodeProto", values: list[NDArray[Any]]) -> NDArray[np.float32]:
    """Return (quantised - zero point) · scale; each scale and zero point is for a block of neighbours along one
    axis."""
    along = {attribute.name: attribute.i for attribute in node.attribute}
    quantised = values[0].astype(np.float32)
    scale, zero = (np.repeat(value, along["block_size"], along["axis"]).astype(np.float32) for value in values[1:])
    dequantised: NDArray[np.float32] = (quantised - zero) * scale
    return dequantised
