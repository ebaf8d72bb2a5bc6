"""What travels through the pipeline: a row for each chunk of a video, and one before them that says what it is.

A row has two columns: ``images``, uint8 (looks, h, w, 3), which Ray keeps as they are and workers read where they lie;
and ``note``, everything else, pickled. Only the frames that faces are looked for in are large, and they are dropped as
soon as that is done.
"""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphs.indexing.decode import Chunk, KeyframeCandidate, Timeline
from graphs.indexing.inference import FrameFaces, Observations
from vision.errors import StageError
from vision.images import Pixels
from vision.shots.motion import Motions

Batch = Mapping[str, NDArray[Any]]
"""One row as Ray Data hands it to a function."""

_NO_IMAGES: Final = np.zeros((1, 1, 1, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to decode a video from a frame on, for one attempt at its job."""

    attempt: str
    asset_id: str
    start: int


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A video that is decoded from now on."""

    timeline: Timeline


@dataclass(frozen=True, slots=True, eq=False)
class Broken:
    """It cannot be decoded or looked at: a StageError, or what else went wrong, in words."""

    error: StageError | str


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A chunk whose ``face_frames`` have no images; they are in the other column."""

    chunk: Chunk


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """A chunk without its frames, and what was found in them; stages failed on ``failed`` inputs."""

    chunk: Chunk
    faces: Sequence[FrameFaces]
    motions: Motions
    failed: int


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """All that is known of the frames from ``first`` to before ``end``."""

    first: int
    end: int
    observations: Observations
    candidates: tuple[KeyframeCandidate, ...]
    failed: int


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What one row says, of one attempt at a job."""

    attempt: str
    what: Opened | Broken | Decoded | Looked | Found


def row(piece: Piece, images: Pixels | None = None) -> dict[str, NDArray[Any]]:
    """A row for Ray Data."""
    note = np.empty(1, object)
    note[0] = pickle.dumps(piece, pickle.HIGHEST_PROTOCOL)
    return {"note": note} if images is None else {"note": note, "images": images[None]}


def piece_of(batch: Batch) -> Piece:
    """What a row says."""
    found: Piece = pickle.loads(batch["note"][0])  # noqa: S301 - made by ``row`` in another process of this run
    return found


def decoded_row(attempt: str, chunk: Chunk) -> dict[str, NDArray[Any]]:
    """A chunk, as it was decoded."""
    images = np.stack([each.image for each in chunk.face_frames]) if chunk.face_frames else _NO_IMAGES
    frames = tuple(replace(each, image=_NO_IMAGES[0]) for each in chunk.face_frames)
    return row(Piece(attempt, Decoded(replace(chunk, face_frames=frames))), images)


def plain_row(attempt: str, what: Opened | Broken) -> dict[str, NDArray[Any]]:
    """A row without images, with the columns of those that have some."""
    return row(Piece(attempt, what), _NO_IMAGES)


def with_images(chunk: Chunk, batch: Batch) -> Chunk:
    """The chunk of ``decoded_row``, as it was."""
    pairs = zip(chunk.face_frames, batch["images"][0], strict=False)  # of no frames there is one image
    return replace(chunk, face_frames=tuple(replace(each, image=image) for each, image in pairs))
