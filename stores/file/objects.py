"""Objects as files in a folder: embedded, durable, shared by all processes of one machine."""

import asyncio
import errno
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from stores.disk import Disk
from stores.errors import StoreError, StoreFull, StoreReadOnly, disk_error
from stores.objects import CHUNK_BYTES, ObjectInfo, ObjectNotFound, check_key, check_prefix, check_range

# None of these characters may occur in a key, so no key can name a sidecar or the folder of temporary files.
SLASH, SIDECAR, TEMP = ",", "@type", "@tmp"
SHARD_CHARS = 2
STALE_TEMP_S = 24 * 3600
UNKNOWN_TYPE = "application/octet-stream"
MAX_TYPE_BYTES = 4096

T = TypeVar("T")


class FileObjects:
    """``file:///dir``; key ``ab/c`` is the file ``ab/ab,c`` in it, its content type ``ab/ab,c@type``.

    Slashes are folded into the name because, as in S3, ``ab`` and ``ab/c`` can be objects both.

    :raises StoreError: the folder cannot be made, for another reason than a full or read-only disk.
    """

    type = "file"

    def __init__(self, url: str, reserve_bytes: int = 0) -> None:
        self._root = Path(url.removeprefix("file://"))
        self._temp = self._root / TEMP
        self._disk = Disk(self._root, reserve_bytes)
        self._durable_shards: set[Path] = set()
        self._typed: dict[str, Path] = {}
        """The sidecar of the last object that was put with each content type."""
        self._examiner = ThreadPoolExecutor(1, thread_name_prefix="objects-health")
        with suppress(StoreFull, StoreReadOnly):  # what is stored can be read and deleted all the same
            self._translate(self._prepare)

    async def put_file(self, key: str, path: Path, content_type: str) -> None:
        await self._in_thread(self._put, self._path(key), path, content_type)

    async def head(self, key: str) -> ObjectInfo | None:
        return await self._in_thread(_head, self._path(key), key)

    async def get(self, key: str) -> bytes:
        return await asyncio.to_thread(self.read, key)

    def read(self, key: str) -> bytes:
        return self._translate(_get, self._path(key), key)

    def open(self, key: str) -> BinaryIO:
        return self._translate(_open, self._path(key), key)

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        check_range(start, end)
        # The open file keeps its bytes when the object is replaced or deleted meanwhile.
        opening = asyncio.ensure_future(self._in_thread(_open, self._path(key), key))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)  # the thread goes on, and nobody else has what it opens
            raise
        try:
            file.seek(start)
            left = (os.fstat(file.fileno()).st_size if end is None else end) - start
            while left > 0 and (chunk := await self._in_thread(file.read, min(left, CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk
        finally:
            file.close()

    async def delete(self, key: str) -> bool:
        return await self._in_thread(_delete, self._path(key))

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        check_prefix(prefix)
        for shard in await self._in_thread(_shards, self._root, prefix):
            for info in await self._in_thread(_objects, shard, prefix):
                yield info

    async def presign_get(self, key: str, ttl_s: int, disposition: str | None = None) -> str | None:
        check_key(key)
        return None

    async def ping(self) -> None:
        await self._examined(self._temp.stat)

    async def check_room(self) -> None:
        await self._examined(self._check)

    async def close(self) -> None:
        self._examiner.shutdown(wait=False, cancel_futures=True)

    def _path(self, key: str) -> Path:
        name = check_key(key).replace("/", SLASH)
        return self._root / name[:SHARD_CHARS] / name

    async def _examined(self, function: Callable[[], T]) -> T:
        # In a thread of its own: a store that is well must not look ill because all others are busy.
        return await asyncio.get_running_loop().run_in_executor(self._examiner, self._translate, function)

    async def _in_thread(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.to_thread(self._translate, function, *args)

    def _translate(self, function: Callable[..., T], *args: Any) -> T:
        try:
            return function(*args)
        except OSError as error:
            place = f"file store {self._root}"
            raise disk_error(place, error) or StoreError(f"{place}: {error.strerror}") from error

    def _prepare(self) -> None:
        """Create the folder; remove what killed processes left half written."""
        self._temp.mkdir(parents=True, exist_ok=True)
        for path in self._temp.iterdir():
            if path.stat().st_mtime < time.time() - STALE_TEMP_S:
                path.unlink(missing_ok=True)

    def _check(self) -> None:
        self._disk.check()
        path = self._temp / uuid.uuid4().hex
        path.touch()
        path.unlink()

    def _put(self, target: Path, source: Path, content_type: str) -> None:
        self._disk.require()
        self._temp.mkdir(parents=True, exist_ok=True)
        shard = target.parent
        if shard not in self._durable_shards:
            shard.mkdir(exist_ok=True)
            _sync(self._root)
            self._durable_shards.add(shard)
        ready = self._temp / uuid.uuid4().hex
        try:
            self._adopt(source, ready)
            self._put_sidecar(target, content_type)
            ready.replace(target)
        except OSError:
            ready.unlink(missing_ok=True)
            if not target.exists():
                _sidecar(target).unlink(missing_ok=True)
            raise
        # A delete that ran since removed the sidecar first, so it is missing here or belongs to this object.
        self._put_sidecar(target, content_type)
        _sync(shard)

    def _adopt(self, source: Path, ready: Path) -> None:
        """Make ``ready``, on this volume, a durable file with the bytes of ``source``."""
        try:
            if source.is_symlink() or source.stat().st_nlink > 1:
                _copy(source, ready)  # moving it would leave the bytes under a name of someone else's
            else:
                source.replace(ready)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(source, ready)
        os.utime(ready)
        _sync(ready)

    def _put_sidecar(self, target: Path, content_type: str) -> None:
        if _content_type(target) == content_type:
            return
        ready = self._temp / uuid.uuid4().hex
        try:
            if not self._linked(content_type, ready):
                ready.write_text(content_type)
                _sync(ready)
            ready.replace(_sidecar(target))
        except OSError:
            ready.unlink(missing_ok=True)
            raise
        self._typed[content_type] = _sidecar(target)

    def _linked(self, content_type: str, ready: Path) -> bool:
        """Give a durable sidecar of this content type another name, which writes nothing; False if there is none."""
        other = self._typed.get(content_type)
        if other is None:
            return False
        try:
            ready.hardlink_to(other)
        except OSError:  # it was deleted, or has all the names that a file may have on this disk
            return False
        if _type_in(ready) == content_type:
            return True
        ready.unlink()  # its object was replaced by one of another type
        return False


def _sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    try:
        with source.open("rb") as reader, target.open("xb") as writer:
            shutil.copyfileobj(reader, writer, CHUNK_BYTES)
    except OSError:
        target.unlink(missing_ok=True)
        raise


def _sidecar(target: Path) -> Path:
    return target.with_name(target.name + SIDECAR)


def _content_type(target: Path) -> str | None:
    return _type_in(_sidecar(target))


def _type_in(sidecar: Path) -> str | None:
    """Return the content type that a sidecar has; a quarter of the time that ``Path.read_text`` takes."""
    try:
        descriptor = os.open(sidecar, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(descriptor, MAX_TYPE_BYTES).decode()
    finally:
        os.close(descriptor)


def _open(target: Path, key: str) -> BinaryIO:
    try:
        return target.open("rb")
    except FileNotFoundError:
        raise ObjectNotFound(key) from None


def _close(opening: asyncio.Future[BinaryIO]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _get(target: Path, key: str) -> bytes:
    with _open(target, key) as file:
        return file.read()


def _head(target: Path, key: str) -> ObjectInfo | None:
    try:
        return _info(key, target.stat(), _content_type(target) or UNKNOWN_TYPE)
    except FileNotFoundError:
        return None


def _info(key: str, status: os.stat_result, content_type: str = "") -> ObjectInfo:
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(key, status.st_size, content_type, etag, datetime.fromtimestamp(status.st_mtime, UTC))


def _delete(target: Path) -> bool:
    _sidecar(target).unlink(missing_ok=True)
    try:
        target.unlink()
    except FileNotFoundError:
        return False
    _sync(target.parent)
    return True


def _shards(root: Path, prefix: str) -> list[Path]:
    """Return the folders whose keys can start with a prefix, in key order."""
    named = {path.name.replace(SLASH, "/"): path for path in root.iterdir() if path.name != TEMP}
    return [named[name] for name in sorted(named) if name.startswith(prefix[:SHARD_CHARS])]


def _objects(shard: Path, prefix: str) -> list[ObjectInfo]:
    infos = []
    for entry in os.scandir(shard):
        key = entry.name.replace(SLASH, "/")
        if key.startswith(prefix) and not entry.name.endswith(SIDECAR):
            try:
                infos.append(_info(key, entry.stat()))
            except FileNotFoundError:
                continue  # deleted since the folder was read
    return sorted(infos, key=lambda info: info.key)
