"""Compare the detector with transformers on real pictures: ``python -m ops.bench.object_reference PICTURES``.

PICTURES is a folder; of its pictures one of each shape and size is taken, spread over all of them. Both sides have the
same generated weights and the same pixels. What is compared is everything after: preprocessing, network, what the
outputs mean, boxes in pixels, names. Each object of one side is paired with one of the other; an object whose
confidence is within the tolerance of the least one may be missing from one side.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from deployments.objects.detector import Config, ObjectDetector
from ops.bench import detectors
from ops.bench.report import made_by, publish_section, table
from vision.engines import EngineName
from vision.images import Pixels, decode
from vision.objects.detection import MOST, Detections
from vision.preprocess import Preprocess

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE: Final = 1e-3
"""Of a confidence, and of a box as a share of the picture."""
ENGINES: Final[tuple[EngineName, ...]] = ("torch-fp32", "openvino-fp32")
SUFFIXES: Final = (".jpg", ".png", ".bmp", ".gif")
Found = tuple[str, float, tuple[float, ...]]
"""Label, confidence, and left, top, right and bottom as shares of the picture."""


@dataclass
class Agreement:
    """How far two detectors agree; ``alone``: objects that one of them has and the other has not."""

    pictures: int = 0
    objects: int = 0
    alone: int = 0
    confidence: float = 0.0
    box: float = 0.0
    worst: list[str] = field(default_factory=list)

    def add(self, ours: Sequence[Found], theirs: Sequence[Found], least: float, name: str) -> None:
        """Pair the objects of one picture."""
        from scipy.optimize import linear_sum_assignment

        self.pictures += 1
        self.objects += len(theirs)
        apart = np.full((len(ours), len(theirs)), 10.0)
        for row, (label, score, box) in enumerate(ours):
            for column, (other, confidence, place) in enumerate(theirs):
                if label == other:
                    apart[row, column] = max(abs(score - confidence), float(np.abs(np.subtract(box, place)).max()))
        rows, columns = linear_sum_assignment(np.minimum(apart, 10 * TOLERANCE))
        close = [(row, column) for row, column in zip(rows, columns, strict=True) if apart[row, column] < 0.1]
        for row, column in close:
            self.confidence = max(self.confidence, abs(ours[row][1] - theirs[column][1]))
            self.box = max(self.box, float(np.abs(np.subtract(ours[row][2], theirs[column][2])).max()))
        seen = {row for row, _ in close}, {column for _, column in close}
        lonely = [
            each
            for side, them in zip(seen, (ours, theirs), strict=True)
            for n, each in enumerate(them)
            if n not in side
        ]
        sure = [each for each in lonely if each[1] > least + TOLERANCE]
        self.alone += len(sure)
        if sure:
            self.worst.append(name)


def pictures_of(folder: Path, most: int) -> list[tuple[str, Pixels]]:
    """Return pictures of different sizes, spread over the folder, with their names."""
    sizes: dict[tuple[int, ...], tuple[str, Pixels]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            image = decode(path.read_bytes(), max_pixels=10**8)
            sizes.setdefault(image.shape, (path.relative_to(folder).as_posix(), image))
    them = list(sizes.values())
    return [them[place] for place in np.linspace(0, len(them) - 1, min(most, len(them))).round().astype(int)]


def by_transformers(
    model: "PreTrainedModel", preprocess: Mapping[str, Any], image: Pixels, least: float
) -> list[Found]:
    """Return the objects of a picture, surest first, by transformers alone."""
    import torch
    from transformers import RTDetrImageProcessor

    processor = RTDetrImageProcessor(**preprocess)
    height, width = image.shape[:2]
    resized = resized_as_torchvision(image, preprocess)
    with torch.inference_mode():
        output = model(**processor(resized, do_resize=False, input_data_format="channels_first", return_tensors="pt"))
    (found,) = processor.post_process_object_detection(output, least, target_sizes=[(height, width)])
    names = model.config.id2label
    rows = zip(found["labels"].tolist(), found["scores"].tolist(), found["boxes"].numpy(), strict=True)
    return [
        (
            names[label].lower().replace("_", " "),
            score,
            tuple(np.clip(box / (width, height, width, height), 0, 1).tolist()),
        )
        for label, score, box in rows
    ]


def resized_as_torchvision(image: Pixels, preprocess: Mapping[str, Any]) -> Any:
    """Return a picture as transformers' own processor resizes it where there is torchvision, uint8 tensor [3, h, w].

    Without torchvision it resizes by Pillow, which rounds otherwise.
    """
    import torch

    size = preprocess["size"]["height"], preprocess["size"]["width"]
    mode = {2: "bilinear", 3: "bicubic"}[preprocess.get("resample", 2)]
    planes = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].contiguous()
    return torch.nn.functional.interpolate(planes, size=size, mode=mode, antialias=True)[0]


def by_stage(stage: ObjectDetector, images: Sequence[Pixels], least: float) -> Iterator[list[Found]]:
    """Yield the objects of each picture by the stage, a batch at a time."""
    size = stage.config.max_batch_size
    for start in range(0, len(images), size):
        part = images[start : start + size]
        for image, result in zip(part, stage.predict_batch([stage.prepare(each) for each in part]), strict=True):
            if not isinstance(result, Detections):
                raise result
            height, width = image.shape[:2]
            yield [
                (
                    each.label,
                    each.confidence,
                    (each.x / width, each.y / height, (each.x + each.width) / width, (each.y + each.height) / height),
                )
                for each in result.objects
                if each.confidence >= least
            ]


def compare(
    stage: ObjectDetector,
    model: "PreTrainedModel",
    preprocess: Mapping[str, Any],
    pictures: Sequence[tuple[str, Pixels]],
) -> Agreement:
    """Return how far the stage agrees with transformers on pictures; both tell of the surest ``MOST`` at most."""
    least, agreement = stage.config.confidence, Agreement()
    found = by_stage(stage, [image for _, image in pictures], least)
    for (name, image), ours in zip(pictures, found, strict=True):
        everything = by_transformers(model, preprocess, image, least)
        theirs = [each for each in everything[:MOST] if _has_size(each, image)]
        agreement.add(ours, theirs, everything[MOST - 1][1] if len(everything) >= MOST else least, name)
    return agreement


def _has_size(found: Found, image: Pixels) -> bool:
    """Return whether a box is a pixel wide and high, as those are that the detector tells of."""
    left, top, right, bottom = found[2]
    return bool((right - left) * image.shape[1] >= 1 and (bottom - top) * image.shape[0] >= 1)


def against_pillow(pictures: Sequence[tuple[str, Pixels]]) -> tuple[float, float]:
    """Return how far pixels are from those of transformers' processor with Pillow, at most and in how many of them."""
    from PIL import Image
    from transformers import RTDetrImageProcessorPil

    preprocess = detectors.preprocessing(detectors.SIDE)
    ours, theirs = Preprocess.from_config(preprocess, fast=True), RTDetrImageProcessorPil(**preprocess)
    apart = [
        np.abs(ours(image) - theirs(Image.fromarray(image), return_tensors="np")["pixel_values"][0]) * 255
        for _, image in pictures
    ]
    return max(float(each.max()) for each in apart), float(np.mean([each > 0.5 for each in apart]))


