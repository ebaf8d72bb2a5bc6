"""Send stored files, with the ranges and conditions of RFC 9110, and bodies that are made while they are read."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

from anyio import CancelScope
from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Send

from deployments.serving.handle import subject
from graphs.web.connections import method_of
from graphs.web.errors import AssetNotFound
from graphs.web.filenames import content_disposition
from stores.errors import StoreError
from stores.objects import ObjectInfo, ObjectNotFound, Objects
from stores.records import Asset
from vision.deadlines import request_deadline, time_left
from vision.errors import DeadlineExceeded, StageError

logger = logging.getLogger("ray.serve")

_RANGES: Final = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL)
_RANGE: Final = re.compile(r"[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII)
_ETAG: Final = re.compile(r'(?:W/)?("[^"]*")')


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the object store that belongs to an asset.

    ``filename`` is the name under which clients save it; ``etag`` with its quotes, strong; ``modified`` in UTC and
    whole seconds; ``size`` in bytes.
    """

    asset_id: str
    key: str
    filename: str
    content_type: str
    etag: str
    modified: datetime
    size: int

    @classmethod
    def of(cls, asset: Asset) -> "StoredFile":
        """Return the file of an asset."""
        # The id is a digest of the bytes, so it changes with them, and nothing else does.
        etag, modified = f'"{asset.asset_id}"', asset.uploaded_at.replace(microsecond=0)
        return cls(asset.asset_id, asset.asset_id, asset.filename, asset.content_type, etag, modified, asset.file_size)

    @classmethod
    def derived(cls, asset: Asset, info: ObjectInfo, filename: str) -> "StoredFile":
        """Return an object that was made of an asset, with a name of its own."""
        etag, modified = f'"{info.etag}"', info.modified.replace(microsecond=0)
        return cls(asset.asset_id, info.key, filename, info.content_type, etag, modified, info.size)

    @property
    def last_modified(self) -> str:
        """Return ``modified`` in the format of headers."""
        return format_datetime(self.modified, usegmt=True)


