"""Faces seen in a video so far, kept in the object store part by part, so that a job that is killed can go on."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deployments.analysis.cuts import Changes
from deployments.analysis.tracks import Detections
from deployments.people.face import Face
from deployments.people.identity import FaceVector
from graphs import belongings
from ops.stores.objects import Objects

DIMENSIONS: Final = 128


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The faces of one look, in pixels of its image; ``scale`` makes them pixels of the video."""

    frame: int
    faces: tuple[Face, ...]
    vectors: tuple[FaceVector, ...]
    scale: float


def detections(looks: Sequence[Seen]) -> Detections:
    """As arrays, in pixels of the video."""
    found = [(look, face, vector) for look in looks for face, vector in zip(look.faces, look.vectors, strict=True)]
    boxes = [np.multiply((face.x, face.y, face.width, face.height), look.scale) for look, face, _ in found]
    landmarks = [np.multiply(face.landmarks, look.scale) for look, face, _ in found]
    return Detections(
        frames=np.array([look.frame for look, _, _ in found], np.int64),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        confidences=np.array([face.confidence for _, face, _ in found], np.float32),
        landmarks=np.array(landmarks, np.float32).reshape(-1, 5, 2),
        vectors=np.array([vector.vector for _, _, vector in found], np.float32).reshape(-1, DIMENSIONS),
    )


def stretch(found: Detections, start: int, end: int) -> Detections:
    """Those at places ``start`` to before ``end``."""
    return Detections(
        frames=found.frames[start:end],
        boxes=found.boxes[start:end],
        confidences=found.confidences[start:end],
        landmarks=found.landmarks[start:end],
        vectors=found.vectors[start:end],
    )


class Parts:
    """The parts of one job: ``<asset>/index/<job>/<number>``."""

    def __init__(self, objects: Objects, spool: Path, asset_id: str, job_id: str) -> None:
        self._objects = objects
        self._spool = spool
        self._prefix = f"{belongings.folder(asset_id)}index/{job_id}/"

    async def whole(self) -> int:
        """How many parts are there without a gap, from the first one on."""
        there = {info.key async for info in self._objects.list(self._prefix)}
        return next(number for number in range(len(there) + 1) if self._key(number) not in there)

    async def put(self, number: int, found: Detections, changes: Changes) -> None:
        """Store a part durably."""
        data = await asyncio.to_thread(_packed, found, changes)
        await belongings.put(self._objects, self._spool, self._key(number), data, "application/octet-stream")

    async def all(self, count: int) -> tuple[Detections, Changes]:
        """All detections and changes of the first ``count`` parts. Raises ObjectNotFound when one was lost."""
        return await asyncio.to_thread(self._read, count)

    async def forget(self) -> None:
        """Remove them."""
        await belongings.remove(self._objects, self._prefix)

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:06d}"

    def _read(self, count: int) -> tuple[Detections, Changes]:
        parts = [_unpacked(self._objects.read(self._key(number))) for number in range(count)]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        changes = arrays.pop("changes")
        return Detections(**arrays), changes


def _packed(found: Detections, changes: Changes) -> bytes:
    file = io.BytesIO()
    arrays = {each.name: getattr(found, each.name) for each in fields(Detections)}
    np.savez(file, allow_pickle=False, changes=changes, **arrays)
    return file.getvalue()


def _unpacked(data: bytes) -> dict[str, NDArray[np.float32]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)
