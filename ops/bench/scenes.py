"""Compose pictures of cut-outs of real ones over real backgrounds, with exact ground truth.

What is cut out, and by which outline, stands in ``object_labels.json``; the backgrounds are the pictures in which that
file knows of no object. Files are named as in the folder of media.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels, decode

LABELS: Final = Path(__file__).with_name("object_labels.json")
FILMS: Final = (".mp4", ".avi")
HELD_OUT: Final = ("img14.jpg", "img24.jpg", "img7.jpg", "031/train_000008.jpg")
"""Cut-outs that are not trained on, of classes that have others."""
CROWDED: Final = 0.3
"""Most of a cut-out that those of one picture before it may share with it, as intersection over the smaller one."""
Box = tuple[float, float, float, float]
"""x, y, width, height in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """An object: ``pixels`` uint8 (h, w, 3), ``alpha`` float32 (h, w) 0-1, which touches all four sides."""

    label: str
    source: str
    pixels: Pixels
    alpha: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What is composed."""

    cutouts: tuple[Cutout, ...]
    backgrounds: tuple[Pixels, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, in alphabetical order."""
        return tuple(sorted({each.label for each in self.cutouts}))

    def part(self, *, held_out: bool) -> "Material":
        """Return what is trained on, or else held out: every third background, and the cut-outs of ``HELD_OUT``.

        Of a class with a single cut-out it is in both.
        """
        spare = {each.label for each in self.cutouts if each.source.endswith(HELD_OUT)}
        return Material(
            tuple(
                each for each in self.cutouts if each.label not in spare or each.source.endswith(HELD_OUT) == held_out
            ),
            tuple(each for place, each in enumerate(self.backgrounds) if (place % 3 == 0) == held_out),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A composed picture, uint8 (h, w, 3), with the boxes of its objects, cut at its edges, and their classes."""

    image: Pixels
    boxes: tuple[Box, ...]
    labels: tuple[str, ...]


def read_labels(path: Path = LABELS) -> dict[str, Any]:
    """Return the labels, in COCO's format."""
    labels: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return labels


def picture(path: Path) -> Pixels:
    """Return a picture, or the first frame of a film, uint8 (H, W, 3) RGB."""
    if path.suffix.lower() not in FILMS:
        return decode(path.read_bytes(), max_pixels=10**8)
    import av

    with av.open(str(path)) as film:
        frame: Pixels = next(film.decode(video=0)).to_ndarray(format="rgb24")
    return frame


def material(media: Path) -> Material:
    """Return what can be composed from a folder of media. Raises FileNotFoundError for a file that is not there."""
    labels = read_labels()
    names = {each["id"]: each["name"] for each in labels["categories"]}
    images = {each["id"]: each for each in labels["images"]}
    cutouts = []
    for each in labels["annotations"]:
        if "segmentation" in each:
            source = images[each["image_id"]]["file_name"]
            outline = np.array(each["segmentation"][0]).reshape(-1, 2)
            cutouts.append(_cut(names[each["category_id"]], source, picture(media / source), outline))
    busy = {each["image_id"] for each in labels["annotations"]}
    empty = [each["file_name"] for number, each in images.items() if number not in busy]
    return Material(tuple(cutouts), tuple(picture(media / name) for name in empty))


def _cut(label: str, source: str, image: Pixels, outline: NDArray[np.int64]) -> Cutout:
    import cv2

    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [outline.astype(np.int32)], 255)
    x, y, w, h = cv2.boundingRect(outline.astype(np.int32))
    part = slice(max(0, y), min(y + h, image.shape[0])), slice(max(0, x), min(x + w, image.shape[1]))
    alpha = cv2.GaussianBlur(mask, (0, 0), 1)[part].astype(np.float32) / 255 * (mask[part] > 0)
    return Cutout(label, source, np.ascontiguousarray(image[part]), alpha)


