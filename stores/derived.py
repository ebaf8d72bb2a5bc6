"""Objects derived from an asset: its poster, parts of it, and all under ``<asset>/``. They are deleted with it."""

import asyncio
import uuid
from pathlib import Path

from stores.errors import disk_errors
from stores.objects import Objects

PARTS = "parts/"
"""Prefix of the keys of parts of all videos, which share one limit of space."""


def poster_key(asset_id: str) -> str:
    """Return the object key of the poster of a video."""
    return f"posters/{asset_id}"


def part_key(asset_id: str, digest: str) -> str:
    """Return the object key of a part that was made of a video; ``digest`` tells the parts apart."""
    return f"{parts(asset_id)}{digest}"


def parts(asset_id: str) -> str:
    """Return the prefix of the keys of all parts of a video."""
    return f"{PARTS}{asset_id}/"


def folder(asset_id: str) -> str:
    """Return the prefix of the keys of all other derived objects."""
    return f"{asset_id}/"


async def put(objects: Objects, spool: Path, key: str, data: bytes, content_type: str) -> None:
    """Store one derived object durably; ``spool`` is a folder for temporary files. Raises StoreFull."""
    path = spool / uuid.uuid4().hex
    try:
        with disk_errors("spool"):
            await asyncio.to_thread(_write, path, data)
        await objects.put_file(key, path, content_type)
    finally:
        path.unlink(missing_ok=True)  # a bucket copies what a folder takes


async def remove(objects: Objects, prefix: str) -> int:
    """Remove all objects whose key starts with a prefix; return how many there were."""
    return sum([await objects.delete(key) for key in [info.key async for info in objects.list(prefix)]])


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
