"""Labelled photos of animals on disk: a folder per animal, or flat files whose names begin with the animal's."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vision.errors import InvalidMedia, MediaTooLarge
from vision.images import Pixels, decode
from vision.muzzle.photo import MIN_SIDE

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
MAX_PIXELS: Final = 100_000_000

_FLAT = re.compile(r"([A-Za-z]+_\d+)_.+")


@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """``animal`` is ``<data set>/<name>``: animals of different data sets are never the same one."""

    animal: str
    path: Path

    @property
    def dataset(self) -> str:
        """Name of the folder that the animal was found in."""
        return self.animal.partition("/")[0]

    def pixels(self) -> Pixels:
        """uint8 (H, W, 3), upright."""
        return decode(self.path.read_bytes(), max_pixels=MAX_PIXELS)


def find_photos(folders: Iterable[Path], least: int = 2) -> tuple[list[LabelledPhoto], list[str]]:
    """(photos in a fixed order, why others were left out).

    A photo directly in a folder is named ``cattle_0100_DSCF3856.jpg`` (letters, number, anything); one in a subfolder
    is of the animal that the subfolder is named after. Animals of fewer than ``least`` photos are left out, as are
    photos that cannot be read or are too small. Raises ValueError for a folder without any.
    """
    found: list[LabelledPhoto] = []
    left_out: list[str] = []
    for folder in folders:
        before = len(found)
        for animal, path in _labelled(folder, left_out):
            photo = LabelledPhoto(f"{folder.name}/{animal}", path)
            try:
                short = min(photo.pixels().shape[:2])
            except (InvalidMedia, MediaTooLarge) as error:
                left_out.append(f"{path.name}: {error.message}")
                continue
            if short < MIN_SIDE:
                left_out.append(f"{path.name}: {short} pixels on a side, {MIN_SIDE} are needed")
            else:
                found.append(photo)
        if len(found) == before:
            raise ValueError(f"no labelled photo in {folder}: use a folder per animal, or names like cattle_0100_1.jpg")
    counts = Counter(photo.animal for photo in found)
    left_out += [f"{animal}: {count} photo, {least} are needed" for animal, count in counts.items() if count < least]
    return [photo for photo in found if counts[photo.animal] >= least], left_out


def _labelled(folder: Path, left_out: list[str]) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES:
            continue
        parts = path.relative_to(folder).parts
        flat = _FLAT.fullmatch(path.name)
        if len(parts) > 1:
            yield parts[0], path
        elif flat is not None:
            yield flat[1], path
        else:
            left_out.append(f"{path.name}: the name does not begin with an animal, as cattle_0100_ does")
