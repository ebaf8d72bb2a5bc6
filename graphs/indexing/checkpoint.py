"""Store what was observed in a video part by part, with a checkpoint at each, so that a killed job can resume."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphs.indexing.decode import KeyframeCandidate
from graphs.indexing.inference import Observations
from graphs.jobs.runner import JobContext
from graphs.web.context import Context
from graphs.web.uploads.library import Library
from stores import derived
from stores.errors import StoreError
from stores.objects import ObjectNotFound, Objects
from vision.errors import MediaNotFound, StageError, StageUnavailable
from vision.shots.transitions import STRIDE

PART_S: Final = 10.0
"""Seconds of video between checkpoints."""
INFERRED: Final = 0.95
"""Share of the progress bar at which all frames are done."""
CONTENT_TYPE: Final = "application/octet-stream"
FORMAT: Final = f"{PART_S:g} s, {STRIDE}, " + ", ".join(each.name for each in fields(Observations))
"""What a part holds. Those of another version are not resumed from: the job begins anew, which costs time alone."""


class Parts:
    """The stored parts of one job: ``<asset>/index/<job>/<number>``, and beside each its keyframe candidates.

    ``what`` is before the number where they have less than a whole index needs: a job that is resumed may do another.
    """

    def __init__(self, objects: Objects, spool: Path, asset_id: str, job_id: str, what: str = "") -> None:
        self._objects = objects
        self._spool = spool
        self._folder = f"{derived.folder(asset_id)}index/{job_id}/"
        self._prefix = f"{self._folder}{what}"

    async def count(self, job: JobContext) -> int:
        """Return how many parts are in the checkpoint of the job and stored without a gap, from the first one on.

        It is 0 where a worker of another version made them, and they hold other things.
        """
        keys = {info.key async for info in self._objects.list(self._prefix)}
        if job.checkpoint.get("format", FORMAT) != FORMAT:
            return 0
        stored = next(number for number in range(len(keys) + 1) if self._key(number) not in keys)
        return min(int(job.checkpoint.get("parts", 0)), stored)

    async def put(self, number: int, observations: Observations, candidates: Sequence[KeyframeCandidate]) -> None:
        """Store a part durably."""
        data = await asyncio.to_thread(_packed, observations)
        jpegs = await asyncio.to_thread(_packed_jpegs, candidates)
        await derived.put(self._objects, self._spool, self._jpegs_key(number), jpegs, CONTENT_TYPE)
        # Last: a part counts as stored by this key.
        await derived.put(self._objects, self._spool, self._key(number), data, CONTENT_TYPE)

    async def read(self, count: int) -> Observations:
        """Return what is in the first ``count`` parts. Raises ObjectNotFound when one was lost."""
        return await asyncio.to_thread(self._read, count)

    async def jpegs(self, number: int) -> dict[int, bytes]:
        """Return the keyframe candidates of a part by frame. Raises ObjectNotFound when they were lost."""
        return await asyncio.to_thread(lambda: _unpacked_jpegs(self._objects.read(self._jpegs_key(number))))

    async def delete(self) -> None:
        """Remove all parts."""
        await derived.remove(self._objects, self._folder)

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:06d}"

    def _jpegs_key(self, number: int) -> str:
        return f"{self._key(number)}.pictures"

    def _read(self, count: int) -> Observations:
        return Observations.join([_unpacked(self._objects.read(self._key(number))) for number in range(count)])


class Checkpoints:
    """Take the observations of a job in order, and store a part and a checkpoint every ``PART_S`` seconds of video.

    The video has ``frames`` frames, ``fps`` a second.
    """

    def __init__(self, context: Context, job: JobContext, parts: Parts, frames: int, fps: float) -> None:
        self._context = context
        self._job = job
        self._parts = parts
        self._frames = frames
        self.span = STRIDE * max(1, round(PART_S * fps / STRIDE))
        """Frames of a part; a whole number of chunks."""
        self.stored = 0
        """Parts that are stored."""
        self._observations: list[Observations] = []
        self._candidates: list[KeyframeCandidate] = []
        self._inferred = 0

    async def resume(self) -> int:
        """Return the first frame that is in no part yet; at or behind the last one when all are."""
        self.stored = await self._parts.count(self._job)
        return self.stored * self.span

    async def add(self, end: int, observations: Observations, candidates: Sequence[KeyframeCandidate]) -> None:
        """Add those of the next chunk, which ends before frame ``end``. Raises MediaNotFound and LeaseLost."""
        self._observations.append(observations)
        self._candidates += candidates
        self.report(end)
        if end % self.span == 0 or end == self._frames:
            await self._store_part()

    def report(self, frames: int) -> None:
        """Report as progress that so many frames are done."""
        self._inferred = max(self._inferred, frames)
        self._job.progress(INFERRED * self._inferred / self._frames, f"Frame {self._inferred} of {self._frames}")

    async def _store_part(self) -> None:
        await check_asset(self._context, self._job.subject)
        observations = Observations.join(self._observations)
        putting = asyncio.ensure_future(self._parts.put(self.stored, observations, self._candidates))
        try:
            await asyncio.shield(putting)
        except asyncio.CancelledError:
            await asyncio.wait({putting})  # else a thread would store it behind the removal of all parts
            raise
        self._observations, self._candidates = [], []
        self.stored += 1
        await self._job.save({"parts": self.stored, "next_frame": self.stored * self.span, "format": FORMAT})


@asynccontextmanager
async def job_parts(context: Context, job: JobContext, what: str = "") -> AsyncIterator[Parts]:
    """Give the parts of a job; they are removed when it has succeeded, and when it will not be resumed."""
    parts = Parts(context.objects, context.settings.spool, job.subject, job.job_id, what)
    try:
        yield parts
        await parts.delete()
    except BaseException as error:
        with suppress(StoreError):
            if (isinstance(error, StageError) and not error.retryable) or await _given_up(context, job):
                await parts.delete()
        raise


@contextmanager
def retrying_lost_parts() -> Iterator[None]:
    """Raise StageUnavailable where a part was lost, since another attempt at the job makes it again."""
    try:
        yield
    except ObjectNotFound:
        raise StageUnavailable("A stored part of this index was lost; that part of the video is done again.") from None


async def check_asset(context: Context, asset_id: str) -> None:
    """Raise MediaNotFound where the file was deleted, or is being deleted."""
    if not await Library(context).known([asset_id]):
        raise MediaNotFound("The file was deleted while it was being indexed.")


async def _given_up(context: Context, job: JobContext) -> bool:
    record = await context.jobs.get(job.job_id)
    return record is None or record.cancel_requested


def _packed(observations: Observations) -> bytes:
    return _npz({each.name: getattr(observations, each.name) for each in fields(Observations)})


def _unpacked(data: bytes) -> Observations:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return Observations(**arrays)


def _packed_jpegs(candidates: Sequence[KeyframeCandidate]) -> bytes:
    return _npz({str(candidate.frame): np.frombuffer(candidate.jpeg, np.uint8) for candidate in candidates})


def _unpacked_jpegs(data: bytes) -> dict[int, bytes]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {int(frame): arrays[frame].tobytes() for frame in arrays.files}


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()
