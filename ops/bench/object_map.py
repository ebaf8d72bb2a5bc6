"""Measure the mean average precision of the detector: ``python -m ops.bench.object_map PICTURES [--labels FILE]``.

PICTURES is a folder, FILE its labels in COCO's format, without it ``object_labels.json``; of a film its first frame
counts. The stage runs as it is served, with the weights that ``VISION_MODELS_DIR`` or the hub has, and pycocotools
counts. Classes are matched by their names; those that the labels do not have are left out.

``--checkpoint FOLDER`` measures another one, such as ``ops.bench.object_training`` makes, beside transformers' own
pipeline; ``--scenes N`` measures on pictures composed of what was held out from training instead.
"""

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from deployments.objects.detector import CHAIN, Config, ObjectDetector
from ops.bench import detectors
from ops.bench.object_reference import by_stage, by_transformers
from ops.bench.report import made_by, publish_section, table
from ops.bench.scenes import LABELS, compose, material, picture, read_labels
from vision.engines import EngineName
from vision.errors import ModelNotLoaded
from vision.images import Pixels

LEAST: Final = 0.05
"""Least confidence of a detection that counts. COCO's own figures count all, which makes them some tenths higher."""
SIZES: Final = ((640, 480), (480, 640), (960, 540), (512, 512))
"""Of composed pictures, width and height."""
CHECKPOINT: Final = "given-checkpoint"
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Precision:
    """``mean`` over intersections over union from 0.5 to 0.95, ``mean50`` at 0.5, ``by_class`` as ``mean``; 0 to 1."""

    mean: float
    mean50: float
    by_class: Mapping[str, float]


def evaluate(labels: Mapping[str, Any], detections: Rows) -> Precision:
    """Return the precision of detections, in COCO's format, by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not detections:
        return Precision(0.0, 0.0, {})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"info": {}, **labels}
        truth.createIndex()
        counted = COCOeval(truth, truth.loadRes(detections), "bbox")
        counted.evaluate()
        counted.accumulate()
        counted.summarize()
    precision = counted.eval["precision"][:, :, :, 0, -1]  # all sizes, up to 100 in a picture
    names = {each["id"]: str(each["name"]) for each in labels["categories"]}
    by_class = {
        names[number]: float(values[values > -1].mean())
        for number, values in zip(counted.params.catIds, precision.transpose(2, 0, 1), strict=True)
        if (values > -1).any()
    }
    return Precision(float(counted.stats[0]), float(counted.stats[1]), by_class)


def composed(media: Path, scenes: int, seed: int = 21) -> tuple[dict[str, Any], list[Pixels]]:
    """Return labels in COCO's format and pictures, composed of what training does not see."""
    random, parts = np.random.default_rng(seed), material(media).part(held_out=True)
    pictures: list[Pixels] = []
    images: Rows = []
    annotations: Rows = []
    for number in range(1, scenes + 1):
        size = SIZES[number % len(SIZES)]
        scene = compose(random, parts, size)
        pictures.append(scene.image)
        images.append({"id": number, "file_name": f"{number}.png", "width": size[0], "height": size[1]})
        for box, label in zip(scene.boxes, scene.labels, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": parts.classes.index(label) + 1,
                    "bbox": list(box),
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": place, "name": name} for place, name in enumerate(parts.classes, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}, pictures


def rows_of(labels: Mapping[str, Any], found: Iterable[Sequence[tuple[str, float, tuple[float, ...]]]]) -> Rows:
    """Return detections of the labelled pictures, in their order, in COCO's format."""
    numbers = {str(each["name"]).strip().lower().replace("_", " "): each["id"] for each in labels["categories"]}
    return [
        {
            "image_id": image["id"],
            "category_id": numbers[label],
            "score": score,
            "bbox": [
                left * image["width"],
                top * image["height"],
                (right - left) * image["width"],
                (bottom - top) * image["height"],
            ],
        }
        for image, objects in zip(labels["images"], found, strict=True)
        for label, score, (left, top, right, bottom) in objects
        if label in numbers
    ]


def stage_of(models: Sequence[str], engine: EngineName) -> ObjectDetector:
    """Return the stage with these weights. Raises ModelNotLoaded where there are none."""
    stage = ObjectDetector(Config(models=list(models), engine=engine, confidence=LEAST))
    stage.load()
    return stage


def beside(checkpoint: Path, pictures: Iterable[Pixels]) -> Iterator[list[tuple[str, float, tuple[float, ...]]]]:
    """Yield what transformers' own processor, network and post-processing find with a checkpoint."""
    from transformers import AutoModelForObjectDetection

    preprocess = json.loads((checkpoint / "preprocessor_config.json").read_text())
    model = AutoModelForObjectDetection.from_pretrained(checkpoint, local_files_only=True, use_safetensors=True).eval()
    return map(partial(by_transformers, model, preprocess, least=LEAST), pictures)


def measure(
    labels: Mapping[str, Any], pictures: Sequence[Pixels], models: Sequence[str], checkpoint: Path | None
) -> list[str]:
    """Return the lines of the section."""
    results: dict[str, Precision] = {}
    engines: tuple[EngineName, ...] = ("auto",) if checkpoint is None else ("torch-fp32", "openvino-fp32")
    for engine in engines:
        stage = stage_of(models, engine)
        results[f"the stage, {stage.info()['engine']}"] = evaluate(
            labels, rows_of(labels, by_stage(stage, pictures, LEAST))
        )
    if checkpoint is not None:
        results["transformers alone"] = evaluate(labels, rows_of(labels, beside(checkpoint, pictures)))
    names = [str(each["name"]) for each in labels["categories"]]
    counts = [
        sum(each["category_id"] == category["id"] and not each["iscrowd"] for each in labels["annotations"])
        for category in labels["categories"]
    ]
    rows = [
        (
            what,
            f"{each.mean:.4f}",
            f"{each.mean50:.4f}",
            *(f"{each.by_class[name]:.3f}" if name in each.by_class else "" for name in names),
        )
        for what, each in results.items()
    ]
    heads = (f"{name} ({count})" for name, count in zip(names, counts, strict=True))
    return [
        f"{len(pictures)} pictures with {sum(counts)} objects; detections from a confidence of {LEAST} on.",
        "",
        *table(("", "mAP", "mAP50", *heads), rows),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--labels", type=Path, default=LABELS)
    parser.add_argument("--model", action="append", help="name of the models file; may be given again")
    parser.add_argument("--checkpoint", type=Path, help="folder of a checkpoint to measure instead")
    parser.add_argument("--scenes", type=int, help="composed pictures to measure on instead")
    parser.add_argument("--heading", default="Precision", help="of the section")
    parser.add_argument("--out", type=Path, help="file of the report, of which one section is written")
    given = parser.parse_args(arguments)
    if given.scenes:
        labels, pictures = composed(given.pictures, given.scenes)
    else:
        labels = read_labels(given.labels)
        pictures = [picture(given.pictures / each["file_name"]) for each in labels["images"]]
    with tempfile.TemporaryDirectory() as folder:
        models = given.model or list(CHAIN)
        if given.checkpoint is not None:
            detectors.register(Path(folder), **{CHECKPOINT: given.checkpoint})
            models = [CHECKPOINT]
        try:
            lines = measure(labels, pictures, models, given.checkpoint)
        except ModelNotLoaded as error:
            raise SystemExit(error.message) from error
    publish_section(given.heading, [f"{made_by('ops.bench.object_map', 'pycocotools')}.", "", *lines], given.out)


if __name__ == "__main__":
    main()
