"""objects/detector: which objects are in a picture or a frame, of the 80 classes of COCO, and where.

RT-DETRv2 with a ResNet-18 (20 million parameters): 48.1 AP on COCO's validation set by its authors. It looks at a
picture as a square of 640 pixels, so an object that is less than a hundredth of the picture's sides is not found. Its
queries are chosen by score, which is a step and no slope: in bf16 other ones are chosen, so it runs in fp32.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.engine_stage import EngineConfig, EngineStage, model_chain
from deployments.serving.stage import HubModels, SharedImage, StageRef
from vision.engines import Engine
from vision.errors import StageError
from vision.images import Pixels
from vision.objects.detection import MOST, Detections, ObjectNetwork
from vision.weights import Weights, resolve_first

Array = NDArray[np.float32]
Prepared = tuple[Array, tuple[int, int]]

CHAIN: Final = ["rtdetr-v2-r18vd"]
ACCURACY: Final = {"rtdetr-v2-r18vd": "AP 0.481 on COCO's validation set, by its authors"}


class Config(EngineConfig):
    """``user_config`` of objects/detector; models and engine are read at load, the rest changes in place."""

    max_batch_size: int = Field(default=4, ge=1)
    models: list[str] = model_chain(CHAIN)
    confidence: float = Field(default=0.3, ge=0.05, le=1, description="least confidence of what is told at all")


OBJECTS: Final = StageRef[SharedImage, Detections]("objects/detector")


class ObjectDetector(EngineStage[Config, Pixels, Prepared, Detections]):
    """Image, uint8 (H, W, 3) RGB → Detections."""

    key = OBJECTS.key
    config_class = Config
    prepare_threads = 2
    exact = True

    hub = HubModels(
        task="object-detection",
        kind="a detection transformer that takes pictures of one size, such as RT-DETR",
        architecture="MODEL_FOR_OBJECT_DETECTION_MAPPING",
        files=("config.json", "preprocessor_config.json"),
        samples=lambda: [np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)],
    )

    _weights: Weights
    _network: ObjectNetwork

    def load_engine(self) -> Engine:
        self._weights = resolve_first(self.config.models)
        self._network = ObjectNetwork(self._weights)
        return self.build_engine(
            self._network.make_module, version=self._weights.version, input_size=self._network.input_size
        )

    def prepare(self, item: Pixels) -> Prepared:
        height, width = item.shape[:2]
        return self._network.prepare(item), (height, width)

    def predict_batch(self, items: list[Prepared]) -> Sequence[Detections | StageError]:
        outputs = self._engine(np.stack([tensor for tensor, _ in items]))
        confidence, version = self.config.confidence, self._weights.version
        return [
            Detections(self._network.objects(output, size, confidence), version)
            for output, (_, size) in zip(outputs, items, strict=True)
        ]

    def info(self) -> dict[str, Any]:
        return {
            "method": "detection transformer; one box for each query, nothing is suppressed afterwards",
            **self._weights.info(),
            "architecture": self._weights.architecture,
            **super().info(),
            "classes": list(self._network.labels),
            "confidence": "0 to 1, higher is surer",
            "threshold": self.config.confidence,
            "most_objects": MOST,
            "accuracy": ACCURACY.get(self._weights.name, "as its model card says"),
        }
