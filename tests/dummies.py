"""A stand-in for every stage that needs weights: real numbers from real pictures, no torch."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.embed.dinov3 import Embedding
from deployments.errors import InvalidMedia, StageError
from deployments.images import decode
from deployments.stage import Stage, StageConfig

PREPROCESS = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 36},
    "crop_size": {"height": 32, "width": 32},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


class DummyEmbed(Stage[StageConfig, bytes, NDArray[np.float32], Embedding]):
    """384 numbers of a picture: its 8 x 16 thumbnail in three colours, less grey. Alike pictures are near."""

    key = "embed/dinov3"
    prepare_threads = 1
    version = "dummy@00000000"
    calls: list[int]

    def load(self) -> None:
        self.calls = []

    def prepare(self, item: bytes) -> NDArray[np.float32]:
        from PIL import Image

        small = Image.fromarray(decode(item, max_pixels=10**7)).resize((16, 8), Image.Resampling.BOX)
        return np.asarray(small, np.float32).reshape(-1) / 255

    def predict_batch(self, items: list[NDArray[np.float32]]) -> Sequence[Embedding | StageError]:
        self.calls.append(len(items))
        results: list[Embedding | StageError] = []
        for raw in items:
            if raw.max() == 0:
                results.append(InvalidMedia("This dummy cannot see in the dark."))
                continue
            centred = raw - 0.5
            results.append(Embedding(raw, centred / max(np.linalg.norm(centred), 1e-9), self.version))
        return results

    def info(self) -> dict[str, Any]:
        return {
            "model": "dummy",
            "model_version": self.version,
            "architecture": "thumbnail",
            "device": "cpu",
            "engine": "numpy",
            "preprocess": PREPROCESS,
            "centred": True,
        }


def digest(data: bytes) -> str:
    """The asset id of these bytes."""
    return hashlib.sha256(data).hexdigest()[:32]
