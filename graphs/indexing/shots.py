"""The shots of a video: where they begin and end, how the camera moves in them, and what their keyframes show."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deployments.media.frames import FramePicture, FrameRequest
from deployments.serving.shared import share
from graphs.indexing import candidates
from graphs.indexing.findings import Findings, faces_of
from graphs.indexing.labels import Labels
from graphs.indexing.models import CLIP, EMBED, FACES, ShotModels
from graphs.indexing.parts import Parts
from graphs.indexing.patience import patiently
from graphs.indexing.watch import Timeline
from graphs.shots.thumbnails import FRAMES, folder, key_of
from graphs.web.context import Context, task_group
from stores import derived as belongings
from stores.shots import Shot, Transition
from vision.embed.embedding import ClipEmbedding, Embedding
from vision.errors import ModelNotLoaded, StageError
from vision.faces.face import Face
from vision.images import Pixels, decode
from vision.shots.hard_cuts import cuts
from vision.shots.keyframes import Candidate, keyframe
from vision.shots.movement import Movement, classify
from vision.shots.scale import Scale, scale
from vision.shots.tags import auto_tags, look
from vision.shots.transitions import Shot as Span
from vision.shots.transitions import Transition as Change
from vision.shots.transitions import shots as spans_of
from vision.shots.transitions import transitions

logger = logging.getLogger("ray.serve")

SHOTS_AT_ONCE: Final = 4
PICTURES: Final = 3
"""Of a shot that are looked at for faces, where its frames were not."""


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """A frame of the video as a JPEG."""

    frame: int
    jpeg: bytes


class ShotMaker:
    """Makes the shots of one video of what was found in it; ``span`` is how many frames a part has.

    ``faces``: whether they were looked for in all of it.
    """

    def __init__(
        self,
        context: Context,
        asset_id: str,
        watch: Timeline,
        found: Findings,
        parts: Parts,
        span: int,
        models: ShotModels,
        *,
        faces: bool,
    ) -> None:
        self.watch = watch
        self.found = found
        self.models = models
        self._context = context
        self.asset_id = asset_id
        self._parts = parts
        self._span = span
        self._faces = faces
        self._labels = Labels(context.stages[CLIP])
        self._part = -1
        self._pictures: dict[int, bytes] = {}

    @cached_property
    def sudden(self) -> tuple[int, ...]:
        """Frames at which the picture changes at once, once all of it was found."""
        return cuts(self.found.changes)

    async def shots(self, threshold: float) -> list[Shot]:
        """In order. Their keyframes are stored, and are their thumbnails. Raises StageError, ObjectNotFound."""
        changes = transitions(self.found.probabilities, threshold, self.sudden)
        spans = spans_of(changes, len(self.watch.times))
        room, now = asyncio.Semaphore(SHOTS_AT_ONCE), datetime.now(UTC)

        async def make(index: int, span: Span, change: Change | None, stills: list[Still]) -> Shot:
            try:
                return await self._shot(index, span, change, stills, now)
            finally:
                room.release()

        async with task_group() as group:
            making = []
            for index, (span, change) in enumerate(zip(spans, [None, *changes], strict=True)):
                await room.acquire()
                making.append(group.create_task(make(index, span, change, await self._stills(span))))
        return [made.result() for made in making]

    async def clear(self, kept: Sequence[Shot]) -> None:
        """Remove pictures of shots that are neither these nor in the library."""
        keys = {key_of(shot) for shot in kept}
        found = [info.key async for info in self._context.objects.list(folder(self.asset_id))]
        ids = {key: key.rpartition("/")[2].partition("-")[0] for key in found if key not in keys}
        library = await self._context.shots.get_shots(ids.values())
        for key, shot_id in ids.items():
            if shot_id not in library or key != key_of(library[shot_id]):
                await self._context.objects.delete(key)

    async def _shot(self, index: int, span: Span, change: Change | None, stills: list[Still], now: datetime) -> Shot:
        times, still = self.watch.times, stills[0]
        moved = self._movement(span)
        pixels = await asyncio.to_thread(decode, still.jpeg, max_pixels=self._context.settings.max_image_pixels)
        async with task_group() as group:
            embedding = group.create_task(self._features(still))
            likeness = group.create_task(self._clip(pixels))
            framing = group.create_task(self._scale(span, stills))
            appearance = group.create_task(asyncio.to_thread(look, pixels))
        features, clip, people = embedding.result(), likeness.result(), framing.result()
        named = [] if clip is None else await self._labels.of(clip.vector)
        start, end = float(times[span.start_frame]), self.watch.end_of(span.end_frame)
        shot = Shot(
            video_asset_id=self.asset_id,
            shot_index=index,
            start_frame=span.start_frame,
            end_frame=span.end_frame,
            start_timestamp=start,
            end_timestamp=end,
            keyframe_frame=still.frame,
            keyframe_time=float(times[still.frame]),
            camera_movement=moved.label,
            movement_intensity=moved.intensity,
            shot_size=people.shot_size,
            shot_angle=people.shot_angle,
            framing=people.framing,
            analysis_timestamp=now,
            transition_in=None if change is None else Transition(change.kind, change.first_frame, change.last_frame),
            auto_tags=tuple(dict.fromkeys([*auto_tags(moved, people, appearance.result(), end - start), *named])),
            features=None if features is None else features.raw,
            features_version=None if features is None else features.model_version,
            clip=None if clip is None else clip.vector,
            clip_version=None if clip is None else clip.model,
        )
        spool = self._context.settings.spool
        await belongings.put(self._context.objects, spool, key_of(shot), still.jpeg, "image/jpeg")
        return shot

    def _movement(self, span: Span) -> Movement:
        """Of the camera while the shot alone is seen; of all of it where that is too short to tell."""
        found, facts = self.found, self.watch.facts
        for start, end in ((span.steady_start, span.steady_end), (span.start_frame, span.end_frame)):
            inside = np.flatnonzero((found.moved_from >= start) & (found.moved <= end))
            if len(inside):
                break
        frames = [*found.moved_from[inside[:1]], *found.moved[inside]]
        return classify(found.motions[inside], self.watch.times[frames], facts.width / facts.height)

    async def _scale(self, span: Span, stills: list[Still]) -> Scale:
        facts = self.watch.facts
        if self._faces:
            frames = self._steady(self.found.moved, span)
            return scale(faces_of(self.found.detections, frames), facts.width, facts.height)
        async with task_group() as group:
            looking = [group.create_task(self._see(still)) for still in stills]
        seen = [look.result() for look in looking]
        height, width = seen[0][1].shape[:2]
        return scale([faces for faces, _ in seen], width, height)

    async def _see(self, still: Still) -> tuple[tuple[Face, ...], Pixels]:
        pixels = await asyncio.to_thread(decode, still.jpeg, max_pixels=self._context.settings.max_image_pixels)
        image = await patiently(partial(share, pixels))
        return await patiently(partial(self._context.stages[FACES], image)), pixels

    async def _features(self, still: Still) -> Embedding | None:
        try:
            found: Embedding = await patiently(partial(self._context.stages[EMBED], still.jpeg))
        except StageError as error:
            if error.retryable or isinstance(error, ModelNotLoaded):
                raise
            logger.warning("frame %d of %s has no features: %s", still.frame, self.asset_id, error.message)
            return None
        return found

    async def _clip(self, pixels: Pixels) -> ClipEmbedding | None:
        if not self.models.clip:
            return None
        image = await patiently(partial(share, pixels))
        found: ClipEmbedding = await patiently(partial(self._context.stages[CLIP], image))
        return found

    async def _stills(self, span: Span) -> list[Still]:
        """The keyframe first, then others from all over the shot, where their faces are needed."""
        offered = [Candidate(*each) for each in zip(self.found.candidates.tolist(), self.found.sharpness, strict=True)]
        clear = ((span.start_frame, span.steady_start - 1), (span.steady_end + 1, span.end_frame))
        chosen = keyframe(offered, span.start_frame, span.end_frame, clear)
        if chosen is None or not span.steady_start <= chosen <= span.steady_end:
            # It was over too soon to have a candidate that shows it alone.
            chosen = (span.steady_start + span.steady_end) // 2
        wanted = [chosen]
        if not self._faces:
            others = self._steady(self.found.candidates, span)
            places = np.linspace(0, len(others) - 1, min(PICTURES, len(others)), dtype=int)
            wanted += [frame for frame in others[places].tolist() if frame != chosen]
        return [Still(frame, await self._jpeg(frame)) for frame in wanted]

    @staticmethod
    def _steady(frames: NDArray[np.int64], span: Span) -> NDArray[np.int64]:
        return frames[(frames >= span.steady_start) & (frames <= span.steady_end)]

    async def _jpeg(self, frame: int) -> bytes:
        if self._part != frame // self._span:
            self._part = frame // self._span
            self._pictures = await self._parts.pictures(self._part)
        if frame in self._pictures:
            return self._pictures[frame]
        size = candidates.size_of(self.watch.facts, candidates.SIDE)
        request = FrameRequest(self.asset_id, frame, size=size, quality=candidates.QUALITY)
        picture: FramePicture = await patiently(partial(self._context.stages[FRAMES], request))
        return picture.jpeg
