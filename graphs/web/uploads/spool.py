"""Multipart uploads, written to disk and hashed while they stream in: no file is ever held in memory.

Writing and hashing run on the event loop, a slice at a time: with the CPU's SHA instructions 64 KiB take about
40 microseconds and a write to the page cache 15, while a hop to a thread and back takes over 100. Nothing
is synced here: an upload that a crash destroys was never acknowledged, and the object store syncs what it stores.
"""

import asyncio
import hashlib
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from graphs.web.filenames import base_name, parse_disposition
from stores.disk import Disk
from vision.errors import InvalidInput, InvalidMedia, MediaTooLarge, StageOverloaded

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS: Final = 16
MAX_FIELD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 16
MAX_HEADER_BYTES: Final = 64 * 1024
"""Of one header of a part: room for the longest names that people send, which are then cut."""

_SLICE: Final = 256 * 1024  # bytes handled between two turns of the event loop
_BUFFER: Final = 64 * 1024
_PIECE: Final = 2**20
_CHECK_BYTES: Final = 2**20


class Spool:
    """The folder of files on their way in, and how many bytes of them this process may have there at once.

    Bytes are counted as they come: a sender who announces many and sends few takes nothing from others.
    """

    def __init__(self, directory: Path, max_bytes: int, reserve_bytes: int = 0) -> None:
        self.directory = directory
        self._disk = Disk(directory, reserve_bytes)
        self._max_bytes = max_bytes
        self._bytes = 0
        self._checked = 0

    def take(self, size: int) -> None:
        """Count bytes before they are written; none at the start of a file.

        Raises StageOverloaded when they would be too many, StoreFull when the disk would have less than its reserve.
        """
        if not size:
            self._disk.require()
        elif size > self._checked:
            # The disk is asked for every MiB, not for every slice that comes.
            checked = max(size, _CHECK_BYTES)
            self._disk.require(checked)
            self._checked = checked
        self._checked -= size
        if self._bytes + size > self._max_bytes:
            raise StageOverloaded(
                f"{self._bytes / 2**20:,.0f} MB of unfinished uploads are on disk, which is about the limit; "
                "try again in a minute."
            )
        self._bytes += size

    def give_back(self, size: int) -> None:
        """Count bytes no more, which are deleted or elsewhere now."""
        self._bytes -= size


