"""Run the stages on the chunks of a video, and hold what they return as arrays that can be stored and joined."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from deployments.objects.detector import OBJECTS
from deployments.people.identity import IDENTITY, FaceVector
from deployments.people.video_faces import VIDEO_FACES
from deployments.serving.handle import AnyHandle, StageHandle
from deployments.serving.stage import SharedPixels, StageRef
from deployments.shots.camera import CAMERA, SMALLEST_SIDE, FrameRun
from deployments.shots.cuts import CUT_DECISIONS, CUTS
from graphs.indexing.decode import Chunk, FaceFrame
from graphs.web.context import task_group
from vision.errors import StageError
from vision.faces.calibration import is_drawn
from vision.faces.continuity import between, continued, matched
from vision.faces.face import Face
from vision.faces.tracking import Detections
from vision.objects.detection import DetectedObject
from vision.shots.hard_cuts import LEAST
from vision.shots.movement import Motion, Motions
from vision.shots.transitions import MARGIN, WINDOW, Probabilities

logger = logging.getLogger("ray.serve")

InT = TypeVar("InT")
OutT = TypeVar("OutT")

RETRY_PAUSES_S: Final = (0.2, 0.5, 1, 2, 5, 10, 20, 30)
"""Before each further call of a stage that is full, or away."""
FRAMES_AT_ONCE: Final = 8
"""Frames that are with the stages; they keep two processes of two streams each busy."""
SEARCHED_APART: Final = 3
"""Samples from one that is searched for faces to the next: ``analysis/tracks`` drops whoever is seen less often, so
nobody is lost who is only seen in between."""
SMALL: Final = (64, 36)
"""Width and height of a frame as it is compared with another: an object that can be found fills a good part of one of
these pixels."""
STILL: Final = 3.0
"""Most that one of them may change, of 255, in a frame in which objects are not looked for anew: noise and compression
change them by one or two."""
MAX_FAILED: Final = 20
"""Inputs of one video on which a stage may fail for good before the job does."""
BLANK: Final = np.zeros((32, 32, 3), np.uint8)
"""An image that costs a stage little."""
CONFIDENT: Final = 0.87
"""Confidence of a face from which on ``people/faces`` takes it for one in a picture; drawn ones seldom have it."""
DIMENSIONS: Final = 128
"""Of the vector of a face."""


def detector_version(info: Mapping[str, Any]) -> str:
    """Return the version of what a detector finds, from its ``info``: of the weights, and the threshold."""
    return f"{info['model_version']}:{info.get('threshold', '')}"


@dataclass(frozen=True, slots=True, eq=False)
class FrameFaces:
    """The faces of one frame, in pixels of its image; ``scale`` makes them pixels of the video."""

    frame: int
    faces: tuple[Face, ...]
    vectors: tuple[FaceVector, ...]
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class FrameObjects:
    """The objects of one frame, in pixels of its image; ``scale`` makes them pixels of the video."""

    frame: int
    objects: tuple[DetectedObject, ...]
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """What was measured on consecutive frames. The names of the fields are those of the stored arrays.

    ``frames`` to ``vectors``: the faces, as in ``Detections``, in pixels of the video, in the order in which they
    were detected; ``drawn`` bool[n], which of them are surely drawn. Of every frame ``changes`` float32[n, 2], as from
    ``ChangeMeter``, and ``probabilities`` float32[n, 2], as from ``shots/cuts``. ``motions`` float32[m, 8], as from
    ``shots/camera``, from the frames ``moved_from`` int64[m] to the frames ``moved`` int64[m]. ``candidates`` int64[k]
    are frames of possible keyframes, and their ``sharpness`` float64[k]. ``object_frames`` int64[j] to
    ``object_labels`` str[j]: the objects, ordered by frame, as in ``ObjectDetections``, in pixels of the video.
    """

    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    confidences: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    vectors: NDArray[np.float32]
    drawn: NDArray[np.bool_]
    changes: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    moved_from: NDArray[np.int64]
    moved: NDArray[np.int64]
    motions: NDArray[np.float32]
    candidates: NDArray[np.int64]
    sharpness: NDArray[np.float64]
    object_frames: NDArray[np.int64]
    object_boxes: NDArray[np.float32]
    object_confidences: NDArray[np.float32]
    object_labels: NDArray[np.str_]

    @property
    def detections(self) -> Detections:
        """Return the faces, in the order of their frames."""
        # The last frame of a shot is sampled once the next one is seen, which may be in the next chunk.
        order = np.argsort(self.frames, kind="stable")
        return Detections(**{each.name: getattr(self, each.name)[order] for each in fields(Detections)})

    @property
    def people(self) -> Detections:
        """Return the faces that are those of people beyond doubt, in the order of their frames.

        A drawn face, on a screen or a wall, is seldom as sure as a real one.
        """
        real = (self.confidences >= CONFIDENT) & ~self.drawn
        order = np.argsort(self.frames, kind="stable")
        kept = order[real[order]]
        return Detections(**{each.name: getattr(self, each.name)[kept] for each in fields(Detections)})

    @classmethod
    def of(
        cls,
        chunk: Chunk,
        probabilities: Probabilities,
        motions: Motions,
        faces: Sequence[FrameFaces],
        objects: Sequence[FrameObjects] = (),
    ) -> "Observations":
        """Return those of a chunk, from what the stages returned for it."""
        pairs = [(each, face, vector) for each in faces for face, vector in zip(each.faces, each.vectors, strict=True)]
        boxes = [np.multiply((face.x, face.y, face.width, face.height), each.scale) for each, face, _ in pairs]
        landmarks = [np.multiply(face.landmarks, each.scale) for each, face, _ in pairs]
        seen = [(frame, each) for frame in objects for each in frame.objects]
        places = [np.multiply((each.x, each.y, each.width, each.height), frame.scale) for frame, each in seen]
        return cls(
            frames=np.array([each.frame for each, _, _ in pairs], np.int64),
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            confidences=np.array([face.confidence for _, face, _ in pairs], np.float32),
            landmarks=np.array(landmarks, np.float32).reshape(-1, 5, 2),
            vectors=np.array([vector.vector for _, _, vector in pairs], np.float32).reshape(-1, DIMENSIONS),
            drawn=np.array([is_drawn(vector.quality, vector.strength) for _, _, vector in pairs], np.bool_),
            changes=chunk.changes,
            probabilities=probabilities,
            moved_from=chunk.sampled[:-1],
            moved=chunk.sampled[1:],
            motions=motions,
            candidates=np.array([each.frame for each in chunk.candidates], np.int64),
            sharpness=np.array([each.sharpness for each in chunk.candidates], np.float64),
            object_frames=np.array([frame.frame for frame, _ in seen], np.int64),
            object_boxes=np.array(places, np.float32).reshape(-1, 4),
            object_confidences=np.array([each.confidence for _, each in seen], np.float32),
            object_labels=np.array([each.label for _, each in seen], np.str_),
        )

    @classmethod
    def join(cls, parts: Sequence["Observations"]) -> "Observations":
        """Return those of stretches that follow each other, of which there must be one."""
        return cls(**{each.name: np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)})


class ChunkInference:
    """Run the stages on chunks of one video.

    ``name`` is that of the video in logs; ``on_progress`` is called with the number of frames up to each that is done.
    ``shared``: whether the stages may be in other processes, for which pictures go through Ray's object store.
    ``decisions``: whether ``shots/cuts`` takes windows of which only these count, and the threshold is ``THRESHOLD``.
    ``people`` and ``things``: whether faces and objects are looked for.
    """

    def __init__(
        self,
        stages: Mapping[str, AnyHandle],
        name: str,
        on_progress: Callable[[int], None] = lambda _: None,
        *,
        shared: bool = True,
        decisions: bool = False,
        people: bool = True,
        things: bool = False,
    ) -> None:
        self._stages = stages
        self._name = name
        self._on_progress = on_progress
        self._shared = shared
        self._decisions = decisions
        self._people = people
        self._things = things
        self._slots = asyncio.Semaphore(FRAMES_AT_ONCE)
        self.failed = 0
        """Inputs on which a stage failed for good so far."""

    async def run(self, chunk: Chunk) -> Observations:
        """Return what all stages observe in a chunk. Raises StageError."""
        async with task_group() as group:
            cuts = group.create_task(self.cuts(chunk))
            motions = group.create_task(self.motions(chunk.run))
            faces = group.create_task(self.faces(chunk.face_frames if self._people else ()))
            objects = group.create_task(self.objects(chunk.face_frames if self._things else ()))
        return Observations.of(chunk, cuts.result(), motions.result(), faces.result(), objects.result())

    async def cuts(self, chunk: Chunk) -> Probabilities:
        """Return float32[n, 2] of the n frames of a chunk; zeros where it has no window, or the stage failed on it."""
        answer: Probabilities | None = None
        if chunk.window is not None:
            thumbnails, name = chunk.window.thumbnails, f"frames from {chunk.window.start} on"
            if self._decisions and decisions_are_enough(chunk):
                answer = await self._call(CUT_DECISIONS, (thumbnails, "decisions"), name)
            else:
                answer = await self._call(CUTS, thumbnails, name)
        probabilities = np.zeros((WINDOW, 2), np.float32) if answer is None else answer
        return probabilities[MARGIN : MARGIN + len(chunk.changes)]

    async def motions(self, run: FrameRun) -> Motions:
        """Return a row from each frame to the next; zeros where frames are too small, or the stage failed."""
        nothing = np.zeros((max(0, len(run.times) - 1), len(Motion)), np.float32)
        if not len(nothing) or min(run.frames.shape[1:]) < SMALLEST_SIDE:
            return nothing
        motions = await self._call(CAMERA, run, f"{run.times[0]:.2f} s")
        return nothing if motions is None else motions

    async def faces(self, frames: Sequence[FaceFrame]) -> list[FrameFaces]:
        """Return the faces in each frame, with their vectors; none where a stage failed on it.

        Every third frame of a shot is searched. Where two of them surely show the same faces, those in between are
        looked at only where these are expected, and have vectors between theirs; where both show nobody, not at all.
        """
        searched = searched_frames(frames)
        async with task_group() as group:
            searches = {place: group.create_task(self._search(frames[place])) for place in searched}
        found = {place: task.result() for place, task in searches.items()}
        async with task_group() as group:
            tasks = {
                place: group.create_task(self._follow(frames[place], found[before], found[after]))
                for before, after in pairwise(searched)
                for place in range(before + 1, after)
            }
        found |= {place: task.result() for place, task in tasks.items()}
        nobody = [FrameFaces(frame.frame, (), (), frame.scale) for frame in frames]
        return [found[place] or empty for place, empty in enumerate(nobody)]

    async def objects(self, frames: Sequence[FaceFrame]) -> list[FrameObjects]:
        """Return the objects in the frames in which they are looked for; none where the stage failed on one.

        A frame that shows what the one before shows has its objects.
        """

        async def detect(frame: FaceFrame) -> FrameObjects | None:
            async with self._slots:
                image = SharedPixels(frame.image) if self._shared else frame.image
                found = await self._call(OBJECTS, image, f"frame {frame.frame}")
            return None if found is None else FrameObjects(frame.frame, found.objects, frame.scale)

        shown = shown_by([frame for frame in frames if frame.objects])
        async with task_group() as group:
            tasks = {frame.frame: group.create_task(detect(frame)) for frame, same in shown if frame is same}
        found = ((frame, tasks[same.frame].result()) for frame, same in shown)
        return [replace(seen, frame=frame.frame) for frame, seen in found if seen is not None]

    async def _search(self, frame: FaceFrame) -> FrameFaces | None:
        """Return the faces of a frame; None where a stage failed on it."""
        name = f"frame {frame.frame}"
        async with self._slots:
            image = SharedPixels(frame.image) if self._shared else frame.image
            faces = await self._call(VIDEO_FACES, image, name)
            vectors: tuple[FaceVector, ...] | None = ()
            if faces:
                vectors = await self._call(IDENTITY, (image, faces), name)
        self._on_progress(frame.frame + 1)
        return None if faces is None or vectors is None else FrameFaces(frame.frame, faces, vectors, frame.scale)

    async def _follow(self, frame: FaceFrame, before: FrameFaces | None, after: FrameFaces | None) -> FrameFaces | None:
        """Return the faces of a frame between two that were searched, as ``_search`` does."""
        partners = None if before is None or after is None else continued_faces(before, after)
        if before is None or after is None or partners is None:
            return await self._search(frame)
        if not partners:
            return FrameFaces(frame.frame, (), (), frame.scale)
        share_gone = (frame.frame - before.frame) / (after.frame - before.frame)
        expected = tuple(
            between(face, after.faces[partner], share_gone)
            for face, partner in zip(before.faces, partners, strict=True)
        )
        async with self._slots:
            image = SharedPixels(frame.image) if self._shared else frame.image
            faces = await self._call(VIDEO_FACES, (image, expected), f"frame {frame.frame}")
        places = None if faces is None else matched(faces, expected)
        if faces is None or places is None:
            return await self._search(frame)
        self._on_progress(frame.frame + 1)
        pairs = [(before.vectors[place], after.vectors[partners[place]]) for place in places]
        vectors = tuple(one.towards(other, share_gone) for one, other in pairs)
        return FrameFaces(frame.frame, faces, vectors, frame.scale)

    async def _call(self, ref: StageRef[InT, OutT], item: InT, name: str) -> OutT | None:
        """Return the stage's result; None where it fails on this input, as on ``MAX_FAILED`` inputs it may."""
        stage: StageHandle[InT, OutT] = self._stages[ref.key]
        try:
            return await retry(stage, item)
        except StageError as error:
            self.failed += 1
            if not error.concerns_input or self.failed > MAX_FAILED:
                raise
            logger.warning("%s: %s: %s", self._name, name, error.message)
            return None


