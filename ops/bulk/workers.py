"""The workers of a bulk run, and the rows that Ray Data carries between them.

Decoders, workers for faces and camera, and workers for cuts are pools of Ray Data; finalizers are actors of their own.
Workers keep nothing of a video but the row that they process, and a finalizer the draft of its index: jobs, parts and
checkpoints are the driver's. Ray replaces a worker that dies and has its rows made again; the same grant always gives
the same rows.

A row has two columns: ``images``, uint8 (frames, h, w, 3), which Ray keeps as they are and workers read in place; and
``note``, everything else, pickled. Only the frames in which objects and faces are detected are large, and they are
dropped as soon as that is done.
"""

import asyncio
import logging
import os
import pickle
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from configs.settings import settings
from deployments.analysis.identities import IDENTITIES
from deployments.analysis.tracks import TRACKS
from deployments.embed.clip import CLIP
from deployments.embed.dinov3 import DINOV3
from deployments.media.frames import FRAMES
from deployments.objects.detector import OBJECTS
from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY
from deployments.people.video_faces import VIDEO_FACES
from deployments.serving.catalog import AnyStage, find_stage, local_handle
from deployments.serving.handle import AnyHandle
from deployments.shots.camera import CAMERA
from deployments.shots.cuts import CUTS
from graphs.indexing.checkpoint import Parts, retrying_lost_parts
from graphs.indexing.decode import Chunk, ChunkDecoder, KeyframeCandidate, Timeline
from graphs.indexing.finalize import Draft, draft_index, store_index
from graphs.indexing.inference import ChunkInference, FrameFaces, FrameObjects, Observations
from graphs.indexing.jobs import check_models
from graphs.indexing.objects import ObjectModels, store_objects
from graphs.indexing.people import PeopleModels
from graphs.indexing.shots import SHOTS_AT_ONCE, ShotBuilder, ShotModels
from graphs.web.context import Context
from graphs.web.gateway import open_context
from stores.errors import StoreError
from stores.jobs import Json
from stores.objects import ObjectNotFound
from stores.open import Stores
from stores.people import VideoIndex
from vision.errors import InvalidInput, MediaNotFound, StageError, StageUnavailable
from vision.images import Pixels
from vision.media.reader import VideoReader
from vision.shots.movement import Motions

logger = logging.getLogger("ray.serve")

T = TypeVar("T")
Row = dict[str, NDArray[Any]]
Batch = Mapping[str, NDArray[Any]]
"""One row as Ray Data passes it to a function."""

FRAME_STAGES: Final = (VIDEO_FACES.key, IDENTITY.key, CAMERA.key)
FINAL_STAGES: Final = (DINOV3, CLIP, TRACKS, IDENTITIES, FRAMES, VIDEO_FACES, IDENTITY, CUTS, FACES)
"""Stages of a finalizer; the last four only report their models, and so does that for objects beside them."""
AT_ONCE: Final = {CUTS.key: 1, DINOV3.key: SHOTS_AT_ONCE, CLIP.key: SHOTS_AT_ONCE}
"""The most items that a worker has for these at once: networks are warmed up once for each size of a batch."""
FINALIZER_DIED: Final = "The worker that finalized this video died; the job resumes."

