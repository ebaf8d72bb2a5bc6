"""Build the shots of a video: where they begin and end, how the camera moves, and what their keyframes show."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from deployments.embed.clip import CLIP, no_text
from deployments.embed.dinov3 import DINOV3
from deployments.media.frames import FRAMES, FrameRequest
from deployments.people.faces import FACES
from deployments.serving.handle import AnyHandle, StageHandle
from deployments.serving.stage import SharedImage, SharedPixels
from deployments.shots.cuts import CUTS
from graphs.indexing.checkpoint import Parts
from graphs.indexing.decode import KEYFRAME_QUALITY, KEYFRAME_SIDE, Timeline, encode_jpeg, size_within
from graphs.indexing.inference import BLANK, Observations, detector_version, retry
from graphs.web.context import Context, task_group
from graphs.web.parts import OptionalParts
from stores import derived
from stores.records import Vector
from stores.shots import Shot, Transition
from vision.embed.backbones import Embedding
from vision.embed.clip import ClipEmbedding, TextNotSupported
from vision.errors import StageError
from vision.faces.face import Face
from vision.faces.tracking import Detections
from vision.images import Pixels, decode
from vision.shots.hard_cuts import cuts
from vision.shots.keyframes import Candidate, is_blank, keyframe
from vision.shots.movement import Movement, classify
from vision.shots.scale import NOBODY, Scale, scale
from vision.shots.tags import ZERO_SHOT, auto_tags, look
from vision.shots.transitions import THUMBNAIL, WINDOW, joined, transitions
from vision.shots.transitions import Shot as Span
from vision.shots.transitions import Transition as Change
from vision.shots.transitions import shots as spans_of

logger = logging.getLogger("ray.serve")

SHOTS_AT_ONCE: Final = 4
LEADER_S: Final = 0.12
"""Longest stretch of one shade that is no shot: three frames of 25 a second."""
FACE_STILLS: Final = 3
"""Frames of a shot in which faces are detected, where they were not in all of the video."""
TEMPERATURE: Final = 100.0
"""What CLIP multiplies cosines by (Radford et al. 2021, section 2.5)."""
SURE: Final = 0.6
"""Share of the probability of its set from which on a label is a tag."""
LabelSet: TypeAlias = tuple[tuple[str, ...], Vector]
"""Names of labels, and the vectors of their sentences, float32[n, 512]."""
_embedded: Final = WeakKeyDictionary[AnyHandle, tuple[str, Sequence[LabelSet]]]()
"""By the handle to CLIP the model that embedded the sentences, and their sets: each video has the same."""
BLANK_WINDOW: Final = np.zeros((WINDOW, THUMBNAIL[1], THUMBNAIL[0], 3), np.uint8)


@dataclass(frozen=True, slots=True)
class ShotModels:
    """Versions of the models that shots are made with.

    ``clip`` is empty unless one that understands texts is loaded: the vectors of keyframes are compared with texts.
    ``features`` and ``faces`` are empty where their model is missing, and shots are made without. ``missing``: what the
    shots do not have therefore, and why. ``decisions``: whether ``shots/cuts`` takes windows of which only these count.
    """

    cuts: str
    features: str
    clip: str
    faces: str
    missing: Mapping[str, str] = field(default_factory=dict)
    decisions: bool = False

    @property
    def version(self) -> str:
        """Return all in one string."""
        return f"{self.cuts}+{self.features}+{self.clip}+{self.faces}"

    @classmethod
    async def of(cls, context: Context) -> "ShotModels":
        """Return those that serve now. Raises StageUnavailable, and ModelNotLoaded without one that finds cuts."""
        parts = OptionalParts()
        cuts, features, clip, faces = await asyncio.gather(
            context.stage(CUTS).ready_info(BLANK_WINDOW),
            parts.of("features", context.stage(DINOV3).ready_info(encode_jpeg(BLANK))),
            parts.of("auto_tags.clip", _clip_for_texts(context)),
            parts.of("faces", context.stage(FACES).ready_info(BLANK)),
        )
        return cls(
            str(cuts["model_version"]),
            "" if features is None else str(features["model_version"]),
            "" if clip is None else str(clip["model"]),
            "" if faces is None else detector_version(faces),
            parts.unavailable,
            decisions="decisions" in cuts,
        )


async def _clip_for_texts(context: Context) -> dict[str, Any]:
    info = await context.stage(CLIP).ready_info(BLANK)
    if not info.get("text"):
        raise TextNotSupported(no_text())
    return info


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """A frame of the video as a JPEG."""

    frame: int
    jpeg: bytes


class ShotBuilder:
    """Build the shots of one video from what was observed in it; ``span`` is the number of frames of a part.

    ``faces``: whether they were detected in all of it.
    """

    def __init__(
        self,
        context: Context,
        asset_id: str,
        timeline: Timeline,
        observations: Observations,
        parts: Parts,
        span: int,
        models: ShotModels,
        *,
        faces: bool,
    ) -> None:
        self.asset_id = asset_id
        self.timeline = timeline
        self.observations = observations
        self.models = models
        self._context = context
        self._parts = parts
        self._span = span
        self._faces = faces
        self._labels = KeyframeLabels(context.stage(CLIP), models.clip)
        self._part = -1
        self._jpegs: dict[int, bytes] = {}

    @cached_property
    def sudden(self) -> tuple[int, ...]:
        """Frames at which the picture changes at once."""
        return cuts(self.observations.changes)

    @cached_property
    def _people(self) -> Detections:
        return self.observations.people

    async def shots(self, threshold: float) -> list[Shot]:
        """Return the shots in order, and store their keyframes. Raises StageError, ObjectNotFound."""
        changes = await self._changes(threshold)
        spans = spans_of(changes, len(self.timeline.times))
        slots, now = asyncio.Semaphore(SHOTS_AT_ONCE), datetime.now(UTC)

        async def build(index: int, span: Span, change: Change | None, stills: list[Still]) -> Shot:
            try:
                return await self._shot(index, span, _begins(change, threshold), stills, now)
            finally:
                slots.release()

        async with task_group() as group:
            tasks = []
            for index, (span, change) in enumerate(zip(spans, [None, *changes], strict=True)):
                await slots.acquire()
                tasks.append(group.create_task(build(index, span, change, await self._stills(span))))
        return [task.result() for task in tasks]

    async def _changes(self, threshold: float) -> list[Change]:
        """Return the transitions; a few frames of one shade, such as a black leader, are no shot of their own."""
        changes = transitions(self.observations.probabilities, threshold, self.sudden)
        longest = max(1, round(LEADER_S * self.timeline.facts.fps))
        blank = set()
        for number, span in enumerate(spans_of(changes, len(self.timeline.times))):
            if span.end_frame - span.start_frame < longest:
                middle = (span.start_frame + span.end_frame) // 2
                pixels = await self._decode(Still(middle, await self._jpeg(middle)))
                if await asyncio.to_thread(is_blank, pixels.mean(2).astype(np.uint8)):
                    blank.add(number)
        return joined(changes, blank)

    async def remove_keyframes(self, kept: Sequence[Shot]) -> None:
        """Remove keyframes of shots that are neither these nor in the library."""
        keep = {keyframe_key(shot) for shot in kept}
        keys = [info.key async for info in self._context.objects.list(keyframes_folder(self.asset_id))]
        ids = {key: key.rpartition("/")[2].partition("-")[0] for key in keys if key not in keep}
        library = await self._context.shots.get_shots(ids.values())
        for key, shot_id in ids.items():
            if shot_id not in library or key != keyframe_key(library[shot_id]):
                await self._context.objects.delete(key)

    async def _shot(
        self, index: int, span: Span, begins: Transition | None, stills: list[Still], now: datetime
    ) -> Shot:
        times, still = self.timeline.times, stills[0]
        movement = self._movement(span)
        pixels = await self._decode(still)
        async with task_group() as group:
            embedding = group.create_task(self._features(still))
            likeness = group.create_task(self._clip(pixels))
            framing = group.create_task(self._scale(span, stills))
            appearance = group.create_task(asyncio.to_thread(look, pixels))
        features, clip, people = embedding.result(), likeness.result(), framing.result()
        labels = [] if clip is None else await self._labels.of(clip.vector)
        start, end = float(times[span.start_frame]), self.timeline.end_of(span.end_frame)
        shot = Shot(
            video_asset_id=self.asset_id,
            shot_index=index,
            start_frame=span.start_frame,
            end_frame=span.end_frame,
            start_timestamp=start,
            end_timestamp=end,
            keyframe_frame=still.frame,
            keyframe_time=float(times[still.frame]),
            camera_movement=movement.label,
            movement_intensity=movement.intensity,
            shot_size=people.shot_size,
            shot_angle=people.shot_angle,
            framing=people.framing,
            analysis_timestamp=now,
            transition_in=begins,
            auto_tags=tuple(dict.fromkeys([*auto_tags(movement, people, appearance.result(), end - start), *labels])),
            features=None if features is None else features.raw,
            features_version=None if features is None else features.model_version,
            clip=None if clip is None else clip.vector,
            clip_version=None if clip is None else clip.model,
        )
        spool = self._context.settings.spool
        await derived.put(self._context.objects, spool, keyframe_key(shot), still.jpeg, "image/jpeg")
        return shot

    def _movement(self, span: Span) -> Movement:
        """Return that of the camera while the shot alone is seen; in all of it where that is too short to tell."""
        observed, facts = self.observations, self.timeline.facts
        for start, end in ((span.steady_start, span.steady_end), (span.start_frame, span.end_frame)):
            inside = np.flatnonzero((observed.moved_from >= start) & (observed.moved <= end))
            if len(inside):
                break
        frames = [*observed.moved_from[inside[:1]], *observed.moved[inside]]
        return classify(observed.motions[inside], self.timeline.times[frames], facts.width / facts.height)

    async def _scale(self, span: Span, stills: list[Still]) -> Scale:
        facts = self.timeline.facts
        if self._faces:
            frames = _steady(self.observations.moved, span)
            return scale(faces_in(self._people, frames), facts.width, facts.height)
        if not self.models.faces:
            return NOBODY
        async with task_group() as group:
            tasks = [group.create_task(self._detect(still)) for still in stills]
        results = [task.result() for task in tasks]
        height, width = results[0][1].shape[:2]
        return scale([faces for faces, _ in results], width, height)

    async def _detect(self, still: Still) -> tuple[tuple[Face, ...], Pixels]:
        pixels = await self._decode(still)
        image = SharedPixels(pixels)
        return await retry(self._context.stage(FACES), image), pixels

    async def _decode(self, still: Still) -> Pixels:
        return await asyncio.to_thread(decode, still.jpeg, max_pixels=self._context.settings.max_image_pixels)

    async def _features(self, still: Still) -> Embedding | None:
        if not self.models.features:
            return None
        try:
            return await retry(self._context.stage(DINOV3), still.jpeg)
        except StageError as error:
            if not error.concerns_input:
                raise
            logger.warning("frame %d of %s has no features: %s", still.frame, self.asset_id, error.message)
            return None

    async def _clip(self, pixels: Pixels) -> ClipEmbedding | None:
        if not self.models.clip:
            return None
        return await retry(self._context.stage(CLIP), SharedPixels(pixels))

    async def _stills(self, span: Span) -> list[Still]:
        """Return the keyframe first, then others from all over the shot, where faces have to be detected in them."""
        observed = self.observations
        candidates = [Candidate(*each) for each in zip(observed.candidates.tolist(), observed.sharpness, strict=True)]
        blends = ((span.start_frame, span.steady_start - 1), (span.steady_end + 1, span.end_frame))
        chosen = keyframe(candidates, span.start_frame, span.end_frame, blends)
        if chosen is None or not span.steady_start <= chosen <= span.steady_end:
            # It was over too soon to have a candidate that shows it alone.
            chosen = (span.steady_start + span.steady_end) // 2
        frames = [chosen]
        if not self._faces:
            others = _steady(observed.candidates, span)
            places = np.linspace(0, len(others) - 1, min(FACE_STILLS, len(others)), dtype=int)
            frames += [frame for frame in others[places].tolist() if frame != chosen]
        return [Still(frame, await self._jpeg(frame)) for frame in frames]

    async def _jpeg(self, frame: int) -> bytes:
        if self._part != frame // self._span:
            self._part = frame // self._span
            self._jpegs = await self._parts.jpegs(self._part)
        if frame in self._jpegs:
            return self._jpegs[frame]
        facts = self.timeline.facts
        size = size_within(facts.width, facts.height, KEYFRAME_SIDE)
        request = FrameRequest(self.asset_id, frame, size=size, quality=KEYFRAME_QUALITY)
        return (await retry(self._context.stage(FRAMES), request)).jpeg


class KeyframeLabels:
    """Label keyframes by CLIP with the labels of ``ZERO_SHOT``, whose sentences each ``model`` embeds once."""

    def __init__(self, clip: StageHandle[SharedImage | str, ClipEmbedding], model: str = "") -> None:
        self._clip = clip
        self._model = model
        self._embedding = asyncio.Lock()

    async def of(self, keyframe: Vector) -> list[str]:
        """Return of each set the label that is clearly the likeliest of a keyframe, float32[512] of unit length."""
        tags = []
        for names, vectors in await self._sets():
            weights = np.exp(TEMPERATURE * (vectors @ keyframe - (vectors @ keyframe).max()))
            best = int(weights.argmax())
            if weights[best] / weights.sum() >= SURE:
                tags.append(names[best])
        return tags

    async def _sets(self) -> Sequence[LabelSet]:
        async with self._embedding:  # several shots are built at once
            model, sets = _embedded.get(self._clip, ("", ()))
            if not sets or model != self._model:
                sets = await asyncio.gather(*map(self._set, ZERO_SHOT))
                _embedded[self._clip] = self._model, sets
        return sets

    async def _set(self, name: str) -> LabelSet:
        sentences = ZERO_SHOT[name]
        embeddings = await asyncio.gather(*(retry(self._clip, sentence) for sentence in sentences.values()))
        return tuple(sentences), np.stack([embedding.vector for embedding in embeddings])


def keyframes_folder(video_asset_id: str) -> str:
    """Return the prefix of the keys of all keyframes of a video's shots; they are deleted with it."""
    return f"{derived.folder(video_asset_id)}shots/"


