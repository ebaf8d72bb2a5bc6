"""Multipart uploads, written to disk and hashed while they stream in: no file is ever held in memory.

Writing and hashing run on the event loop, a slice at a time: by the CPU's SHA instructions 64 KiB take about
40 microseconds and a write to the page cache 15, while a hop to a thread and back takes over 100. Nothing
is synced here: an upload that a crash takes was never acknowledged, and the object store syncs what it keeps.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from graphs.web.uploads.parts import MAX_FIELD_BYTES, MAX_FIELDS, Parts, base_name
from vision.errors import InvalidInput, InvalidMedia, MediaTooLarge

_SLICE: Final = 256 * 1024  # bytes handled between two turns of the event loop
_PIECE: Final = 2**20


@dataclass(frozen=True, slots=True)
class Spooled:
    """A file in the spool; ``size`` is in bytes.

    The file at ``path`` is removed when the ``async with`` block ends, unless it was moved away.
    """

    path: Path
    sha256_hex: str
    size: int
    filename: str


@dataclass(frozen=True, slots=True)
class SpooledUpload(Spooled):
    """One file of a form. ``fields`` are the form's text fields."""

    fields: dict[str, str]


@asynccontextmanager
async def spool_upload(
    stream: AsyncIterator[bytes],
    content_type_header: str,
    directory: Path,
    max_bytes: int,
    field: str = "file",
) -> AsyncIterator[SpooledUpload]:
    """The one file of a form; see ``spool_uploads``."""
    async with spool_uploads(stream, content_type_header, directory, max_bytes, field, max_files=1) as uploads:
        yield uploads[0]


@asynccontextmanager
async def spool_uploads(
    stream: AsyncIterator[bytes],
    content_type_header: str,
    directory: Path,
    max_bytes: int,
    field: str = "files",
    *,
    max_files: int,
) -> AsyncIterator[list[SpooledUpload]]:
    """The files of a form that came in the parts named ``field``, at least one, in order, none of them empty.

    Raises ``MediaTooLarge`` as soon as a file passes ``max_bytes``, ``InvalidInput`` for a form that is not
    what the route takes and ``InvalidMedia`` for an empty file. However the block is left, also by
    cancellation, no temporary file stays behind.
    """
    parts = Parts(directory, field, max_bytes, max_files)
    try:
        await _feed(parts, stream, content_type_header, max_files * max_bytes)
        yield [
            SpooledUpload(file.path, file.digest.hexdigest(), file.size, file.name, parts.fields)
            for file in parts.finished()
        ]
    finally:
        parts.discard()


@asynccontextmanager
async def spool_file(source: BinaryIO, filename: str, directory: Path, max_bytes: int) -> AsyncIterator[Spooled]:
    """A copy of a file that is elsewhere, read on a thread of its own. Raises as ``spool_uploads`` does."""
    path = directory / f"file-{uuid.uuid4().hex}"
    name = base_name(filename)
    try:
        copying = asyncio.ensure_future(asyncio.to_thread(_copy, source, path, max_bytes))
        try:
            sha256_hex, size = await asyncio.shield(copying)
        except _TooLarge:
            raise MediaTooLarge(f"The file {name!r} has more than {max_bytes / 2**20:g} MB.") from None
        except asyncio.CancelledError:
            await asyncio.wait({copying})  # else the thread would write on behind the removal
            raise
        if not size:
            raise InvalidMedia(f"The file {name!r} is empty.")
        yield Spooled(path, sha256_hex, size, name)
    finally:
        path.unlink(missing_ok=True)


class _TooLarge(Exception):
    pass


def _copy(source: BinaryIO, path: Path, max_bytes: int) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as target:
        while piece := source.read(_PIECE):
            size += len(piece)
            if size > max_bytes:
                raise _TooLarge
            digest.update(piece)
            target.write(piece)
    return digest.hexdigest(), size


async def _feed(parts: Parts, stream: AsyncIterator[bytes], content_type: str, max_files_bytes: int) -> None:
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidInput(
            f"Send the file as multipart/form-data with a boundary, in the part {parts.field!r}; "
            f"this request has Content-Type {content_type[:100]!r}."
        )
    # What stands before the first and after the last boundary is skipped, and must end some time too.
    left = max_files_bytes + MAX_FIELDS * MAX_FIELD_BYTES + 1024 * 1024
    try:
        parser = MultipartParser(boundary, parts.callbacks)
        async for chunk in stream:
            left -= len(chunk)
            if left < 0:
                raise MediaTooLarge("The request is longer than all that it may hold.")
            for start in range(0, len(chunk), _SLICE):
                parser.write(chunk[start : start + _SLICE])
                if len(chunk) > _SLICE:
                    await asyncio.sleep(0)
    except FormParserError as error:
        raise InvalidInput("The multipart body is broken; build it with an HTTP library's form upload.") from error
    if not parts.ended:
        raise InvalidInput("The multipart body ends before its last boundary; send the whole request.")
