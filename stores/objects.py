"""The object store: bytes under keys, in a folder or in S3 and compatible stores, behind one protocol.

``file:///dir`` is embedded; ``s3://bucket?endpoint_url=…&region=…`` serves AWS, Cloudflare R2, MinIO and
SeaweedFS.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

CHUNK_BYTES = 2**20
MAX_KEY_CHARS = 200
_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Size in bytes, MIME type, an opaque tag that changes with the bytes, and the time of the write (UTC).

    ``content_type`` is empty in listings, as S3 does not list it.
    """

    key: str
    size: int
    content_type: str
    etag: str
    modified: datetime


class ObjectNotFound(KeyError):
    """No object has this key."""


def check_key(key: str) -> str:
    """Return a valid key.

    :raises ValueError: it is empty, too long, or could name another place, as ``..`` would in a folder.
    """
    if len(key) > MAX_KEY_CHARS or not _KEY.fullmatch(key):
        raise ValueError(f"not an object key: {key[:MAX_KEY_CHARS]!r}")
    return key


def check_prefix(prefix: str) -> str:
    """Return a prefix that keys can start with: empty, a key, or a key and a slash.

    :raises ValueError: no key can start with it.
    """
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


def check_range(start: int, end: int | None) -> None:
    """Raise ValueError if a byte range starts before 0 or ends before its start."""
    if start < 0 or (end is not None and end < start):
        raise ValueError(f"not a byte range: {start}..{end}")


class Objects(Protocol):
    """Streaming byte store.

    Keys are ``[A-Za-z0-9._-]`` segments joined by ``/``, none of which begins with a dot; all methods raise
    ValueError for others.
    """

    type: str
    """Backend name for health answers: ``file`` or ``s3``."""

    async def put_file(self, key: str, path: Path, content_type: str) -> None:
        """Store a finished file durably and atomically, replacing any older object.

        The file at ``path`` may be moved away.
        """
        ...

    async def head(self, key: str) -> ObjectInfo | None:
        """Return what is stored under a key, None if nothing is."""
        ...

    async def get(self, key: str) -> bytes:
        """Return the bytes of an object, for images and other small ones. Raises ObjectNotFound."""
        ...

    def read(self, key: str) -> bytes:
        """Return the bytes of an object, as ``get`` does; this call blocks."""
        ...

    def open(self, key: str) -> BinaryIO:
        """Return an object as a seekable binary file, whose calls block; close it.

        It is the real file in a folder, and read in ranges from a bucket. Raises ObjectNotFound; a read raises
        StoreError if the store does not answer, or has another object under the key by now.
        """
        ...

    def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield bytes ``start`` to ``end`` (exclusive; None: to the end) in chunks of at most 1 MiB.

        Bounds past the end are clipped. Raises ObjectNotFound before the first chunk.
        """
        ...

    async def delete(self, key: str) -> bool:
        """Remove an object; False if there was none."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield all objects whose keys start with a prefix, in key order."""
        ...

    async def presign_get(self, key: str, ttl_s: int, disposition: str | None = None) -> str | None:
        """Return a URL that serves the object to anyone for ``ttl_s`` seconds; None if the gateway has to serve it.

        That is where the store has no such URLs, and where ``ttl_s`` is 0. ``disposition`` is the Content-Disposition
        of the response.
        """
        ...

    async def ping(self) -> None:
        """Raise StoreError unless the store answers."""
        ...

    async def check_room(self) -> None:
        """Raise StoreFull or StoreReadOnly while nothing more can be stored; deletes may work."""
        ...

    async def close(self) -> None: ...
