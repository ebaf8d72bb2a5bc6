"""Finds stages for workers of other processes: dummies instead of models."""

import time
from collections.abc import Sequence
from typing import Final

from deployments.serving.catalog import AnyStage, find_stage
from tests.dummies.assets import DummyEmbed
from tests.dummies.photos import DummyClip
from tests.dummies.video import DummyCuts, DummyPhotoFaces, DummyRecognizer, DummyVideoFaces
from vision.errors import StageError
from vision.faces.face import Face
from vision.images import Pixels

LOOK_S: Final = 0.02


class SlowVideoFaces(DummyVideoFaces):
    """Takes its time for each look, as a model does."""

    def predict_batch(self, items: list[Pixels]) -> Sequence[tuple[Face, ...] | StageError]:
        time.sleep(LOOK_S * len(items))
        return super().predict_batch(items)


DUMMIES: Final[dict[str, AnyStage]] = {
    cls.key: cls for cls in (DummyEmbed, DummyClip, DummyCuts, DummyPhotoFaces, DummyRecognizer, DummyVideoFaces)
}


def find(key: str) -> AnyStage:
    """The dummy of a stage that has one, else the stage itself."""
    return DUMMIES[key] if key in DUMMIES else find_stage(key)


def find_slow(key: str) -> AnyStage:
    """``find``, where looking takes its time."""
    return SlowVideoFaces if key == SlowVideoFaces.key else find(key)
