"""Face vectors by SFace (Zhong et al. 2021, https://doi.org/10.1109/TIP.2020.3048632, Apache-2.0) in OpenVINO.

The block-quantised file is computed in the engine's precision: its weights are dequantised when it is loaded, as
OpenVINO refuses one of their nodes and reads others wrongly. Results equal those of OpenCV's classic engine, in a third
of its time in fp32 and an eighth in bf16.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vision.engines import RequestPool, has_bf16
from vision.faces.face import SIZE
from vision.images import Pixels

if TYPE_CHECKING:
    import onnx

Vectors = NDArray[np.float32]
EngineName = Literal["auto", "openvino-bf16", "openvino-fp32"]

DIMENSIONS: Final = 128
PART: Final = 8
"""Crops per inference of a stream; more make it slower."""


class SFace:
    """The loaded network; ``streams`` threads may call it at the same time, and should, to use the whole processor."""

    def __init__(self, model: Path, engine: EngineName) -> None:
        """Raises ValueError for a file of another network."""
        import openvino
        from openvino.preprocess import PrePostProcessor

        if engine == "auto":
            engine = "openvino-bf16" if has_bf16() else "openvino-fp32"
        core = openvino.Core()
        network = core.read_model(plain_network(model))
        if len(network.inputs) != 1 or len(network.outputs) != 1 or network.output().shape != (1, DIMENSIONS):
            raise ValueError(f"{model.name} is no network from one picture to {DIMENSIONS} numbers")
        network.reshape([-1, 3, SIZE, SIZE])
        steps = PrePostProcessor(network)
        steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        steps.input().preprocess().convert_element_type(openvino.Type.f32)
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        self.engine = engine
        self._pool = RequestPool(core, steps.build(), bf16=engine == "openvino-bf16")
        self.streams = self._pool.streams

    def __call__(self, crops: Pixels) -> Vectors:
        """Return float32 (N, 128) of length 1 for aligned crops, uint8 (N, 112, 112, 3) RGB."""
        raw = np.empty((len(crops), DIMENSIONS), np.float32)
        with self._pool.request() as request:
            for start in range(0, len(crops), PART):
                request.infer([crops[start : start + PART]], share_inputs=True)
                raw[start : start + PART] = request.get_output_tensor(0).data
        unit: Vectors = raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
        return unit


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
