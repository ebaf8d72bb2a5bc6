"""Measure the scale of face similarities: ``python -m ops.calibration.faces PAIRS.csv [--plot FILE.png] [--degraded]``.

PAIRS.csv has a header, and lines of two file names in its folder and Yes or No: whether they show the same person. The
largest face of each picture counts, detected and embedded by the stages of the service. Prints error rates at the
points of the scale; ``--plot`` draws the cosines of both kinds. ``--degraded`` measures how the same pairs are judged
when the faces are blurred, small or turned: at the threshold, with and without ``trust``.
"""

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from deployments.people import faces, identity
from ops.calibration.error_rates import Verification, draw, table
from vision.errors import StageError
from vision.faces.calibration import FACE_POINTS, face_cosine
from vision.faces.face import Face
from vision.images import Pixels, decode

MAX_PIXELS = 100_000_000
Pair = tuple[str, str, bool]
Vector = NDArray[np.float32]
Degradation = Callable[[Pixels, Face], Pixels]


def read_pairs(path: Path) -> list[Pair]:
    """Read (file, file, same person) of each line. Raises ValueError for a line of another form."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    pairs = []
    for number, row in enumerate(rows, 2):
        if len(row) != 3 or row[2].strip().lower() not in ("yes", "no"):
            raise ValueError(f"{path.name}, line {number}: give two file names and Yes or No")
        pairs.append((row[0].strip(), row[1].strip(), row[2].strip().lower() == "yes"))
    return pairs


class Embedder:
    """The stages that find and embed faces, loaded."""

    def __init__(self) -> None:
        self._detector, self._recognizer = (
            faces.FaceDetector(faces.Config()),
            identity.FaceRecognizer(identity.Config()),
        )
        self._detector.load()
        self._recognizer.load()

    def largest(self, image: Pixels) -> tuple[Face, identity.FaceVector] | None:
        """Return the largest face and its vector; None without a face."""
        (detections,) = self._detector.predict_batch([self._detector.prepare(image)])
        if isinstance(detections, StageError):
            raise detections
        if not detections:
            return None
        face = max(detections, key=lambda face: face.width * face.height)
        (result,) = self._recognizer.predict_batch([self._recognizer.prepare((image, (face,)))])
        if isinstance(result, StageError):
            raise result
        return face, result[0]


def blurred(share: float) -> Degradation:
    """Blur by a Gaussian whose deviation is this share of the face's width."""
    return lambda image, face: np.asarray(cv2.GaussianBlur(image, (0, 0), share * face.width), np.uint8)


def shrunk(pixels: int, quality: int | None = None) -> Degradation:
    """Shrink the picture until its face has this width, and compress it as a JPEG of ``quality``."""

    def degrade(image: Pixels, face: Face) -> Pixels:
        scale = min(1.0, pixels / face.width)
        small = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        return small if quality is None else recompressed(small, quality)

    return degrade


def moved(share: float) -> Degradation:
    """Smear the picture sideways by this share of the face's width, as a moving camera does."""

    def degrade(image: Pixels, face: Face) -> Pixels:
        length = max(1, round(share * face.width))
        return np.asarray(cv2.blur(image, (length, 1)), np.uint8)

    return degrade


def defocused(share: float) -> Degradation:
    """Blur by a disc whose radius is this share of the face's width, and add noise, as a dark room does."""

    def degrade(image: Pixels, face: Face) -> Pixels:
        radius = max(1, round(share * face.width))
        rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
        disc = (rows**2 + columns**2 <= radius**2).astype(np.float32)
        blurry = cv2.filter2D(image, -1, disc / disc.sum())
        noise = np.random.default_rng(0).normal(0, 4, image.shape)
        return np.asarray(np.rint((blurry + noise).clip(0, 255)), np.uint8)

    return degrade


def turned(degrees: float) -> Degradation:
    """Turn the face about its vertical axis, as if it were painted on a cylinder."""

    def degrade(image: Pixels, face: Face) -> Pixels:
        height, width = image.shape[:2]
        middle, radius, angle = face.x + face.width / 2, 0.75 * face.width, np.radians(degrees)
        across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        share = (across - middle) / radius
        source = np.sin(np.arcsin(share.clip(-1, 1)) + angle) * radius + middle
        source = np.where(np.abs(share) < 1, source, across).astype(np.float32)
        return np.asarray(cv2.remap(image, source, down, cv2.INTER_LINEAR), np.uint8)

    return degrade


