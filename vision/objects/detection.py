"""Objects in pictures, by a detection transformer: what it takes, and what its outputs mean.

RT-DETRv2 (Lv et al. 2024, https://arxiv.org/abs/2407.17140) resizes a picture to a square whatever its shape, and gives
one box with a score of each class for each of its queries, of which no two show the same thing: there is nothing to
suppress afterwards. Others of its family do the same. DETR and YOLOS have a class for no object, and scores that are
shares among the classes; they and Conditional DETR keep the shape of a picture, with a border: their outputs would be
misread here, so they are refused.

Its queries are chosen by score, so two that are nearly equal may change places between engines: ``detector_module`` has
them in the order of their scores, and engines are compared by each number over all rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from vision.errors import ModelNotLoaded
from vision.images import Pixels
from vision.objects.classes import class_name
from vision.preprocess import Preprocess
from vision.weights import Weights
from vision.weights.checkpoint import load_checkpoint, read_json

if TYPE_CHECKING:
    import torch

FAMILY: Final = {"rt_detr": "RT-DETR", "rt_detr_v2": "RT-DETRv2", "d_fine": "D-FINE"}
"""Kinds of checkpoints that score each class by itself and take pictures of one size, and their names."""
Array = NDArray[np.float32]

MOST: Final = 100
"""Objects of one picture: those with the highest scores."""
BOX: Final = 4


@dataclass(frozen=True, slots=True)
class DetectedObject:
    """An object in pixels of its image; its box lies inside. ``confidence``: 0 to 1, higher is surer.

    ``label``: the class by its one name, see ``vision.objects.classes``, such as ``dog``.
    """

    x: float
    y: float
    width: float
    height: float
    confidence: float
    label: str


@dataclass(frozen=True, slots=True)
class Detections:
    """The objects of one picture, surest first, and the version of the weights that found them."""

    objects: tuple[DetectedObject, ...]
    model_version: str


class ObjectNetwork:
    """What surrounds the network of a checkpoint: its input, its classes, and how its outputs become objects."""

    def __init__(self, weights: Weights) -> None:
        """Raises ModelNotLoaded for a network of another family, one without classes, and an unknown preprocessing."""
        self._weights = weights
        config = read_json(weights, "config.json")
        kind = config.get("model_type")
        if kind not in FAMILY or not config.get("use_focal_loss", True):
            softmax = " trained without focal loss" if kind in FAMILY else ""
            raise ModelNotLoaded(
                f"{weights.name} is of the kind {kind}{softmax}, whose scores and boxes mean something else; "
                f"use a checkpoint of {', '.join(FAMILY.values())}."
            )
        self.labels = _labels(weights, config)
        try:
            self._preprocess = Preprocess.from_config(read_json(weights, "preprocessor_config.json"), fast=True)
        except ValueError as error:
            raise ModelNotLoaded(f"The preprocessing of {weights.name} cannot be done here: {error}.") from error
        size = self._preprocess.resize
        if not isinstance(size, tuple):
            raise ModelNotLoaded(f"{weights.name} takes pictures of no fixed size; objects need one that does.")
        self.input_size = size

    def make_module(self) -> "torch.nn.Module":
        """Return a new torch module, float32[n, 3, h, w] → float32[n, queries, classes + 4], the surest query first.

        A row has the logits of all classes, then centre, width and height of the box as shares of the picture.
        Raises ModelNotLoaded when the checkpoint does not fit.
        """
        return detector_module(self._weights)

    def prepare(self, image: Pixels) -> Array:
        """Return float32[3, h, w] for an image, uint8 (H, W, 3) RGB."""
        return self._preprocess(image)

    def objects(self, output: Array, size: tuple[int, int], confidence: float) -> tuple[DetectedObject, ...]:
        """Return the objects of at least this confidence, surest first, of one output and its image's (height, width).

        A query may be sure of two classes at once, and is then two objects; there are no more objects than queries, as
        in the model's own code.
        """
        logits, boxes = output[:, :-BOX].astype(np.float64), output[:, -BOX:].astype(np.float64)
        scores = 1 / (1 + np.exp(-logits))
        queries, classes = np.nonzero(scores >= confidence)
        order = np.argsort(-scores[queries, classes], kind="stable")[: min(MOST, len(output))]
        height, width = size
        found = []
        for query, class_index in zip(queries[order], classes[order], strict=True):
            x, y, w, h = boxes[query]
            left, right = np.clip((x - w / 2, x + w / 2), 0, 1) * width
            top, bottom = np.clip((y - h / 2, y + h / 2), 0, 1) * height
            if right - left >= 1 and bottom - top >= 1:
                score, label = float(scores[query, class_index]), self.labels[class_index]
                found.append(
                    DetectedObject(float(left), float(top), float(right - left), float(bottom - top), score, label)
                )
        return tuple(found)


def detector_module(weights: Weights) -> "torch.nn.Module":
    """Return the module of ``ObjectNetwork.make_module``."""
    import torch
    from transformers import MODEL_FOR_OBJECT_DETECTION_MAPPING

    model = load_checkpoint(MODEL_FOR_OBJECT_DETECTION_MAPPING, weights, optional=("denoising",))

    class Detector(torch.nn.Module):
        rows_in_any_order = True

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            output = self.model(pictures)
            rows = torch.cat([output.logits, output.pred_boxes], -1)
            order = output.logits.max(-1).values.argsort(1, descending=True)
            return rows.gather(1, order.unsqueeze(-1).expand_as(rows))

    return Detector()


def _labels(weights: Weights, config: Mapping[str, Any]) -> Sequence[str]:
    """Return the names of the classes in the order of the outputs."""
    names: Mapping[str, str] = config.get("id2label") or {}
    labels = [names.get(str(index)) for index in range(len(names))]
    if not labels or None in labels:
        raise ModelNotLoaded(f"The config.json of {weights.name} does not name its classes.")
    return [class_name(str(label)) for label in labels]
