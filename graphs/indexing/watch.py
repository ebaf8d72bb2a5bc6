"""A pass over a stored video, on a thread of its own."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from deployments.serving.threads import on_thread
from graphs.indexing.passes import Chunk, VideoPass
from stores.documents import StoreError
from stores.objects import ObjectNotFound, Objects
from vision.errors import MediaNotFound, StageUnavailable
from vision.media.reader import StreamFacts, VideoReader


class Timeline:
    """When the frames of a video are shown."""

    facts: StreamFacts
    times: NDArray[np.float64]
    """Seconds of every frame."""
    step: int
    """Frames from one look to the next."""

    def end_of(self, frame: int) -> float:
        """When a frame makes way for the next, in seconds."""
        return float(self.times[frame + 1]) if frame + 1 < len(self.times) else self.facts.duration


class Watch(Timeline):
    """Decodes a video in order; use ``opened`` and close it."""

    def __init__(self, objects: Objects, asset_id: str) -> None:
        self._objects = objects
        self._asset_id = asset_id
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="index-video")
        self._file: BinaryIO | None = None
        self._reader: VideoReader | None = None
        self._chunks: Iterator[Chunk] = iter(())

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

    def start(self, frame: int, *, faces: bool = True) -> None:
        """Go on from this frame, as ``VideoPass.chunks`` does."""
        assert self._reader is not None
        self._chunks = VideoPass(self._reader).chunks(frame, faces=faces)

    async def next(self) -> Chunk | None:
        """The next chunk; None behind the last. Raises as ``opened`` does."""
        chunk: Chunk | None = await self._run(next, self._chunks, None)
        return chunk

    async def close(self) -> None:
        """Free the decoder, once it has done what it is doing."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, function: Any, *args: Any) -> Any:
        try:
            return await on_thread(self._thread, function, *args)
        except ObjectNotFound:
            raise MediaNotFound("The file of this video is gone; upload it again.") from None
        except StoreError as error:
            raise StageUnavailable("The object store does not answer; try again soon.") from error

    def _open(self) -> None:
        self._file = self._objects.open(self._asset_id)
        self._reader = VideoReader(self._file)
        self.facts, self.times = self._reader.facts, self._reader.times
        self.step = VideoPass(self._reader).step

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._file is not None:
            self._file.close()
