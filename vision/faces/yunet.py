"""YuNet (Wu, Peng, Yu 2023, https://doi.org/10.1007/s11633-023-1423-y, MIT) by OpenVINO.

The ONNX file is fixed to 640 x 640 pixels by its header only; the network itself is convolutional and takes any
multiple of 32. In fp32 the numbers equal those of OpenCV's FaceDetectorYN, in half its time, and several threads may
call at once.
"""

from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vision.engines import has_bf16
from vision.faces.face import Pixels

Detections = NDArray[np.float32]
"""float32[n, 15]: x, y, width, height, five landmarks (x, y), score 0 to 1; in pixels of the network's input."""

STRIDES: Final = (8, 16, 32)
MULTIPLE: Final = 32
SCORE: Final = 14


class YuNet:
    """The loaded network; ``streams`` threads may call it at the same time, and should, to use the whole processor."""

    def __init__(self, model: Path, *, exact: bool) -> None:
        """``exact``: in fp32 everywhere, else in bf16 where the processor has it: nearly twice as fast, and boxes and
        scores move a little."""
        import openvino
        from openvino.preprocess import ColorFormat, PrePostProcessor

        core = openvino.Core()
        network = core.read_model(model)
        network.reshape({0: [-1, 3, -1, -1]})
        steps = PrePostProcessor(network)
        steps.input().tensor().set_element_type(openvino.Type.u8)
        steps.input().tensor().set_layout(openvino.Layout("NHWC")).set_color_format(ColorFormat.RGB)
        steps.input().preprocess().convert_element_type(openvino.Type.f32).convert_color(ColorFormat.BGR)
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        precision = "bf16" if has_bf16() and not exact else "f32"
        options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
        compiled = core.compile_model(steps.build(), "CPU", options)
        self.streams = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.streams):
            self._free.put(compiled.create_infer_request())

    def __call__(self, pictures: Pixels, floor: float) -> list[Detections]:
        """uint8 (N, H, W, 3) RGB, H and W multiples of 32 → detections scored ``floor`` or more, of each picture.

        Detections overlap: one face has several.
        """
        request = self._free.get()
        try:
            request.infer([pictures], share_inputs=True)
            outputs = {
                name: request.get_tensor(name).data.reshape(len(pictures), -1, width).copy()
                for name, width in _outputs()
            }
        finally:
            self._free.put(request)
        columns = pictures.shape[2]
        return [
            _decode({name: values[index] for name, values in outputs.items()}, columns, floor)
            for index in range(len(pictures))
        ]


def _outputs() -> list[tuple[str, int]]:
    parts = (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
    return [(f"{part}_{stride}", width) for stride in STRIDES for part, width in parts]


def _decode(outputs: dict[str, Detections], columns: int, floor: float) -> Detections:
    """Offsets from the cells of three grids to boxes, landmarks and scores in pixels."""
    found = []
    for stride in STRIDES:
        scores = np.sqrt(outputs[f"cls_{stride}"].clip(0, 1) * outputs[f"obj_{stride}"].clip(0, 1))[:, 0]
        cells = np.flatnonzero(scores >= floor)
        y, x = np.divmod(cells, columns // stride)
        corner = np.stack([x, y], 1).astype(np.float32)
        offsets = outputs[f"bbox_{stride}"][cells]
        size = np.exp(offsets[:, 2:]) * stride
        middle = (corner + offsets[:, :2]) * stride
        landmarks = (np.tile(corner, 5) + outputs[f"kps_{stride}"][cells]) * stride
        found.append(np.concatenate([middle - size / 2, size, landmarks, scores[cells, None]], 1))
    return np.concatenate(found)
