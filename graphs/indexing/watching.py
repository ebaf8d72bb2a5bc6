"""Has the stages look at a video chunk by chunk, and keeps what they find part by part."""

import asyncio
import logging
from collections import deque
from functools import partial
from typing import Any, Final

import numpy as np

from deployments.errors import MediaNotFound, ModelNotLoaded, StageError
from deployments.people.face import Face
from deployments.people.identity import FaceVector
from deployments.shared import share
from deployments.shots.camera import FrameRun
from deployments.shots.motion import Motion, Motions
from deployments.shots.transitions import MARGIN, STRIDE, WINDOW, Probabilities, Window
from graphs.assets.library import Library
from graphs.concurrent import task_group
from graphs.context import Context
from graphs.indexing.candidates import Candidate
from graphs.indexing.findings import Findings, Seen, detections
from graphs.indexing.models import CAMERA, CUTS
from graphs.indexing.parts import Parts
from graphs.indexing.passes import Chunk, Look
from graphs.indexing.patience import patiently
from graphs.indexing.watch import Watch
from graphs.media.serving import FACES, IDENTITY
from ops.jobs import JobContext

logger = logging.getLogger("ray.serve")

PART_S: Final = 10.0
"""Seconds of video between checkpoints."""
LOOKS_AT_ONCE: Final = 8
"""Frames that are with the stages; they keep two processes of two streams each busy."""
CHUNKS_AT_ONCE: Final = 2
"""One is looked at while the next one is decoded."""
MAX_FAILED: Final = 20
"""Inputs on which a stage may fail for good before the job does."""
WATCHED: Final = 0.95
"""Share of the progress bar that looking at frames gets."""


class Watching:
    """Looks at all frames of a video that are not in a part yet; for ``faces`` too, unless only shots are wanted."""

    def __init__(self, context: Context, job: JobContext, watch: Watch, parts: Parts, *, faces: bool) -> None:
        self._context = context
        self._job = job
        self._watch = watch
        self._parts = parts
        self._faces = faces
        self.span = STRIDE * max(1, round(PART_S * watch.facts.fps / STRIDE))
        """Frames of a part."""
        self._done = 0
        self._found: list[Findings] = []
        self._pictures: list[Candidate] = []
        self._room = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._failed = 0
        self._seen = 0

    async def run(self) -> int:
        """How many parts there are now; they hold the whole video."""
        self._done = min(self._job.checkpoint.get("parts", 0), await self._parts.whole())
        if self._done * self.span >= len(self._watch.times):
            return self._done
        self._watch.start(self._done * self.span, faces=self._faces)
        async with task_group() as group:
            looking: deque[asyncio.Task[tuple[Chunk, Findings]]] = deque()
            while (chunk := await self._watch.next()) is not None:
                looking.append(group.create_task(self._look_at(chunk)))
                if len(looking) == CHUNKS_AT_ONCE:
                    await self._keep(*await looking.popleft())
            while looking:
                await self._keep(*await looking.popleft())
        return self._done

    async def _look_at(self, chunk: Chunk) -> tuple[Chunk, Findings]:
        async with task_group() as group:
            cutting = group.create_task(self._cut(chunk.window))
            moving = group.create_task(self._move(chunk.run))
            looks = [group.create_task(self._see(look)) for look in chunk.looks]
        return chunk, Findings(
            **detections([look.result() for look in looks]),
            changes=chunk.changes,
            probabilities=cutting.result()[MARGIN : MARGIN + len(chunk.changes)],
            moved_from=chunk.sampled[:-1],
            moved=chunk.sampled[1:],
            motions=moving.result(),
            candidates=np.array([each.frame for each in chunk.candidates], np.int64),
            sharpness=np.array([each.sharpness for each in chunk.candidates], np.float64),
        )

    async def _cut(self, window: Window | None) -> Probabilities:
        nothing = np.zeros((WINDOW, 2), np.float32)
        if window is None:
            return nothing
        found = await self._asked(CUTS, window.thumbnails, f"frames from {window.start} on")
        return nothing if found is None else found

    async def _move(self, run: FrameRun) -> Motions:
        nothing = np.zeros((max(0, len(run.times) - 1), len(Motion)), np.float32)
        if not len(nothing):
            return nothing
        found = await self._asked(CAMERA, run, f"{run.times[0]:.2f} s")
        return nothing if found is None else found

    async def _see(self, look: Look) -> Seen:
        async with self._room:
            image = await patiently(partial(share, look.image))
            faces: tuple[Face, ...] = await self._asked(FACES, image, f"frame {look.frame}") or ()
            vectors: tuple[FaceVector, ...] = ()
            if faces:
                vectors = await self._asked(IDENTITY, (image, faces), f"frame {look.frame}") or ()
        self._tell(look.frame + 1)
        return Seen(look.frame, faces if vectors else (), vectors, look.scale)

    async def _asked(self, key: str, item: Any, what: str) -> Any | None:
        """What a stage says; None where it fails on this input, which some may."""
        try:
            return await patiently(partial(self._context.stages[key], item))
        except StageError as error:
            self._failed += 1
            if error.retryable or isinstance(error, ModelNotLoaded) or self._failed > MAX_FAILED:
                raise
            logger.warning("job %s: %s: %s", self._job.job_id, what, error.message)
            return None

    async def _keep(self, chunk: Chunk, found: Findings) -> None:
        self._found.append(found)
        self._pictures += chunk.candidates
        self._tell(chunk.end)
        if chunk.end % self.span == 0 or chunk.end == len(self._watch.times):
            await self._store_part()

    async def _store_part(self) -> None:
        await check_asset(self._context, self._job.subject)
        await self._parts.put(self._done, Findings.joined(self._found), self._pictures)
        self._found, self._pictures = [], []
        self._done += 1
        await self._job.save({"parts": self._done, "next_frame": self._done * self.span})

    def _tell(self, frames: int) -> None:
        total = len(self._watch.times)
        self._seen = max(self._seen, frames)
        self._job.progress(WATCHED * self._seen / total, f"Frame {self._seen} of {total}")


async def check_asset(context: Context, asset_id: str) -> None:
    """Raises MediaNotFound where the file was deleted, or is being so."""
    if not await Library(context).known([asset_id]):
        raise MediaNotFound("The file was deleted while it was being indexed.")
