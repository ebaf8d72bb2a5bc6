"""Makes assets of the items of a bulk run, as an upload does, a few items ahead of those that are decoded.

The driver does it: to copy and hash a file takes a hundredth of the time that one core needs to decode it.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import BinaryIO, Final

from graphs.web.context import Context
from graphs.web.uploads.library import Library, asset_id_of
from graphs.web.uploads.spool import spool_file
from ops.bulk.sources import Item, SourceError, opened
from stores.documents import StoreError
from stores.records import Asset
from vision.errors import InvalidInput, InvalidMedia, StageError, StageUnavailable

AHEAD: Final = 4
AT_ONCE: Final = 2


class Intake:
    """``asset`` of the items, which are taken in order."""

    def __init__(self, context: Context, items: Sequence[Item]) -> None:
        self._library = Library(context)
        self._settings = context.settings
        self._items = items
        self._room = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[int, asyncio.Task[Asset | StageError]] = {}
        self._next = 0

    async def asset(self, number: int) -> Asset:
        """The asset of an item; those after it are begun. Raises StageError: it is no video, or cannot be read."""
        while self._next < min(number + 1 + AHEAD, len(self._items)):
            self._tasks[self._next] = asyncio.create_task(self._guarded(self._items[self._next]))
            self._next += 1
        found = await asyncio.shield(self._tasks[number])
        if isinstance(found, StageError):
            if found.retryable:
                self._tasks[number] = asyncio.create_task(self._guarded(self._items[number]))
            raise found
        return found

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _guarded(self, item: Item) -> Asset | StageError:
        try:
            async with self._room:
                return await self._asset(item)
        except StageError as error:
            return error
        except SourceError as error:
            return InvalidInput(str(error))
        except StoreError as error:
            return StageUnavailable(f"A store or bucket does not answer: {error}")
        except OSError as error:
            return StageUnavailable(f"{item.name} cannot be read: {error.strerror or type(error).__name__}.")

    async def _asset(self, item: Item) -> Asset:
        if item.kind == "asset":
            asset = await self._library.get(item.place)
            if asset.kind != "video":
                raise InvalidInput(f"{asset.asset_id} is no video; only videos are indexed.")
            return asset
        if item.kind == "file" and (known := await self._known(item)) is not None:
            return known
        async with (
            _opened(item) as source,
            spool_file(source, item.filename, self._settings.spool, self._settings.max_video_bytes) as spooled,
        ):
            return (await self._library.register(spooled, only="video"))[0]

    async def _known(self, item: Item) -> Asset | None:
        """The asset that a file of this machine is already; without copying it."""
        async with _opened(item) as source:
            asset_id = asset_id_of(await asyncio.to_thread(_sha256, source))
        asset = await self._library.whole(asset_id)
        if asset is not None and asset.kind != "video":
            raise InvalidMedia(f"This {asset.format} is {asset.kind}, not video.")
        return asset


@asynccontextmanager
async def _opened(item: Item) -> AsyncIterator[BinaryIO]:
    """Opened on a thread, since a bucket or a network drive may take its time."""
    with ExitStack() as stack:
        yield await asyncio.to_thread(stack.enter_context, opened(item))


def _sha256(source: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := source.read(2**20):
        digest.update(piece)
    return digest.hexdigest()