@dataclass(frozen=True, slots=True)
class Spooled:
    """A file in the spool; ``size`` is in bytes, ``filename`` is safe to show.

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
    spool: Spool,
    max_bytes: int,
    field: str = "file",
) -> AsyncIterator[SpooledUpload]:
    """Spool the one file of a form; see ``spool_uploads``."""
    async with spool_uploads(stream, content_type_header, spool, max_bytes, field, max_files=1) as uploads:
        yield uploads[0]


@asynccontextmanager
async def spool_uploads(
    stream: AsyncIterator[bytes],
    content_type_header: str,
    spool: Spool,
    max_bytes: int,
    field: str = "files",
    *,
    max_files: int,
) -> AsyncIterator[list[SpooledUpload]]:
    """Spool the files of a form in the parts named ``field``: at least one, in order, none of them empty.

    Raises MediaTooLarge as soon as a file passes ``max_bytes``, InvalidInput for a form that is not what the route
    takes, InvalidMedia for an empty file, and StageOverloaded or StoreFull when the spool or its disk is full. However
    the block is left, also by cancellation, no temporary file stays behind.
    """
    form = _Form(spool, field, max_bytes, max_files)
    try:
        await _feed(form, stream, content_type_header, max_files * max_bytes)
        yield [
            SpooledUpload(file.path, file.digest.hexdigest(), file.size, file.name, form.fields)
            for file in form.finished()
        ]
    finally:
        form.discard()


class Readable(Protocol):
    """What can be read from its beginning to its end, as a file; its calls may block."""

    def read(self, size: int, /) -> bytes: ...


@asynccontextmanager
async def spool_file(
    source: Readable, filename: str, directory: Path, max_bytes: int, reserve_bytes: int = 0
) -> AsyncIterator[Spooled]:
    """Spool a copy of a file that is elsewhere, read in a thread. Raises as ``spool_uploads`` does."""
    path = directory / f"file-{uuid.uuid4().hex}"
    name = base_name(filename)
    try:
        copying = asyncio.ensure_future(
            asyncio.to_thread(_copy, source, path, max_bytes, Disk(directory, reserve_bytes))
        )
        try:
            sha256_hex, size = await asyncio.shield(copying)
        except _TooLarge:
            raise MediaTooLarge(f"The file '{name}' has more than {max_bytes / 2**20:g} MB.") from None
        except asyncio.CancelledError:
            await asyncio.wait({copying})  # else the thread would still write after the removal
            raise
        if not size:
            raise InvalidMedia(f"The file '{name}' is empty.")
        yield Spooled(path, sha256_hex, size, name)
    finally:
        path.unlink(missing_ok=True)


class _TooLarge(Exception):
    pass


def _copy(source: Readable, path: Path, max_bytes: int, disk: Disk) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as target:
        while piece := source.read(_PIECE):
            size += len(piece)
            if size > max_bytes:
                raise _TooLarge
            disk.require(len(piece))
            digest.update(piece)
            target.write(piece)
    return digest.hexdigest(), size


@dataclass(slots=True)
class _FilePart:
    """A file part; ``digest`` is its SHA-256 so far, ``size`` its bytes so far."""

    name: str
    handle: IO[bytes]
    digest: Any = field(default_factory=hashlib.sha256)
    size: int = 0

    @property
    def path(self) -> Path:
        return Path(self.handle.name)


def new_file(directory: Path) -> IO[bytes]:
    """Open a file that was not there, for its owner alone; the folder is made when absent."""
    path = directory / f"upload-{uuid.uuid4().hex}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileNotFoundError:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return open(path, "wb", _BUFFER, opener=lambda *_: descriptor)


class _Form:
    """The parts of one form as ``MultipartParser`` finds them: files go to disk, text fields to a dict.

    Whatever a callback raises comes out of the parser's ``write``.
    """

    def __init__(self, spool: Spool, field: str, max_bytes: int, max_files: int) -> None:
        self.field = field
        self.fields: dict[str, str] = {}
        self.ended = False
        self._spool = spool
        self._taken = 0
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._files: list[_FilePart] = []
        self._header = (bytearray(), bytearray())
        self._headers = 0
        self._disposition = b""
        self._name = ""
        self._texts = 0
        self._text: bytearray | None = None
        self.callbacks: MultipartCallbacks = {
            "on_part_begin": self._part_begin,
            "on_header_begin": self._header_begin,
            "on_header_field": lambda data, start, end: self._header_data(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._header_data(1, data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def finished(self) -> list[_FilePart]:
        """Return the files of a form that has been read to its end. Raises InvalidInput and InvalidMedia."""
        if not self._files:
            raise InvalidInput(f"No file was sent; send it as multipart/form-data in the part {self.field!r}.")
        for file in self._files:
            if not file.size:
                raise InvalidMedia(f"The file '{file.name}' is empty.")
        return self._files

    def discard(self) -> None:
        """Close all files, and remove those that were not moved away."""
        for file in self._files:
            with suppress(OSError):  # what it had not written yet has no room
                file.handle.close()
            file.path.unlink(missing_ok=True)
        self._spool.give_back(self._taken)
        self._taken = 0

    def _part_begin(self) -> None:
        self._disposition, self._text, self._headers = b"", None, 0

    def _header_begin(self) -> None:
        self._header = (bytearray(), bytearray())
        self._headers += 1
        if self._headers > MAX_HEADERS:
            raise InvalidInput(f"The multipart body is broken: a part has more than {MAX_HEADERS} headers.")

    def _header_data(self, place: int, data: bytes) -> None:
        self._header[place].extend(data)
        if len(self._header[place]) > MAX_HEADER_BYTES:
            raise InvalidInput(
                f"A header of a part of the form has more than {MAX_HEADER_BYTES:,} bytes; send a shorter name."
            )

    def _header_end(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)

    def _headers_finished(self) -> None:
        name, filename = parse_disposition(self._disposition)
        if name == self.field:
            if len(self._files) == self._max_files:
                raise InvalidInput(f"Too many files; send at most {self._max_files} in the part {name!r}.")
            self._spool.take(0)
            self._files.append(_FilePart(base_name(filename or ""), new_file(self._spool.directory)))
        elif filename is not None:
            raise InvalidInput(f"The file is in the part {name[:100]!r}; send it in the part {self.field!r}.")
        else:
            self._name, self._text, self._texts = name, bytearray(), self._texts + 1
            if self._texts > MAX_FIELDS:
                raise InvalidInput(f"The form has more than {MAX_FIELDS} text fields.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is not None:
            if len(self._text) + end - start > MAX_FIELD_BYTES:
                raise InvalidInput(f"The text field {self._name[:100]!r} has more than {MAX_FIELD_BYTES} bytes.")
            self._text += data[start:end]
            return
        file, piece = self._files[-1], memoryview(data)[start:end]
        file.size += len(piece)
        if file.size > self._max_bytes:
            raise MediaTooLarge(f"The file '{file.name}' has more than {self._max_bytes / 2**20:g} MB.")
        self._spool.take(len(piece))
        self._taken += len(piece)
        file.digest.update(piece)
        file.handle.write(piece)

    def _part_end(self) -> None:
        if self._text is not None:
            self.fields[self._name] = self._text.decode("utf-8", "replace")
        else:
            self._files[-1].handle.close()

    def _end(self) -> None:
        self.ended = True


async def _feed(form: _Form, stream: AsyncIterator[bytes], content_type: str, max_files_bytes: int) -> None:
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidInput(
            f"Send the file as multipart/form-data with a boundary, in the part {form.field!r}; "
            f"this request has Content-Type {content_type[:100]!r}."
        )
    # What stands before the first and after the last boundary is skipped, and must end as well.
    left = max_files_bytes + MAX_FIELDS * MAX_FIELD_BYTES + 1024 * 1024
    try:
        # The form has limits of its own, which say what was wrong.
        parser = MultipartParser(boundary, form.callbacks, max_header_count=sys.maxsize, max_header_size=sys.maxsize)
        async for chunk in stream:
            left -= len(chunk)
            if left < 0:
                raise MediaTooLarge("The request is longer than all that it may contain; send fewer or smaller files.")
            for start in range(0, len(chunk), _SLICE):
                parser.write(chunk[start : start + _SLICE])
                if len(chunk) > _SLICE:
                    await asyncio.sleep(0)
    except FormParserError as error:
        raise InvalidInput("The multipart body is broken; build it with an HTTP library's form upload.") from error
    if not form.ended:
        raise InvalidInput("The multipart body ends before its last boundary; send the whole request.")
