"""muzzle/print: whether the beads and ridges of two muzzles are the same, by local features; needs no weights.

``inliers`` counts the places of the probe whose pattern is found in the reference, in the same arrangement: from 0,
higher is more alike. Prints of different animals agree in up to five places by chance, those of one animal in twenty to
several hundred (ops/bench/reports/muzzle-prints.md).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from configs.settings import settings
from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.images import Pixels, decode
from vision.muzzle.print_picture import draw_matches
from vision.muzzle.prints import (
    CONTRAST,
    MAX_FEATURES,
    MIN_INLIERS,
    RATIO,
    SIDE,
    Print,
    PrintMatch,
    match,
    normalized,
    skin_of,
    take_print,
)
from vision.muzzle.quality import SIDE as JUDGED_SIDE
from vision.muzzle.quality import PhotoQuality, quality_of


@dataclass(frozen=True, slots=True, eq=False)
class PrintPhoto:
    """An encoded photo, and the ``likeness`` of its parts to a muzzle, of its ``MuzzleEncoding``.

    Without it everything on the photo counts.
    """

    data: bytes
    likeness: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PrintQuery:
    """Photos to take the prints of, and a probe to compare with them and with prints that were kept.

    The probe is a photo, or a print that was kept.

    ``keep``: return the prints of the photos. ``picture``: draw the best match of the probe and a photo.
    """

    photos: tuple[PrintPhoto, ...] = ()
    probe: PrintPhoto | bytes | None = None
    prints: tuple[bytes, ...] = ()
    keep: bool = False
    picture: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class PrintAnswer:
    """``qualities``: of the photos, then of the probe where it is one.

    ``matches``: of the probe with each photo, then with each print. ``prints``: of the photos, empty unless asked for.
    ``picture``: PNG of the best match, None unless asked for.
    """

    qualities: tuple[PhotoQuality, ...]
    matches: tuple[PrintMatch, ...] = ()
    prints: tuple[bytes, ...] = ()
    picture: bytes | None = None


PRINT: Final = StageRef[PrintQuery, PrintAnswer]("muzzle/print")


class MuzzlePrint(Stage[StageConfig, PrintQuery, PrintAnswer, PrintAnswer]):
    """PrintQuery → PrintAnswer. Raises as ``decode`` for a photo, and InvalidInput for a kept print of another form."""

    key = PRINT.key
    libraries = ("cv2",)
    prepare_threads = 2

    def warm_up(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        taken = take_print(noise, np.ones(noise.shape, bool))
        match(taken, taken)

    def prepare(self, item: PrintQuery) -> PrintAnswer:
        taken = [_take(photo) for photo in item.photos]
        probe: _Taken | None = None
        matches: list[PrintMatch] = []
        if item.probe is not None:
            if isinstance(item.probe, bytes):
                own = Print.from_bytes(item.probe)
            else:
                probe = _take(item.probe)
                own = probe.print
            others = [each.print for each in taken] + [Print.from_bytes(data) for data in item.prints]
            matches = [match(own, other) for other in others]
        picture = None
        if item.picture and probe and taken:
            best = max(range(len(taken)), key=lambda index: matches[index].inliers)
            picture = draw_matches(probe.image, taken[best].image, matches[best])
        return PrintAnswer(
            qualities=tuple(each.quality for each in [*taken, *([probe] if probe else [])]),
            matches=tuple(matches),
            prints=tuple(each.print.to_bytes() for each in taken) if item.keep else (),
            picture=picture,
        )

    def predict(self, item: PrintAnswer) -> PrintAnswer:
        return item

    def info(self) -> dict[str, Any]:
        return {
            "method": "RootSIFT features on the skin of the muzzle, ratio test, similarity transform by RANSAC",
            "preprocess": {"longer_side": SIDE, "light": "CLAHE of the grey photo", "contrast": CONTRAST},
            "features": MAX_FEATURES,
            "ratio": RATIO,
            "score": "inliers: places that agree on one transform, from 0, higher is more alike",
            "threshold": MIN_INLIERS,
            "calibration": "ops/bench/reports/muzzle-prints.md",
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Taken:
    image: Pixels
    print: Print
    quality: PhotoQuality


def _take(photo: PrintPhoto) -> _Taken:
    image = decode(photo.data, max_pixels=settings().max_image_pixels, shrink_to=JUDGED_SIDE)
    grey = normalized(image)
    taken = take_print(grey, skin_of(photo.likeness, *grey.shape))
    return _Taken(image, taken, quality_of(image, photo.likeness, taken))
