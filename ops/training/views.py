"""Augmented looks at photos, and their features kept on disk: with a frozen backbone each is computed once."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ops.training.features import PLAIN, FeatureExtractor, View
from ops.training.photos import LabelledPhoto
from vision.images import Pixels
from vision.muzzle.encoding import MEMBER_IDS
from vision.muzzle.photo import Crop, described

Array = NDArray[np.float32]

CROPS: Final = {60: (0.80, 1.00), 62: (0.65, 0.95), 64: (0.55, 0.85)}
"""Of which share of a photo's height and width the crops of each member are: members see different parts."""


@dataclass(frozen=True, slots=True, eq=False)
class ViewFeatures:
    """``plain`` float32[n, d] as the service sees the photos; ``augmented`` float32[n, v, d] by member."""

    plain: Array
    augmented: dict[int, Array]


def random_view(member_id: int, rng: np.random.Generator) -> View:
    """A crop of the size of the member, brightness within a third, CLAHE of a limit from 1 to 4."""
    low, high = CROPS[member_id]
    height, width = rng.uniform(low, high, 2)
    top, left = rng.uniform(0, 1 - height), rng.uniform(0, 1 - width)
    return View(
        crop=Crop(top, top + height, left, left + width),
        clip_limit=float(rng.uniform(1, 4)),
        gain=float(rng.uniform(0.75, 1.33)),
    )


def view_features(
    extractor: FeatureExtractor, photos: Sequence[LabelledPhoto], views: int, seed: int, folder: Path
) -> ViewFeatures:
    """Features of every photo and of ``views`` augmented looks at it for each member, from ``folder`` where they are.

    A view depends on its photo, its member, its number and the seed only: more views or photos keep the others.
    """
    path = features_file(extractor, photos, views, seed, folder)
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return ViewFeatures(stored["plain"], {number: stored[f"member-{number}"] for number in MEMBER_IDS})
    length = 1 + len(MEMBER_IDS) * views
    rows = extractor(_squares(photos, views, seed)).reshape(len(photos), length, -1)
    parts = np.split(rows[:, 1:], len(MEMBER_IDS), axis=1)
    found = ViewFeatures(np.ascontiguousarray(rows[:, 0]), dict(zip(MEMBER_IDS, parts, strict=True)))
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name("partial.npz")
    named = {f"member-{number}": part for number, part in found.augmented.items()}
    np.savez(partial, allow_pickle=False, plain=found.plain, **named)
    partial.replace(path)
    return found


def features_file(
    extractor: FeatureExtractor, photos: Sequence[LabelledPhoto], views: int, seed: int, folder: Path
) -> Path:
    """Where the features lie; another backbone, photo, or way to look at one gives another file."""
    return folder / f"features-{_digest(extractor, photos, views, seed)}.npz"


def _squares(photos: Sequence[LabelledPhoto], views: int, seed: int) -> Iterator[Pixels]:
    for number, photo in enumerate(photos, 1):
        print(f"\rphoto {number} of {len(photos)}", end="" if number < len(photos) else "\n", flush=True)
        image = photo.pixels()
        yield PLAIN.of(image)
        key = int.from_bytes(hashlib.sha256(photo.path.name.encode()).digest()[:4], "big")
        for member_id in MEMBER_IDS:
            for view in range(views):
                yield random_view(member_id, np.random.default_rng((seed, key, member_id, view))).of(image)


def _digest(extractor: FeatureExtractor, photos: Sequence[LabelledPhoto], views: int, seed: int) -> str:
    digest = hashlib.sha256(repr((extractor.texture.version, described(), CROPS, views, seed)).encode())
    for photo in photos:
        digest.update(photo.animal.encode() + photo.path.read_bytes())
    return digest.hexdigest()[:16]
