"""What was found in a video so far, kept in the object store part by part, so that a job that is killed can go on."""

import asyncio
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graphs.indexing.candidates import Candidate
from graphs.indexing.findings import Findings
from stores import derived as belongings
from stores.objects import Objects

OCTETS = "application/octet-stream"


class Parts:
    """The parts of one job: ``<asset>/index/<job>/<number>``, and beside each the pictures that may be keyframes."""

    def __init__(self, objects: Objects, spool: Path, asset_id: str, job_id: str) -> None:
        self._objects = objects
        self._spool = spool
        self._prefix = f"{belongings.folder(asset_id)}index/{job_id}/"

    async def whole(self) -> int:
        """How many parts are there without a gap, from the first one on."""
        there = {info.key async for info in self._objects.list(self._prefix)}
        return next(number for number in range(len(there) + 1) if self._key(number) not in there)

    async def put(self, number: int, found: Findings, pictures: Sequence[Candidate]) -> None:
        """Store a part durably."""
        data, jpegs = await asyncio.to_thread(found.packed), await asyncio.to_thread(_packed, pictures)
        await belongings.put(self._objects, self._spool, self._pictures(number), jpegs, OCTETS)
        await belongings.put(self._objects, self._spool, self._key(number), data, OCTETS)  # last: it makes it whole

    async def all(self, count: int) -> Findings:
        """What is in the first ``count`` parts. Raises ObjectNotFound when one was lost."""
        return await asyncio.to_thread(self._read, count)

    async def pictures(self, number: int) -> dict[int, bytes]:
        """JPEGs of a part by frame. Raises ObjectNotFound when they were lost."""
        return await asyncio.to_thread(lambda: _unpacked(self._objects.read(self._pictures(number))))

    async def forget(self) -> None:
        """Remove them."""
        await belongings.remove(self._objects, self._prefix)

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:06d}"

    def _pictures(self, number: int) -> str:
        return f"{self._key(number)}.pictures"

    def _read(self, count: int) -> Findings:
        return Findings.joined([Findings.unpacked(self._objects.read(self._key(number))) for number in range(count)])


def _packed(pictures: Sequence[Candidate]) -> bytes:
    file = io.BytesIO()
    arrays = {str(picture.frame): np.frombuffer(picture.jpeg, np.uint8) for picture in pictures}
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _unpacked(data: bytes) -> dict[int, bytes]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {int(frame): arrays[frame].tobytes() for frame in arrays.files}