def compose(random: np.random.Generator, parts: Material, size: tuple[int, int], most: int = 4) -> Scene:
    """Return a scene of (width, height) pixels with one to ``most`` objects of any class."""
    canvas = background(random, parts, size)
    boxes: list[Box] = []
    labels = []
    for _ in range(int(random.integers(1, most + 1))):
        label = str(random.choice(parts.classes))
        them = [each for each in parts.cutouts if each.label == label]
        cutout = them[int(random.integers(len(them)))]
        box = _place(random, cutout, size, boxes)
        if box is not None:
            paste(canvas, cutout, box, flipped=bool(random.random() < 0.5), light=float(random.uniform(0.75, 1.25)))
            boxes.append(clipped(box, size))
            labels.append(label)
    return Scene(canvas, tuple(boxes), tuple(labels))


def background(random: np.random.Generator, parts: Material, size: tuple[int, int]) -> Pixels:
    """Return a part of one of the backgrounds, as a picture of this size of its own."""
    import cv2

    whole = parts.backgrounds[int(random.integers(len(parts.backgrounds)))]
    height, width = whole.shape[:2]
    share = random.uniform(0.5, 1)
    w = min(width, round(share * height * size[0] / size[1]))
    h = min(height, round(w * size[1] / size[0]))
    x, y = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
    area: Pixels = cv2.resize(whole[y : y + h, x : x + w], size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(area[:, ::-1] if random.random() < 0.5 else area).copy()


def _place(random: np.random.Generator, cutout: Cutout, size: tuple[int, int], others: Sequence[Box]) -> Box | None:
    """Return a free place for an object, which may lie beyond an edge with a quarter of its sides; None if none is."""
    height, width = cutout.alpha.shape
    for _ in range(8):
        scale = min(size) * random.uniform(0.22, 0.7) / max(width, height)
        w, h = width * scale, height * scale
        x = random.uniform(-0.25 * w, size[0] - 0.75 * w)
        y = random.uniform(-0.25 * h, size[1] - 0.75 * h)
        box = (x, y, w, h)
        if all(_shared(box, other) <= CROWDED for other in others):
            return box
    return None


def _shared(one: Box, other: Box) -> float:
    across = max(0.0, min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0]))
    down = max(0.0, min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1]))
    return across * down / min(one[2] * one[3], other[2] * other[3])


def clipped(box: Box, size: tuple[int, int]) -> Box:
    """Return the part of a box in a picture of (width, height)."""
    left, top = max(0.0, box[0]), max(0.0, box[1])
    return (left, top, min(box[0] + box[2], size[0]) - left, min(box[1] + box[3], size[1]) - top)


def paste(canvas: Pixels, cutout: Cutout, box: Box, *, flipped: bool = False, light: float = 1.0) -> None:
    """Draw an object into a picture so that its outline fills the box; what lies beyond the edges is left out."""
    import cv2

    height, width = canvas.shape[:2]
    pixels, alpha = (each[:, ::-1] if flipped else each for each in (cutout.pixels, cutout.alpha))
    scale = box[2] / alpha.shape[1], box[3] / alpha.shape[0]
    if max(scale) < 0.5:  # averaged first, as a lens would
        how = tuple(max(1, round(2 * part)) for part in box[2:])
        pixels, alpha = (
            cv2.resize(np.ascontiguousarray(each), how, interpolation=cv2.INTER_AREA) for each in (pixels, alpha)
        )
    left, top = max(0, int(np.floor(box[0]))), max(0, int(np.floor(box[1])))
    right, bottom = min(width, int(np.ceil(box[0] + box[2])) + 1), min(height, int(np.ceil(box[1] + box[3])) + 1)
    if left >= right or top >= bottom:
        return
    ratio = box[2] / alpha.shape[1], box[3] / alpha.shape[0]
    move = np.array([[ratio[0], 0, box[0] - left], [0, ratio[1], box[1] - top]])
    area = (right - left, bottom - top)
    drawn = cv2.warpAffine(np.ascontiguousarray(pixels), move, area, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(np.ascontiguousarray(alpha), move, area)[:, :, None]
    under = canvas[top:bottom, left:right].astype(np.float32)
    lit = np.clip(drawn.astype(np.float32) * light, 0, 255)
    canvas[top:bottom, left:right] = (under + (lit - under) * mask).round().astype(np.uint8)
