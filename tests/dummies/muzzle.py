"""Stages of the muzzle API without weights: the thumbnail of a picture through the real projections."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployments.muzzle.gallery import MuzzleGallery
from deployments.serving.stage import Stage, StageConfig
from vision.errors import InvalidMedia, ModelNotLoaded, StageError
from vision.images import decode
from vision.muzzle.encoding import MEMBER_IDS, MuzzleEncoding, Thresholds
from vision.muzzle.members import projections
from vision.muzzle.photo import muzzle_pixels

LIMIT = 0.5


class DummyMuzzle(Stage[StageConfig, bytes, NDArray[np.float32], MuzzleEncoding]):
    """Alike pictures have alike codes; one of one colour is no muzzle. A black one is an error of its own."""

    key = "muzzle/ensemble"
    prepare_threads = 1
    running: ClassVar["DummyMuzzle"]
    """The one loaded last."""

    def load(self) -> None:
        self.reset()
        self.calls: list[int] = []
        self._projections = dict(zip(MEMBER_IDS, projections(384), strict=True))
        DummyMuzzle.running = self

    def reset(self) -> None:
        """All models loaded, of the first version, untrained; tests change ``ids``, ``version``, ``thresholds``."""
        self.ids: tuple[int, ...] = MEMBER_IDS
        self.version = "dummy@00000000"
        self.thresholds: Thresholds | None = None

    def prepare(self, item: bytes) -> NDArray[np.float32]:
        image = decode(item, max_pixels=10**7)
        muzzle_pixels(image)  # refuses what the stage refuses
        small = Image.fromarray(image).resize((16, 8), Image.Resampling.BOX)
        return np.asarray(small, np.float32).reshape(-1) / 255

    def predict_batch(self, items: list[NDArray[np.float32]]) -> Sequence[MuzzleEncoding | StageError]:
        self.calls.append(len(items))
        return [self._encode(pixels) for pixels in items]

    def _encode(self, pixels: NDArray[np.float32]) -> MuzzleEncoding | StageError:
        if pixels.max() == 0:
            return InvalidMedia("This dummy cannot see in the dark.")
        if not self.ids:
            return ModelNotLoaded("no muzzle checkpoint could be loaded")
        codes = np.stack([(pixels - 0.5) @ self._projections[number] for number in self.ids])
        return MuzzleEncoding(
            model_ids=self.ids,
            codes=codes / np.linalg.norm(codes, axis=1, keepdims=True),
            domain_distance=0.1 if pixels.reshape(-1, 3).std(0).max() > 0.01 else 0.9,
            domain_limit=LIMIT,
            model_version=self.version,
            thresholds=self.thresholds,
        )

    def info(self) -> dict[str, Any]:
        return {
            "model": "dummy",
            "model_version": self.version,
            "models_loaded": list(self.ids),
            "missing": [f"muzzle-{number}: not there" for number in MEMBER_IDS if number not in self.ids],
        }


class LocalGallery(MuzzleGallery):
    """muzzle/gallery that can be closed, as a test has many of them in one process."""

    tick_s = None
    running: ClassVar["LocalGallery"]
    """The one loaded last."""

    def load(self) -> None:
        super().load()
        LocalGallery.running = self

    def close(self) -> None:
        """Close its stores and its event loop; not to be called on a thread that runs another loop."""
        self._loop.run(self._documents.close())
        self._loop.run(self._vectors.close())
        self._loop.close()
