"""Networks of ONNX files give in torch what ONNX's own reference evaluator gives, and refuse what they do not know."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.tolerances import FP32_DOT, assert_close
from vision.networks.onnx_graph import OnnxGraph

pytestmark = pytest.mark.numeric

Constants = dict[str, NDArray[Any]]
RNG = np.random.default_rng(5)


def numbers(*shape: int) -> NDArray[np.float32]:
    return RNG.standard_normal(shape).astype(np.float32)


def model(*nodes: onnx.NodeProto, constants: Constants, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    kinds = dict.fromkeys(("x", *outputs), TensorProto.FLOAT)
    values = {name: helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()}
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [values["x"]],
        [values[name] for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(kind: str, *inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), [output], **attributes)


CONV = {"kernel_shape": [3, 3], "dilations": [1, 1]}
POSITIVE = np.abs(numbers(4)) + np.float32(0.1)
CASES: dict[str, tuple[onnx.NodeProto, Constants]] = {
    "conv": (node("Conv", "x", "w", "b", pads=[1, 1, 1, 1], **CONV), {"w": numbers(6, 4, 3, 3), "b": numbers(6)}),
    "conv, one side": (node("Conv", "x", "w", pads=[0, 0, 1, 1], strides=[2, 2], **CONV), {"w": numbers(6, 4, 3, 3)}),
    "depthwise": (node("Conv", "x", "w", group=4, pads=[2, 2, 2, 2], kernel_shape=[5, 5]), {"w": numbers(4, 1, 5, 5)}),
    "dilated": (node("Conv", "x", "w", kernel_shape=[3, 3], dilations=[2, 2]), {"w": numbers(2, 4, 3, 3)}),
    "batch norm": (
        node("BatchNormalization", "x", "s", "b", "m", "v", epsilon=1e-3),
        {"s": numbers(4), "b": numbers(4), "m": numbers(4), "v": POSITIVE},
    ),
    "pool": (node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2]), {}),
    "pool, one side": (node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]), {}),
    "prelu": (node("PRelu", "x", "s"), {"s": numbers(4, 1, 1)}),
    "relu": (node("Relu", "x"), {}),
    "sigmoid": (node("Sigmoid", "x"), {}),
    "transpose": (node("Transpose", "x", perm=[0, 2, 3, 1]), {}),
    "reshape": (node("Reshape", "x", "n"), {"n": np.array([-1, 8, 12])}),
    "flatten": (node("Flatten", "x", axis=2), {}),
    "dropout": (node("Dropout", "x"), {}),
    "resize": (
        node("Resize", "x", "", "n", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        {"n": np.array([1, 1, 2, 2], np.float32)},
    ),
    "add": (node("Add", "x", "c"), {"c": numbers(4, 1, 1)}),
    "sub": (node("Sub", "x", "c"), {"c": numbers(1)}),
    "mul": (node("Mul", "c", "x"), {"c": numbers(4, 8, 12)}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("count", [1, 3])
def test_an_operator_is_that_of_onnx(name: str, count: int) -> None:
    step, constants = CASES[name]
    network = model(step, constants=constants)
    images = numbers(count, 4, 8, 12)
    (expected,) = ReferenceEvaluator(network).run(None, {"x": images})
    got = OnnxGraph(network).eval()(torch.from_numpy(images))["y"]
    assert got.shape == expected.shape
    assert_close(got.numpy(), expected, FP32_DOT)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_whole_network_with_constants_that_are_computed_first(transposed: int) -> None:
    weights = {"w": numbers(5, 4, 3, 3), "flat": numbers(5, 1), "m": numbers(*((7, 5) if transposed else (5, 7)))}
    shape = numpy_helper.from_array(np.array([5, 1, 1]), "shape")
    network = model(
        node("Constant", output="n", value=shape),
        node("Reshape", "flat", "n", output="slope"),
        node("Conv", "x", "w", output="a", **CONV),
        node("PRelu", "a", "slope", output="b"),
        node("MaxPool", "b", output="c", kernel_shape=[6, 10]),
        node("Flatten", "c", output="d"),
        node("Gemm", "d", "m", "e", output="y", alpha=0.5, beta=2.0, transB=transposed),
        constants=weights | {"e": numbers(7)},
        outputs=("b", "y"),
    )
    images = numbers(2, 4, 8, 12)
    expected = dict(zip(("b", "y"), ReferenceEvaluator(network).run(None, {"x": images}), strict=True))
    graph = OnnxGraph(network)
    for _ in range(2):
        got = graph(torch.from_numpy(images))
        assert set(got) == {"b", "y"}
        for name, values in got.items():
            assert_close(values.numpy(), expected[name], FP32_DOT)
    half = graph.to(torch.bfloat16)(torch.from_numpy(images).bfloat16())["y"]
    assert half.dtype == torch.bfloat16
    np.testing.assert_allclose(half.float().numpy(), expected["y"], atol=0.03 * np.abs(expected["y"]).max())


REFUSED = {
    "operator Softmax": (node("Softmax", "x"), {}),
    "Conv of the network": (node("Conv", "x", "w", auto_pad="SAME_UPPER"), {"w": numbers(6, 4, 3, 3)}),
    "scales of Resize": (node("Resize", "x", "", "x", mode="nearest"), {}),
    "2 inputs": (node("Add", "x", "other"), {}),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_known_is_refused_by_name(reason: str) -> None:
    step, constants = REFUSED[reason]
    network = model(step, constants=constants)
    if "other" in step.input:
        network.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, None))
    with pytest.raises(ValueError, match=reason):
        OnnxGraph(network)


def test_another_way_to_resize_is_refused() -> None:
    network = model(node("Resize", "x", "", "n", mode="linear"), constants={"n": np.array([1, 1, 2, 2], np.float32)})
    with pytest.raises(ValueError, match="Resize of the network is linear, half_pixel"):
        OnnxGraph(network)(torch.zeros(1, 4, 8, 12))
