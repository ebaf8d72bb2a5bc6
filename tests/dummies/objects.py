"""A stand-in for the detector of objects: rectangles of exactly these colours."""

from typing import Any

import numpy as np

from tests.dummies.dummy import Dummy
from vision.images import Pixels
from vision.objects.detection import DetectedObject, Detections

OBJECTS = {(255, 128, 0): ("dog", 0.95), (128, 0, 255): ("car", 0.6), (0, 128, 255): ("person", 0.35)}
"""Colour → class and confidence; all of one colour in a picture is one object."""


class DummyDetector(Dummy[Pixels, Detections]):
    """Finds the rectangles of ``OBJECTS``, surest first."""

    key = "objects/detector"

    def predict(self, item: Pixels) -> Detections:
        self.calls += 1
        found = []
        for colour, (label, confidence) in OBJECTS.items():
            rows, columns = np.nonzero((item == colour).all(-1))
            if len(rows):
                x, y = float(columns.min()), float(rows.min())
                width, height = float(columns.max() + 1 - x), float(rows.max() + 1 - y)
                found.append(DetectedObject(x, y, width, height, confidence, label))
        return Detections(tuple(found), self.version)

    def info(self) -> dict[str, Any]:
        return super().info() | {"classes": [label for label, _ in OBJECTS.values()]}
