"""Objects that belong to an asset beside its file and its poster: they lie under ``<asset>/`` and go with it."""

import asyncio
import uuid
from pathlib import Path

from stores.objects import Objects


def folder(asset_id: str) -> str:
    """Prefix of their keys."""
    return f"{asset_id}/"


async def put(objects: Objects, spool: Path, key: str, data: bytes, content_type: str) -> None:
    """Store one durably."""
    path = spool / uuid.uuid4().hex
    try:
        await asyncio.to_thread(_write, path, data)
        await objects.put_file(key, path, content_type)
    finally:
        path.unlink(missing_ok=True)  # a bucket copies what a folder takes


async def remove(objects: Objects, prefix: str) -> None:
    """Remove all whose key starts so."""
    for key in [info.key async for info in objects.list(prefix)]:
        await objects.delete(key)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
