"""shots/camera and what is read from it, on archive film and on a still camera.

Videos come from the folder ``media`` beside VISION_MODELS_DIR.
"""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from deployments.shots.camera import CameraMotionEstimator, Config, FrameRun
from vision.media.reader import VideoReader
from vision.shots.movement import Movement, classify

SIDE = 320


@pytest.fixture(scope="module")
def media() -> Path:
    if not os.environ.get("VISION_MODELS_DIR"):
        pytest.skip("VISION_MODELS_DIR is not set")
    media = Path(os.environ["VISION_MODELS_DIR"]).parent / "media" / "camera"
    if not media.is_dir():
        pytest.skip("no folder media/camera beside VISION_MODELS_DIR")
    return media


def movement(path: Path, step: int, first: int = 0, end: int | None = None) -> Movement:
    """Of every ``step``-th frame of a video."""
    with VideoReader(path) as reader:
        numbers = range(first, len(reader.times) if end is None else end, step)
        frames = []
        for number in numbers:
            pixels = reader.frame(number)
            scale = SIDE / max(pixels.shape)
            size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
            grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
            frames.append(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
        times = reader.times[list(numbers)].astype(np.float64)
    stage = CameraMotionEstimator(Config())
    stage.load()
    (motions,) = stage.predict_batch([FrameRun(np.stack(frames), times)])
    assert isinstance(motions, np.ndarray)
    return classify(motions, times, frames[0].shape[1] / frames[0].shape[0])


@pytest.mark.parametrize("step", [2, 3])
def test_a_pan(media: Path, step: int) -> None:
    shot = movement(media / "pan_153_105898.mp4", step)
    assert (shot.label, shot.direction) == ("pan_left", None)
    assert shot.pan == pytest.approx(-1.53, abs=0.05)
    assert abs(shot.tilt) < 0.12
    assert shot.intensity == pytest.approx(0.24, abs=0.02)
    assert shot.measured > 0.95


@pytest.mark.parametrize("step", [2, 3])
def test_a_tilt(media: Path, step: int) -> None:
    shot = movement(media / "tilt_4_65457.mp4", step)
    assert shot.label == "tilt_down"
    assert shot.tilt == pytest.approx(-0.535, abs=0.05)
    assert abs(shot.pan) < 0.08


def test_a_camera_that_stands_still(media: Path) -> None:
    shot = movement(media / "static_tree.avi", 1)
    assert (shot.label, shot.also) == ("static", ())
    assert max(abs(shot.pan), abs(shot.tilt), abs(shot.zoom), abs(shot.roll)) < 0.02
    assert shot.shake < 0.001


def test_a_part_of_a_pan_is_one_too(media: Path) -> None:
    for first in (20, 60, 100):
        shot = movement(media / "pan_153_105898.mp4", 2, first, first + 30)
        assert shot.label == "pan_left"
        assert shot.pan < -0.1
