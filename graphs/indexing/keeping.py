"""Keeps what is found in a video part by part, with a checkpoint at each, so that a job that is killed can go on."""

import asyncio
from collections.abc import Sequence
from typing import Final

from graphs.indexing.candidates import Candidate
from graphs.indexing.findings import Findings
from graphs.indexing.parts import Parts
from graphs.jobs.runner import JobContext
from graphs.web.context import Context
from graphs.web.uploads.library import Library
from vision.errors import MediaNotFound
from vision.shots.transitions import STRIDE

PART_S: Final = 10.0
"""Seconds of video between checkpoints."""
WATCHED: Final = 0.95
"""Share of the progress bar that looking at frames gets."""


def span_of(fps: float) -> int:
    """Frames of a part; a whole number of chunks."""
    return STRIDE * max(1, round(PART_S * fps / STRIDE))


class Keeper:
    """Takes the findings of a job in order. ``frames`` are all of the video, ``fps`` are those of a second."""

    def __init__(self, context: Context, job: JobContext, parts: Parts, frames: int, fps: float) -> None:
        self._context = context
        self._job = job
        self._parts = parts
        self._frames = frames
        self.span = span_of(fps)
        """Frames of a part."""
        self.done = 0
        """Parts that are kept."""
        self._found: list[Findings] = []
        self._pictures: list[Candidate] = []
        self._seen = 0

    async def resume(self) -> int:
        """The first frame that is in no part yet; at or behind the last one when all are."""
        self.done = await parts_of(self._job, self._parts)
        return self.done * self.span

    async def keep(self, end: int, found: Findings, pictures: Sequence[Candidate]) -> None:
        """What is in the next chunk, which ends before frame ``end``. Raises MediaNotFound and LeaseLost."""
        self._found.append(found)
        self._pictures += pictures
        self.tell(end)
        if end % self.span == 0 or end == self._frames:
            await self._store_part()

    def tell(self, frames: int) -> None:
        """That so many frames were looked at."""
        self._seen = max(self._seen, frames)
        self._job.progress(WATCHED * self._seen / self._frames, f"Frame {self._seen} of {self._frames}")

    async def _store_part(self) -> None:
        await check_asset(self._context, self._job.subject)
        putting = asyncio.ensure_future(self._parts.put(self.done, Findings.joined(self._found), self._pictures))
        try:
            await asyncio.shield(putting)
        except asyncio.CancelledError:
            await asyncio.wait({putting})  # else a thread would store it behind the removal of all parts
            raise
        self._found, self._pictures = [], []
        self.done += 1
        await self._job.save({"parts": self.done, "next_frame": self.done * self.span})


async def parts_of(job: JobContext, parts: Parts) -> int:
    """How many parts of a job are kept."""
    return min(int(job.checkpoint.get("parts", 0)), await parts.whole())


async def check_asset(context: Context, asset_id: str) -> None:
    """Raises MediaNotFound where the file was deleted, or is being so."""
    if not await Library(context).known([asset_id]):
        raise MediaNotFound("The file was deleted while it was being indexed.")