async def send_file(
    objects: Objects, request: Request, file: StoredFile, cache: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the file, or the part or the headers that a GET or HEAD asks for, with further ``headers``.

    ``cache`` is the value of Cache-Control. Raises AssetNotFound, and HTTPException 416 where the range has no bytes.
    """
    selection = select(method := method_of(request), request.headers, file)
    validators = {
        "etag": file.etag,
        "last-modified": file.last_modified,
        "cache-control": cache,
        **(headers or {}),
    }
    if selection.status in (304, 412):
        return Response(status_code=selection.status, headers=validators)
    if selection.status == 416:
        message = f"This file has {file.size} bytes; there are none in the range asked for."
        raise HTTPException(416, message, {"content-range": f"bytes */{file.size}"})
    sent = validators | {
        "accept-ranges": "bytes",
        "content-length": str(selection.end - selection.start),
        "content-disposition": content_disposition(file.filename),
        # The bytes are a stranger's: a browser may show them as what they are, and run nothing in them.
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
    }
    if selection.status == 206:
        sent["content-range"] = f"bytes {selection.start}-{selection.end - 1}/{file.size}"
    if method == "HEAD":
        if await objects.head(file.key) is None:
            raise AssetNotFound([file.asset_id])
        return Response(headers=sent, media_type=file.content_type)
    return Stream(_bytes(objects, file, selection), file.content_type, sent, selection.status)


@dataclass(frozen=True, slots=True)
class Selection:
    """The status of the response (200, 206, 304, 412 or 416) and its bytes, from ``start`` to before ``end``."""

    status: int
    start: int = 0
    end: int = 0


def select(method: str, headers: Mapping[str, str], file: StoredFile) -> Selection:
    """Return what to respond to a GET or HEAD with these headers, by RFC 9110 (sections 13 and 14).

    The names of ``headers`` are in any case. A malformed range is ignored, and so are several ranges at once: the
    whole file has them all.
    """
    if not _precondition_holds(headers, file):
        return Selection(412)
    if _not_modified(headers, file):
        return Selection(304)
    whole = Selection(200, 0, file.size)
    if method != "GET" or not _range_applies(headers, file):
        return whole
    match = _range_in(headers)
    return _part(match[1], match[2], file.size) or whole if match else whole


def asks_for_range(request: Request) -> bool:
    """Return whether a GET asks for one range of bytes other than all of them.

    Browsers that could do without ranges begin with ``bytes=0-``, which is as well answered with everything.
    """
    match = _range_in(request.headers)
    return method_of(request) == "GET" and match is not None and (match[2] != "" or match[1].strip("0") != "")


def _range_in(headers: Mapping[str, str]) -> re.Match[str] | None:
    """Return first and last byte of a request's range; None when it has none, several or a malformed one."""
    ranges = _RANGES.fullmatch(headers.get("range", ""))
    return _RANGE.fullmatch(ranges[1]) if ranges else None


def _part(first: str, last: str, size: int) -> Selection | None:
    """Return that of ``first-last``, ``first-`` or ``-length``; None when it is none of them."""
    if first:
        if last and int(last) < int(first):
            return None
        start, end = int(first), min(int(last) + 1, size) if last else size
    elif last:
        start, end = max(size - int(last), 0), size
    else:
        return None
    return Selection(206, start, end) if start < end else Selection(416)


def _precondition_holds(headers: Mapping[str, str], file: StoredFile) -> bool:
    if wanted := headers.get("if-match"):
        return wanted.strip() == "*" or file.etag in _strong(wanted)
    since = _date(headers.get("if-unmodified-since"))
    return since is None or file.modified <= since


def _not_modified(headers: Mapping[str, str], file: StoredFile) -> bool:
    if known := headers.get("if-none-match"):
        return known.strip() == "*" or file.etag in _ETAG.findall(known)
    since = _date(headers.get("if-modified-since"))
    return since is not None and file.modified <= since


def _range_applies(headers: Mapping[str, str], file: StoredFile) -> bool:
    """Return whether the range is of this version of the file. Section 13.1.5: only an exact date will do."""
    condition = headers.get("if-range")
    return condition is None or condition.strip() == file.etag or _date(condition) == file.modified


def _strong(etags: str) -> list[str]:
    return [match[1] for match in _ETAG.finditer(etags) if match[0] == match[1]]


def _date(value: str | None) -> datetime | None:
    """Return None for what is no date, which is to be ignored."""
    try:
        date = parsedate_to_datetime(value or "")
    except (ValueError, IndexError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date


async def _bytes(objects: Objects, file: StoredFile, selection: Selection) -> AsyncGenerator[bytes, None]:
    source = objects.stream(file.key, selection.start, selection.end)
    assert isinstance(source, AsyncGenerator)
    async with aclosing(source) as chunks:
        try:
            async for chunk in chunks:
                yield chunk
        except ObjectNotFound:
            raise AssetNotFound([file.asset_id]) from None


class Stream(StreamingResponse):
    """Send what a source yields; the source is closed in any case, also when the client disconnects.

    An error of the source before its first chunk is raised, so that it becomes a response of its own, and so is
    DeadlineExceeded. From then on the request has no deadline: a film is watched for as long as it runs. At a later
    error the connection is cut, so that nobody takes the beginning for the whole.
    """

    def __init__(
        self, source: AsyncGenerator[bytes, None], media_type: str, headers: Mapping[str, str], status: int = 200
    ) -> None:
        super().__init__(source, status, headers, media_type)
        self._source = source

    async def stream_response(self, send: Send) -> None:
        """Send the response; Starlette calls it, beside the task that waits for a disconnect."""
        try:
            chunk = await self._first()
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._send_from(chunk, send)
        finally:
            with CancelScope(shield=True):
                await self._source.aclose()

    async def _first(self) -> bytes:
        left = time_left()
        request_deadline.set(None)
        try:
            async with asyncio.timeout(left):
                return await anext(self._source, b"")
        except TimeoutError:
            raise DeadlineExceeded("The time ran out before this stream could begin.") from None

    async def _send_from(self, chunk: bytes, send: Send) -> None:
        try:
            while chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await anext(self._source, b"")
        except (StageError, StoreError) as error:
            logger.warning("the stream of %s was cut: %s", _name(), error)
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _name() -> str:
    return subject.get() or "an unnamed file"
