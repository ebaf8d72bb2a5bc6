"""Decode a video once, chunk by chunk: every frame for its cuts, every few frames for faces and the camera.

A chunk is what one window of ``shots/cuts`` decides about, and starts at a multiple of its length, wherever decoding
starts. So the results do not depend on where a job resumed.

A shot is known only some frames after it ended. So the sharpest frame of about every second is kept as a JPEG, and
that before every sudden change of the picture too; which of them become keyframes is decided once all shots are known.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, BinaryIO, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from configs.settings import settings
from deployments.serving.streams import on_thread
from deployments.shots.camera import FrameRun
from stores.errors import StoreError
from stores.objects import ObjectNotFound, Objects
from vision.errors import MediaNotFound, StageUnavailable
from vision.images import Pixels
from vision.media.reader import StreamFacts, VideoReader
from vision.shots.hard_cuts import ChangeMeter
from vision.shots.keyframes import sharpness
from vision.shots.transitions import MARGIN, STRIDE, THUMBNAIL, Window, Windows

LONG_SIDE: Final = 1280
"""Pixels of the longer side of a frame in which faces are detected; larger frames are shrunk."""
GREY_SIDE: Final = 320
"""Pixels of the longer side of a frame in which the movement of the camera is measured."""
APART_S: Final = 0.08
MOST_APART: Final = 3
"""Frames from one sample to the next, at most: so nobody appears more than two frames before being detected."""
OBJECTS_APART_S: Final = 0.33
"""Objects are looked for in one frame of each stretch of this length, and in the first of a shot."""
KEYFRAME_SIDE: Final = 640
"""Pixels of the longer side of a keyframe, at most."""
KEYFRAME_QUALITY: Final = 88
KEYFRAMES_APART_S: Final = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Describe when the frames of a video are shown: ``times`` in seconds of every frame, float64[n].

    ``step`` is the number of frames from one sample to the next.
    """

    facts: StreamFacts
    times: NDArray[np.float64]
    step: int

    @classmethod
    def of(cls, reader: VideoReader) -> "Timeline":
        """Return that of an open video, sampled about every 0.08 s, and every third frame at least."""
        return cls(reader.facts, reader.times, max(1, min(MOST_APART, round(APART_S * reader.facts.fps))))

    def begins_stretch(self, frame: int) -> bool:
        """Return whether a frame is the first sample of a stretch of ``OBJECTS_APART_S``: wherever decoding began."""
        if frame % self.step or frame < self.step:
            return frame == 0
        before, now = self.times[frame - self.step] // OBJECTS_APART_S, self.times[frame] // OBJECTS_APART_S
        return bool(before != now)

    def end_of(self, frame: int) -> float:
        """Return when the next frame replaces this one, in seconds."""
        return float(self.times[frame + 1]) if frame + 1 < len(self.times) else self.facts.duration


@dataclass(frozen=True, slots=True, eq=False)
class FaceFrame:
    """A frame to detect faces in; ``scale``: pixels of the video for one of the image; ``begins``: it may be the first
    of a shot; ``objects``: they are looked for in it too."""

    frame: int
    image: Pixels
    scale: float
    begins: bool = False
    objects: bool = False


