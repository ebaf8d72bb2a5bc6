"""Stages of the asset API without weights, and the id of a file."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployments.analysis.nearest import NearestAssets
from deployments.serving.stored import StoredPictures
from tests.dummies.dummy import Dummy
from vision.embed.backbones import Embedding
from vision.errors import InvalidMedia
from vision.images import decode

PREPROCESS = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 36},
    "crop_size": {"height": 32, "width": 32},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32[384] in 0..1: an image of 16 x 8 pixels in three colours."""
    small = Image.fromarray(image).resize((16, 8), Image.Resampling.BOX)
    return np.asarray(small, np.float32).reshape(-1) / 255


class DummyEmbed(Dummy[Any, Embedding]):
    """The thumbnail of a picture less grey, so that alike pictures are near.

    A black picture is an error of its own, a white one a bug.
    """

    key = "embed/dinov3"
    prepare_threads = 1

    def load(self) -> None:
        super().load()
        self._pictures = StoredPictures()

    def prepare(self, item: str | bytes) -> NDArray[np.float32]:
        return thumbnail(decode(self._pictures.encoded(item), max_pixels=10**7))

    def predict(self, item: NDArray[np.float32]) -> Embedding:
        self.calls += 1
        if item.max() == 0:
            raise InvalidMedia("This dummy cannot see in the dark.")
        if item.min() == 1:
            raise RuntimeError("a bug in /srv/secret.py that no client may read of")
        centred = item - 0.5
        return Embedding(item, centred / np.linalg.norm(centred), self.version)

    def info(self) -> dict[str, Any]:
        return super().info() | {
            "architecture": "thumbnail",
            "device": "cpu",
            "engine": "numpy",
            "preprocess": PREPROCESS,
            "centred": True,
        }


class LocalNearest(NearestAssets):
    """analysis/nearest without maintenance, which would come at any moment."""

    tick_s = None


def digest(data: bytes) -> str:
    """The asset id of these bytes."""
    return hashlib.sha256(data).hexdigest()[:32]
