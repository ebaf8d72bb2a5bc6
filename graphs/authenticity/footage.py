"""A video on disk, decoded on its own thread: single frames, and small ones in order, for following a face."""

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from deployments.serving.streams import on_thread
from graphs.authenticity.errors import UndecodableMedia
from graphs.authenticity.sampling import REACH, calm, middle_frames
from vision.errors import InvalidMedia
from vision.images import Pixels
from vision.media.decord_reader import Backend, open_reader
from vision.media.reader import StreamFacts
from vision.shots.hard_cuts import THUMBNAIL, ChangeMeter

T = TypeVar("T")

LONG_SIDE: Final = 960
"""Longer side in pixels of the frames in which a face is followed; larger frames are shrunk."""


class _Reader(Protocol):
    """What VideoReader and DecordReader have in common."""

    facts: StreamFacts
    times: NDArray[np.float64]

    def close(self) -> None: ...

    def frames(
        self, start: int, stop: int, step: int, size: tuple[int, int]
    ) -> Iterator[tuple[int, float, Pixels]]: ...

    def pictures(self, start: int, stop: int) -> Iterator[tuple[int, Any]]: ...

    def pixels(self, picture: Any, size: tuple[int, int] | None = None) -> Pixels: ...


class Footage:
    """Frames of a video on disk, decoded on a thread; use ``opened``."""

    def __init__(self, path: Path, backend: Backend) -> None:
        self._path = path
        self._backend = backend
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="authenticity-video")
        self._reader: _Reader | None = None

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
    def _open_reader(self) -> _Reader:
        assert self._reader is not None
        return self._reader
