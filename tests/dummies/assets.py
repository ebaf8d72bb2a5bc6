"""Stages of the asset API without weights, and the id of a file."""

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployments.analysis.nearest import Nearest
from deployments.serving.stage import Stage, StageConfig
from deployments.serving.stored import StoredPictures
from vision.embed.embedding import Embedding
from vision.errors import InvalidMedia, StageError
from vision.images import decode

PREPROCESS = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 36},
    "crop_size": {"height": 32, "width": 32},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


class DummyEmbed(Stage[StageConfig, str | bytes, NDArray[np.float32], Embedding]):
    """384 numbers of a picture: its 8 x 16 thumbnail in three colours, less grey. Alike pictures are near.

    A black picture is an error of its own, a white one a bug.
    """

    key = "embed/dinov3"
    prepare_threads = 1
    running: ClassVar["DummyEmbed"]
    """The one loaded last."""

    def load(self) -> None:
        self.version = "dummy@00000000"
        self.calls: list[int] = []
        self._pictures = StoredPictures()
        DummyEmbed.running = self

    def prepare(self, item: str | bytes) -> NDArray[np.float32]:
        small = Image.fromarray(decode(self._pictures.encoded(item), max_pixels=10**7)).resize(
            (16, 8), Image.Resampling.BOX
        )
        return np.asarray(small, np.float32).reshape(-1) / 255

    def predict_batch(self, items: list[NDArray[np.float32]]) -> Sequence[Embedding | StageError]:
        self.calls.append(len(items))
        return [self._embed(raw) for raw in items]

    def _embed(self, raw: NDArray[np.float32]) -> Embedding | StageError:
        if raw.max() == 0:
            return InvalidMedia("This dummy cannot see in the dark.")
        if raw.min() == 1:
            raise RuntimeError("a bug in /srv/secret.py that no client may read of")
        centred = raw - 0.5
        return Embedding(raw, centred / np.linalg.norm(centred), self.version)

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


class LocalNearest(Nearest):
    """analysis/nearest that can be closed, as a test has many of them in one process."""

    tick_s = None
    running: ClassVar["LocalNearest"]
    """The one loaded last."""

    def load(self) -> None:
        super().load()
        LocalNearest.running = self

    def close(self) -> None:
        """Close its stores and its event loop; not to be called on a thread that runs another loop."""
        self._loop.run(self._documents.close())
        self._loop.run(self._vectors.close())
        self._loop.close()


def digest(data: bytes) -> str:
    """The asset id of these bytes."""
    return hashlib.sha256(data).hexdigest()[:32]
