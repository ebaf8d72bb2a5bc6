"""What the scale of face similarities rests on: ``python -m ops.calibration.faces PAIRS.csv [--plot FILE.png]``.

PAIRS.csv has a header and lines of two file names beside it and Yes or No: whether they show the same person. Every
picture stands for its largest face, found and embedded by the stages of the service. Prints error rates at the points
of the scale; draws the cosines of both kinds.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deployments.people import faces, identity
from ops.calibration.error_rates import Verification
from vision.errors import StageError
from vision.faces.calibration import FACE_POINTS, Points
from vision.images import decode

MAX_PIXELS = 100_000_000
Pair = tuple[str, str, bool]
Vector = NDArray[np.float32]


def read_pairs(path: Path) -> list[Pair]:
    """(file, file, same person) of each line. Raises ValueError for a line of another form."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    pairs = []
    for number, row in enumerate(rows, 2):
        if len(row) != 3 or row[2].strip().lower() not in ("yes", "no"):
            raise ValueError(f"{path.name}, line {number}: not two file names and Yes or No")
        pairs.append((row[0].strip(), row[1].strip(), row[2].strip().lower() == "yes"))
    return pairs


def embed(pictures: Sequence[Path]) -> dict[str, Vector]:
    """float32[128] of the largest face by file name; pictures without a face are left out."""
    detector, recognizer = faces.FaceDetector(faces.Config()), identity.FaceRecognizer(identity.Config())
    detector.load()
    recognizer.load()
    vectors = {}
    for path in pictures:
        image = decode(path.read_bytes(), max_pixels=MAX_PIXELS)
        (found,) = detector.predict_batch([detector.prepare(image)])
        if isinstance(found, StageError):
            raise found
        if found:
            largest = max(found, key=lambda face: face.width * face.height)
            (result,) = recognizer.predict_batch([recognizer.prepare((image, (largest,)))])
            if isinstance(result, StageError):
                raise result
            vectors[path.name] = result[0].vector
    return vectors


def verification(pairs: Sequence[Pair], vectors: dict[str, Vector]) -> Verification:
    """Cosines of the pairs of which both pictures have a face."""
    cosines: dict[bool, list[float]] = {True: [], False: []}
    for first, second, same in pairs:
        if first in vectors and second in vectors:
            cosines[same].append(float(vectors[first] @ vectors[second]))
    return Verification(np.array(cosines[True]), np.array(cosines[False]))


def table(measured: Verification, points: Points) -> str:
    """Error rates at the points of a scale, as Markdown."""
    kinds = (("matching", measured.matching), ("other", measured.other))
    lines = [
        f"AUC {measured.auc:.4f}, equal error rate {measured.eer:.4f}",
        "",
        "| pairs | number | least | mean | deviation | greatest |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {len(scores)} | {scores.min():.3f} | {scores.mean():.3f} | {scores.std(ddof=1):.3f} "
            f"| {scores.max():.3f} |"
            for name, scores in kinds
        ),
        "",
        "| per cent | cosine | false matches | by a normal distribution | false non-matches |",
        "|---|---|---|---|---|",
        *(
            f"| {percentage:g} | {cosine:g} | {measured.false_matches(cosine)} "
            f"| {100 * measured.expected_false_matches(cosine):.2g} % | {measured.false_non_matches(cosine)} |"
            for cosine, percentage in points[1:-1]
        ),
    ]
    return "\n".join(lines)


def draw(measured: Verification, points: Points, title: str, path: Path) -> None:
    """Histograms of both kinds of pairs, the points of the scale as lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    low = np.floor(10 * min(measured.matching.min(), measured.other.min())) / 10
    edges = np.linspace(low, 1, round((1 - low) / 0.02) + 1)
    for name, scores, colour in (("other", measured.other, "#b5523b"), ("matching", measured.matching, "#2f6f9f")):
        weights = np.full(len(scores), 100 / len(scores))
        axes.hist(scores, edges, weights=weights, color=colour, alpha=0.65, label=f"{name}: {len(scores)} pairs")
    for cosine, percentage in points[1:-1]:
        axes.axvline(cosine, color="black", linewidth=1, linestyle="-" if percentage == 75 else ":")
        label = f"{percentage:g} %"
        axes.annotate(
            label, (cosine, 1.01), xycoords=("data", "axes fraction"), ha="center", va="bottom", rotation=90, fontsize=8
        )
    axes.set(xlabel="cosine", ylabel="% of the pairs of a kind", xlim=(low, 1))
    axes.set_title(title, pad=32)
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


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
