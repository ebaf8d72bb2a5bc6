"""Finds stages for workers of other processes: dummies instead of models."""

import time
from typing import Final

from deployments.serving.catalog import AnyStage, find_stage
from tests.dummies.assets import DummyEmbed
from tests.dummies.objects import DummyDetector
from tests.dummies.photos import DummyClip
from tests.dummies.video import DummyCuts, DummyPhotoFaces, DummyRecognizer, DummyVideoFaces
from vision.faces.face import Face
from vision.images import Pixels

FRAME_S: Final = 0.02


class SlowVideoFaces(DummyVideoFaces):
    """Takes its time for each frame, as a model does."""

    def predict(self, item: Pixels) -> tuple[Face, ...]:
        time.sleep(FRAME_S)
        return super().predict(item)


DUMMIES: Final[dict[str, AnyStage]] = {
    cls.key: cls
    for cls in (
        *(DummyEmbed, DummyClip, DummyCuts, DummyPhotoFaces, DummyRecognizer, DummyVideoFaces),
        DummyDetector,
    )
}


def find(key: str) -> AnyStage:
    """The dummy of a stage that has one, else the stage itself."""
    return DUMMIES[key] if key in DUMMIES else find_stage(key)


def find_slow(key: str) -> AnyStage:
    """``find``, where faces take their time."""
    return SlowVideoFaces if key == SlowVideoFaces.key else find(key)
