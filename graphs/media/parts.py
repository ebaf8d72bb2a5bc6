"""Parts of videos for players that ask for ranges: made once, kept in the object store for a while, sent in ranges.

Before it plays anything a player such as Safari's asks for two bytes, and for the length of the whole in the answer. Of
what is encoded while it is sent nobody knows that before the last frame. So a request for a range waits until the part
is whole; its ranges then come from the object store, which all gateways share, as the next one may reach another.
"""

import asyncio
import hashlib
import logging
import time
import uuid
from contextlib import aclosing
from contextvars import Context as RequestContext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Final

from deployments.media.clips import CLIPS
from deployments.serving.handle import work_on
from deployments.serving.streams import in_time
from graphs.web.context import Context
from graphs.web.errors import AssetNotFound
from stores import derived
from stores.objects import ObjectInfo
from vision.deadlines import request_deadline
from vision.errors import MediaTooLarge
from vision.media.plan import BoxTrack, ClipRequest

logger = logging.getLogger("ray.serve")

LARGEST_SHARE: Final = 4
"""One part may take this fraction of the space of all."""
ABANDONED_S: Final = 30.0
"""How long a part is still made when nobody waits for it any more: a player that gave up asks again."""
MAKING_S: Final = 3600.0


@dataclass(slots=True)
class _Making:
    """A part that is being made, and how many requests wait for it."""

    task: asyncio.Task[ObjectInfo]
    waiting: int = 0

    def cancel_if_abandoned(self) -> None:
        if not self.waiting:
            self.task.cancel()


class Parts:
    """Makes and finds parts; each is made once at a time in this gateway."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._making: dict[str, _Making] = {}

    @staticmethod
    def key(request: ClipRequest) -> str:
        """Return the object key of a part: it changes with the plan, with the boxes and with this software."""
        digest = hashlib.sha256(f"{version('visiongraph')} {request.plan!r}".encode())
        if request.boxes is not None:
            digest.update(_bytes_of(request.boxes))
        return derived.part_key(request.key, digest.hexdigest()[:32])

    async def find(self, key: str) -> ObjectInfo | None:
        """Return a part that was made; None if it was not, or has had its time."""
        part = await self._context.objects.head(key)
        self._context.lookups["parts", "miss" if part is None else "store"] += 1
        return part

    async def make(self, key: str, request: ClipRequest, content_type: str) -> ObjectInfo:
        """Make a part that is not there, or wait for the one that is being made.

        Raises what the stage raises, MediaTooLarge for a part that would fill the space of all parts, and
        DeadlineExceeded when the time of this request ends first; then the part waits for the next request.
        """
        making = self._making.get(key)
        if making is None:
            # In a new context: neither the deadline nor the disconnect of the first request ends it for the others.
            task = asyncio.create_task(self._make(key, request, content_type), context=RequestContext())
            making = self._making[key] = _Making(task)
            task.add_done_callback(lambda done: self._made(key, done))
        making.waiting += 1
        try:
            return await in_time(
                asyncio.shield(making.task),
                "This part is not made yet. Ask again: it goes on meanwhile. A shorter part is there sooner, and "
                "without a Range header it is sent while it is made.",
            )
        finally:
            making.waiting -= 1
            if not making.waiting and not making.task.done():
                asyncio.get_running_loop().call_later(ABANDONED_S, making.cancel_if_abandoned)

    def _made(self, key: str, task: asyncio.Task[ObjectInfo]) -> None:
        self._making.pop(key, None)
        if not task.cancelled() and (error := task.exception()):
            logger.info("a part was not made: %s", error)

    async def _make(self, key: str, request: ClipRequest, content_type: str) -> ObjectInfo:
        request_deadline.set(time.time() + MAKING_S)
        work_on(request.key)
        objects = self._context.objects
        path = self._context.settings.spool / f"part-{uuid.uuid4().hex}"
        try:
            await self._spool(request, path)
            # The same part of another gateway counts: ranges of it may be on their way.
            if (info := await objects.head(key)) is None:
                await objects.put_file(key, path, content_type)
                info = await objects.head(key)
        finally:
            path.unlink(missing_ok=True)
        asset = (await self._context.documents.get_assets([request.key])).get(request.key)
        if info is None or asset is None or asset.deleting:
            await objects.delete(key)
            raise AssetNotFound([request.key])
        await self._evict()
        return info

    async def _spool(self, request: ClipRequest, path: Path) -> None:
        limit = self._context.settings.part_cache_bytes // LARGEST_SHARE
        path.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with path.open("xb") as file:
            async with aclosing(self._context.stage(CLIPS).stream(request)) as chunks:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise MediaTooLarge(
                            f"Ranges are sent of parts up to {limit / 2**20:g} MB. Ask for a shorter part, or without "
                            "a Range header."
                        )
                    file.write(chunk)

    async def _evict(self) -> None:
        """Remove parts that have had their time, and the oldest while all of them take too much space."""
        settings, objects = self._context.settings, self._context.objects
        parts = sorted([info async for info in objects.list(derived.PARTS)], key=lambda info: info.modified)
        size = sum(info.size for info in parts)
        expired = datetime.now(UTC) - timedelta(seconds=settings.part_cache_ttl_s)
        for info in parts:
            if size <= settings.part_cache_bytes and info.modified >= expired:
                break
            await objects.delete(info.key)
            size -= info.size


def _bytes_of(boxes: BoxTrack) -> bytes:
    arrays = (boxes.frames, boxes.boxes, boxes.colours, boxes.names)
    return b"".join(array.tobytes() for array in arrays) + repr((len(boxes.frames), boxes.labels)).encode()
