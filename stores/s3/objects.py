"""Objects in a bucket of S3 or of any store that speaks its protocol, by boto3 in threads."""

import asyncio
import io
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC
from pathlib import Path
from threading import Lock, Timer
from typing import Any, BinaryIO, TypeVar

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import S3Transfer, TransferConfig, create_transfer_manager
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError
from botocore.response import StreamingBody

from stores.errors import StoreError, StoreFull, StoreRefused
from stores.objects import CHUNK_BYTES, ObjectInfo, ObjectNotFound, check_key, check_prefix, check_range
from stores.s3.location import S3Location

PART_BYTES = 8 * 2**20
WORKERS = 16
PART_WORKERS = 8
BUFFER_BYTES = 64 * 1024
BLOCK_BYTES = 2**20
CACHED_BLOCKS = 16
MOST_AHEAD = 8
"""Blocks of one request at most; in sequential reads the number doubles up to this."""
MAX_PRESIGN_S = 7 * 24 * 3600
"""The maximum of signature version 4."""

ANSWER_S = 25.0
"""How long a call may take, in the queue too; an upload takes longer by a second for each ``LEAST_RATE`` bytes."""
LEAST_RATE = 2**20
FULL_FOR_S = 30.0
"""How long the store counts as full after it refused an upload, unless it takes another one."""
NO_ROOM = {"InsufficientStorage", "InsufficientCapacity", "QuotaExceeded", "XMinioStorageFull"}
NO_ROOM |= {"XMinioAdminBucketQuotaExceeded", "EntityTooLargeForQuota"}
REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "401", "403"}
UNREACHABLE = (EndpointConnectionError, HTTPClientError)

T = TypeVar("T")


