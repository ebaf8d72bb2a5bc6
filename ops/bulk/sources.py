"""Find the videos that a SOURCE names, and make assets of them.

A SOURCE is a folder, a file, a glob, a bucket, or ids of assets.
"""

import asyncio
import glob
import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Literal, cast

from graphs.web.context import Context
from graphs.web.filenames import base_name
from graphs.web.uploads.library import Library, asset_id_of
from graphs.web.uploads.spool import spool_file
from stores.errors import StoreError
from stores.records import Asset
from stores.s3.location import S3Location
from vision.errors import InvalidInput, StageError, StageUnavailable

SUFFIXES: Final = frozenset({".mp4", ".m4v", ".mov", ".qt", ".avi", ".mkv", ".webm", ".3gp", ".3g2"})
"""Suffixes of files that are taken from a folder or a bucket; their content decides whether they are videos."""
_ASSET: Final = re.compile(r"[0-9a-f]{32}")
_LIST_BYTES: Final = 64 * 2**20
INGEST_AHEAD: Final = 4
"""Items that are ingested before a decoder asks for them."""
INGESTS_AT_ONCE: Final = 2


class SourceError(Exception):
    """A SOURCE cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """One video to index. ``name`` is for display; ``place``: a path, the URL of a bucket, or an asset id."""

    kind: Literal["file", "s3", "asset"]
    name: str
    place: str
    key: str = ""

    @property
    def filename(self) -> str:
        """The last part of its path or key."""
        return PurePosixPath(self.key or self.place).name


def find_items(sources: Iterable[str]) -> list[Item]:
    """Return the videos that the sources name, each once, in order. Raises SourceError, and StoreError of a bucket."""
    return list(dict.fromkeys(item for source in sources for item in _items(source)))


@contextmanager
def open_item(item: Item) -> Iterator[BinaryIO]:
    """Open a file or an object of a bucket for reading.

    Raises SourceError, and StoreError when a bucket does not answer.
    """
    if item.kind == "s3":
        from stores.s3.folder import ObjectUnreadable, S3Folder

        try:
            body = S3Folder(item.place).open(item.key)
        except ObjectUnreadable as error:
            raise SourceError(f"{item.name} cannot be read: {error}.") from error
        with body:
            yield body
        return
    try:
        file = Path(item.place).open("rb")  # noqa: SIM115 - closed below; only opening it may fail so
    except OSError as error:
        raise SourceError(f"{item.name} cannot be read: {error.strerror}.") from error
    with file:
        yield cast(BinaryIO, file)


class Ingest:
    """Makes assets of items in order, as an upload does, a few items ahead of those that are decoded.

    The driver does it: copying and hashing a file takes a hundredth of the time that one core needs to decode it.
    """

    def __init__(self, context: Context, items: Sequence[Item]) -> None:
        self._library = Library(context)
        self._settings = context.settings
        self._items = items
        self._admission = asyncio.Semaphore(INGESTS_AT_ONCE)
        self._tasks: dict[int, asyncio.Task[Asset | StageError]] = {}
        self._next = 0

    async def asset(self, number: int) -> Asset:
        """Return the asset of an item, and begin the next ones. Raises StageError if it is no video or unreadable."""
        while self._next < min(number + 1 + INGEST_AHEAD, len(self._items)):
            self._tasks[self._next] = asyncio.create_task(self._guarded(self._items[self._next]))
            self._next += 1
        result = await asyncio.shield(self._tasks[number])
        if isinstance(result, StageError):
            if result.retryable:
                self._tasks[number] = asyncio.create_task(self._guarded(self._items[number]))
            raise result
        return result

    async def close(self) -> None:
        """Cancel what is in progress."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _guarded(self, item: Item) -> Asset | StageError:
        try:
            async with self._admission:
                return await self._asset(item)
        except StageError as error:
            return error
        except SourceError as error:
            return InvalidInput(str(error))
        except StoreError as error:
            return StageUnavailable(f"{error.message} ({error})")
        except OSError as error:
            return StageUnavailable(f"{item.name} cannot be read: {error.strerror or type(error).__name__}.")

    async def _asset(self, item: Item) -> Asset:
        if item.kind == "asset":
            asset = await self._library.get(item.place)
            if asset.kind != "video":
                raise InvalidInput(f"{asset.asset_id} is no video; only videos can be indexed.")
            return asset
        if item.kind == "file" and (known := await self._known(item)) is not None:
            return known
        async with (
            _open_in_thread(item) as source,
            spool_file(
                source,
                item.filename,
                self._settings.spool,
                self._settings.max_video_bytes,
                self._settings.disk_reserve_bytes,
            ) as spooled,
        ):
            return (await self._library.register(spooled, only="video"))[0]

    async def _known(self, item: Item) -> Asset | None:
        """Return the asset with the bytes of a local file, if there is one; nothing is copied."""
        async with _open_in_thread(item) as source:
            asset_id = asset_id_of(await asyncio.to_thread(_sha256, source))
        return await self._library.upload_again(asset_id, base_name(item.filename), only="video")


