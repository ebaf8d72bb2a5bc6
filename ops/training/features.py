"""Compute texture features of photos and of augmented views of them, by the engines of the service.

The backbone is frozen, so every view is computed once and kept on disk.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from configs.settings import settings
from ops.training.photos import LabelledPhoto
from vision.embed.backbones import load_backbone
from vision.engines import EngineName, build_engine
from vision.images import Pixels
from vision.muzzle.ensemble import MEMBER_IDS
from vision.muzzle.photo import CLIP_LIMIT, WHOLE, Crop, described, muzzle_pixels
from vision.muzzle.texture import TextureBackbone
from vision.weights import resolve_first

Array = NDArray[np.float32]
BATCH: Final = 16
CROPS: Final = {60: (0.80, 1.00), 62: (0.65, 0.95), 64: (0.55, 0.85)}
"""Least and greatest share of a photo's height and width in the crops of each member: members see different parts."""


@dataclass(frozen=True, slots=True)
class View:
    """A way to preprocess a photo: which part of it, with how much contrast and brightness."""

    crop: Crop = WHOLE
    clip_limit: float = CLIP_LIMIT
    gain: float = 1.0
    """Factor of the pixels before CLAHE."""

    def of(self, image: Pixels) -> Pixels:
        """Return the view of an image, uint8 (224, 224, 3)."""
        if self.gain != 1.0:
            image = np.clip(image * np.float32(self.gain), 0, 255).astype(np.uint8)
        return muzzle_pixels(image, self.crop, self.clip_limit)


PLAIN = View()
"""The preprocessing of the service."""


class FeatureExtractor:
    """Texture features by the first of these models of models.yaml whose weights are available.

    Raises ModelNotLoaded when none is.
    """

    def __init__(self, models: Sequence[str], engine: EngineName = "auto") -> None:
        self.texture = TextureBackbone(load_backbone(resolve_first(models)))
        self._engine = build_engine(
            engine,
            self.texture.make_module,
            version=self.texture.version,
            input_size=self.texture.size,
            cache=settings().models_cache.expanduser(),
        )

    @property
    def name(self) -> str:
        """The model's name in models.yaml."""
        return self.texture.backbone.weights.name

    def __call__(self, squares: Iterable[Pixels]) -> Array:
        """Return float32[n, d] of n squares, uint8 (224, 224, 3) each."""
        rows = [
            self._engine(np.stack([self.texture.normalize(pixels) for pixels in some])) for some in _batches(squares)
        ]
        return np.concatenate(rows) if rows else np.zeros((0, self.texture.dimensions), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class ViewFeatures:
    """Features of n photos: ``plain`` float32[n, d] of the service's view; ``augmented`` float32[n, v, d] by member."""

    plain: Array
    augmented: dict[int, Array]


def random_view(member_id: int, rng: np.random.Generator) -> View:
    """Draw a view: a crop of the member's size, brightness within a third, CLAHE with a limit from 1 to 4."""
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
    """Return features of every photo and of ``views`` augmented views for each member, kept in ``folder``.

    A view depends only on its photo, member, number and seed: more views or photos leave the others as they are.
    """
    path = features_file(extractor, photos, views, seed, folder)
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return ViewFeatures(stored["plain"], {number: stored[f"member-{number}"] for number in MEMBER_IDS})
    length = 1 + len(MEMBER_IDS) * views
    rows = extractor(_squares(photos, views, seed)).reshape(len(photos), length, -1)
    parts = np.split(rows[:, 1:], len(MEMBER_IDS), axis=1)
    features = ViewFeatures(np.ascontiguousarray(rows[:, 0]), dict(zip(MEMBER_IDS, parts, strict=True)))
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name("partial.npz")
    named = {f"member-{number}": part for number, part in features.augmented.items()}
    np.savez(partial, allow_pickle=False, plain=features.plain, **named)
    partial.replace(path)
    return features


def features_file(
    extractor: FeatureExtractor, photos: Sequence[LabelledPhoto], views: int, seed: int, folder: Path
) -> Path:
    """Return where the features are kept; another backbone, photo or view gives another file."""
    return folder / f"features-{_digest(extractor, photos, views, seed)}.npz"


def _batches(squares: Iterable[Pixels]) -> Iterator[list[Pixels]]:
    rest = iter(squares)
    while some := list(islice(rest, BATCH)):
        yield some


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
