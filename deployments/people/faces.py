"""people/faces: where the faces of a picture are.

The finest level of the pyramid (see ``vision.faces.detection``) has ``fine_megapixels``; a small picture is enlarged,
twice at most. Each next level has a sixth of its width and height.

Measured on 58 photographs with 64 faces, frontal to profile: all are found, the least sure with 0.89. In 93 pictures
without people there is none; the surest candidates are a painted face with 0.86, a binocular with a smile with 0.79,
then 0.61. Of faces of 20 pixels in a picture of 1280, 47 of 48. Faces may be tilted by 30°; by 40° half of them are
found, and nearly all with a threshold of 0.7, which lets drawn faces in.
"""

import logging
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from pydantic import Field

from configs.settings import settings
from deployments.serving.engine_stage import TorchConfig
from deployments.serving.stage import SharedImage, Stage, StageRef
from vision.faces.detection import (
    CANDIDATE,
    MAX_CANDIDATES,
    VIEW_SIZES,
    FaceSearch,
    Pyramid,
    finest_scale,
    pyramid,
)
from vision.faces.face import Face
from vision.faces.yunet import EngineName, load_yunet
from vision.images import Pixels
from vision.weights import Weights, resolve

logger = logging.getLogger("ray.serve")

MODEL: Final = "yunet-2023mar"
WEIGHT_FILE: Final = "face_detection_yunet_2023mar.onnx"


class Config(TorchConfig):
    """``user_config`` of people/faces; engine, threads and share of a GPU are read at load, the rest changes in
    place."""

    engine: EngineName = Field(
        default="auto",
        description="of the candidates; their views are in fp32. auto is torch-fp32 on a GPU, else OpenVINO",
    )

    confidence: float = Field(default=0.87, ge=CANDIDATE, le=1, description="least confidence of a face")
    fine_megapixels: float = Field(
        default=5.0, gt=0, le=50, description="size of the finest level; time and memory (40 MB each) grow with it"
    )


Boxes: TypeAlias = Literal["boxes"]
"""Beside a picture: its faces are wanted without landmarks of a close view, which spares a fifth of the time."""

FACES: Final = StageRef[SharedImage | tuple[SharedImage, Boxes], tuple[Face, ...]]("people/faces")


class FaceDetector(Stage[Config, Pixels | tuple[Pixels, Boxes], Pyramid, tuple[Face, ...]]):
    """Image, or (image, "boxes") → its faces, most confident first."""

    key = FACES.key
    config_class = Config
    fixed_models = (MODEL,)
    prepare_threads = 2

    _weights: Weights
    _search: FaceSearch

    @classmethod
    def model_chains(cls, config: Config) -> list[list[str]]:
        return [[MODEL]]

    def load(self) -> None:
        """Raises ModelNotLoaded with the reason of every source when the weights are not available, or when the GPU
        gives other numbers than the CPU."""
        name = settings().deepface_detector
        if type(self) is FaceDetector and "deepface_detector" in settings().model_fields_set:
            logger.info("DEEPFACE_DETECTOR=%s: faces are found by %s here, whatever it names", name, MODEL)
        self._weights = resolve(MODEL)
        path = self._weights.files[WEIGHT_FILE]
        config = self.config
        network = load_yunet(path, config.engine, config.cuda_memory_fraction)
        if network.engine == "torch-fp32":
            import torch

            torch.set_num_threads(config.torch_threads)
            self._search = FaceSearch(network, network)
        else:
            exact = load_yunet(path, "openvino-fp32", sizes=VIEW_SIZES)
            self._search = FaceSearch(network, exact, load_yunet(path, config.engine))

    def warm_up(self) -> None:
        self.predict(self.prepare(np.zeros((480, 640, 3), np.uint8)))

    def batches_at_once(self) -> int:
        return self._search.streams

    def prepare(self, item: Pixels | tuple[Pixels, Boxes]) -> Pyramid:
        image, close = (item[0], False) if isinstance(item, tuple) else (item, True)
        height, width = image.shape[:2]
        return pyramid(image, finest_scale(height, width, self.config.fine_megapixels), close=close)

    def predict(self, item: Pyramid) -> tuple[Face, ...]:
        return self._search(item, self.config.confidence)

    def info(self) -> dict[str, Any]:
        return {
            "method": "YuNet over a pyramid; every candidate seen again at one size",
            **self._weights.info(),
            "engine": self._search.engine,
            "device": self._search.device,
            "confidence": "0 to 1, higher is surer",
            "threshold": self.config.confidence,
            "smallest_face": "with 5 fine_megapixels about 1/64 of the longer side, at least 12 pixels",
            "most_faces": MAX_CANDIDATES,
            "accuracy": "WIDER Face validation AP of the network alone: easy 0.884, medium 0.866, hard 0.750",
        }
