"""The object store: bytes under keys, in a folder or in S3 and its kin, behind one protocol.

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

    ``content_type`` is empty in listings: S3 does not tell it there.
    """

    key: str
    size: int
    content_type: str
    etag: str
    modified: datetime


class ObjectNotFound(KeyError):
    """No object has this key."""


def check_key(key: str) -> str:
    """The key, when it is one.

    :raises ValueError: it is empty, too long, or could mean another place, as ``..`` would in a folder.
    """
    if len(key) > MAX_KEY_CHARS or not _KEY.fullmatch(key):
        raise ValueError(f"not an object key: {key[:MAX_KEY_CHARS]!r}")
    return key


def check_prefix(prefix: str) -> str:
    """The prefix, when keys can start with it: empty, a key, or a key and a slash.

    :raises ValueError: no key can start with it.
    """
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


def check_range(start: int, end: int | None) -> None:
    """:raises ValueError: the byte range counts from behind or runs backwards."""
    if start < 0 or (end is not None and end < start):
        raise ValueError(f"not a byte range: {start}..{end}")


class Objects(Protocol):
    """Streaming byte store.

    Keys are ``[A-Za-z0-9._-]`` segments joined by ``/``, none of which begins with a dot; anything else
    is a ValueError.
    """

    type: str
    """Backend name for health answers: ``file`` or ``s3``."""

    async def put_file(self, key: str, path: Path, content_type: str) -> None:
        """Store a finished file durably and atomically, replacing any older object.

        ``path`` may be consumed.
        """
        ...

    async def head(self, key: str) -> ObjectInfo | None:
        """What is stored under the key, None when nothing is."""
        ...

    async def get(self, key: str) -> bytes:
        """The whole object, for images and other small things; ObjectNotFound when there is none."""
        ...

    def read(self, key: str) -> bytes:
        """``get`` for code that has a thread of its own."""
        ...

    def open(self, key: str) -> BinaryIO:
        """The object as a file to read and seek in, for code that has a thread of its own; close it.

        A folder's is the real file, a bucket's is read in ranges. ObjectNotFound when there is none; a read raises
        StoreError when the store does not answer, or holds another object under the key by now.
        """
        ...

    def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Bytes ``start`` to ``end`` (exclusive; None: to the end) in chunks of at most 1 MiB.

        Bounds past the end are clipped; ObjectNotFound comes with the first chunk.
        """
        ...

    async def delete(self, key: str) -> bool:
        """Remove an object; False when there was none."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """All objects whose key starts with the prefix, in key order."""
        ...

    async def presign_get(self, key: str, ttl_s: int) -> str | None:
        """A URL that gives the object to anyone for a time; None when the gateway has to serve it itself."""
        ...

    async def ping(self) -> None:
        """Raise StoreError unless the store answers."""
        ...

    async def close(self) -> None: ...
