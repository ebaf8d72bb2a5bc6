"""A video on disk, decoded on a thread of its own: single frames, and a row of small ones."""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from deployments.serving.streams import on_thread
from graphs.authenticity.errors import UndecodableMedia
from graphs.authenticity.sampling import REACH, calm, stretch
from vision.errors import InvalidMedia
from vision.images import Pixels
from vision.media.reader import StreamFacts, VideoReader
from vision.shots.hard_cuts import THUMBNAIL, ChangeMeter

T = TypeVar("T")

LONG_SIDE: Final = 960
"""Pixels of a frame in which a face is followed; larger ones are shrunk."""


class Footage:
    """Use ``opened``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="authenticity-video")
        self._reader: VideoReader | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path) -> AsyncIterator["Footage"]:
        """Raises UndecodableMedia."""
        footage = cls(path)
        try:
            await footage._run(footage._open)
            yield footage
        finally:
            # It waits for a frame that is being decoded, on the thread of the decoder.
            footage._thread.submit(footage._close)
            footage._thread.shutdown(wait=False)

    @property
    def facts(self) -> StreamFacts:
        """Of the video stream."""
        return self._open_reader.facts

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds of every frame."""
        return self._open_reader.times

    async def frame_near(self, number: int) -> tuple[int, Pixels] | None:
        """A frame at or near this one that is no neighbour of a cut, and its number; None where all are damaged."""
        return await self._run(lambda: self._near(number))

    async def row(self) -> AsyncIterator[tuple[float, Pixels]]:
        """Time and pixels of the frames in which a face is followed."""
        first, behind, step = stretch(self.times)
        facts = self.facts
        scale = max(1.0, max(facts.width, facts.height) / LONG_SIDE)
        size = round(facts.width / scale), round(facts.height / scale)
        frames = self._open_reader.frames(first, behind, step, size)
        while (found := await self._run(lambda: next(frames, None))) is not None:
            yield found[1], found[2]

    def _near(self, number: int) -> tuple[int, Pixels] | None:
        reader = self._open_reader
        first = max(0, number - REACH)
        meter, held, changes = ChangeMeter(), [], []
        for place, picture in reader.pictures(first, number + REACH + 1):
            held.append((place, picture))
            changes.append(meter.see(reader.pixels(picture, THUMBNAIL))[0])
        if not held:
            return None
        middle = min(range(len(held)), key=lambda index: abs(held[index][0] - number))
        place, picture = held[calm(np.array(changes, np.float64), middle)]
        return place, reader.pixels(picture)

    async def _run(self, function: Callable[[], T]) -> T:
        try:
            return await on_thread(self._thread, function)
        except InvalidMedia as error:
            raise UndecodableMedia(error.message) from error

    def _open(self) -> None:
        self._reader = VideoReader(self._path)

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    @property
    def _open_reader(self) -> VideoReader:
        assert self._reader is not None
        return self._reader
