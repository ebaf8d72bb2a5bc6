"""One pass over a stored video: every frame for its cuts, every few frames for its faces."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from deployments.analysis.cuts import LASTING, THUMBNAIL, ChangeMeter
from deployments.errors import MediaNotFound, StageUnavailable
from deployments.images import Pixels
from deployments.media.reader import StreamFacts, VideoReader
from ops.stores.documents import StoreError
from ops.stores.objects import ObjectNotFound, Objects

LONG_SIDE: Final = 1280
"""Pixels of a frame that faces are looked for in; larger ones are shrunk."""
APART_S: Final = 0.08
MOST_APART: Final = 3
"""Frames from one look to the next, at most: so nobody appears more than two frames before being seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A frame to look for faces in; ``scale``: pixels of the video for one of the image."""

    frame: int
    image: Pixels
    scale: float


class Watch:
    """Decodes a video in order, on a thread of its own; use ``opened`` and close it."""

    facts: StreamFacts
    times: NDArray[np.float64]
    """Seconds of every frame."""
    changes: NDArray[np.float32]
    """float32[frames, 2], as ``ChangeMeter`` says; 0 for frames that were not reached or are damaged."""

    def __init__(self, objects: Objects, asset_id: str) -> None:
        self._objects = objects
        self._asset_id = asset_id
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="index-video")
        self._file: BinaryIO | None = None
        self._reader: VideoReader | None = None
        self._looks: Iterator[Look] = iter(())

    @classmethod
    async def opened(cls, objects: Objects, asset_id: str) -> "Watch":
        """Raises MediaNotFound, InvalidMedia, and StageUnavailable when the object store does not answer."""
        watch = cls(objects, asset_id)
        try:
            await watch._run(watch._open)
        except BaseException:
            await watch.close()
            raise
        return watch

    @property
    def step(self) -> int:
        """Frames from one look to the next: about 0.08 s, at most three.

        The first and the last frame of a shot are looked at too.
        """
        return max(1, min(MOST_APART, round(APART_S * self.facts.fps)))

    def start(self, frame: int) -> None:
        """Go on from this frame, which has to be a multiple of ``step``."""
        self._looks = self._watch(frame)

    async def next(self) -> Look | None:
        """The next look; None behind the last. Raises as ``opened`` does."""
        look: Look | None = await self._run(next, self._looks, None)
        return look

    async def close(self) -> None:
        """Free the decoder, once it has done what it is doing."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, function: Any, *args: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
        except ObjectNotFound:
            raise MediaNotFound("The file of this video is gone; upload it again.") from None
        except StoreError as error:
            raise StageUnavailable("The object store does not answer; try again soon.") from error

    def _open(self) -> None:
        self._file = self._objects.open(self._asset_id)
        self._reader = VideoReader(self._file)
        self.facts, self.times = self._reader.facts, self._reader.times
        self.changes = np.zeros((len(self.times), 2), np.float32)

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._file is not None:
            self._file.close()

    def _watch(self, start: int) -> Iterator[Look]:
        assert self._reader is not None
        meter, last = ChangeMeter(), len(self.times) - 1
        before: tuple[int, Any] | None = None
        # From a few frames before, so that the first changes have something to be measured from.
        for frame, picture in self._reader.pictures(max(0, start - LASTING)):
            change = meter.see(self._reader.pixels(picture, THUMBNAIL))
            if frame < start:
                continue
            self.changes[frame] = change
            if meter.sudden and before is not None and before[0] % self.step:
                yield self._look(*before)
            if frame % self.step == 0 or meter.sudden or frame == last:
                yield self._look(frame, picture)
            before = frame, picture

    def _look(self, frame: int, picture: Any) -> Look:
        assert self._reader is not None
        scale = max(1.0, max(self.facts.width, self.facts.height) / LONG_SIDE)
        size = round(self.facts.width / scale), round(self.facts.height / scale)
        return Look(frame, self._reader.pixels(picture, size), scale)
