"""The workers of the pipeline: Ray Data keeps pools of them, and hands them row after row.

They hold nothing of a video but what they are at: the stores, jobs and checkpoints are the driver's. A worker that
dies is replaced by Ray, which has the rows made again that it owed; so from the same grant come the same rows.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

from numpy.typing import NDArray

from configs.settings import settings
from deployments.people.identity import IDENTITY
from deployments.people.video_faces import VIDEO_FACES
from deployments.serving.catalog import AnyStage, find_stage, local_handle
from deployments.serving.handle import AnyHandle
from deployments.shots.camera import CAMERA
from deployments.shots.cuts import CUTS
from graphs.indexing.decode import ChunkDecoder
from graphs.indexing.inference import ChunkInference, Observations
from ops.bulk.rows import (
    Batch,
    Broken,
    Decoded,
    Found,
    Grant,
    Looked,
    Opened,
    Piece,
    decoded_row,
    piece_of,
    plain_row,
    row,
    with_images,
)
from stores.documents import StoreError
from stores.objects import ObjectNotFound
from stores.open import open_objects
from vision.errors import InvalidInput, MediaNotFound, StageError, StageUnavailable
from vision.media.reader import VideoReader

logger = logging.getLogger("ray.serve")

T = TypeVar("T")
Row = dict[str, NDArray[Any]]

LOOKS: Final = (VIDEO_FACES.key, IDENTITY.key, CAMERA.key)


@dataclass(frozen=True)
class Models:
    """Which stages run with which configuration, and the versions that all workers must have."""

    find: Callable[[str], AnyStage] = find_stage
    configs: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    niceness: int = 0
    """Of the workers, added to that of the cluster's."""


class Desk(Protocol):
    """Where a decoder asks what to do; both calls block."""

    def ask(self, number: int) -> Grant | None:
        """Leave to decode the item of this number; None where nothing is to be done."""
        ...

    def wanted(self, attempt: str) -> bool:
        """Whether somebody still waits for the rows of this attempt."""
        ...


class DecodeVideos:
    """The number of an item → a row for each of its chunks."""

    def __init__(self, desk: Desk, niceness: int = 0) -> None:
        os.nice(niceness)
        self._desk = desk
        self._objects = open_objects(settings().objects)

    def __call__(self, batch: Batch) -> Iterator[Row]:
        grant = self._desk.ask(int(batch["number"][0]))
        if grant is None:
            return
        try:
            yield from self._decoded(grant)
        except ObjectNotFound:
            yield _broken(grant, MediaNotFound("The file of this video is gone; upload it again."))
        except StageError as error:
            yield _broken(grant, error)
        except StoreError:
            logger.exception("decoding %s", grant.asset_id)
            yield _broken(grant, StageUnavailable("The object store does not answer; try again soon."))
        except Exception as error:  # one video must not end the others
            logger.exception("decoding %s", grant.asset_id)
            yield _broken(grant, f"decoding: {type(error).__name__}")

    def _decoded(self, grant: Grant) -> Iterator[Row]:
        with self._objects.open(grant.asset_id) as file, VideoReader(file) as reader:
            decoder = ChunkDecoder(reader)
            yield plain_row(grant.attempt, Opened(decoder.timeline))
            if grant.start >= len(reader.times):
                return
            for chunk in decoder.chunks(grant.start):
                yield decoded_row(grant.attempt, chunk)
                if not self._desk.wanted(grant.attempt):
                    return


class _StageWorker:
    """Stages in this process, called from a thread that has no event loop."""

    def __init__(self, keys: tuple[str, ...], models: Models) -> None:
        os.nice(models.niceness)
        self._loop = asyncio.new_event_loop()
        self._stages = self._wait(_loaded(keys, models))

    def close(self) -> None:
        """End its event loop."""
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def _row(self, piece: Piece, work: Callable[[ChunkInference], Coroutine[Any, Any, Piece]]) -> Row:
        inference = ChunkInference(self._stages, f"attempt {piece.attempt}", shared=False)
        try:
            return row(self._wait(work(inference)))
        except StageError as error:
            return row(Piece(piece.attempt, Broken(error)))
        except Exception as error:  # one video must not end the others
            logger.exception("attempt %s", piece.attempt)
            return row(Piece(piece.attempt, Broken(f"{type(self).__name__}: {type(error).__name__}")))


class LookAtFrames(_StageWorker):
    """A chunk with its images → the faces in it and how the camera moves; the images end here."""

    def __init__(self, models: Models) -> None:
        super().__init__(LOOKS, models)

    def __call__(self, batch: Batch) -> Row:
        piece = piece_of(batch)
        if not isinstance(piece.what, Decoded):
            return row(piece)
        chunk = with_images(piece.what.chunk, batch)

        async def look(inference: ChunkInference) -> Piece:
            faces, motions = await asyncio.gather(inference.faces(chunk.face_frames), inference.motions(chunk.run))
            rest = replace(chunk, face_frames=(), run=replace(chunk.run, frames=chunk.run.frames[:0]))
            return Piece(piece.attempt, Looked(rest, faces, motions, inference.failed))

        return self._row(piece, look)


class FindCuts(_StageWorker):
    """A chunk that was looked at → all that is known of it."""

    def __init__(self, models: Models) -> None:
        super().__init__((CUTS.key,), models)

    def __call__(self, batch: Batch) -> Row:
        piece = piece_of(batch)
        looked = piece.what
        if not isinstance(looked, Looked):
            return row(piece)
        chunk = looked.chunk

        async def cut(inference: ChunkInference) -> Piece:
            probabilities = await inference.cuts(chunk.window, len(chunk.changes))
            observations = Observations.of(chunk, probabilities, looked.motions, looked.faces)
            failed = looked.failed + inference.failed
            return Piece(piece.attempt, Found(chunk.first, chunk.end, observations, chunk.candidates, failed))

        return self._row(piece, cut)


async def _loaded(keys: tuple[str, ...], models: Models) -> dict[str, AnyHandle]:
    """Handles to stages of this process. Raises InvalidInput where one has another model than it must have."""
    handles = {key: await local_handle(models.find(key), models.configs.get(key)) for key in keys}
    for key, handle in handles.items():
        info = await handle.info()
        version = str(info.get("model_version", ""))
        if not info["loaded"]:
            raise InvalidInput(f"{key} cannot be loaded on this node: {info['error']}")
        if version != models.versions.get(key, version):
            raise InvalidInput(f"{key} has {version} on this node and {models.versions[key]} on another one.")
    return handles


def _broken(grant: Grant, error: StageError | str) -> Row:
    return plain_row(grant.attempt, Broken(error))
