"""Uploads that come in parts: what has come of each, so that any process can go on with it.

A part is an object of its own, put first and recorded after it. One process at a time holds an upload, for a lease that
it renews; only the holder adds parts, and only where the last one ended. So an upload that is taken from a holder who
has died, or whose client is elsewhere by now, loses what was not recorded yet and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from stores import derived
from stores.objects import Objects

PREFIX: Final = "uploads/"
"""Of the keys of all parts."""


class Part(NamedTuple):
    """One part: its object key and its size in bytes."""

    key: str
    size: int


@dataclass(frozen=True, slots=True)
class PartialUpload:
    """One upload of ``length`` bytes, of which ``offset`` are here.

    ``owner`` is an opaque name of the client, ``metadata`` what it said of the file, as it was sent, ``label`` that of
    the file. ``holder`` has it until ``held_until``; empty: nobody. ``asset_id``: of the asset that was made of it,
    empty before.
    """

    upload_id: str
    owner: str
    length: int
    metadata: str
    label: str
    created_at: datetime
    expires_at: datetime
    offset: int = 0
    parts: tuple[Part, ...] = ()
    holder: str = ""
    held_until: datetime | None = None
    asset_id: str = ""

    def is_held(self, now: datetime) -> bool:
        """Return whether a process holds it."""
        return bool(self.holder) and self.held_until is not None and now < self.held_until


class Usage(NamedTuple):
    """How many unfinished uploads an owner has, and how many bytes they will have together."""

    uploads: int
    size: int


class PartialUploads(Protocol):
    """Uploads in parts; every write that returned is durable. Raises StoreError."""

    async def insert(self, upload: PartialUpload) -> None:
        """Add a new upload."""
        ...

    async def get(self, upload_id: str) -> PartialUpload | None:
        """Return an upload, None for an unknown id."""
        ...

    async def usage(self, owner: str, now: datetime) -> Usage:
        """Return what the unfinished uploads of an owner come to, without those that expired before ``now``."""
        ...

    async def hold(self, upload_id: str, holder: str, now: datetime, until: datetime, *, force: bool = False) -> bool:
        """Make somebody the holder; False if the upload is unknown, or another one has it and ``force`` is not set."""
        ...

    async def renew(self, upload_id: str, holder: str, until: datetime) -> bool:
        """Extend the lease of the holder; False if it is not the holder."""
        ...

    async def append(self, upload_id: str, holder: str, offset: int, part: Part, expires_at: datetime) -> bool:
        """Record a part that begins at an offset; False if it is not the holder, or the last part ended elsewhere."""
        ...

    async def finish(self, upload_id: str, holder: str, asset_id: str) -> bool:
        """Record the asset that was made of it, and forget the parts; False if it is not the holder."""
        ...

    async def release(self, upload_id: str, holder: str) -> None:
        """Hold it no more."""
        ...

    async def delete(self, upload_id: str) -> bool:
        """Remove an upload; False if there is none."""
        ...

    async def forget_asset(self, asset_id: str) -> int:
        """Remove uploads that became an asset, whose parts are gone; return how many there were."""
        ...

    async def expired(self, now: datetime, limit: int) -> Sequence[str]:
        """Return ids of some uploads that expired before ``now``."""
        ...


def parts(upload_id: str) -> str:
    """Return the prefix of the keys of the parts of an upload."""
    return f"{PREFIX}{upload_id}/"


async def discard(uploads: PartialUploads, objects: Objects, upload_id: str) -> bool:
    """Remove an upload with all its parts; False if there was none."""
    # The record first: what is put after that is not recorded any more, and whoever put it removes it.
    existed = await uploads.delete(upload_id)
    await derived.remove(objects, parts(upload_id))
    return existed