def keyframe_key(shot: Shot) -> str:
    """Return the object key; an analysis and the library may have the same shot with different keyframes."""
    return f"{keyframes_folder(shot.video_asset_id)}{shot.shot_id}-{shot.keyframe_frame}.jpg"


def _begins(change: Change | None, threshold: float) -> Transition | None:
    """Return how a shot begins; a cut that another measure has confirmed is as sure as the threshold at least."""
    if change is None:
        return None
    probability = round(max(change.probability, threshold), 4)
    return Transition(change.kind, change.first_frame, change.last_frame, probability)


def faces_in(detections: Detections, frames: NDArray[np.int64]) -> list[list[Face]]:
    """Return the faces in each of some frames."""
    firsts = np.searchsorted(detections.frames, frames, "left").tolist()
    ends = np.searchsorted(detections.frames, frames, "right").tolist()
    return [[_face(detections, place) for place in range(*bounds)] for bounds in zip(firsts, ends, strict=True)]


def _face(detections: Detections, place: int) -> Face:
    landmarks = tuple((x, y) for x, y in detections.landmarks[place].tolist())
    x, y, width, height = detections.boxes[place].tolist()
    return Face(x, y, width, height, float(detections.confidences[place]), landmarks)


def _steady(frames: NDArray[np.int64], span: Span) -> NDArray[np.int64]:
    return frames[(frames >= span.steady_start) & (frames <= span.steady_end)]
