"""The frames of a video by decord, behind the interface of ``VideoReader``.

decord gives other frames than asked for on MPEG-TS, trimmed files and open GOPs, decodes ahead without a limit, and
ends its process on some damaged files. So it gets only videos that the packet index shows to be safe, in a process
that is stopped while nobody waits for it and killed when it takes too long.
"""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from pathlib import Path
from typing import Final

import numpy as np

from vision.errors import InvalidInput, ProcessingFailed
from vision.images import Pixels
from vision.media.container import TIMEOUT_S
from vision.media.plan import FrameOutOfRange
from vision.media.reader import VideoReader

BATCH: Final = 8
"""Frames of one request to the process."""
SAFE_CODECS: Final = {"h264", "hevc", "vp8", "vp9", "mpeg4", "mjpeg"}
SAFE_FORMATS: Final = {"yuv420p", "yuvj420p"}
TOLERANCE_S: Final = 1e-3


class UnsafeForDecord(InvalidInput):
    """decord may give wrong frames of this video; VideoReader does not."""


class DecordReader:
    """Frames of one video file; as VideoReader, but for whole files on disk only.

    Raises InvalidMedia, UnsafeForDecord, and ProcessingFailed when decord's process dies or takes ``timeout_s``.
    """

    def __init__(self, source: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path = source
        self._timeout_s = timeout_s
        with VideoReader(source, timeout_s=timeout_s) as reader:
            reasons = unsafe(reader) + ["it is fragmented"] * is_fragmented(source)
            if reasons:
                raise UnsafeForDecord(f"decord is not to be trusted with this video: {', '.join(reasons)}.")
            self.facts, self.times = reader.facts, reader.times

    def __enter__(self) -> "DecordReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is kept open between calls."""

    def frame(self, number: int) -> Pixels:
        """As VideoReader."""
        if not 0 <= number < len(self.times):
            raise FrameOutOfRange.of(number, len(self.times) - 1)
        return next(self.frames(number, number + 1))[2]

    def frames(
        self, start: int = 0, stop: int | None = None, step: int = 1, size: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, float, Pixels]]:
        """As VideoReader; with a ``size``, pixels differ a little, as decord scales by another filter."""
        numbers = range(len(self.times))[start:stop:step]
        with _process(self._path, size, self._timeout_s) as process:
            times = process.receive()
            if len(times) != len(self.times) or np.abs(np.asarray(times) - times[0] - self.times).max() > TOLERANCE_S:
                raise UnsafeForDecord("decord tells other times of this video's frames than its packets do.")
            for place in range(0, len(numbers), BATCH):
                batch = numbers[place : place + BATCH]
                for number, pixels in zip(batch, process.pixels(list(batch)), strict=True):
                    yield number, float(self.times[number]), pixels


def unsafe(reader: VideoReader) -> list[str]:
    """Why decord may give other frames of this video than ``reader`` does; empty when nothing is known against it."""
    index, facts = reader.index, reader.facts
    found = {
        "its frames do not tell their times": index.counted,
        "an edit list leaves frames out": index.discarded > 0,
        "it has open GOPs": index.open_gop,
        "it is turned": reader.orientation.turns,
        f"its container is {reader.container}": reader.container not in ("mov", "matroska"),
        f"its codec is {facts.codec}": facts.codec not in SAFE_CODECS,
        f"its pixels are {facts.pixel_format}": facts.pixel_format not in SAFE_FORMATS,
    }
    return [reason for reason, holds in found.items() if holds]


def is_fragmented(path: Path) -> bool:
    """Whether a file is MP4 in fragments, each with a list of its own packets."""
    with path.open("rb") as file:
        place = 0
        while len(head := file.read(16)) >= 8:
            size, kind = int.from_bytes(head[:4]), head[4:8]
            if kind == b"moof":
                return True
            if size == 1:
                size = int.from_bytes(head[8:])
            if size < 8:  # up to the end of the file, or no box at all
                return False
            place += size
            file.seek(place)
    return False


@contextmanager
def _process(path: Path, size: tuple[int, int] | None, timeout_s: float) -> Iterator["_Process"]:
    process = _Process(path, size or (-1, -1), timeout_s)
    try:
        yield process
    finally:
        process.end()


class _Process:
    """decord with one video open."""

    def __init__(self, path: Path, size: tuple[int, int], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._pipe, theirs = Pipe()
        child = Path(__file__).with_name("decord_child.py")
        self._popen = subprocess.Popen(  # noqa: S603 (a file of ours, under this interpreter)
            [sys.executable, "-P", str(child), str(theirs.fileno()), str(path), *map(str, size)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()

    def pixels(self, numbers: list[int]) -> Pixels:
        """uint8 (n, H, W, 3)."""
        self._popen.send_signal(signal.SIGCONT)
        with self._limited():
            self._pipe.send(numbers)
            shape = self._pipe.recv()
            return np.frombuffer(self._pipe.recv_bytes(), np.uint8).reshape(shape)

    def receive(self) -> list[float]:
        """The times of all frames in seconds, told once it has started."""
        with self._limited():
            times: list[float] = self._pipe.recv()
        return times

    def end(self) -> None:
        """Kill it."""
        self._popen.kill()
        self._popen.wait()
        self._pipe.close()

    @contextmanager
    def _limited(self) -> Iterator[None]:
        timer = threading.Timer(self._timeout_s, self._popen.kill)
        timer.start()
        try:
            yield
        except (EOFError, OSError):
            raise ProcessingFailed("decord ended or took too long on this video; read it by PyAV.") from None
        finally:
            timer.cancel()
            # While the caller looks at these frames, it would fill the memory with those that follow.
            self._popen.send_signal(signal.SIGSTOP)
