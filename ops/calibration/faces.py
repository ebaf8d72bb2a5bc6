"""Measure the scale of face similarities: ``python -m ops.calibration.faces PAIRS.csv [--plot FILE.png]``.

PAIRS.csv has a header, and lines of two file names in its folder and Yes or No: whether they show the same person. The
largest face of each picture counts, detected and embedded by the stages of the service. Prints error rates at the
points of the scale; ``--plot`` draws the cosines of both kinds.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deployments.people import faces, identity
from ops.calibration.error_rates import Verification, draw, table
from vision.errors import StageError
from vision.faces.calibration import FACE_POINTS
from vision.images import decode

MAX_PIXELS = 100_000_000
Pair = tuple[str, str, bool]
Vector = NDArray[np.float32]


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


def embed(pictures: Sequence[Path]) -> dict[str, Vector]:
    """Return float32[128] of the largest face, by file name; pictures without a face are left out."""
    detector, recognizer = faces.FaceDetector(faces.Config()), identity.FaceRecognizer(identity.Config())
    detector.load()
    recognizer.load()
    vectors = {}
    for path in pictures:
        image = decode(path.read_bytes(), max_pixels=MAX_PIXELS)
        (detections,) = detector.predict_batch([detector.prepare(image)])
        if isinstance(detections, StageError):
            raise detections
        if detections:
            largest = max(detections, key=lambda face: face.width * face.height)
            (result,) = recognizer.predict_batch([recognizer.prepare((image, (largest,)))])
            if isinstance(result, StageError):
                raise result
            vectors[path.name] = result[0].vector
    return vectors


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
    arguments = parser.parse_args()
    pairs = read_pairs(arguments.pairs)
    names = sorted({name for first, second, _ in pairs for name in (first, second)})
    vectors = embed([arguments.pairs.parent / name for name in names])
    without = [name for name in names if name not in vectors]
    print(f"{len(names)} pictures, without a face: {', '.join(without) or 'none'}")
    measured = verification(pairs, vectors)
    print(table(measured, FACE_POINTS))
    if arguments.plot is not None:
        draw(measured, FACE_POINTS, "Faces of one person and of two", arguments.plot)


if __name__ == "__main__":
    main()
