"""How often the camera's movement is told right: ``python -m ops.bench.camera [PICTURES ...] [--out FOLDER]``.

A virtual camera pans, tilts, zooms, rolls, dollies, tracks, shakes and stands still over real pictures, see ``moves``;
the shots are encoded, decoded, looked at by shots/camera and named by ``classify``. Written are a confusion matrix, all
errors, and the speed of the stage against the bare Lucas-Kanade calls that it makes. PICTURES are files; without them,
those of ``media`` beside VISION_MODELS_DIR.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

from deployments.shots import camera
from deployments.shots.camera import Camera, FrameRun, motions
from ops.bench.moves import KINDS, make, sampled
from ops.bench.report import processor
from ops.bench.stage_speed import measure
from vision.images import Pixels, decode
from vision.shots.movement import Movement, classify

REPORTS = Path(__file__).parent / "reports"
MAX_PIXELS = 100_000_000
GLOBS = ("near_duplicates/base/*.jpg", "iqa/calibra_ref/*.bmp", "iqa/ava/*.jpg", "faces/*.jpg")
TOLD = tuple(kind for kind in KINDS if not kind.startswith("dolly"))
"""What geometry tells; the others need parallax."""
ROUNDS = 5


@dataclass(frozen=True)
class Answer:
    """What one shot was and what it was called."""

    kind: str
    note: str
    found: Movement

    @property
    def name(self) -> str:
        return f"{self.found.label} {self.found.direction}" if self.found.label == "roll" else self.found.label


def judged(job: tuple[str, int], pictures: Sequence[Pixels]) -> Answer:
    """One made-up shot, looked at."""
    cv2.setNumThreads(1)
    kind, seed = job
    clip = make(kind, pictures, np.random.default_rng(seed))
    run = sampled(clip)
    found = classify(motions(run.frames), run.times, run.frames.shape[2] / run.frames.shape[1])
    return Answer(kind, clip.note, found)


def answers(pictures: Sequence[Pixels], each: int, seed: int) -> list[Answer]:
    jobs = [(kind, seed + 1000 * place + number) for place, kind in enumerate(KINDS) for number in range(each)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(partial(judged, pictures=pictures), jobs, chunksize=4))


def share(found: Sequence[Answer]) -> float:
    """Of right answers."""
    return sum(answer.name == answer.kind for answer in found) / len(found)


def draw(found: Sequence[Answer], target: Path) -> None:
    """Rows are what the camera did, columns what it was said to do."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = [*KINDS, *sorted({answer.name for answer in found} - set(KINDS))]
    counts = np.zeros((len(KINDS), len(names)), int)
    for answer in found:
        counts[KINDS.index(answer.kind), names.index(answer.name)] += 1
    figure, plot = pyplot.subplots(figsize=(8.5, 7.5))
    plot.imshow(counts / counts.sum(1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        value = counts[row, column]
        right = row == column
        plot.text(column, row, value, ha="center", va="center", color="white" if right else "firebrick")
    plot.set_xticks(range(len(names)), names, rotation=45, ha="right")
    plot.set_yticks(range(len(KINDS)), KINDS)
    plot.set_xlabel("said")
    plot.set_ylabel("done")
    told = [answer for answer in found if answer.kind in TOLD]
    plot.set_title(f"{share(told):.1%} right of {len(told)} shots, dollies apart")
    figure.tight_layout()
    figure.savefig(target, dpi=100)
    pyplot.close(figure)


def table(found: Sequence[Answer]) -> list[str]:
    lines = ["| movement | shots | right | otherwise |", "|---|---|---|---|"]
    for kind in KINDS:
        of_kind = [answer for answer in found if answer.kind == kind]
        wrong = [answer.name for answer in of_kind if answer.name != kind]
        others = ", ".join(f"{name} {wrong.count(name)}" for name in sorted(set(wrong)))
        lines.append(f"| {kind} | {len(of_kind)} | {share(of_kind):.0%} | {others} |")
    return lines


def errors(found: Sequence[Answer]) -> list[str]:
    lines = ["| was | said | shot | shake | still | parallax |", "|---|---|---|---|---|---|"]
    for answer in found:
        if answer.name != answer.kind:
            moved = answer.found
            lines.append(
                f"| {answer.kind} | {answer.name} | {answer.note} "
                f"| {moved.shake:.4f} | {moved.still:.2f} | {moved.parallax:.2f} |"
            )
    return lines


def bare(frames: Sequence[np.ndarray[tuple[int, int], np.dtype[np.uint8]]]) -> None:
    """The Lucas-Kanade calls alone, there and back, of points that are already known."""
    window = (camera.WINDOW, camera.WINDOW)
    for before, after, points in zip(frames, frames[1:], map(_corners, frames), strict=False):
        end, _, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, winSize=window, maxLevel=camera.LEVELS)
        cv2.calcOpticalFlowPyrLK(after, before, end, None, winSize=window, maxLevel=camera.LEVELS)


_known: dict[int, camera.Points] = {}


def _corners(frame: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> camera.Points:
    return _known[id(frame)]


def speed(pictures: Sequence[Pixels]) -> list[str]:
    """Pairs of frames a second, the stage's functions against the bare calls, in turn, one thread."""
    cv2.setNumThreads(1)
    run = sampled(make("handheld", pictures, np.random.default_rng(5)))
    frames = list(run.frames)
    _known.update({id(frame): camera.corners(frame)[0] for frame in frames})
    whole, alone = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        bare(frames)
        between = time.perf_counter()
        motions(run.frames)
        alone.append(between - started)
        whole.append(time.perf_counter() - between)
    pairs = len(frames) - 1
    served = measure(Camera, [FrameRun(run.frames[:16], run.times[:16])] * 16)
    return [
        f"{pairs} pairs of {frames[0].shape[1]}x{frames[0].shape[0]}, one thread, best of {ROUNDS} in turn: bare "
        f"Lucas-Kanade there and back {pairs / min(alone):.0f} pairs/s, with corners, fit and measures "
        f"{pairs / min(whole):.0f} pairs/s, **{min(alone) / min(whole):.2f}** of it. Through the stage's runner, runs "
        f"of 15 pairs: {15 * served.served:.0f} pairs/s, {served.served / served.ceiling:.2f} of the same code in a "
        "loop with a thread a core.",
    ]


def report(pictures: Sequence[Pixels], each: int, seed: int, out: Path) -> str:
    found = answers(pictures, each, seed)
    draw(found, out / "camera.png")
    told = [answer for answer in found if answer.kind in TOLD]
    core = [answer for answer in told if answer.kind not in ("handheld", "tracking")]
    return "\n".join(
        [
            "# Camera movement",
            "",
            f"`{' '.join(['python -m ops.bench.camera', *sys.argv[1:]])}`, {date.today().isoformat()}; {processor()}; "
            f"opencv-python-headless {version('opencv-python-headless')}, numpy {version('numpy')}, "
            f"Python {platform.python_version()}.",
            "",
            f"{each} shots of each kind over {len(pictures)} pictures, 1 to 4 s, 12 to 60 fps, four frame sizes, 0.03 "
            "to 0.5 frame sizes a second (drawn evenly over the logarithm), even, eased or with a stop before and "
            "after, a third of them with a slight shake, grain up to σ 6, x264 with crf 18 to 33. Two of five still "
            "shots have a subject that walks through. A tracked subject takes 28 to 45 % of the width. Thresholds "
            "were set on shots of other seeds.",
            "",
            f"Pans, tilts, zooms, rolls and statics: **{share(core):.1%}** of {len(core)} right; with handheld and "
            f"tracking **{share(told):.1%}** of {len(told)}. "
            f"Over all, dollies included, {share(found):.1%} of {len(found)}.",
            "",
            "![confusion](camera.png)",
            "",
            *table(found),
            "",
            *NOTES,
            "",
            "## Errors",
            "",
            *errors(found),
            "",
            "## Speed",
            "",
            *speed(pictures),
            "",
        ]
    )


NOTES = (
    "What to make of it:",
    "",
    "- A dolly is a zoom with parallax. These are made from a picture with depths of 1 to 4, which change softly; "
    "where depth differs little or the camera goes slowly, a dolly is called a zoom, and the slowest are called static."
    " Strong noise and compression can make parallax of nothing, so a zoom is now and then called a dolly. Take the "
    "two names as a hint.",
    "- Tracking is seen by a subject with corners of its own that stays in the middle of the frame. A small, plain or "
    "blurred subject has none, and the shot is called a pan.",
    "- The pictures are flat: a camera that travels sideways was not made, and would be called a pan.",
)


def main() -> None:
    media = Path(os.environ.get("VISION_MODELS_DIR", "models")).parent / "media"
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pictures", type=Path, nargs="*", help="files")
    parser.add_argument("--each", type=int, default=30, help="shots of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder for camera.md and camera.png")
    options = parser.parse_args()
    paths = options.pictures or sorted(path for glob in GLOBS for path in media.glob(glob))
    if len(paths) < 2:
        parser.error("two pictures or more are needed, and none were given or found beside VISION_MODELS_DIR")
    pictures = [decode(path.read_bytes(), max_pixels=MAX_PIXELS) for path in paths]
    options.out.mkdir(parents=True, exist_ok=True)
    text = report(pictures, options.each, options.seed, options.out)
    print(text)
    (options.out / "camera.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