def shown_by(frames: Sequence[FaceFrame]) -> list[tuple[FaceFrame, FaceFrame]]:
    """Return each frame with the one that shows what it shows: an earlier one of its shot, or else itself.

    They are compared as small pictures, with the one that is shown and not with the frame before, so that nothing moves
    far by little steps.
    """
    import cv2

    result: list[tuple[FaceFrame, FaceFrame]] = []
    before: NDArray[np.float32] | None = None
    for frame in frames:
        small = cv2.resize(frame.image, SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
        still = before is not None and not frame.begins and np.abs(small - before).max() <= STILL
        result.append((frame, result[-1][1] if still else frame))
        before = before if still else small
    return result


def decisions_are_enough(chunk: Chunk) -> bool:
    """Return whether no frame of a chunk may be the first of a shot by its changes: else there mostly is a decision."""
    return not bool((chunk.changes[:, 0] >= LEAST).any())


def searched_frames(frames: Sequence[FaceFrame]) -> list[int]:
    """Return the places of the frames that are searched: every third of a shot, its first and its last."""
    starts = [place for place, frame in enumerate(frames) if frame.begins or place == 0]
    shots = pairwise([*starts, len(frames)])
    return sorted({place for start, end in shots for place in (*range(start, end, SEARCHED_APART), end - 1)})


def continued_faces(before: FrameFaces, after: FrameFaces) -> tuple[int, ...] | None:
    """Return the index of each face of a searched frame in the next one, as ``vision.faces.continuity.continued``."""
    vectors = [np.array([each.vector for each in frame.vectors]).reshape(-1, DIMENSIONS) for frame in (before, after)]
    lengths = [np.linalg.norm(each, axis=1) for each in vectors]
    return continued(before.faces, after.faces, vectors[0] @ vectors[1].T / np.outer(*lengths))


async def retry(call: Callable[[InT], Awaitable[OutT]], item: InT) -> OutT:
    """Call a stage, again after a pause while it is full or away: a job has time. Raises its last StageError."""
    for pause in RETRY_PAUSES_S:
        try:
            return await call(item)
        except StageError as error:
            if not error.retryable:
                raise
            logger.info("trying again in %g s: %s", pause, error.message)
        await asyncio.sleep(pause)
    return await call(item)