_NO_IMAGES: Final = np.zeros((1, 1, 1, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission to decode a video from frame ``start`` on, for one attempt at its job.

    ``objects``: whether they are looked for; ``cuts``: the first frames of shots, where nothing else is.
    """

    attempt: str
    asset_id: str
    start: int
    objects: bool = False
    cuts: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A video whose decoding begins."""

    timeline: Timeline


@dataclass(frozen=True, slots=True, eq=False)
class Failed:
    """A video that cannot be processed: a StageError, or the description of another error."""

    error: StageError | str


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A chunk whose ``face_frames`` have no images; these are in the other column.

    ``people`` and ``objects``: whether they are to be looked for; ``found``: objects in it, where that was done
    already; the stage failed on ``failed`` inputs.
    """

    chunk: Chunk
    people: bool = True
    objects: bool = False
    found: Sequence[FrameObjects] = ()
    failed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Inferred:
    """A chunk without its frames, with the faces, objects and camera motions in them; ``failed`` as in ``Decoded``."""

    chunk: Chunk
    faces: Sequence[FrameFaces]
    objects: Sequence[FrameObjects]
    motions: Motions
    failed: int


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """All observations of the frames from ``first`` to before ``end``."""

    first: int
    end: int
    observations: Observations
    candidates: tuple[KeyframeCandidate, ...]
    failed: int


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """The content of one row, for one attempt at a job."""

    attempt: str
    content: Opened | Failed | Decoded | Inferred | Observed


def to_row(message: Message, images: Pixels | None = None) -> Row:
    """Return a row for Ray Data."""
    note = np.empty(1, object)
    note[0] = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return {"note": note} if images is None else {"note": note, "images": images[None]}


def from_row(batch: Batch) -> Message:
    """Return the message of a row."""
    message: Message = pickle.loads(batch["note"][0])  # noqa: S301 - made by ``to_row`` in a process of this run
    return message


def chunk_row(attempt: str, chunk: Chunk, *, people: bool = True, objects: bool = False) -> Row:
    """Return the row of a decoded chunk, in which people or objects or both are to be looked for."""
    images = np.stack([each.image for each in chunk.face_frames]) if chunk.face_frames else _NO_IMAGES
    frames = tuple(replace(each, image=_NO_IMAGES[0]) for each in chunk.face_frames)
    return to_row(Message(attempt, Decoded(replace(chunk, face_frames=frames), people, objects)), images)


def _plain_row(attempt: str, content: Opened | Failed) -> Row:
    """Return a row without images, with the columns of rows that have some."""
    return to_row(Message(attempt, content), _NO_IMAGES)


def _with_images(chunk: Chunk, batch: Batch) -> Chunk:
    """Return the chunk that ``chunk_row`` was given."""
    pairs = zip(chunk.face_frames, batch["images"][0], strict=False)  # a chunk without frames has one blank image
    return replace(chunk, face_frames=tuple(replace(each, image=image) for each, image in pairs))


@dataclass(frozen=True)
class StageSetup:
    """Classes and configurations of the stages, and the model versions that all workers must have."""

    find: Callable[[str], AnyStage] = find_stage
    configs: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    niceness: int = 0
    """Added to the niceness of the cluster's workers."""
    objects: bool = False
    """Whether there are workers for objects."""


class Mailbox(Protocol):
    """Where decoders ask the driver for work; both calls block."""

    def request(self, number: int) -> Grant | None:
        """Return the grant to decode an item, or None where nothing is to be decoded."""
        ...

    def is_wanted(self, attempt: str) -> bool:
        """Return whether the driver still waits for the rows of this attempt."""
        ...


class DecodeVideos:
    """The number of an item → a row for each of its chunks."""

    def __init__(self, mailbox: Mailbox, niceness: int = 0) -> None:
        os.nice(niceness)
        self._mailbox = mailbox
        self._objects = Stores.open(settings()).objects

    def __call__(self, batch: Batch) -> Iterator[Row]:
        grant = self._mailbox.request(int(batch["number"][0]))
        if grant is None:
            return
        try:
            yield from self._rows(grant)
        except ObjectNotFound:
            missing = MediaNotFound("The file of this video is gone; upload it again.")
            yield _plain_row(grant.attempt, Failed(missing))
        except StageError as error:
            yield _plain_row(grant.attempt, Failed(error))
        except StoreError:
            logger.exception("decoding %s", grant.asset_id)
            unavailable = StageUnavailable("The object store does not answer; try again soon.")
            yield _plain_row(grant.attempt, Failed(unavailable))
        except Exception as error:  # one video must not end the others
            logger.exception("decoding %s", grant.asset_id)
            yield _plain_row(grant.attempt, Failed(f"decoding: {type(error).__name__}"))

    def _rows(self, grant: Grant) -> Iterator[Row]:
        with (
            self._objects.open(grant.asset_id) as file,
            VideoReader(file, probed=True, decoder=settings().video_decoder) as reader,
        ):
            decoder = ChunkDecoder(reader)
            yield _plain_row(grant.attempt, Opened(decoder.timeline))
            if grant.start >= len(reader.times):
                return
            alone, start = grant.cuts is not None, grant.start
            chunks = decoder.chunks(start) if grant.cuts is None else decoder.object_chunks(start, grant.cuts)
            for chunk in chunks:
                yield chunk_row(grant.attempt, chunk, people=not alone, objects=grant.objects)
                if not self._mailbox.is_wanted(grant.attempt):
                    return


class _StageWorker:
    """Runs stages in this process, called from a thread without an event loop."""

    def __init__(self, keys: tuple[str, ...], setup: StageSetup) -> None:
        os.nice(setup.niceness)
        self._loop = asyncio.new_event_loop()
        self._stages = self._wait(_loaded(keys, setup))

    def close(self) -> None:
        """Close its event loop."""
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def _row(
        self,
        message: Message,
        work: Callable[[ChunkInference], Coroutine[Any, Any, Message]],
        images: Pixels | None = None,
    ) -> Row:
        """Return the row of the message that becomes of one, or of its failure; ``images`` go on with it."""
        inference = ChunkInference(self._stages, f"attempt {message.attempt}", shared=False, decisions=True)
        try:
            return to_row(self._wait(work(inference)), images)
        except StageError as error:
            failure = Failed(error)
        except Exception as error:  # one video must not end the others
            logger.exception("attempt %s", message.attempt)
            failure = Failed(f"{type(self).__name__}: {type(error).__name__}")
        return to_row(Message(message.attempt, failure), None if images is None else _NO_IMAGES)


class InferObjects(_StageWorker):
    """A chunk with its images → the same with the objects in it; the images go on where people are looked for too."""

    def __init__(self, setup: StageSetup) -> None:
        super().__init__((OBJECTS.key,), setup)

    def __call__(self, batch: Batch) -> Row:
        message = from_row(batch)
        decoded, images = message.content, batch["images"][0]
        if not isinstance(decoded, Decoded) or not decoded.objects:
            return to_row(message, images)
        chunk = _with_images(decoded.chunk, batch)

        async def infer(inference: ChunkInference) -> Message:
            found = await inference.objects(chunk.face_frames)
            rest = decoded.chunk if decoded.people else replace(decoded.chunk, face_frames=())
            return Message(message.attempt, replace(decoded, chunk=rest, found=found, failed=inference.failed))

        return self._row(message, infer, images if decoded.people else _NO_IMAGES)


class InferFrames(_StageWorker):
    """A chunk with its images → the faces in it and the motion of the camera; the images end here."""

    def __init__(self, setup: StageSetup) -> None:
        super().__init__(FRAME_STAGES, setup)

    def __call__(self, batch: Batch) -> Row:
        message = from_row(batch)
        decoded = message.content
        if not isinstance(decoded, Decoded):
            return to_row(message)
        chunk = _with_images(decoded.chunk, batch)

        async def infer(inference: ChunkInference) -> Message:
            searched = chunk.face_frames if decoded.people else ()
            faces, motions = await asyncio.gather(inference.faces(searched), inference.motions(chunk.run))
            rest = replace(chunk, face_frames=(), run=replace(chunk.run, frames=chunk.run.frames[:0]))
            failed = decoded.failed + inference.failed
            return Message(message.attempt, Inferred(rest, faces, decoded.found, motions, failed))

        return self._row(message, infer)


class InferCuts(_StageWorker):
    """A chunk with its faces and motions → all observations of it."""

    def __init__(self, setup: StageSetup) -> None:
        super().__init__((CUTS.key,), setup)

    def __call__(self, batch: Batch) -> Row:
        message = from_row(batch)
        inferred = message.content
        if not isinstance(inferred, Inferred):
            return to_row(message)
        chunk = inferred.chunk

        async def infer(inference: ChunkInference) -> Message:
            probabilities = await inference.cuts(chunk)
            observations = Observations.of(chunk, probabilities, inferred.motions, inferred.faces, inferred.objects)
            failed = inferred.failed + inference.failed
            return Message(message.attempt, Observed(chunk.first, chunk.end, observations, chunk.candidates, failed))

        return self._row(message, infer)


async def _handles(keys: Sequence[str], setup: StageSetup) -> dict[str, AnyHandle]:
    """Return handles to stages of this process, each in batches no larger than it gets here."""
    handles = {}
    for key in keys:
        stage, config = setup.find(key), dict(setup.configs.get(key, {}))
        if key in AT_ONCE:
            configured = stage.config_class.model_validate(config).max_batch_size
            config["max_batch_size"] = min(configured, AT_ONCE[key])
        handles[key] = await local_handle(stage, config)
    return handles


async def _loaded(keys: tuple[str, ...], setup: StageSetup) -> dict[str, AnyHandle]:
    """Return handles to stages of this process. Raises InvalidInput where one has another model than it must have."""
    handles = await _handles(keys, setup)
    for key, handle in handles.items():
        info = await handle.info()
        version = str(info.get("model_version", ""))
        if not info["loaded"]:
            raise InvalidInput(f"{key} cannot be loaded on this node: {info['error']}")
        if version != setup.versions.get(key, version):
            raise InvalidInput(f"{key} has {version} on this node and {setup.versions[key]} on another one.")
    return handles


@dataclass(frozen=True, slots=True, eq=False)
class FinalizeRequest:
    """A video whose frames are all observed, in ``parts`` parts of ``span`` frames, which are called ``what``.

    ``objects``: version of the detector, None where no objects were looked for; ``index``: that to which they are
    added, where nothing else was looked for.
    """

    asset_id: str
    job_id: str
    payload: Mapping[str, Any]
    timeline: Timeline
    parts: int
    span: int
    what: str = ""
    objects: str | None = None
    index: VideoIndex | None = None


class Finalizer:
    """An actor that makes shots, traces, objects and identities of finished videos, with the stages in its own process.

    StageErrors are returned, so that they keep their class on their way to the driver.
    """

    def __init__(self, setup: StageSetup) -> None:
        os.nice(setup.niceness)
        self._setup = setup
        self._loading = asyncio.Lock()
        self._context: Context | None = None
        self._drafts: dict[str, Draft] = {}

    async def infos(self) -> dict[str, dict[str, Any]]:
        """Return the info of each stage."""
        stages = (await self._ready()).stages
        return {key: await stage.info() for key, stage in stages.items()}

    async def draft(self, request: FinalizeRequest) -> StageError | None:
        """Make shots and traces, which stay here until they are stored or dropped, unless objects alone are added."""
        context = await self._ready()
        if request.index is not None:
            return None
        try:
            models = await ShotModels.of(context)
            check_models(models.version, request.payload["shot_models"])
            parts = _parts(context, request)
            with retrying_lost_parts():
                observations = await parts.read(request.parts)
                builder = ShotBuilder(
                    context, request.asset_id, request.timeline, observations, parts, request.span, models, faces=True
                )
                self._drafts[request.job_id] = await draft_index(context, builder)
        except StageError as error:
            return error
        return None

    async def store(self, request: FinalizeRequest) -> Json | StageError:
        """Assign identities to the traces, store everything, and return the result of the job."""
        context, draft = await self._ready(), self._drafts.pop(request.job_id, None)
        try:
            if request.objects is not None:
                check_models((await ObjectModels.of(context)).version, request.objects)
                if request.index is not None:
                    with retrying_lost_parts():
                        observations = await _parts(context, request).read(request.parts)
                    return await store_objects(context, request.index, observations, request.timeline, request.objects)
            if draft is None:
                return StageUnavailable(FINALIZER_DIED)
            models = await PeopleModels.of(context)
            check_models(models.version, request.payload["models"])
            return await store_index(context, request.asset_id, draft, models, request.objects)
        except StageError as error:
            return error

    async def drop(self, job_id: str) -> None:
        """Drop the draft of a job."""
        self._drafts.pop(job_id, None)

    async def _ready(self) -> Context:
        async with self._loading:
            if self._context is None:
                stages = (*FINAL_STAGES, OBJECTS) if self._setup.objects else FINAL_STAGES
                handles = await _handles([ref.key for ref in stages], self._setup)
                self._context = open_context(settings(), handles)
            return self._context


def _parts(context: Context, request: FinalizeRequest) -> Parts:
    return Parts(context.objects, context.settings.spool, request.asset_id, request.job_id, request.what)