def recompressed(image: Pixels, quality: int) -> Pixels:
    """Return the picture as a JPEG of this quality shows it."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return decode(data.tobytes(), max_pixels=MAX_PIXELS)


DEGRADATIONS: Final[dict[str, Degradation]] = {
    "none": lambda image, _: image,
    "32 pixels wide": shrunk(32),
    "20 pixels wide": shrunk(20),
    "blurred by 0.04": blurred(0.04),
    "blurred by 0.06": blurred(0.06),
    "turned by 35°": turned(35),
    "moved by 0.12": moved(0.12),
    "moved by 0.2": moved(0.2),
    "out of focus by 0.1 in noise": defocused(0.1),
    "moved by 0.16, unseen": moved(0.16),
    "moved by 0.1, then 48 pixels wide, unseen": lambda image, face: shrunk(48)(moved(0.1)(image, face), face),
    "blurred by 0.05, JPEG 30, unseen": lambda image, face: recompressed(blurred(0.05)(image, face), 30),
    "36 pixels wide, JPEG 40, unseen": shrunk(36, 40),
}
"""What is done to a picture; lengths were chosen without the ones that are called unseen."""


def degraded_table(embedder: Embedder, pairs: Sequence[Pair], images: Mapping[str, Pixels]) -> str:
    """Return rows of error rates at 75 per cent, of pairs whose faces are both degraded."""
    lines = [
        "| faces | length | two persons above the threshold | with trust | one person above it | with trust |",
        "|---|---|---|---|---|---|",
    ]
    clear = {name: embedder.largest(image) for name, image in images.items()}
    threshold = face_cosine(75)
    for label, degrade in DEGRADATIONS.items():
        found = {}
        for name, seen in clear.items():
            if seen is not None and (again := embedder.largest(degrade(images[name], seen[0]))) is not None:
                found[name] = again[1]
        cosines: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for first, second, same in pairs:
            if first in found and second in found:
                one, other = found[first], found[second]
                trusted = float(one.vector @ other.vector)
                lengths = float(np.linalg.norm(one.vector) * np.linalg.norm(other.vector))
                cosines[same].append((trusted / lengths, trusted))
        cells = [
            f"{sum(pair[at] >= threshold for pair in cosines[same])} of {len(cosines[same])}"
            for same in (False, True)
            for at in (0, 1)
        ]
        length = np.median([np.linalg.norm(vector.vector) for vector in found.values()])
        lines.append(f"| {label} | {length:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verification(pairs: Sequence[Pair], vectors: dict[str, Vector]) -> Verification:
    """Return the cosines of the pairs whose pictures both have a face."""
    cosines: dict[bool, list[float]] = {True: [], False: []}
    for first, second, same in pairs:
        if first in vectors and second in vectors:
            cosines[same].append(float(vectors[first] @ vectors[second]))
    return Verification(np.array(cosines[True]), np.array(cosines[False]))


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--degraded", action="store_true", help="blurred, small and turned faces as well")
    arguments = parser.parse_args()
    pairs, embedder = read_pairs(arguments.pairs), Embedder()
    names = sorted({name for first, second, _ in pairs for name in (first, second)})
    images = {name: decode((arguments.pairs.parent / name).read_bytes(), max_pixels=MAX_PIXELS) for name in names}
    seen = {name: embedder.largest(image) for name, image in images.items()}
    vectors = {name: each[1].vector for name, each in seen.items() if each is not None}
    without = [name for name in names if name not in vectors]
    print(f"{len(names)} pictures, without a face: {', '.join(without) or 'none'}")
    measured = verification(pairs, vectors)
    print(table(measured, FACE_POINTS))
    if arguments.degraded:
        print(degraded_table(embedder, pairs, images))
    if arguments.plot is not None:
        draw(measured, FACE_POINTS, "Faces of one person and of two", arguments.plot)


if __name__ == "__main__":
    main()