def measure(folder: Path, most: int) -> list[str]:
    """Return the lines of the section."""
    pictures = pictures_of(folder, most)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        networks = {key: detectors.with_random_weights(make) for key, make in detectors.SMALL.items()}
        networks[detectors.FULL] = detectors.with_random_weights(detectors.rtdetr_v2_r18vd)
        folders = {}
        for key, model in networks.items():
            side = detectors.SIDE if key == detectors.FULL else detectors.SMALL_SIDE
            folders[f"generated-{key}"] = root / key
            detectors.save(model, root / key, detectors.preprocessing(side))
        detectors.register(root, **folders)
        for key, model in networks.items():
            side = detectors.SIDE if key == detectors.FULL else detectors.SMALL_SIDE
            for engine in ENGINES:
                # All queries that are told of count, sure or not.
                config = Config(models=[f"generated-{key}".replace("_", "-")], engine=engine, confidence=0.05)
                stage = ObjectDetector(config)
                stage.load()
                agreement = compare(stage, model, detectors.preprocessing(side), pictures)
                rows.append(
                    (
                        f"{key}, {side} x {side}",
                        engine,
                        agreement.pictures,
                        agreement.objects,
                        agreement.alone,
                        f"{agreement.confidence:.1e}",
                        f"{agreement.box:.1e}",
                    )
                )
    levels, share = against_pillow(pictures)
    sizes = [image.shape[:2] for _, image in pictures]
    shapes = sorted(width / height for height, width in sizes)
    return [
        f"{len(pictures)} real pictures of different sizes, from {min(min(each) for each in sizes)} to "
        f"{max(max(each) for each in sizes)} pixels a side and {shapes[0]:.2f} to {shapes[-1]:.2f} times as wide as "
        "high, through the whole stage and through transformers' own processor and network, on the same generated "
        f"weights. The aim is {TOLERANCE:g}, of a confidence and of a box as a share of the picture.",
        "",
        "Pictures are resized by the kernel that transformers uses where there is torchvision; from those that it "
        f"resizes by Pillow where there is none {100 * share:.2g} % of the values differ, by {levels:.0f} of 255 at "
        "most.",
        "",
        *table(
            ("network", "engine", "pictures", "objects", "missing on a side", "confidence, at most", "box, at most"),
            rows,
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--most", type=int, default=40, help="pictures")
    parser.add_argument("--out", type=Path, help="file of the report, of which one section is written")
    given = parser.parse_args(arguments)
    made = made_by("ops.bench.object_reference", "transformers", "torch", "openvino")
    publish_section("Beside transformers", [f"{made}.", "", *measure(given.pictures, given.most)], given.out)


if __name__ == "__main__":
    main()