@dataclass(frozen=True, slots=True)
class KeyframeCandidate:
    """A frame that may become the keyframe of a shot; ``sharpness`` as by ``vision.shots.keyframes.sharpness``."""

    frame: int
    sharpness: float
    jpeg: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Frames from ``first`` to before ``end``, ``STRIDE`` of them unless it is the last chunk.

    ``window`` is for ``shots/cuts``, None where nothing changes in it; ``changes``: float32[end - first, 2],
    as from ``ChangeMeter``; ``run`` is for ``shots/camera``, of the frames ``sampled`` int64[n]. It begins one sample
    before the chunk, so that every movement that ends in the chunk can be measured.
    """

    first: int
    end: int
    window: Window | None
    changes: NDArray[np.float32]
    face_frames: tuple[FaceFrame, ...]
    sampled: NDArray[np.int64]
    run: FrameRun
    candidates: tuple[KeyframeCandidate, ...]


@dataclass(slots=True)
class _Draft:
    """A chunk in the making."""

    first: int
    changes: NDArray[np.float32]
    greys: list[tuple[int, NDArray[np.uint8]]]
    face_frames: list[FaceFrame] = field(default_factory=list)
    candidates: list[KeyframeCandidate] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.first + len(self.changes)


class _SharpestFrame:
    """Keep the sharpest of the frames that are offered in order, of each stretch of ``KEYFRAMES_APART_S``."""

    def __init__(self, reader: VideoReader) -> None:
        self._reader = reader
        self._size = size_within(reader.facts.width, reader.facts.height, KEYFRAME_SIDE)
        self._best: tuple[float, int, Any] | None = None
        self._until = float("-inf")

    def offer(self, frame: int, sharpness: float, picture: Any) -> None:
        if self._best is None:
            self._until = float(self._reader.times[frame]) + KEYFRAMES_APART_S
        if self._best is None or sharpness > self._best[0]:
            self._best = (sharpness, frame, picture)

    def stretch_ended(self, frame: int) -> bool:
        return self._best is not None and float(self._reader.times[frame]) >= self._until

    def take(self) -> list[KeyframeCandidate]:
        """Return the sharpest frame since the last call; none where none was offered."""
        if self._best is None:
            return []
        sharpness, frame, picture = self._best
        self._best = None
        return [KeyframeCandidate(frame, sharpness, encode_jpeg(self._reader.pixels(picture, self._size)))]


class ChunkDecoder:
    """Decode the chunks of one open video; use it on one thread at a time."""

    def __init__(self, reader: VideoReader) -> None:
        self._reader = reader
        self.timeline = Timeline.of(reader)

    def chunks(
        self, start: int = 0, *, faces: bool = True, objects: bool = False, still: bool = False
    ) -> Iterator[Chunk]:
        """Yield the chunks from frame ``start`` on, a multiple of ``STRIDE``.

        Their ``face_frames`` are those for ``faces``, else those for ``objects`` alone, else none. ``still``: with the
        windows in which nothing changes, which a low threshold needs.
        Every ``step`` frames are sampled, and the first and last frame of a shot. Damaged frames are left out. Raises
        InvalidMedia when the file cannot be read any further.
        """
        times, step = self.timeline.times, self.timeline.step
        last = len(times) - 1
        meter, windows, sharpest = ChangeMeter(), Windows(start, skip_still=not still), _SharpestFrame(self._reader)
        ready: dict[int, Window] = {}
        drafts = deque([self._draft(start, [])])
        before: tuple[int, Any, bool] | None = None
        for frame, picture in self._reader.pictures(max(0, start - MARGIN)):
            thumbnail = self._reader.pixels(picture, THUMBNAIL, "BICUBIC")  # as shots/cuts was trained
            ready |= {window.start: window for window in windows.add(frame, thumbnail)}
            change, sudden = meter.update(thumbnail), meter.sudden
            while frame >= drafts[-1].end:
                drafts[-1].candidates += sharpest.take()
                drafts.append(self._draft(drafts[-1].end, drafts[-1].greys[-1:]))
            draft = drafts[-1]
            sampled = frame % step == 0 or sudden or frame == last
            grey = self._reader.luminance(picture, self._size(GREY_SIDE)) if sampled else None
            if frame < start:  # decoded only for what comes after it
                draft.greys = draft.greys if grey is None else [(frame, grey)]
            else:
                draft.changes[frame - draft.first] = change
                if sudden or sharpest.stretch_ended(frame):
                    draft.candidates += sharpest.take()
                if faces and sudden and before is not None and not before[2]:
                    draft.face_frames.append(self._face_frame(before[0], before[1]))
                if (faces and sampled) or (objects and (sudden or self.timeline.begins_stretch(frame))):
                    draft.face_frames.append(self._face_frame(frame, picture, begins=sudden))
                if grey is not None:
                    draft.greys.append((frame, grey))
                    sharpest.offer(frame, sharpness(grey), picture)
            before = frame, picture, sampled
            while drafts[0].end + MARGIN <= frame + 1 and len(drafts) > 1:
                yield self._chunk(drafts.popleft(), ready)
        drafts[-1].candidates += sharpest.take()
        while drafts[-1].end <= last:  # what is damaged up to the end
            drafts.append(self._draft(drafts[-1].end, []))
        ready |= {window.start: window for window in windows.flush()}
        yield from (self._chunk(draft, ready) for draft in drafts)

    def object_chunks(self, start: int, begins: Collection[int]) -> Iterator[Chunk]:
        """Yield chunks as ``chunks`` does, which have nothing but the frames in which objects are looked for, and those
        by which the camera is followed.

        ``begins``: the first frames of shots. Raises InvalidMedia when the file cannot be read any further.
        """
        step, last = self.timeline.step, len(self.timeline.times) - 1
        draft = self._draft(start, [])
        for frame, picture in self._reader.pictures(max(0, start - step)):
            while frame >= draft.end:
                yield self._chunk(draft, {})
                draft = self._draft(draft.end, draft.greys[-1:])
            if frame % step == 0 or frame in begins or frame == last:
                greys = [] if frame < start else draft.greys  # before it only the last one counts
                draft.greys = [*greys, (frame, self._reader.luminance(picture, self._size(GREY_SIDE)))]
            if frame < start:
                continue
            if frame in begins or self.timeline.begins_stretch(frame):
                draft.face_frames.append(self._face_frame(frame, picture, begins=frame in begins))
        while True:
            yield self._chunk(draft, {})
            if draft.end >= len(self.timeline.times):
                return
            draft = self._draft(draft.end, draft.greys[-1:])

    def _draft(self, first: int, greys: list[tuple[int, NDArray[np.uint8]]]) -> _Draft:
        return _Draft(first, np.zeros((min(STRIDE, len(self.timeline.times) - first), 2), np.float32), greys)

    def _chunk(self, draft: _Draft, ready: dict[int, Window]) -> Chunk:
        numbers = [frame for frame, _ in draft.greys]
        height, width = self._size(GREY_SIDE)[::-1]
        return Chunk(
            first=draft.first,
            end=draft.end,
            window=ready.pop(draft.first, None),
            changes=draft.changes,
            face_frames=tuple(draft.face_frames),
            sampled=np.array(numbers, np.int64),
            run=FrameRun(
                np.array([grey for _, grey in draft.greys], np.uint8).reshape(-1, height, width),
                self.timeline.times[numbers],
            ),
            candidates=tuple(draft.candidates),
        )

    def _face_frame(self, frame: int, picture: Any, *, begins: bool = False) -> FaceFrame:
        size, facts = self._size(LONG_SIDE), self.timeline.facts
        scale = max(facts.width, facts.height) / max(size)
        objects = begins or self.timeline.begins_stretch(frame)
        return FaceFrame(frame, self._reader.pixels(picture, size), scale, begins, objects)

    def _size(self, side: int) -> tuple[int, int]:
        return size_within(self.timeline.facts.width, self.timeline.facts.height, side)


class VideoDecoder:
    """Decode a stored video chunk by chunk, on its own thread; get one by ``open``, and close it."""

    timeline: Timeline

    def __init__(self, objects: Objects, asset_id: str) -> None:
        self._objects = objects
        self._asset_id = asset_id
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="index-video")
        self._file: BinaryIO | None = None
        self._reader: VideoReader | None = None
        self._chunks: Iterator[Chunk] = iter(())

    @classmethod
    async def open(cls, objects: Objects, asset_id: str) -> "VideoDecoder":
        """Open a video of the object store.

        Raises MediaNotFound, InvalidMedia, and StageUnavailable when the object store does not answer.
        """
        decoder = cls(objects, asset_id)
        try:
            await decoder._run(decoder._open)
        except BaseException:
            await decoder.close()
            raise
        return decoder

    def start(self, frame: int, *, faces: bool = True, objects: bool = False, still: bool = False) -> None:
        """Have ``next`` go on from this frame, as ``ChunkDecoder.chunks`` does."""
        assert self._reader is not None
        self._chunks = ChunkDecoder(self._reader).chunks(frame, faces=faces, objects=objects, still=still)

    def start_objects(self, frame: int, begins: Collection[int]) -> None:
        """Have ``next`` go on from this frame, as ``ChunkDecoder.object_chunks`` does."""
        assert self._reader is not None
        self._chunks = ChunkDecoder(self._reader).object_chunks(frame, begins)

    async def next(self) -> Chunk | None:
        """Return the next chunk; None behind the last. Raises as ``open`` does."""
        return await self._run(lambda: next(self._chunks, None))

    async def close(self) -> None:
        """Free the decoder, once it has done what it is doing."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, function: Callable[[], T]) -> T:
        try:
            return await on_thread(self._thread, function)
        except ObjectNotFound:
            raise MediaNotFound("The file of this video is gone; upload it again.") from None
        except StoreError as error:
            raise StageUnavailable("The object store does not answer; try again soon.") from error

    def _open(self) -> None:
        self._file = self._objects.open(self._asset_id)
        self._reader = VideoReader(self._file, probed=True, decoder=settings().video_decoder)
        self.timeline = Timeline.of(self._reader)

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._file is not None:
            self._file.close()


def size_within(width: int, height: int, side: int) -> tuple[int, int]:
    """Return the width and height of a frame, shrunk to fit a square of ``side`` pixels where it does not."""
    scale = max(1.0, max(width, height) / side)
    return max(1, round(width / scale)), max(1, round(height / scale))


def encode_jpeg(pixels: Pixels) -> bytes:
    """Return RGB, uint8 (H, W, 3), as a JPEG."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=KEYFRAME_QUALITY)
    return file.getvalue()
