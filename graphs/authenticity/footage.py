"""Which frames of a video are judged, and a video on disk, decoded on its own thread."""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from deployments.serving.streams import on_thread
from graphs.authenticity.errors import UndecodableMedia
from vision.errors import InvalidMedia
from vision.images import Pixels
from vision.media.decord_reader import Backend, DecordReader, open_reader
from vision.media.reader import StreamFacts, VideoReader
from vision.shots.hard_cuts import LEAST, RATIO, THUMBNAIL, ChangeMeter

T = TypeVar("T")

REACH: Final = 3
"""Frames on either side of a chosen one that are compared with it, to find cuts."""
FOLLOW_S: Final = 10.0
"""Seconds in the middle of the video in which a face is followed."""
FOLLOW_RATE: Final = 10.0
"""Frames a second in which it is followed."""
LONG_SIDE: Final = 960
"""Longer side in pixels of the frames in which a face is followed; larger frames are shrunk."""


def evenly(count: int, wanted: int) -> list[int]:
    """Return the middle frames of ``wanted`` equal parts of ``count`` frames, or all frames if they are fewer."""
    wanted = min(count, wanted)
    return [int((place + 0.5) * count / wanted) for place in range(wanted)]


def calm(changes: NDArray[np.float64], middle: int) -> int:
    """Return the place among neighbouring frames of the one to judge: ``middle``, or the nearest one not at a cut.

    ``changes``: of each frame from the one before, 0-1; that of the first is 0. A cut is a change far above the others;
    the frames on both sides of it are left out, as codecs smear them.
    """
    others = np.sort(changes)[:-1].mean() if len(changes) > 1 else 0.0
    cuts = np.flatnonzero((changes >= LEAST) & (changes >= RATIO * others))
    near = {place + side for place in cuts.tolist() for side in (-1, 0)}
    free = [place for place in range(len(changes)) if place not in near]
    return min(free, key=lambda place: (abs(place - middle), place)) if free else middle


def middle_frames(times: NDArray[np.float64]) -> tuple[int, int, int]:
    """Return first frame, frame behind the last, and step of the frames in which a face is followed."""
    end = float(times[-1])
    start = max(0.0, end / 2 - FOLLOW_S / 2)
    first, behind = np.searchsorted(times, [start, start + FOLLOW_S], side="left")
    seconds = float(times[behind - 1] - times[first])
    rate = (behind - first - 1) / seconds if seconds > 0 else 0.0
    return int(first), int(behind), max(1, round(rate / FOLLOW_RATE))


class Footage:
    """Frames of a video on disk, decoded on a thread; use ``opened``."""

    def __init__(self, path: Path, backend: Backend) -> None:
        self._path = path
        self._backend = backend
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="authenticity-video")
        self._reader: VideoReader | DecordReader | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path, backend: Backend = "pyav") -> AsyncIterator["Footage"]:
        """Open a video. Raises UndecodableMedia."""
        footage = cls(path, backend)
        try:
            await footage._run(footage._open)
            yield footage
        finally:
            # This waits for a frame that is being decoded, on the thread of the decoder.
            footage._thread.submit(footage._close)
            footage._thread.shutdown(wait=False)

    @property
    def facts(self) -> StreamFacts:
        """Facts of the video stream."""
        return self._open_reader.facts

    @property
    def times(self) -> NDArray[np.float64]:
        """Start of every frame in seconds, float64 (n,)."""
        return self._open_reader.times

    async def frame_near(self, number: int) -> tuple[int, Pixels] | None:
        """Return number and pixels of a frame at or near this one, not beside a cut; None where all are damaged."""
        return await self._run(lambda: self._near(number))

    async def face_frames(self) -> AsyncIterator[tuple[float, Pixels]]:
        """Yield time and pixels of the frames in which a face is followed."""
        first, behind, step = middle_frames(self.times)
        facts = self.facts
        scale = max(1.0, max(facts.width, facts.height) / LONG_SIDE)
        size = round(facts.width / scale), round(facts.height / scale)
        frames = self._open_reader.frames(first, behind, step, size)
        while (frame := await self._run(lambda: next(frames, None))) is not None:
            yield frame[1], frame[2]

    def _near(self, number: int) -> tuple[int, Pixels] | None:
        reader = self._open_reader
        first = max(0, number - REACH)
        meter, near, changes = ChangeMeter(), [], []
        for frame, picture in reader.pictures(first, number + REACH + 1):
            near.append((frame, picture))
            changes.append(meter.see(reader.pixels(picture, THUMBNAIL))[0])
        if not near:
            return None
        middle = min(range(len(near)), key=lambda index: abs(near[index][0] - number))
        frame, picture = near[calm(np.array(changes, np.float64), middle)]
        return frame, reader.pixels(picture)

    async def _run(self, function: Callable[[], T]) -> T:
        try:
            return await on_thread(self._thread, function)
        except InvalidMedia as error:
            raise UndecodableMedia(error.message) from error

    def _open(self) -> None:
        self._reader = open_reader(self._path, self._backend)

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    @property
    def _open_reader(self) -> VideoReader | DecordReader:
        assert self._reader is not None
        return self._reader
