"""Find labelled photos of animals on disk, and draw pictures that show nothing.

Photos lie in a folder per animal, or flat in files whose names begin with the animal's.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from vision.errors import InvalidMedia, MediaTooLarge
from vision.images import Pixels, decode
from vision.muzzle.photo import MIN_SIDE

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
MAX_PIXELS: Final = 100_000_000

WIDTH, HEIGHT = 480, 400
COLOURS: Final = ((0, 0, 0), (255, 255, 255), (128, 128, 128), (110, 90, 75), (190, 140, 125), (60, 50, 45))
LINE: Final = "Ear tag 0400 was read by the gate on Monday; its muzzle was not."

_FLAT = re.compile(r"([A-Za-z]+_\d+)_.+")


@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """``animal`` is ``<data set>/<name>``: animals of different data sets are never the same one."""

    animal: str
    path: Path

    @property
    def dataset(self) -> str:
        """The name of the folder that holds the photo's animal."""
        return self.animal.partition("/")[0]

    def pixels(self) -> Pixels:
        """Decode the photo, uint8 (H, W, 3), upright."""
        return decode(self.path.read_bytes(), max_pixels=MAX_PIXELS)


def find_photos(folders: Iterable[Path], least: int = 2) -> tuple[list[LabelledPhoto], list[str]]:
    """Return the photos in a fixed order, and a line for each one that was left out.

    A photo directly in a folder is named ``cattle_0100_DSCF3856.jpg`` (letters, number, anything); one in a subfolder
    shows the animal that the subfolder is named after. Animals with fewer than ``least`` photos are left out, as are
    photos that cannot be read or are too small. Raises ValueError for a folder without a labelled photo.
    """
    photos: list[LabelledPhoto] = []
    left_out: list[str] = []
    for folder in folders:
        before = len(photos)
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
                photos.append(photo)
        if len(photos) == before:
            raise ValueError(f"no labelled photo in {folder}: use a folder per animal, or names like cattle_0100_1.jpg")
    counts = Counter(photo.animal for photo in photos)
    left_out += [f"{animal}: {count} photo, {least} are needed" for animal, count in counts.items() if count < least]
    return [photo for photo in photos if counts[photo.animal] >= least], left_out


def blank_pictures() -> Iterator[tuple[str, Pixels]]:
    """Yield (what it is, uint8 (400, 480, 3)) of blank colours, noise, gradients and text, always the same ones.

    The domain check must refuse all of them.
    """
    rng = np.random.default_rng(0)
    for colour in COLOURS:
        yield f"blank {colour}", np.full((HEIGHT, WIDTH, 3), colour, np.uint8)
    for colour in COLOURS[2:]:
        for deviation in (5, 20, 60):
            grey = rng.normal(0, deviation, (HEIGHT, WIDTH, 1))
            yield f"noise {deviation} on {colour}", (np.array(colour) + grey).clip(0, 255).astype(np.uint8)
    yield "noise in colours", rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for cells in (12, 30, 60, 120):
        for low, high, channels in ((0, 256, 3), (60, 160, 1)):
            small = rng.integers(low, high, (cells, cells, channels), dtype=np.uint8)
            image = Image.fromarray(np.broadcast_to(small, (cells, cells, 3)).astype(np.uint8))
            yield f"clouds {cells} {high}", np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    ramp = np.linspace(0, 255, WIDTH).astype(np.uint8)[None, :, None]
    yield "gradient", np.broadcast_to(ramp, (HEIGHT, WIDTH, 3)).copy()
    for paper, ink in (("white", "black"), ("black", "white"), ((150, 110, 90), "black")):
        for size in (11, 24, 60):
            yield f"text {size} on {paper}", draw_page(paper, ink, size)


def draw_page(paper: str | tuple[int, int, int], ink: str, size: int) -> Pixels:
    """Draw one line over and over in letters ``size`` pixels high."""
    image = Image.new("RGB", (WIDTH, HEIGHT), paper)
    draw = ImageDraw.Draw(image)
    for top in range(4, HEIGHT, round(1.4 * size)):
        draw.text((6, top), LINE, fill=ink, font_size=size)
    return np.asarray(image)


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
