"""Compose films of real pictures and videos, with cuts, dissolves and fades at known frames.

Shots of photographs pan slowly, with grain; shots of videos are stretches without a cut. All films are H.264, so labels
are what a person would see, not what was put in.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels, decode
from vision.media.reader import VideoReader

Kind = Literal["cut", "dissolve", "fade"]
SIZE: Final = (320, 180)
FPS: Final = 25
LEVELS: Final = (0, 0, 0, 255)
"""Levels that fades go through: black, and white one time in four."""


@dataclass(frozen=True, slots=True)
class Label:
    """A transition: ``first``, the last frame of the old shot alone, and ``last``, the first of the new one alone."""

    first: int
    last: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Sources:
    """``photographs`` to pan over; ``stretches``: (video, first frame, number of frames)."""

    photographs: Sequence[Path]
    stretches: Sequence[tuple[Path, int, int]]


def write(path: Path, sources: Sources, kinds: Sequence[Kind], seed: int) -> list[Label]:
    """Encode a film with a transition of each kind, one after the other, and return their labels."""
    import av

    rng = np.random.default_rng(seed)
    # In another order for each film, so that no shot is followed by one of the same picture.
    order = rng.permutation(len(sources.photographs)), rng.permutation(len(sources.stretches))
    shots = [_shot(rng, sources, order, number) for number in range(len(kinds) + 1)]
    labels: list[Label] = []
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for pixels in _joined(rng, shots, kinds, labels):
            frame = av.VideoFrame.from_ndarray(pixels.clip(0, 255).round().astype(np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return labels


def _joined(
    rng: np.random.Generator, shots: Sequence[Pixels], kinds: Sequence[Kind], labels: list[Label]
) -> Iterator[NDArray[np.float32]]:
    written = 0
    shot = shots[0].astype(np.float32)
    for kind, following in zip(kinds, shots[1:], strict=True):
        after = following.astype(np.float32)
        # Shots have 46 frames at least: twenty at either end may be mixed.
        length = {"cut": 0, "dissolve": int(rng.integers(8, 21)), "fade": int(rng.integers(6, 16))}[kind]
        hold = int(rng.integers(0, 7)) if kind == "fade" else 0
        level = float(rng.choice(LEVELS))
        body = shot[: len(shot) - length]
        yield from body
        written += len(body)
        first = written - 1
        share = np.linspace(0, 1, length + 2, dtype=np.float32)[1:-1, None, None, None]
        if kind == "dissolve":
            mixed = shot[len(body) :] * (1 - share) + after[:length] * share
        elif kind == "fade":
            out = shot[len(body) :] * (1 - share) + level * share
            mixed = np.concatenate([out, np.full((hold, *out.shape[1:]), level), after[:length] * share])
            mixed[len(out) + hold :] += level * (1 - share)
        else:
            mixed = shot[:0]
        yield from mixed
        written += len(mixed)
        labels.append(Label(first, written, kind))
        shot = after[length:]
    yield from shot


def _shot(
    rng: np.random.Generator, sources: Sources, order: tuple[NDArray[np.int64], NDArray[np.int64]], number: int
) -> Pixels:
    length = int(rng.integers(46, 90))
    if number % 3 == 2:
        path, start, frames = sources.stretches[order[1][number // 3 % len(order[1])]]
        length = min(length, frames)
        begin = start + int(rng.integers(frames - length + 1))
        with VideoReader(path) as reader:
            return np.stack([pixels for _, _, pixels in reader.frames(begin, begin + length, size=SIZE)])
    return _moved(rng, sources.photographs[order[0][number % len(order[0])]], length)


def _moved(rng: np.random.Generator, path: Path, length: int) -> Pixels:
    """Pan and zoom over a photograph, no faster than a camera would."""
    import cv2

    photograph = decode(path.read_bytes(), max_pixels=60_000_000)
    height, width = photograph.shape[:2]
    sizes = np.linspace(rng.uniform(0.55, 0.9), rng.uniform(0.55, 0.9), length)
    centres = np.linspace(rng.uniform(0.4, 0.6, 2), rng.uniform(0.4, 0.6, 2), length)
    widest = min(width, height * SIZE[0] / SIZE[1])
    frames = []
    for size, (x, y) in zip(sizes, centres, strict=True):
        scale = SIZE[0] / (widest * size)
        matrix = np.array([[scale, 0, SIZE[0] / 2 - scale * x * width], [0, scale, SIZE[1] / 2 - scale * y * height]])
        frame = cv2.warpAffine(photograph, matrix, SIZE, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
        frames.append((frame + rng.normal(0, 3, frame.shape)).clip(0, 255).astype(np.uint8))
    return np.stack(frames)
