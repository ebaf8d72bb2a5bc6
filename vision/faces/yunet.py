"""Face detection by YuNet (Wu, Peng, Yu 2023, https://doi.org/10.1007/s11633-023-1423-y, MIT) in OpenVINO.

Only the header of the ONNX file fixes its input to 640 x 640 pixels; the network is convolutional and takes any
multiple of 32. In fp32 the results equal those of OpenCV's FaceDetectorYN, in half its time.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.engines import RequestPool, has_bf16
from vision.images import Pixels

Detections = NDArray[np.float32]
"""float32[n, 15]: x, y, width, height, five landmarks (x, y), score 0 to 1; in pixels of the network's input."""

STRIDES: Final = (8, 16, 32)
MULTIPLE: Final = 32
SCORE: Final = 14


class YuNet:
    """The loaded network; ``streams`` threads may call it at the same time, and should, to use the whole processor."""

    def __init__(self, model: Path, *, exact: bool) -> None:
        """``exact``: always compute in fp32, else in bf16 where the processor has it: nearly twice as fast, with
        slightly different boxes and scores."""
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
        self._pool = RequestPool(core, steps.build(), bf16=has_bf16() and not exact)
        self.streams = self._pool.streams

    def __call__(self, pictures: Pixels, floor: float) -> list[Detections]:
        """Return the detections of each image that score at least ``floor``.

        ``pictures``: uint8 (N, H, W, 3) RGB, H and W multiples of 32. Detections overlap: one face has several.
        """
        with self._pool.request() as request:
            request.infer([pictures], share_inputs=True)
            outputs = {
                name: request.get_tensor(name).data.reshape(len(pictures), -1, width).copy()
                for name, width in _outputs()
            }
        columns = pictures.shape[2]
        return [
            _decode({name: values[index] for name, values in outputs.items()}, columns, floor)
            for index in range(len(pictures))
        ]


def _outputs() -> list[tuple[str, int]]:
    parts = (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
    return [(f"{part}_{stride}", width) for stride in STRIDES for part, width in parts]


def _decode(outputs: dict[str, Detections], columns: int, floor: float) -> Detections:
    """Return boxes, landmarks and scores in pixels from offsets to the cells of three grids."""
    detections = []
    for stride in STRIDES:
        scores = np.sqrt(outputs[f"cls_{stride}"].clip(0, 1) * outputs[f"obj_{stride}"].clip(0, 1))[:, 0]
        cells = np.flatnonzero(scores >= floor)
        y, x = np.divmod(cells, columns // stride)
        corner = np.stack([x, y], 1).astype(np.float32)
        offsets = outputs[f"bbox_{stride}"][cells]
        size = np.exp(offsets[:, 2:]) * stride
        middle = (corner + offsets[:, :2]) * stride
        landmarks = (np.tile(corner, 5) + outputs[f"kps_{stride}"][cells]) * stride
        detections.append(np.concatenate([middle - size / 2, size, landmarks, scores[cells, None]], 1))
    return np.concatenate(detections)
