"""Twenty short films for the bulk benchmark: people composed of photographs, and pieces of real videos."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from ops.bench.film import people_of, portraits, write
from ops.bench.indexing import FPS, Cast, planned
from vision.media.reader import VideoReader

COMPOSED = 10
SIZE = (960, 540)
PHOTOS = 12
"""Photographs that heads are cut out of."""


def make(folder: Path, photos: Path, videos: Sequence[Path], count: int, frames: int) -> int:
    """Write ``count`` films of about ``frames`` frames each; how many frames they have in all.

    Those that are there already are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if there := [*folder.iterdir()]:
        return sum(map(_frames, there))
    people = [names[:3] for names in people_of(photos / "master.csv")[: PHOTOS // 3]]
    heads = portraits(photos, [name for names in people for name in names])
    cast = Cast({chr(ord("A") + number): names for number, names in enumerate(people)}, heads)
    composed = min(COMPOSED, count)
    for number in range(composed):
        shots = planned(np.random.default_rng(number), cast, max(1, frames // FPS))
        write(folder / f"people-{number:02d}.mp4", shots, heads, SIZE, FPS, number)
    for number in range(count - composed):
        video = videos[number % len(videos)]
        piece(video, folder / f"real-{number:02d}.mp4", number // len(videos), frames)
    return sum(_frames(path) for path in folder.iterdir())


def piece(video: Path, target: Path, number: int, frames: int) -> None:
    """Encode the ``number``-th stretch of so many frames anew; the last one that is there, where there are fewer."""
    with VideoReader(video) as reader, av.open(str(target), "w", format="mp4") as output:
        facts = reader.facts
        start = min(number * frames, max(0, facts.frame_count - frames))
        stream = output.add_stream("libx264", rate=round(facts.fps), options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height = facts.width // 2 * 2, facts.height // 2 * 2
        stream.pix_fmt = "yuv420p"
        output.metadata["comment"] = f"piece {number}"  # where a video is too short, its pieces are not the same file
        for _, picture in reader.pictures(start, start + frames):
            pixels = reader.pixels(picture)[: stream.height, : stream.width]
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        output.mux(stream.encode())


def _frames(path: Path) -> int:
    with VideoReader(path) as reader:
        return reader.facts.frame_count