def _items(source: str) -> list[Item]:
    if source.startswith("s3://"):
        return _bucket(source)
    if source.startswith("@"):
        return _listed(Path(source[1:]))
    if _ASSET.fullmatch(source):
        return [Item("asset", source, source)]
    path = Path(source)
    if path.is_dir():
        return _files(path.resolve().rglob("*"), source, by_suffix=True)
    if path.is_file():
        return _listed(path) if path.suffix == ".txt" else _files([path], source)
    matches = _files(map(Path, glob.glob(source, recursive=True)), source)  # noqa: PTH207 - absolute patterns too
    if not matches:
        raise SourceError(f"There is no video at {source!r}: it is no folder, file, glob or asset id.")
    return matches


def _files(paths: Iterable[Path], source: str, *, by_suffix: bool = False) -> list[Item]:
    wanted = [path for path in paths if not by_suffix or path.suffix.lower() in SUFFIXES]
    files = sorted(path.resolve() for path in wanted if path.is_file())
    if by_suffix and not files:
        raise SourceError(f"The folder {source!r} has no files that end in {', '.join(sorted(SUFFIXES))}.")
    return [Item("file", str(path), str(path)) for path in files]


def _listed(path: Path) -> list[Item]:
    """Read asset ids, one a line; a ``#`` begins a comment."""
    try:
        if path.stat().st_size > _LIST_BYTES:
            raise SourceError(f"{path} is too large for a list of asset ids.")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is no list of asset ids: {getattr(error, 'strerror', 'it is not text')}.") from error
    ids = [word for line in lines if (word := line.partition("#")[0].strip())]
    wrong = next((word for word in ids if not _ASSET.fullmatch(word)), None)
    if wrong is not None:
        raise SourceError(f"{path} has {wrong[:80]!r}, which is no asset id (32 hex digits); give one id a line.")
    if not ids:
        raise SourceError(f"{path} has no asset ids.")
    return [Item("asset", word, word) for word in ids]


def _bucket(url: str) -> list[Item]:
    from stores.s3.folder import S3Folder

    try:
        location = S3Location.parse(url)
    except ValueError as error:
        raise SourceError(f"{url!r}: {error}.") from error
    keys = [key for key in S3Folder(url).keys() if PurePosixPath(key).suffix.lower() in SUFFIXES]  # noqa: SIM118
    if not keys:
        raise SourceError(f"{url!r} has no objects that end in {', '.join(sorted(SUFFIXES))}.")
    return [Item("s3", f"s3://{location.bucket}/{key}", url, key) for key in keys]


@asynccontextmanager
async def _open_in_thread(item: Item) -> AsyncIterator[BinaryIO]:
    """Open an item on a thread, since a bucket or a network drive may be slow."""
    with ExitStack() as stack:
        yield await asyncio.to_thread(stack.enter_context, open_item(item))


def _sha256(source: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := source.read(2**20):
        digest.update(piece)
    return digest.hexdigest()
