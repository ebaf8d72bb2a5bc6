"""What the stages find in one chunk of a video."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from deployments.people.identity import FaceVector
from deployments.serving.handle import AnyHandle
from deployments.serving.shared import share
from deployments.shots.camera import SMALLEST_SIDE, FrameRun
from graphs.indexing.findings import Findings, Seen, detections
from graphs.indexing.models import CAMERA, CUTS
from graphs.indexing.passes import Chunk, Look
from graphs.indexing.patience import patiently
from graphs.indexing.serving import FACES, IDENTITY
from graphs.web.context import task_group
from vision.errors import ModelNotLoaded, StageError
from vision.faces.face import Face
from vision.shots.motion import Motion, Motions
from vision.shots.transitions import MARGIN, WINDOW, Probabilities, Window

logger = logging.getLogger("ray.serve")

LOOKS_AT_ONCE: Final = 8
"""Frames that are with the stages; they keep two processes of two streams each busy."""
MAX_FAILED: Final = 20
"""Inputs of one video on which a stage may fail for good before the job does."""


class Looking:
    """Asks the stages about chunks of one video.

    ``name`` is that of the video in logs; ``told`` is called with the number of frames up to each that was looked at.
    ``shared``: whether the stages may be other processes, for which pictures lie in Ray's object store.
    """

    def __init__(
        self,
        stages: Mapping[str, AnyHandle],
        name: str,
        told: Callable[[int], None] = lambda _: None,
        *,
        shared: bool = True,
    ) -> None:
        self._stages = stages
        self._name = name
        self._told = told
        self._shared = shared
        self._room = asyncio.Semaphore(LOOKS_AT_ONCE)
        self.failed = 0
        """Inputs on which a stage failed for good so far."""

    async def all(self, chunk: Chunk) -> Findings:
        """What is in a chunk. Raises StageError."""
        async with task_group() as group:
            cutting = group.create_task(self.cuts(chunk.window, len(chunk.changes)))
            moving = group.create_task(self.movement(chunk.run))
            seeing = group.create_task(self.people(chunk.looks))
        return found_in(chunk, cutting.result(), moving.result(), seeing.result())

    async def cuts(self, window: Window | None, frames: int) -> Probabilities:
        """float32[frames, 2], of those in the middle of a window; zeros where nothing can be told."""
        found: Probabilities | None = None
        if window is not None:
            found = await self._asked(CUTS, window.thumbnails, f"frames from {window.start} on")
        found = np.zeros((WINDOW, 2), np.float32) if found is None else found
        return found[MARGIN : MARGIN + frames]

    async def movement(self, run: FrameRun) -> Motions:
        """A row from each frame to the next; zeros where nothing can be told."""
        nothing = np.zeros((max(0, len(run.times) - 1), len(Motion)), np.float32)
        if not len(nothing) or min(run.frames.shape[1:]) < SMALLEST_SIDE:
            return nothing
        found = await self._asked(CAMERA, run, f"{run.times[0]:.2f} s")
        return nothing if found is None else found

    async def people(self, looks: tuple[Look, ...]) -> list[Seen]:
        """The faces in each look."""
        async with task_group() as group:
            seeing = [group.create_task(self._see(look)) for look in looks]
        return [seen.result() for seen in seeing]

    async def _see(self, look: Look) -> Seen:
        async with self._room:
            image = await patiently(partial(share, look.image)) if self._shared else look.image
            faces: tuple[Face, ...] = await self._asked(FACES, image, f"frame {look.frame}") or ()
            vectors: tuple[FaceVector, ...] = ()
            if faces:
                vectors = await self._asked(IDENTITY, (image, faces), f"frame {look.frame}") or ()
        self._told(look.frame + 1)
        return Seen(look.frame, faces if vectors else (), vectors, look.scale)

    async def _asked(self, key: str, item: Any, what: str) -> Any | None:
        """What a stage says; None where it fails on this input, which some may."""
        try:
            return await patiently(partial(self._stages[key], item))
        except StageError as error:
            self.failed += 1
            if error.retryable or isinstance(error, ModelNotLoaded) or self.failed > MAX_FAILED:
                raise
            logger.warning("%s: %s: %s", self._name, what, error.message)
            return None


def found_in(chunk: Chunk, probabilities: Probabilities, motions: Motions, seen: list[Seen]) -> Findings:
    """All that is known of a chunk."""
    people = detections(seen)
    return Findings(
        frames=people.frames,
        boxes=people.boxes,
        confidences=people.confidences,
        landmarks=people.landmarks,
        vectors=people.vectors,
        changes=chunk.changes,
        probabilities=probabilities,
        moved_from=chunk.sampled[:-1],
        moved=chunk.sampled[1:],
        motions=motions,
        candidates=np.array([each.frame for each in chunk.candidates], np.int64),
        sharpness=np.array([each.sharpness for each in chunk.candidates], np.float64),
    )
