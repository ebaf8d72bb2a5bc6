"""Compose films of photographs of faces, with exact ground truth: who is where in which frame.

People move over drifting backgrounds, may pass in front of each other, leave through the edge and come back after a
cut in another photograph of theirs.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deployments.people.faces import Config, FaceDetector
from vision.errors import StageError
from vision.images import decode

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the frame."""

HEAD = (1.9, 1.75)
"""Width and height of the oval that is cut out, in widths and heights of its face."""
FPS = 25
QUICK = 8
"""Frames in which somebody enters or leaves."""
VISIBLE = 0.75
"""Share of a face's box that must be in the frame and uncovered for the face to count as visible."""


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """A cut-out head: ``pixels`` uint8 (h, w, 3), ``alpha`` float32 (h, w) 0-1, and the face's box in it."""

    pixels: Pixels
    alpha: NDArray[np.float32]
    face: Box


@dataclass(frozen=True, slots=True)
class Part:
    """A person in a shot. ``path``: (frame of the shot, x, y) of the middle of the face, as shares of the frame,
    linear between the points and shown from the first to the last of them; ``size``: width of the face, as a share of
    the width of the frame, at the first and at the last point."""

    person: str
    photo: str
    path: tuple[tuple[int, float, float], ...]
    size: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Shot:
    """``frames`` frames of one background; of two parts at the same place the later one is in front."""

    frames: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Truth:
    """``boxes``: of every face that is at least partly in the frame; ``visible``: frames in which a face is visible;
    ``cuts``: the first frames of all shots but the first."""

    boxes: dict[str, dict[int, Box]] = field(default_factory=dict)
    visible: dict[str, set[int]] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)

    def shared(self, first: str, second: str) -> list[int]:
        """Return the frames in which both are visible."""
        return sorted(self.visible[first] & self.visible[second])


@dataclass(frozen=True)
class Cast:
    """Photographs by person, and the heads cut out of them."""

    photos: Mapping[str, Sequence[str]]
    heads: Mapping[str, Portrait]


def people_of(pairs: Path) -> list[list[str]]:
    """Return file names by person, from lines of two file names and Yes or No; most photographs first."""
    with pairs.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    groups: dict[str, set[str]] = {name: {name} for row in rows for name in row[:2]}
    for first, second, same in rows:
        if same == "Yes" and groups[first] is not groups[second]:
            groups[first] |= groups[second]
            groups |= dict.fromkeys(groups[second], groups[first])
    unique = {id(group): sorted(group) for group in groups.values()}
    return sorted(unique.values(), key=lambda names: (-len(names), names))


def portraits(folder: Path, names: Sequence[str]) -> dict[str, Portrait]:
    """Cut out the largest head of each photograph, as detected at full size."""
    detector = FaceDetector(Config())
    detector.load()
    return {name: _portrait(detector, decode((folder / name).read_bytes(), max_pixels=10**8)) for name in names}


def _portrait(detector: FaceDetector, image: Pixels) -> Portrait:
    (detections,) = detector.predict_batch([detector.prepare(image)])
    if isinstance(detections, StageError):
        raise detections
    face = max(detections, key=lambda each: each.width)
    height, width = image.shape[:2]
    half = HEAD[0] * face.width / 2, HEAD[1] * face.height / 2
    # A bit higher than the face: the box of a face ends at the forehead.
    centre = face.x + face.width / 2, face.y + 0.42 * face.height
    left, top = max(0, round(centre[0] - half[0])), max(0, round(centre[1] - half[1]))
    right, bottom = min(width, round(centre[0] + half[0])), min(height, round(centre[1] + half[1]))
    y, x = np.mgrid[top:bottom, left:right]
    distance = np.hypot((x - centre[0]) / half[0], (y - centre[1]) / half[1])
    alpha = np.clip((1 - distance) / 0.06, 0, 1).astype(np.float32)
    box = (face.x - left, face.y - top, face.width, face.height)
    return Portrait(np.ascontiguousarray(image[top:bottom, left:right]), alpha, box)


def planned(rng: np.random.Generator, cast: Cast, seconds: int) -> list[Shot]:
    """Draw shots of 2 to 6 s, with one to three people side by side who stay, enter or leave, each in any of their
    photographs."""
    shots: list[Shot] = []
    left = seconds * FPS
    while left > 0:
        length = min(left, int(rng.integers(2 * FPS, 6 * FPS)))
        left -= length
        there = rng.choice(list(cast.photos), size=rng.integers(1, 4), replace=False).tolist()
        places = [(place + 0.5) / len(there) for place in range(len(there))]
        shots.append(
            Shot(length, tuple(_part(rng, cast, person, x, length) for person, x in zip(there, places, strict=True)))
        )
    return shots


def render(
    shots: Sequence[Shot], photos: Mapping[str, Portrait], size: tuple[int, int], truth: Truth, seed: int = 0
) -> Iterator[Pixels]:
    """Yield the frames, uint8 (height, width, 3), and fill ``truth``. ``size``: (width, height)."""
    number = 0
    for index, shot in enumerate(shots):
        if index:
            truth.cuts.append(number)
        backgrounds = _backgrounds(np.random.default_rng((seed, index)), size, shot.frames)
        for frame, background in enumerate(backgrounds):
            yield _compose(background, shot.parts, photos, frame, number, truth)
            number += 1