class S3Objects:
    """``s3://bucket?endpoint_url=…&region=…``; credentials come from the usual AWS chain and nowhere else.

    The bucket has to exist, unless the URL says ``create=1``.

    :raises ValueError: the URL is not of that form.
    """

    type = "s3"

    def __init__(self, url: str) -> None:
        location = S3Location.parse(url)
        if location.prefix:
            raise ValueError("the object store takes a whole bucket: s3://bucket has no path")
        self._bucket = location.bucket
        self._client = location.client(WORKERS + PART_WORKERS)
        # One transfer manager for all uploads bounds their threads, connections and memory together.
        transfers = TransferConfig(PART_BYTES, max_concurrency=PART_WORKERS, multipart_chunksize=PART_BYTES)
        self._transfers = create_transfer_manager(self._client, transfers)
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="s3")
        self._circuit = Circuit(f"s3 {self._bucket}")
        self._full_until = 0.0
        self._missing = location.create
        if self._missing:
            with suppress(StoreError):  # the first call that needs it tries again
                self._translate("", self._ensure_bucket)

    async def put_file(self, key: str, path: Path, content_type: str) -> None:
        upload, within = S3Transfer(manager=self._transfers).upload_file, ANSWER_S + _size(path) / LEAST_RATE
        target = self._bucket, check_key(key), None, {"ContentType": content_type}
        try:
            await self._in_thread(key, upload, str(path), *target, within_s=within)
        except StoreFull:
            self._full_until = time.monotonic() + FULL_FOR_S
            raise
        self._full_until = 0.0

    async def head(self, key: str) -> ObjectInfo | None:
        try:
            head = await self._in_thread(key, self._client.head_object, **self._at(key))
        except ObjectNotFound:
            return None
        return _info(key, head["ContentLength"], head, head.get("ContentType", ""))

    async def get(self, key: str) -> bytes:
        return await self._waited(self._pool.submit(self.read, key))

    def read(self, key: str) -> bytes:
        def whole() -> bytes:
            return _read(self._client.get_object(**self._at(key))["Body"])

        return self._translate(key, whole)

    def open(self, key: str) -> BinaryIO:
        head = self._translate(key, self._client.head_object, **self._at(key))

        def fetch(start: int, end: int) -> bytes:
            # Only of the object that was opened: half of one and half of another would pass for a damaged one.
            span = f"bytes={start}-{end - 1}"
            return _read(self._client.get_object(**self._at(key), Range=span, IfMatch=head["ETag"])["Body"])

        ranged = RangedFile(lambda start, end: self._translate(key, fetch, start, end), head["ContentLength"])
        return io.BufferedReader(ranged, BUFFER_BYTES)

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        check_range(start, end)
        if start == end:  # HTTP has no empty range, but an unknown key is an error all the same
            await self._in_thread(key, self._client.head_object, **self._at(key))
            return
        opening = self._pool.submit(self._translate, key, self._get_range, key, start, end)
        try:
            body = await self._waited(opening)
        except (asyncio.CancelledError, StoreError):
            opening.add_done_callback(_close)  # the thread goes on, and nobody else has what it gets
            raise
        if body is None:
            return
        reading: Future[bytes] = Future()
        reading.set_result(b"")
        try:
            while True:
                reading = self._pool.submit(self._translate, key, _read, body, CHUNK_BYTES)
                if not (chunk := await self._waited(reading)):
                    break
                yield chunk
        finally:
            # A reader that stops early may leave its thread in the middle of a read: close behind that.
            reading.add_done_callback(lambda _: body.close())

    async def delete(self, key: str) -> bool:
        known = await self.head(key) is not None  # S3's own answer is the same for any key
        await self._in_thread(key, self._client.delete_object, **self._at(key))
        return known

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        pages = iter(
            self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=check_prefix(prefix))
        )
        while page := await self._in_thread("", next, pages, None):
            for entry in page.get("Contents", []):
                yield _info(entry["Key"], entry["Size"], entry)

    async def presign_get(self, key: str, ttl_s: int, disposition: str | None = None) -> str | None:
        if not ttl_s:
            return None
        sign = self._client.generate_presigned_url  # may fetch credentials, so it needs a thread too
        wanted = {"ResponseContentDisposition": disposition} if disposition else {}
        expires = min(ttl_s, MAX_PRESIGN_S)
        return await self._in_thread(key, sign, "get_object", Params=self._at(key) | wanted, ExpiresIn=expires)

    async def ping(self) -> None:
        try:
            await self._in_thread("", self._client.head_bucket, Bucket=self._bucket)
        except ObjectNotFound:
            raise StoreError(f"s3 {self._bucket}: no such bucket") from None

    async def check_room(self) -> None:
        if time.monotonic() < self._full_until:
            raise StoreFull(f"s3 {self._bucket}: full")

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(self._transfers.shutdown)
        self._client.close()

    def _at(self, key: str) -> Any:
        return {"Bucket": self._bucket, "Key": check_key(key)}

    def _get_range(self, key: str, start: int, end: int | None) -> Any:
        last = "" if end is None else end - 1
        try:
            return self._client.get_object(**self._at(key), Range=f"bytes={start}-{last}")["Body"]
        except ClientError as error:
            if _code(error) == "InvalidRange":  # starts at or past the end: nothing to read
                return None
            raise

    def _ensure_bucket(self) -> None:
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except ClientError:
            region = self._client.meta.region_name
            place: Any = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            self._client.create_bucket(Bucket=self._bucket, **({} if region in _DEFAULT_REGIONS else place))
        self._missing = False

    async def _in_thread(
        self, key: str, function: Callable[..., T], *args: Any, within_s: float | None = None, **kwargs: Any
    ) -> T:
        return await self._waited(self._pool.submit(self._translate, key, function, *args, **kwargs), within_s)

    async def _waited(self, running: Future[T], within_s: float | None = None) -> T:
        """Return what a thread returns in time. It ends by its own timeouts, or never begins, when that is over."""
        try:
            return await asyncio.wait_for(asyncio.wrap_future(running), ANSWER_S if within_s is None else within_s)
        except TimeoutError:
            self._circuit.open()
            raise StoreError(f"s3 {self._bucket}: no answer in time") from None

    def _translate(self, key: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        try:
            with self._circuit.call(UNREACHABLE):
                if self._missing and function != self._ensure_bucket:
                    self._ensure_bucket()
                return function(*args, **kwargs)
        except ClientError as error:
            if _code(error) in {"404", "NoSuchKey"}:
                raise ObjectNotFound(key) from None
            raise self._refusal(error) from error
        except (BotoCoreError, Boto3Error, OSError) as error:
            if isinstance(error.__context__, ClientError):  # what an upload of several parts hides
                raise self._refusal(error.__context__) from error
            raise StoreError(f"s3 {self._bucket}: {type(error).__name__}") from error

    def _refusal(self, error: ClientError) -> StoreError:
        code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        kind = StoreFull if status == 507 or code in NO_ROOM else StoreRefused if code in REFUSED else StoreError
        return kind(f"s3 {self._bucket}: {error.operation_name} gave {code}")


class Circuit:
    """Lets one call at a time try a store that did not answer, and all others fail at once; any thread may call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = Lock()
        self._down = False
        self._trying = False

    def open(self) -> None:
        """Take the store for down until a call has an answer."""
        self._down = True

    @contextmanager
    def call(self, unreachable: tuple[type[Exception], ...]) -> Iterator[None]:
        """Do a call, of which these errors mean that there was no answer. Raises StoreError instead of waiting."""
        with self._lock:
            if self._down and self._trying:
                raise StoreError(f"{self._name}: does not answer")
            trying = self._trying = self._trying or self._down
        try:
            yield
        except Exception as error:
            self._down = isinstance(error, unreachable) or isinstance(error.__context__, unreachable)
            raise
        else:
            self._down = False
        finally:
            if trying:
                self._trying = False


class RangedFile(io.RawIOBase):
    """A seekable file of ``size`` bytes, read by ``fetch(start, end)`` in blocks; keeps 16 MiB at most."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next = -1
        self._ahead = 1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"not a position in a file: {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read up to the end of a block and return the number of bytes, 0 at the end of the file."""
        if self._position >= self._size:
            return 0
        number, offset = divmod(self._position, BLOCK_BYTES)
        piece = self._block(number)[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        self._blocks.clear()
        super().close()

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._ahead = min(2 * self._ahead, MOST_AHEAD) if number == self._next else 1
            self._read(number, self._ahead)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _read(self, number: int, count: int) -> None:
        start = number * BLOCK_BYTES
        data = self._fetch(start, min(start + count * BLOCK_BYTES, self._size))
        for place in range(0, len(data), BLOCK_BYTES):
            self._blocks[number + place // BLOCK_BYTES] = data[place : place + BLOCK_BYTES]
        self._next = number + count
        while len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)


_DEFAULT_REGIONS = {None, "", "us-east-1", "aws-global", "auto"}


def _read(body: StreamingBody, size: int | None = None) -> bytes:
    """Return so many bytes of a body, by default all, and close it then; one that comes too slowly is cut off."""
    # It has no time limit of its own, only one for each packet.
    late = Timer(ANSWER_S, body._raw_stream.shutdown)  # type: ignore[attr-defined]
    late.daemon = True
    late.start()
    try:
        return body.read(size)
    finally:
        late.cancel()
        if size is None:
            body.close()


def _close(opening: Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None and (body := opening.result()) is not None:
        body.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # the upload says what is wrong with it


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]


def _info(key: str, size: int, answer: Any, content_type: str = "") -> ObjectInfo:
    return ObjectInfo(key, size, content_type, answer["ETag"].strip('"'), answer["LastModified"].astimezone(UTC))
