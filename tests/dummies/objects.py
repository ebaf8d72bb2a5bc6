"""A stand-in for the detector of objects: rectangles of about these colours, also after encoding."""

from typing import Any

import numpy as np

from tests.dummies.dummy import Dummy
from vision.images import Pixels
from vision.objects.detection import DetectedObject, Detections

OBJECTS = {(255, 128, 0): ("dog", 0.95), (128, 0, 255): ("car", 0.6), (0, 128, 255): ("person", 0.35)}
"""Colour → class and confidence; all of one colour in a picture is one object."""
NEAR = 60
"""Sum of the differences of a pixel's colours within which it is still of an object."""
LEAST_PIXELS = 64


class DummyDetector(Dummy[Pixels, Detections]):
    """Finds the rectangles of ``OBJECTS``, surest first."""

    key = "objects/detector"

    def load(self) -> None:
        super().load()
        self.calls = 0
        self.confidences: dict[str, float] = {}
        """By class, in place of those of ``OBJECTS``."""

    def predict(self, item: Pixels) -> Detections:
        self.calls += 1
        found = []
        for colour, (label, confidence) in OBJECTS.items():
            rows, columns = np.nonzero(np.abs(item.astype(np.int16) - colour).sum(2) < NEAR)
            if len(rows) >= LEAST_PIXELS:
                x, y = float(columns.min()), float(rows.min())
                width, height = float(columns.max() + 1 - x), float(rows.max() + 1 - y)
                found.append(DetectedObject(x, y, width, height, self.confidences.get(label, confidence), label))
        return Detections(tuple(found), self.version)

    def info(self) -> dict[str, Any]:
        return super().info() | {"classes": [label for label, _ in OBJECTS.values()]}
