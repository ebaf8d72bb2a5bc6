"""shots/camera: how the picture moves from frame to frame because of the camera.

The method is in ``vision.shots.camera``; what a camera does over a shot is read from the rows by
``vision.shots.movement``. Eight to twelve frames a second say most: with fewer, fast pans leave the search; with more,
slow motion drowns in the noise of a single pair, at a higher price.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.errors import InvalidInput
from vision.shots.camera import motions
from vision.shots.movement import Motion, Motions

SMALLEST_SIDE: Final = 32
LARGEST_SIDE: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class FrameRun:
    """Consecutive samples of one video: ``frames`` uint8 (n, h, w) grey, the longer side about 320 pixels; ``times``
    float64 (n,), ascending, in seconds."""

    frames: NDArray[np.uint8]
    times: NDArray[np.float64]


class Config(StageConfig):
    """``user_config`` of shots/camera; ``runs_at_once`` is read at load."""

    runs_at_once: PositiveInt = 2


CAMERA: Final = StageRef[FrameRun, Motions]("shots/camera")


class CameraMotionEstimator(Stage[Config, FrameRun, FrameRun, Motions]):
    """FrameRun of n frames → Motions, float32 (n - 1, 8)."""

    key = CAMERA.key
    config_class = Config
    libraries = ("cv2",)

    def warm_up(self) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (2, 180, 320), np.uint8)
        self.predict(FrameRun(noise, np.arange(2.0)))

    def batches_at_once(self) -> int:
        return self.config.runs_at_once

    def predict(self, item: FrameRun) -> Motions:
        frames, times = item.frames, item.times
        if frames.ndim != 3 or frames.dtype != np.uint8:
            raise InvalidInput("Frames are grey: uint8 (n, height, width).")
        if len(frames) != len(times) or np.any(np.diff(times) <= 0):
            raise InvalidInput("There must be one time for each frame, and the times must ascend.")
        if min(frames.shape[1:]) < SMALLEST_SIDE or max(frames.shape[1:]) > LARGEST_SIDE:
            raise InvalidInput(f"A side of a frame has {SMALLEST_SIDE} to {LARGEST_SIDE} pixels, about 320 are best.")
        return motions(frames)

    def info(self) -> dict[str, Any]:
        return {
            "method": "corners on a grid, pyramidal Lucas-Kanade there and back, similarity by RANSAC",
            "columns": [column.name.lower() for column in Motion],
            "range": "fractions of the frame; inliers 0 to 1, 0 where nothing could be measured",
        }
