"""The frames of a video by decord, behind the interface of ``VideoReader``.

decord returns other frames than asked for on MPEG-TS, trimmed files and open GOPs, decodes ahead without a limit, and
aborts its process on some damaged files. So it only gets videos that the packet index shows to be safe, in a child
process that is stopped between requests and killed when one takes too long.

At sampling it is slower than PyAV (ops/bench/reports/sampling.md), so it reads only where a setting selects it.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np

from vision.child import Allowance, Child
from vision.errors import (
    DeadlineExceeded,
    InvalidInput,
    InvalidMedia,
    MediaTooLarge,
    ProcessingFailed,
    StageUnavailable,
)
from vision.images import Pixels
from vision.media import decord_child
from vision.media.claims import top_boxes
from vision.media.container import TIMEOUT_S
from vision.media.plan import FrameOutOfRange
from vision.media.reader import VideoReader
from vision.media.render import BT601, matrix_of

Backend = Literal["pyav", "decord"]
T = TypeVar("T")

BATCH: Final = 8
"""Frames of one call of the process."""
THREADS: Final = 2
SAFE_CODECS: Final = {"h264", "hevc", "vp8", "vp9", "mpeg4", "mjpeg"}
SAFE_FORMATS: Final = {"yuv420p", "yuvj420p"}
TOLERANCE_S: Final = 1e-3


class UnsafeForDecord(InvalidInput):
    """decord may return wrong frames of this video; VideoReader does not."""


class DecordReader:
    """Frames of one video file on disk, as by VideoReader; use it on one thread at a time, and close it.

    Raises InvalidMedia, UnsafeForDecord, and ProcessingFailed when decord's process dies or takes ``timeout_s``.
    """

    def __init__(self, source: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path = source
        self._timeout_s = timeout_s
        self._child: Child | None = None
        with VideoReader(source, timeout_s=timeout_s, probed=True) as reader:
            if reasons := decord_objections(reader, source):
                raise UnsafeForDecord(f"decord cannot be trusted with this video: {', '.join(reasons)}.")
            self.facts, self.times = reader.facts, reader.times

    def __enter__(self) -> "DecordReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill decord's process."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def frame(self, number: int) -> Pixels:
        """Return RGB, uint8 (H, W, 3). Raises FrameOutOfRange."""
        if not 0 <= number < len(self.times):
            raise FrameOutOfRange.of(number, len(self.times) - 1)
        return next(self.pictures(number, number + 1))[1]

    def frames(
        self, start: int = 0, stop: int | None = None, step: int = 1, size: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, float, Pixels]]:
        """Yield number, time and RGB pixels of every ``step``-th frame from ``start`` to before ``stop``.

        ``size`` is (width, height) of the result.
        """
        for number, picture in self.pictures(start, stop, step):
            yield number, float(self.times[number]), self.pixels(picture, size)

    def pictures(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[tuple[int, Pixels]]:
        """Yield number and RGB pixels in full size of the same frames as ``frames``."""
        numbers = range(len(self.times))[start:stop:step]
        for place in range(0, len(numbers), BATCH):
            batch = list(numbers[place : place + BATCH])
            yield from zip(batch, self._batch(batch), strict=True)

    @staticmethod
    def pixels(picture: Pixels, size: tuple[int, int] | None = None) -> Pixels:
        """Return a picture of this reader, resized to ``size``, (width, height), if given."""
        import cv2

        if size is None:
            return picture
        resized: Pixels = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return resized

    def _batch(self, numbers: list[int]) -> Iterable[Pixels]:
        pixels = self._call(self._started(), decord_child.pixels, numbers)
        if pixels is not None and pixels.shape[1:3] == (self.facts.height, self.facts.width):
            return pixels
        with VideoReader(
            self._path, timeout_s=self._timeout_s, probed=True
        ) as reader:  # the pictures change their size
            return [reader.frame(number) for number in numbers]

    def _started(self) -> Child:
        if self._child is None:
            self._child = Child()
            times = np.asarray(self._call(self._child, decord_child.open_video, str(self._path), THREADS))
            if len(times) != len(self.times) or np.abs(times - times[0] - self.times).max() > TOLERANCE_S:
                raise UnsafeForDecord("decord gives other times for this video's frames than its packets do.")
        return self._child

    def _call(self, child: Child, function: Callable[..., T], *args: Any) -> T:
        child.ends = time.monotonic() + self._timeout_s
        try:
            if child.ready:
                return child.call(Allowance(self._timeout_s * THREADS, decord_child.MEMORY_BYTES), function, *args)
        except (DeadlineExceeded, InvalidMedia, MediaTooLarge, StageUnavailable):
            pass
        finally:
            # While the caller works on these frames, it would fill the memory with those that follow.
            child.pause()
        raise ProcessingFailed("decord ended or took too long on this video; read it by PyAV.")


def open_reader(path: Path, backend: Backend = "pyav") -> VideoReader | DecordReader:
    """Return a reader of a probed video on disk: by decord where it is chosen and safe, else by PyAV.

    Raises InvalidMedia.
    """
    if backend == "decord":
        try:
            return DecordReader(path)
        except UnsafeForDecord:
            pass
    return VideoReader(path, probed=True)


def decord_objections(reader: VideoReader, path: Path) -> list[str]:
    """Return why decord may return other frames of a video than ``reader`` does; empty when it is safe."""
    index, facts, first = reader.index, reader.facts, reader.picture(0)
    objections = {
        "its frames have no stored times": index.counted,
        "an edit list leaves frames out": index.discarded > 0,
        "it has open GOPs": index.open_gop,
        "it is rotated or mirrored": reader.renderer.orientation.turns,
        "its pixels are not square": reader.renderer.resizes(first),
        "it is interlaced": reader.interlaced,
        "its colours are not those of sRGB": reader.renderer.changes_colours(first),
        # decord takes that of BT.601 for every video that names none.
        "it does not name its colour matrix": matrix_of(first) not in (BT601, first.colorspace),
        f"its container is {reader.container}": reader.container not in ("mov", "matroska"),
        "it is fragmented": is_fragmented(path),
        f"its codec is {facts.codec}": facts.codec not in SAFE_CODECS,
        f"its pixels are {facts.pixel_format}": facts.pixel_format not in SAFE_FORMATS,
    }
    return [reason for reason, holds in objections.items() if holds]


def is_fragmented(path: Path) -> bool:
    """Return whether a file is MP4 in fragments, each with an index of its own."""
    with path.open("rb") as file:
        return any(kind == b"moof" for kind, _, _ in top_boxes(file))