def write(
    path: Path,
    shots: Sequence[Shot],
    photos: Mapping[str, Portrait],
    size: tuple[int, int],
    fps: Fraction | int = 25,
    seed: int = 0,
    options: Mapping[str, str] | None = None,
) -> Truth:
    """Encode a film as H.264 in MP4, and return its ground truth."""
    import av

    truth = Truth()
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=fps, options=dict(options or {"preset": "veryfast", "crf": "20"}))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for pixels in render(shots, photos, size, truth, seed):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())
    return truth


def _part(rng: np.random.Generator, cast: Cast, person: str, x: float, length: int) -> Part:
    y = 0.5 + rng.uniform(-0.08, 0.08)
    to_x, to_y = x + rng.uniform(-0.06, 0.06), y + rng.uniform(-0.06, 0.06)
    last = length - 1
    path: tuple[tuple[int, float, float], ...] = ((0, x, y), (last, to_x, to_y))
    stays, comes = rng.random() < 0.5, rng.random() < 0.5
    if not stays and length > 4 * QUICK:
        if comes:
            path = ((QUICK, x, -0.3), (2 * QUICK, x, y), path[1])
        else:
            path = (path[0], (last - 2 * QUICK, to_x, to_y), (last - QUICK, to_x, 1.3))
    first, final = rng.uniform(0.06, 0.16, 2).tolist()
    return Part(person, str(rng.choice(list(cast.photos[person]))), path, (first, final))


def _backgrounds(rng: np.random.Generator, size: tuple[int, int], frames: int) -> Iterator[Pixels]:
    """Yield a camera's pan over a wide soft picture with grain."""
    import cv2

    width, height = size
    coarse = rng.integers(20, 236, (5, 12, 3)).astype(np.uint8)
    wide = cv2.resize(coarse, (width + width // 4, height), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 4, (height, wide.shape[1], 1))
    wide = (wide + grain).clip(0, 255).astype(np.uint8)
    way = rng.uniform(-1, 1) * width / 8
    for frame in range(frames):
        start = round(width / 8 + way * frame / frames)
        yield wide[:, start : start + width].copy()


def _compose(
    canvas: Pixels, parts: Sequence[Part], photos: Mapping[str, Portrait], frame: int, number: int, truth: Truth
) -> Pixels:
    height, width = canvas.shape[:2]
    shown = [part for part in parts if part.path[0][0] <= frame <= part.path[-1][0]]
    free: list[tuple[str, Box, NDArray[np.float32]]] = []
    for part in shown:
        box, covered = _paste(canvas, part, photos[part.photo], frame)
        for _, _, uncovered in free:
            uncovered *= 1 - covered
        free.append((part.person, box, np.ones((height, width), np.float32)))
    for person, (x, y, w, h), uncovered in free:
        left, top, right, bottom = max(0, round(x)), max(0, round(y)), max(0, round(x + w)), max(0, round(y + h))
        share = float(uncovered[top:bottom, left:right].sum()) / (w * h)
        truth.visible.setdefault(person, set())
        if share > 0:
            truth.boxes.setdefault(person, {})[number] = (x, y, w, h)
        if share >= VISIBLE:
            truth.visible[person].add(number)
    return canvas


def _paste(canvas: Pixels, part: Part, photo: Portrait, frame: int) -> tuple[Box, NDArray[np.float32]]:
    """Draw a head; return the box of its face, and how far it covers each pixel, float32 (height, width) 0-1."""
    import cv2

    height, width = canvas.shape[:2]
    times, xs, ys = zip(*part.path, strict=True)
    span = max(1, times[-1] - times[0])
    face_width = width * float(np.interp((frame - times[0]) / span, [0, 1], part.size))
    scale = face_width / photo.face[2]
    x = width * float(np.interp(frame, times, xs)) - face_width / 2
    y = height * float(np.interp(frame, times, ys)) - scale * photo.face[3] / 2
    left, top = x - scale * photo.face[0], y - scale * photo.face[1]
    shrunk, alpha = photo.pixels, photo.alpha
    if scale < 0.5:  # averaged first, as a lens would
        how = (max(1, round(photo.pixels.shape[1] * 2 * scale)), max(1, round(photo.pixels.shape[0] * 2 * scale)))
        shrunk, alpha = (cv2.resize(each, how, interpolation=cv2.INTER_AREA) for each in (shrunk, alpha))
    ratio = scale * photo.pixels.shape[1] / shrunk.shape[1], scale * photo.pixels.shape[0] / shrunk.shape[0]
    x0, y0 = max(0, int(left) - 1), max(0, int(top) - 1)
    x1 = min(width, int(left + ratio[0] * shrunk.shape[1]) + 2)
    y1 = min(height, int(top + ratio[1] * shrunk.shape[0]) + 2)
    cover = np.zeros((height, width), np.float32)
    if x0 < x1 and y0 < y1:
        move = np.array([[ratio[0], 0, left - x0], [0, ratio[1], top - y0]])
        area = (x1 - x0, y1 - y0)
        head = cv2.warpAffine(shrunk, move, area, flags=cv2.INTER_LINEAR)
        mask = cv2.warpAffine(alpha, move, area, flags=cv2.INTER_LINEAR)
        under = canvas[y0:y1, x0:x1]
        canvas[y0:y1, x0:x1] = (under + (head - under.astype(np.float32)) * mask[:, :, None]).round().astype(np.uint8)
        cover[y0:y1, x0:x1] = mask
    return (x, y, scale * photo.face[2], scale * photo.face[3]), cover
