"""Stages of the muzzle API without weights: the thumbnail of a picture through the real projections."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.muzzle.gallery import MuzzleGallery
from tests.dummies.assets import thumbnail
from tests.dummies.dummy import Dummy
from vision.errors import InvalidMedia, ModelNotLoaded
from vision.images import decode
from vision.muzzle.ensemble import MEMBER_IDS, MuzzleEncoding, Thresholds, projections
from vision.muzzle.photo import muzzle_pixels

LIMIT = 0.5


class DummyMuzzle(Dummy[Any, MuzzleEncoding]):
    """Alike pictures have alike codes; one of one colour is no muzzle. A black one is an error of its own."""

    key = "muzzle/ensemble"
    prepare_threads = 1

    def load(self) -> None:
        super().load()
        self.reset()
        self._projections = dict(zip(MEMBER_IDS, projections(384), strict=True))

    def reset(self) -> None:
        """All models loaded, of the first version, untrained; tests change ``ids``, ``version``, ``thresholds``."""
        self.ids: tuple[int, ...] = MEMBER_IDS
        self.version = "dummy@00000000"
        self.thresholds: Thresholds | None = None

    def prepare(self, item: bytes) -> NDArray[np.float32]:
        image = decode(item, max_pixels=10**7)
        muzzle_pixels(image)  # refuses what the stage refuses
        return thumbnail(image)

    def predict(self, item: NDArray[np.float32]) -> MuzzleEncoding:
        self.calls += 1
        if item.max() == 0:
            raise InvalidMedia("This dummy cannot see in the dark.")
        if not self.ids:
            raise ModelNotLoaded("no muzzle checkpoint could be loaded")
        codes = np.stack([(item - 0.5) @ self._projections[number] for number in self.ids])
        return MuzzleEncoding(
            model_ids=self.ids,
            codes=codes / np.linalg.norm(codes, axis=1, keepdims=True),
            domain_distance=0.1 if item.reshape(-1, 3).std(0).max() > 0.01 else 0.9,
            domain_limit=LIMIT,
            model_version=self.version,
            thresholds=self.thresholds,
        )

    def info(self) -> dict[str, Any]:
        return super().info() | {
            "models_loaded": list(self.ids),
            "missing": [f"muzzle-{number}: not there" for number in MEMBER_IDS if number not in self.ids],
        }


class LocalGallery(MuzzleGallery):
    """muzzle/gallery without maintenance, which would come at any moment."""

    tick_s = None
