"""One pass over a video, chunk by chunk: every frame for its cuts, every few frames for faces and the camera.

A chunk is what one window of ``shots/cuts`` decides about, and starts at a multiple of its length, wherever the pass
starts. So what is found does not depend on where a job went on.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deployments.shots.camera import FrameRun
from graphs.indexing import candidates
from graphs.indexing.candidates import Candidate, Candidates
from vision.images import Pixels
from vision.media.reader import VideoReader
from vision.shots.hard_cuts import ChangeMeter
from vision.shots.keyframes import sharpness
from vision.shots.transitions import MARGIN, STRIDE, THUMBNAIL, Window, Windows

LONG_SIDE: Final = 1280
"""Pixels of a frame that faces are looked for in; larger ones are shrunk."""
GREY_SIDE: Final = 320
"""Pixels of a frame that the movement of the camera is measured in."""
APART_S: Final = 0.08
MOST_APART: Final = 3
"""Frames from one look to the next, at most: so nobody appears more than two frames before being seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A frame to look for faces in; ``scale``: pixels of the video for one of the image."""

    frame: int
    image: Pixels
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Frames from ``first`` to before ``end``, ``STRIDE`` of them unless it is the last one.

    ``window`` is for ``shots/cuts``, None where nothing can be told; ``changes``: float32[end - first, 2], as
    ``ChangeMeter`` says; ``run`` is for ``shots/camera``, of the frames ``sampled`` int64[n]. It begins one sample
    before the chunk, so that every movement that ends in the chunk can be measured.
    """

    first: int
    end: int
    window: Window | None
    changes: NDArray[np.float32]
    looks: tuple[Look, ...]
    sampled: NDArray[np.int64]
    run: FrameRun
    candidates: tuple[Candidate, ...]


@dataclass(slots=True)
class _Draft:
    """A chunk in the making."""

    first: int
    changes: NDArray[np.float32]
    greys: list[tuple[int, NDArray[np.uint8]]]
    looks: list[Look] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.first + len(self.changes)


class VideoPass:
    """Chunks of one open video; use it on one thread at a time."""

    def __init__(self, reader: VideoReader) -> None:
        self._reader = reader
        self.facts = reader.facts
        self.times = reader.times
        """Seconds of every frame."""

    @property
    def step(self) -> int:
        """Frames from one look to the next: about 0.08 s, at most three.

        The first and the last frame of a shot are looked at too.
        """
        return max(1, min(MOST_APART, round(APART_S * self.facts.fps)))

    def chunks(self, start: int = 0, *, faces: bool = True) -> Iterator[Chunk]:
        """Those from frame ``start`` on, a multiple of ``STRIDE``; without ``faces`` there are no looks.

        Of damaged frames nothing is found. Raises InvalidMedia when the file cannot be read on.
        """
        last, step = len(self.times) - 1, self.step
        meter, windows = ChangeMeter(), Windows(start)
        likely = Candidates(self._reader, self._size(candidates.SIDE))
        ready: dict[int, Window] = {}
        drafts = deque([self._draft(start, [])])
        before: tuple[int, Any, bool] | None = None
        for frame, picture in self._reader.pictures(max(0, start - MARGIN)):
            thumbnail = self._reader.pixels(picture, THUMBNAIL, "BICUBIC")  # as shots/cuts was trained
            ready |= {window.start: window for window in windows.see(frame, thumbnail)}
            change, sudden = meter.see(thumbnail), meter.sudden
            while frame >= drafts[-1].end:
                drafts[-1].candidates += likely.take()
                drafts.append(self._draft(drafts[-1].end, drafts[-1].greys[-1:]))
            draft = drafts[-1]
            sampled = frame % step == 0 or sudden or frame == last
            grey = self._reader.luminance(picture, self._size(GREY_SIDE)) if sampled else None
            if frame < start:  # looked at only for what comes after it
                draft.greys = draft.greys if grey is None else [(frame, grey)]
            else:
                draft.changes[frame - draft.first] = change
                if sudden or likely.ended(frame):
                    draft.candidates += likely.take()
                if faces and sudden and before is not None and not before[2]:
                    draft.looks.append(self._look(before[0], before[1]))
                if faces and sampled:
                    draft.looks.append(self._look(frame, picture))
                if grey is not None:
                    draft.greys.append((frame, grey))
                    likely.offer(frame, sharpness(grey), picture)
            before = frame, picture, sampled
            while drafts[0].end + MARGIN <= frame + 1 and len(drafts) > 1:
                yield self._whole(drafts.popleft(), ready)
        drafts[-1].candidates += likely.take()
        while drafts[-1].end <= last:  # what is damaged up to the end
            drafts.append(self._draft(drafts[-1].end, []))
        ready |= {window.start: window for window in windows.end()}
        yield from (self._whole(draft, ready) for draft in drafts)

    def _draft(self, first: int, greys: list[tuple[int, NDArray[np.uint8]]]) -> _Draft:
        return _Draft(first, np.zeros((min(STRIDE, len(self.times) - first), 2), np.float32), greys)

    def _whole(self, draft: _Draft, ready: dict[int, Window]) -> Chunk:
        numbers = [frame for frame, _ in draft.greys]
        height, width = self._size(GREY_SIDE)[::-1]
        return Chunk(
            first=draft.first,
            end=draft.end,
            window=ready.pop(draft.first, None),
            changes=draft.changes,
            looks=tuple(draft.looks),
            sampled=np.array(numbers, np.int64),
            run=FrameRun(
                np.array([grey for _, grey in draft.greys], np.uint8).reshape(-1, height, width),
                self.times[numbers],
            ),
            candidates=tuple(draft.candidates),
        )

    def _look(self, frame: int, picture: Any) -> Look:
        size = self._size(LONG_SIDE)
        scale = max(self.facts.width, self.facts.height) / max(size)
        return Look(frame, self._reader.pixels(picture, size), scale)

    def _size(self, side: int) -> tuple[int, int]:
        return candidates.size_of(self.facts, side)
