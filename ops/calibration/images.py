"""Measure the scale of picture similarities: ``python -m ops.calibration.images PICTURE… [--model NAME]``.

Every PICTURE shows another scene. A picture and each of its copies (mirrored, at 60 % of its brightness, at a quarter
of its size, cropped to 80 % of its sides, turned by 10 degrees) are a matching pair; two pictures are another pair.
Prints error rates at the points of the scale; ``--plot FILE.png`` draws the cosines of both kinds.
"""

import argparse
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployments.embed.dinov3 import CHAIN, Config, Dinov3Embedder
from ops.calibration.error_rates import Verification, draw, table
from vision.errors import StageError
from vision.faces.calibration import IMAGE_POINTS

BATCH = 8


def _cropped(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((width // 10, height // 10, width - width // 10, height - height // 10))


COPIES: Final[dict[str, Callable[[Image.Image], Image.Image]]] = {
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "darker": lambda image: image.point(lambda value: int(0.6 * value)),
    "smaller": lambda image: image.resize((max(1, image.width // 4), max(1, image.height // 4))),
    "cropped": _cropped,
    "turned": lambda image: image.rotate(10),
}


def units(stage: Dinov3Embedder, pictures: Sequence[bytes]) -> NDArray[np.float32]:
    """Return unit features, float32[n, 384]."""
    rows = []
    for start in range(0, len(pictures), BATCH):
        for result in stage.predict_batch([stage.prepare(data) for data in pictures[start : start + BATCH]]):
            if isinstance(result, StageError):
                raise result
            rows.append(result.unit)
    return np.stack(rows)


def copy_of(data: bytes, change: Callable[[Image.Image], Image.Image]) -> bytes:
    """Return a changed copy of an encoded picture, as PNG."""
    file = BytesIO()
    with Image.open(BytesIO(data)) as image:
        change(image.convert("RGB")).save(file, "PNG")
    return file.getvalue()


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--model", choices=CHAIN, help="instead of the first that is available")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    stage = Dinov3Embedder(Config(models=[arguments.model] if arguments.model else list(CHAIN)))
    stage.load()
    pictures = [path.read_bytes() for path in arguments.pictures]
    originals = units(stage, pictures)
    copies = {
        name: (originals * units(stage, [copy_of(data, change) for data in pictures])).sum(1).astype(np.float64)
        for name, change in COPIES.items()
    }
    others = np.array([float(first @ second) for first, second in combinations(originals, 2)])
    measured = Verification(np.concatenate(list(copies.values())), others)
    print(f"{stage.info()['model_version']}, {len(pictures)} pictures")
    print(table(measured, IMAGE_POINTS))
    threshold = {percentage: cosine for cosine, percentage in IMAGE_POINTS}[75]
    for name, cosines in copies.items():
        missed = (cosines < threshold).mean()
        print(f"- {name}: least {cosines.min():.3f}, mean {cosines.mean():.3f}, {100 * missed:.0f} % below 75 %")
    median, p95 = np.percentile((others + 1) * 50, (50, 95))
    print(f"- different pictures: median {median:.1f} %, 95 in 100 below {p95:.1f} %, of {len(others)} pairs")
    if arguments.plot is not None:
        draw(measured, IMAGE_POINTS, "Copies of a picture and different pictures", arguments.plot)


if __name__ == "__main__":
    main()
