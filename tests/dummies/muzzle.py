"""Stages of the muzzle API without weights: the thumbnail of a picture through the real projections."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.muzzle.gallery import MuzzleGallery
from deployments.muzzle.print import PrintAnswer, PrintPhoto, PrintQuery
from tests.dummies.assets import thumbnail
from tests.dummies.dummy import Dummy
from vision.errors import InvalidMedia, ModelNotLoaded
from vision.images import decode
from vision.muzzle.ensemble import MEMBER_IDS, MuzzleEncoding, Thresholds, projections
from vision.muzzle.photo import muzzle_pixels
from vision.muzzle.prints import FORMAT, PrintMatch
from vision.muzzle.quality import PhotoQuality

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


class DummyPrint(Dummy[PrintQuery, PrintAnswer]):
    """Prints are thumbnails: alike ones agree in 40 places, others in 3. A picture of less than 40 pixels is poor."""

    key = "muzzle/print"

    def predict(self, item: PrintQuery) -> PrintAnswer:
        self.calls += 1
        kept = [_thumbnail_print(photo) for photo in item.photos]
        photos = [*item.photos]
        matches: list[PrintMatch] = []
        if item.probe is not None:
            if isinstance(item.probe, PrintPhoto):
                photos.append(item.probe)
                probe = _thumbnail_print(item.probe)
            else:
                probe = item.probe
            matches = [_thumbnails_match(probe, other) for other in [*kept, *item.prints]]
        return PrintAnswer(
            qualities=tuple(_thumbnail_quality(photo) for photo in photos),
            matches=tuple(matches),
            prints=tuple(kept) if item.keep else (),
            picture=b"\x89PNG of a dummy" if item.picture else None,
        )


def _thumbnail_print(photo: PrintPhoto) -> bytes:
    return FORMAT + thumbnail(decode(photo.data, max_pixels=10**7)).tobytes()


def _thumbnails_match(first: bytes, second: bytes) -> PrintMatch:
    one, other = (np.frombuffer(each[len(FORMAT) :], np.float32) - 0.5 for each in (first, second))
    alike = one @ other > 0.9 * np.linalg.norm(one) * np.linalg.norm(other)
    return PrintMatch(40, 50, 1.0, 0.0, (0.0, 0.0)) if alike else PrintMatch(3, 12, 0.7, 93.0, (0.5, 0.1))


def _thumbnail_quality(photo: PrintPhoto) -> PhotoQuality:
    side = min(decode(photo.data, max_pixels=10**7).shape[:2])
    reasons = (f"the muzzle is only about {side} pixels large: come closer",) if side < 40 else ()
    return PhotoQuality(float(side), 0.6, 0.3, 500, (0.0, 0.0), 120.0, 0.0, reasons)


class LocalGallery(MuzzleGallery):
    """muzzle/gallery without maintenance, which would come at any moment."""

    tick_s = None
