"""people/identity without weights: block-quantised files multiplied out, crops and their quality."""

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from deployments.people.identity import Config, FaceRecognizer, FaceVector
from tests.tolerances import FP32, assert_close
from vision.faces.face import TEMPLATE, Face
from vision.faces.sface import plain_network
from vision.images import Pixels

pytestmark = pytest.mark.numeric


def saved(tmp_path: Path, axis: int, block: int, quantised: NDArray[Any], scale: Any, zero: Any) -> Path:
    """A file of a network data · weight, its weight in blocks, and two inputs that nothing feeds."""
    tensors = {"weight_q": quantised, "weight_s": np.float32(scale), "weight_z": np.int8(zero)}
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", list(tensors), ["weight"], axis=axis, block_size=block),
            helper.make_node("MatMul", ["data", "weight"], ["out"]),
        ],
        "blocks",
        [
            helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, quantised.shape[0]]),
            helper.make_tensor_value_info("stale", TensorProto.FLOAT, [3]),
            helper.make_tensor_value_info("weight_s", TensorProto.FLOAT, np.shape(scale)),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, quantised.shape[1]])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    path = tmp_path / "blocks.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


@pytest.mark.parametrize(
    ("axis", "block", "scale", "zero", "expected"),
    [
        (1, 2, [[0.5, 2], [1, 10]], [[0, 1], [-1, 0]], [[0.5, 1, 4, 6], [6, 7, 70, 80]]),
        (0, 2, [[1, 2, 3, 4]], [[1, 1, 1, 1]], [[0, 2, 6, 12], [4, 10, 18, 28]]),
    ],
)
def test_blocks_are_multiplied_out(
    tmp_path: Path, axis: int, block: int, scale: Any, zero: Any, expected: list[list[float]]
) -> None:
    quantised = np.int8([[1, 2, 3, 4], [5, 6, 7, 8]])
    model = onnx.load_from_string(plain_network(saved(tmp_path, axis, block, quantised, scale, zero)))
    assert [value.name for value in model.graph.input] == ["data"]
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    (weight,) = model.graph.initializer
    assert (weight.name, weight.data_type) == ("weight", TensorProto.FLOAT)
    np.testing.assert_array_equal(numpy_helper.to_array(weight), np.float32(expected))


def test_it_is_what_openvino_then_computes(tmp_path: Path) -> None:
    import openvino

    rng = np.random.default_rng(0)
    quantised = rng.integers(-128, 128, (8, 12), dtype=np.int8)
    scale, zero = rng.random((8, 3), np.float32), rng.integers(-9, 9, (8, 3), dtype=np.int8)
    core = openvino.Core()
    network = core.read_model(plain_network(saved(tmp_path, 1, 4, quantised, scale, zero)))
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    given = rng.random((1, 8), np.float32)
    weight = (quantised.astype(np.float32) - np.repeat(zero, 4, 1)) * np.repeat(scale, 4, 1)
    assert_close(compiled([given])[0], given @ weight, FP32)


def textured(size: int) -> Pixels:
    image = np.random.default_rng(4).integers(0, 256, (size, size, 3), dtype=np.uint8)
    blurred: Pixels = cv2.GaussianBlur(image, (0, 0), size / 150)
    blurred.flags.writeable = False
    return blurred


def face(scale: float, squeeze: float = 1.0) -> Face:
    landmarks = tuple((20 + scale * squeeze * x, 10 + scale * y) for x, y in TEMPLATE)
    return Face(20, 10, 80 * scale, 100 * scale, 0.9, landmarks)


@pytest.fixture(scope="module")
def stage() -> FaceRecognizer:
    """Not loaded: crops need no weights."""
    return FaceRecognizer(Config())


def test_a_crop_for_each_face(stage: FaceRecognizer) -> None:
    image = textured(300)
    crops = stage.prepare((image, (face(2), face(1), face(2))))
    assert crops.pixels.shape == (3, 112, 112, 3)
    assert crops.pixels.dtype == np.uint8
    np.testing.assert_array_equal(crops.pixels[0], crops.pixels[2])
    assert (crops.pixels[0] != crops.pixels[1]).any()
    assert crops.qualities[0] == crops.qualities[2]
    empty = stage.prepare((image, ()))
    assert (empty.pixels.shape, empty.qualities) == ((0, 112, 112, 3), ())


def test_quality_is_size_times_sharpness_times_frontalness(stage: FaceRecognizer) -> None:
    image = textured(300)

    def quality(given: Face, pixels: Pixels = image) -> float:
        (value,) = stage.prepare((pixels, (given,))).qualities
        assert 0 <= value <= 1
        return value

    assert quality(face(0.25)) < quality(face(0.5)) < quality(face(1.0))
    assert quality(face(1.5), cv2.GaussianBlur(image, (0, 0), 5)) < quality(face(1.5))
    noise = np.random.default_rng(4).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    turned = [quality(face(1.5, squeeze), noise) for squeeze in (0.2, 0.5, 1.0)]
    assert turned == sorted(turned)
    assert turned[-1] > 0.95
    flat = np.full((300, 300, 3), 90, np.uint8)
    assert quality(face(1.0), flat) == 0


def test_vectors_can_be_sent() -> None:
    sent = pickle.loads(pickle.dumps(FaceVector(np.ones(128, np.float32), 0.5)))
    assert sent.quality == 0.5
    np.testing.assert_array_equal(sent.vector, np.ones(128, np.float32))
