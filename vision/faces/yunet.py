"""Face detection by YuNet (Wu, Peng, Yu 2023, https://doi.org/10.1007/s11633-023-1423-y, MIT), by OpenVINO on the CPU
or by torch on a GPU.

Only the header of the ONNX file fixes its input to 640 x 640 pixels; the network is convolutional and takes any
multiple of 32. In fp32 the results of both equal those of OpenCV's FaceDetectorYN; OpenVINO takes half its time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vision.engines import RequestPool, build_torch_engine, has_bf16, has_cuda
from vision.images import Pixels

if TYPE_CHECKING:
    import torch

Detections = NDArray[np.float32]
"""float32[n, 15]: x, y, width, height, five landmarks (x, y), score 0 to 1; in pixels of the network's input."""

STRIDES: Final = (8, 16, 32)
MULTIPLE: Final = 32
SCORE: Final = 14
PARTS: Final = (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
"""Outputs of each stride, and their numbers for each cell."""

EngineName = Literal["auto", "torch-fp32", "openvino-bf16", "openvino-fp32"]


class YuNet(Protocol):
    """The loaded network; ``streams`` threads may call it at the same time, and should, to use the whole device."""

    engine: str
    device: str
    streams: int

    def __call__(self, pictures: Pixels, floor: float) -> list[Detections]:
        """Return the detections of each image that score at least ``floor``.

        ``pictures``: uint8 (N, H, W, 3) RGB, H and W multiples of 32. Detections overlap: one face has several.
        """
        ...


def load_yunet(
    model: Path,
    engine: EngineName,
    cuda_memory_fraction: float | None = None,
    *,
    sizes: Sequence[tuple[int, int]] = (),
) -> YuNet:
    """Return the network of the ONNX file; auto is torch on a GPU that the process has, else OpenVINO.

    On a CPU bf16 is nearly twice as fast, with slightly different boxes and scores, and is what auto takes where the
    processor has it. A GPU computes so small a network faster than it is given its layers, so there it is in fp32.
    ``sizes`` are (height, width) that images often have, for each of which OpenVINO compiles a network.
    """
    if engine == "auto":
        engine = "torch-fp32" if has_cuda() else "openvino-bf16" if has_bf16() else "openvino-fp32"
    if engine == "torch-fp32":
        return TorchYuNet(model, cuda_memory_fraction)
    return OpenVinoYuNet(model, bf16=engine == "openvino-bf16", sizes=sizes)


class OpenVinoYuNet:
    """YuNet by OpenVINO on the CPU.

    A network for images of any size is arranged anew, in over a millisecond, whenever a size follows another, and takes
    half as long again for small ones. Images of ``sizes``, which have networks of their own, go through one by one.
    """

    device = "cpu"

    def __init__(self, model: Path, *, bf16: bool, sizes: Sequence[tuple[int, int]] = ()) -> None:
        import openvino
        from openvino.preprocess import ColorFormat, PrePostProcessor

        core = openvino.Core()

        def compiled(count: int, height: int, width: int) -> RequestPool:
            network = core.read_model(model)
            network.reshape({0: [count, 3, height, width]})
            steps = PrePostProcessor(network)
            steps.input().tensor().set_element_type(openvino.Type.u8)
            steps.input().tensor().set_layout(openvino.Layout("NHWC")).set_color_format(ColorFormat.RGB)
            steps.input().preprocess().convert_element_type(openvino.Type.f32).convert_color(ColorFormat.BGR)
            steps.input().model().set_layout(openvino.Layout("NCHW"))
            return RequestPool(core, steps.build(), bf16=bf16)

        self._pool = compiled(-1, -1, -1)
        self._of_size = {size: compiled(1, *size) for size in sizes}
        self.engine = "openvino-bf16" if bf16 else "openvino-fp32"
        self.streams = self._pool.streams

    def __call__(self, pictures: Pixels, floor: float) -> list[Detections]:
        """Return the detections of each image that score at least ``floor``."""
        height, width = pictures.shape[1:3]
        pool = self._of_size.get((height, width))
        parts = [pictures] if pool is None else [pictures[index : index + 1] for index in range(len(pictures))]
        detections = []
        with (pool or self._pool).request() as request:
            for part in parts:
                request.infer([part], share_inputs=True)
                outputs = {
                    name: request.get_tensor(name).data.reshape(len(part), -1, size) for name, size in _outputs()
                }
                detections += [
                    _decode({name: values[index] for name, values in outputs.items()}, width, floor)
                    for index in range(len(part))
                ]
        return detections


class TorchYuNet:
    """YuNet by torch in fp32, on the GPU of the process, else on the CPU."""

    def __init__(self, model: Path, cuda_memory_fraction: float | None) -> None:
        """Raises ModelNotLoaded when the GPU gives other numbers."""
        size = (4 * MULTIPLE, 4 * MULTIPLE, 3)
        self._engine = build_torch_engine("torch-fp32", lambda: _module(model), size, cuda_memory_fraction)
        self.engine, self.device, self.streams = self._engine.name, self._engine.device, self._engine.streams

    def __call__(self, pictures: Pixels, floor: float) -> list[Detections]:
        """Return the detections of each image that score at least ``floor``."""
        height, width = pictures.shape[1:3]
        cells = [height // stride * (width // stride) for stride in STRIDES]
        detections = []
        for item in self._engine(pictures):
            outputs: dict[str, Detections] = {}
            for stride, rows in zip(STRIDES, np.split(item, np.cumsum(cells)[:-1]), strict=True):
                columns = np.split(rows, np.cumsum([width for _, width in PARTS])[:-1], axis=1)
                outputs |= {f"{part}_{stride}": each for (part, _), each in zip(PARTS, columns, strict=True)}
            detections.append(_decode(outputs, width, floor))
        return detections


def _module(model: Path) -> "torch.nn.Module":
    """Return the network as a torch module, float[N, H, W, 3] RGB → float[N, cells, 16], the parts of all strides."""
    import onnx
    import torch

    from vision.networks.onnx_graph import OnnxGraph

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.graph = OnnxGraph(onnx.load(model))

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            outputs = self.graph(pictures.flip(3).permute(0, 3, 1, 2))
            strides = [
                torch.cat([outputs[f"{part}_{stride}"].reshape(len(pictures), -1, width) for part, width in PARTS], 2)
                for stride in STRIDES
            ]
            return torch.cat(strides, 1)

    return Network()


def _outputs() -> list[tuple[str, int]]:
    return [(f"{part}_{stride}", width) for stride in STRIDES for part, width in PARTS]


def _decode(outputs: dict[str, Detections], columns: int, floor: float) -> Detections:
    """Return boxes, landmarks and scores in pixels from offsets to the cells of three grids; none of it is kept."""
    detections = [np.empty((0, SCORE + 1), np.float32)]
    for stride in STRIDES:
        scores = np.sqrt(outputs[f"cls_{stride}"].clip(0, 1) * outputs[f"obj_{stride}"].clip(0, 1))[:, 0]
        cells = np.flatnonzero(scores >= floor)
        if not len(cells):
            continue
        y, x = np.divmod(cells, columns // stride)
        corner = np.stack([x, y], 1).astype(np.float32)
        offsets = outputs[f"bbox_{stride}"][cells]
        size = np.exp(offsets[:, 2:]) * stride
        middle = (corner + offsets[:, :2]) * stride
        landmarks = (np.tile(corner, 5) + outputs[f"kps_{stride}"][cells]) * stride
        detections.append(np.concatenate([middle - size / 2, size, landmarks, scores[cells, None]], 1))
    return np.concatenate(detections)
