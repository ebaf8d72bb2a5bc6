"""Uploads that survive broken connections: what has come is kept, and the client goes on where it ended.

What comes of one request is spooled, put into the object store a part at a time, and recorded, so that a client whose
connection breaks finds every byte that arrived, at any gateway, also after a restart. With the last byte the parts are
read once more, their hash is verified, and the file goes the way of every other upload.

::

    StageError
    ├── UploadNotFound    404  no such upload of this client, or it expired, ended or was refused
    ├── OffsetMismatch    409  the bytes begin elsewhere than where the last ones ended
    ├── UploadLocked      423  another request is finishing it
    ├── ChecksumMismatch  460  the bytes are not those that the client hashed
    └── TooManyUploads    429  the client has too many unfinished ones
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from base64 import b64decode
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context as NewContext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, BinaryIO, Final, NamedTuple

from starlette.requests import ClientDisconnect

from graphs.web.access import caller
from graphs.web.context import Context
from graphs.web.uploads.library import Library, asset_id_of, checked_label
from graphs.web.uploads.spool import new_file, spool_file
from stores.errors import StoreError, disk_errors
from stores.objects import Objects
from stores.partial_uploads import Part, PartialUpload, discard, parts
from vision.deadlines import request_deadline
from vision.errors import InvalidInput, MediaTooLarge, StageError

PART_BYTES: Final = 8 * 2**20
"""Of a part that is recorded while more of the request comes; a gateway that is killed loses less than that."""
MAX_PARTS: Final = 10_000
DRAIN_S: Final = 5.0
"""For which what came of a request that was cancelled is still read."""
IDLE_S: Final = 2.0
"""After which what has come is recorded though it is less than a part: the client may be gone without a word."""
IDLE_BYTES: Final = 256 * 1024
"""As long as it is this much."""
LEASE_S: Final = 60.0
RENEW_S: Final = 20.0
WAIT_S: Final = 3.0
"""How long a request waits for one that holds the upload, which may be about to learn that its client is gone."""
POLL_S: Final = 0.05
SWEEP_S: Final = 60.0
SWEPT_AT_ONCE: Final = 16
ASSEMBLED_PER_S: Final = 20 * 2**20
"""Bytes a second at which parts are read once more, at the least; that is the time which an upload has to be stored."""
Body = Callable[[], AsyncIterator[bytes]]
"""Gives the bytes of a request; called again, those that are left."""
CHECKSUMS: Final = ("sha1", "sha256")
MAX_METADATA: Final = 8192
SHA256: Final = re.compile("[0-9a-fA-F]{64}")
_NAME: Final = re.compile(r"[!-+\--~]+")


class UploadNotFound(StageError):
    """No upload of this client has the id."""

    code = "UPLOAD_NOT_FOUND"
    status = 404


class OffsetMismatch(StageError):
    """Bytes for another place than where the last ones ended, or another request sends them as well."""

    code = "OFFSET_MISMATCH"
    status = 409


class UploadLocked(StageError):
    """Another request is finishing the upload."""

    code = "UPLOAD_LOCKED"
    status = 423


class ChecksumMismatch(StageError):
    """The bytes of a request, or of the whole file, do not have the hash that the client gave."""

    code = "CHECKSUM_MISMATCH"
    status = 460


class TooManyUploads(StageError):
    """The client has too many unfinished uploads."""

    code = "TOO_MANY_UPLOADS"
    status = 429
    retryable = True


class Checksum(NamedTuple):
    """A hash that the client made of the bytes of one request; ``algorithm`` is one of ``CHECKSUMS``."""

    algorithm: str
    digest: bytes


class Resumable:
    """Uploads in parts of the client of the request."""

    def __init__(self, context: Context, library: Library) -> None:
        self._context = context
        self._library = library
        self._uploads = context.stores.partial_uploads
        settings = context.settings
        self.max_bytes = max(settings.max_image_bytes, settings.max_video_bytes, settings.max_audio_bytes)
        self._sweep_at = 0.0

    async def create(self, length: int, metadata: str, filename: str, label: str, sha256: str) -> PartialUpload:
        """Begin an upload; one that is whole already where the client may see an asset with this hash.

        Raises MediaTooLarge, InvalidInput, TooManyUploads and StorageQuotaExceeded.
        """
        if length > self.max_bytes:
            raise MediaTooLarge(f"The file has {length:,} bytes; the limit is {self.max_bytes / 2**20:g} MB.")
        label = checked_label(label)
        await self._sweep()
        settings, owner, now = self._context.settings, caller.get().name, datetime.now(UTC)
        upload = PartialUpload(
            upload_id=secrets.token_hex(16),
            owner=owner,
            length=length,
            metadata=metadata,
            label=label,
            created_at=now,
            expires_at=now + timedelta(seconds=settings.upload_keep_s),
        )
        if sha256 and (asset_id := await self._known(sha256, length, filename, label)):
            upload = replace(upload, offset=length, asset_id=asset_id)
        else:
            await self._context.quotas.room(length)
            usage = await self._uploads.usage(owner, now)
            if usage.uploads >= settings.max_open_uploads:
                raise TooManyUploads(
                    f"You have {usage.uploads} unfinished uploads, which is the limit; finish or delete some first."
                )
            if usage.size + length > settings.max_open_upload_bytes:
                most = settings.max_open_upload_bytes / 2**30
                raise TooManyUploads(
                    f"Your unfinished uploads come to {usage.size / 2**30:.1f} GB, and {most:g} GB are the limit; "
                    "finish or delete some first."
                )
        await self._uploads.insert(upload)
        return upload

    async def _known(self, sha256: str, length: int, filename: str, label: str) -> str:
        """Return the id of the asset with this hash, which is one more upload of the client; empty if there is none.

        Only an asset that the client may read counts: the hash of a file opens nothing that its id does not open.
        """
        asset_id = asset_id_of(sha256)
        if not caller.get().may("assets:read"):
            return ""
        asset = (await self._library.known([asset_id])).get(asset_id)
        if asset is None or asset.file_size != length:
            return ""
        return asset_id if await self._library.upload_again(asset_id, filename, label=label) else ""

    async def get(self, upload_id: str) -> PartialUpload:
        """Return an upload of the client. Raises UploadNotFound."""
        upload = await self._uploads.get(upload_id)
        if upload is None or upload.owner != caller.get().name or upload.expires_at < datetime.now(UTC):
            raise UploadNotFound("You have no unfinished upload with this id; it may have expired. Begin a new one.")
        return upload

    async def settled(self, upload_id: str) -> PartialUpload:
        """Return an upload of the client once nobody adds to it; after a moment in any case."""
        give_up = time.monotonic() + WAIT_S
        while True:
            upload = await self.get(upload_id)
            whole = upload.offset == upload.length
            if whole or not upload.is_held(datetime.now(UTC)) or time.monotonic() > give_up:
                return upload
            await asyncio.sleep(POLL_S)

    async def append(
        self, upload_id: str, offset: int, body: Body, size: int | None, checksum: Checksum | None
    ) -> PartialUpload:
        """Add the bytes of a request, whose number is ``size`` if it is known, and return the upload after it.

        With the last one it becomes an asset. What came is kept when the connection breaks; but bytes with a checksum
        are kept only if they have it. Raises OffsetMismatch, UploadLocked, ChecksumMismatch, and MediaTooLarge for more
        bytes than were announced.
        """
        # In a task and a context of its own: Serve cancels a request, and what it started, when its client leaves, be
        # that before the first byte was looked at. What it has read by then still comes from the body.
        context = NewContext()
        context.run(caller.set, caller.get())
        adding = asyncio.create_task(self._append(upload_id, offset, body, size, checksum), context=context)
        adding.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(adding)

    async def _append(
        self, upload_id: str, offset: int, body: Body, size: int | None, checksum: Checksum | None
    ) -> PartialUpload:
        upload = await self.get(upload_id)
        if upload.asset_id and offset == upload.length:
            return upload  # the answer to the last bytes was lost
        if offset != upload.offset and not upload.is_held(datetime.now(UTC)):
            raise _elsewhere(upload, offset)
        async with self._held(upload_id) as (upload, holder):
            if offset != upload.offset:
                raise _elsewhere(upload, offset)
            if size is not None and offset + size > upload.length:
                raise _too_long(upload)
            async with _Writer(self._context, upload, holder, body, whole=checksum is not None) as writer:
                await writer.receive(checksum)
            upload = await self.get(upload_id)
            if upload.offset == upload.length:
                await self._finish(upload, holder)
        return await self.get(upload_id)

    async def terminate(self, upload_id: str) -> None:
        """Forget an upload and all that has come of it; an asset that was made of it stays. Raises UploadNotFound."""
        await self.get(upload_id)
        await discard(self._uploads, self._context.objects, upload_id)

    @asynccontextmanager
    async def _held(self, upload_id: str) -> AsyncIterator[tuple[PartialUpload, str]]:
        """Hold an upload; one that another request holds is taken from it after a moment, but not while it finishes."""
        holder, give_up = secrets.token_hex(8), time.monotonic() + WAIT_S
        while True:
            upload, waited = await self.get(upload_id), time.monotonic() > give_up
            if waited and upload.offset == upload.length and upload.is_held(datetime.now(UTC)):
                raise UploadLocked("All bytes are here, and another request is storing them; ask again in a moment.")
            now = datetime.now(UTC)
            if await self._uploads.hold(upload_id, holder, now, now + timedelta(seconds=LEASE_S), force=waited):
                break
            await asyncio.sleep(POLL_S)
        renewing = asyncio.create_task(self._renew(upload_id, holder))
        try:
            yield await self.get(upload_id), holder
        finally:
            renewing.cancel()
            # In a new context: Serve cancels what a request started when its client leaves.
            releasing = asyncio.create_task(self._uploads.release(upload_id, holder), context=NewContext())
            with suppress(StoreError):  # the lease ends by itself
                await asyncio.shield(releasing)

    async def _renew(self, upload_id: str, holder: str) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            with suppress(StoreError):
                await self._uploads.renew(upload_id, holder, datetime.now(UTC) + timedelta(seconds=LEASE_S))

    async def _finish(self, upload: PartialUpload, holder: str) -> None:
        """Make an asset of all parts; an upload that can never become one is removed."""
        settings = self._context.settings
        request_deadline.set(time.time() + settings.request_timeout_s + upload.length / ASSEMBLED_PER_S)
        said, source = parse_metadata(upload.metadata), _Joined(self._context.objects, upload.parts)
        try:
            async with (
                self._library.admitted(),
                spool_file(
                    source,
                    said.get("filename", ""),
                    settings.spool,
                    upload.length,
                    settings.disk_reserve_bytes,
                ) as file,
            ):
                if said.get("sha256", file.sha256_hex).lower() != file.sha256_hex:
                    raise ChecksumMismatch("The file does not have the SHA-256 that was announced; upload it again.")
                asset, _ = await self._library.register(file, label=upload.label)
        except StageError as error:
            if error.concerns_input and error.status < 500:
                await discard(self._uploads, self._context.objects, upload.upload_id)
            raise
        finally:
            source.close()
        if await self._uploads.finish(upload.upload_id, holder, asset.asset_id):
            for part in upload.parts:
                await self._context.objects.delete(part.key)

    async def _sweep(self) -> None:
        """Remove some uploads that have expired, about once a minute."""
        if time.monotonic() < self._sweep_at:
            return
        self._sweep_at = time.monotonic() + SWEEP_S
        expired = await self._uploads.expired(datetime.now(UTC), SWEPT_AT_ONCE)
        for upload_id in expired:
            await discard(self._uploads, self._context.objects, upload_id)
        if len(expired) == SWEPT_AT_ONCE:
            self._sweep_at = 0.0  # there are more


class _Writer:
    """Records what comes of one request, part by part, while more comes; the rest when it ends, in whatever way.

    Reading never waits for the object store: Serve reads on by itself, into memory, and what is read is better on disk.
    ``whole``: nothing is recorded before all of it is here and verified.
    """

    def __init__(self, context: Context, upload: PartialUpload, holder: str, body: Body, *, whole: bool) -> None:
        self._objects, self._uploads = context.objects, context.stores.partial_uploads
        self._keep = timedelta(seconds=context.settings.upload_keep_s)
        self._spool = context.spool
        self._upload, self._holder, self._body, self._whole = upload, holder, body, whole
        self._recorded, self._parts = upload.offset, len(upload.parts)
        self._left = upload.length - upload.offset
        self._file: IO[bytes] | None = None
        self._pending = 0
        self._came_at = time.monotonic()
        self._ready: deque[tuple[IO[bytes], int]] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None
        """Why bytes were lost that had come, so that none after them may be recorded."""

    async def __aenter__(self) -> "_Writer":
        # In a new context: Serve cancels what a request started when its client leaves.
        self._recorder = asyncio.create_task(self._record(), context=NewContext())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None and (self._whole or isinstance(error, MediaTooLarge)):
            self._drop()
        more = isinstance(error, asyncio.CancelledError) and not self._whole
        await asyncio.shield(asyncio.create_task(self._end(drain=more), context=NewContext()))

    async def receive(self, checksum: Checksum | None) -> None:
        """Take the bytes of the request; raise what they come to."""
        digest = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
        async for chunk in self._body():
            self._add(chunk)
            if digest is not None:
                digest.update(chunk)
        if checksum is not None and digest is not None and not hmac.compare_digest(digest.digest(), checksum.digest):
            raise ChecksumMismatch("The bytes of this request do not have the checksum that it gives; send them again.")

    def _add(self, chunk: bytes) -> None:
        if self._failure is not None:
            raise self._failure
        self._left -= len(chunk)
        if self._left < 0:
            raise _too_long(self._upload)
        if not chunk:
            return
        if self._file is None:
            if self._parts >= MAX_PARTS:
                raise InvalidInput(
                    f"This upload came in more than {MAX_PARTS:,} pieces; delete it, and send larger ones."
                )
            self._spool.take(0)
            self._file = new_file(self._spool.directory)
            self._parts += 1
        self._spool.take(len(chunk))
        self._pending += len(chunk)
        self._came_at = time.monotonic()
        try:
            self._file.write(chunk)
        except OSError:
            self._drop()
            raise
        if self._pending >= PART_BYTES and not self._whole:
            self._seal()

    def _seal(self) -> None:
        """Have what is pending recorded."""
        if self._file is not None:
            self._ready.append((self._file, self._pending))
            self._file, self._pending = None, 0
            self._changed.set()

    async def _end(self, *, drain: bool) -> None:
        """Record the rest; with ``drain`` also what had come when the request was cancelled, as its client had left."""
        if drain:
            with suppress(StageError, ClientDisconnect, TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    async for chunk in self._body():
                        self._add(chunk)
        self._seal()
        self._ended = True
        self._changed.set()
        await self._recorder
        if self._failure is not None:
            raise self._failure

    async def _record(self) -> None:
        """Put what is ready into the object store and record it, until the request has ended or that fails."""
        while self._ready or not self._ended:
            if not self._ready:
                await self._wait()
                continue
            file, size = self._ready.popleft()
            try:
                if self._failure is None:
                    await self._put(file, size)
            except Exception as error:  # it is raised by whoever adds more, or ends
                self._failure = error
            finally:
                self._remove(file, size)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(IDLE_S):
                await self._changed.wait()
        except TimeoutError:
            idle = time.monotonic() - self._came_at >= IDLE_S
            if idle and self._pending >= IDLE_BYTES and not self._whole:
                self._seal()
        self._changed.clear()

    async def _put(self, file: IO[bytes], size: int) -> None:
        upload_id = self._upload.upload_id
        with disk_errors("spool"):
            file.close()
        part = Part(f"{parts(upload_id)}{self._recorded:012x}-{secrets.token_hex(4)}", size)
        await self._objects.put_file(part.key, Path(file.name), "application/octet-stream")
        until = datetime.now(UTC) + self._keep
        if not await self._uploads.append(upload_id, self._holder, self._recorded, part, until):
            await self._objects.delete(part.key)
            raise OffsetMismatch("Another request went on with this upload meanwhile; ask how far it is.")
        self._recorded += size

    def _drop(self) -> None:
        if self._file is not None:
            self._remove(self._file, self._pending)
            self._file, self._pending = None, 0

    def _remove(self, file: IO[bytes], size: int) -> None:
        with suppress(OSError):  # what it had not written yet has no room
            file.close()
        Path(file.name).unlink(missing_ok=True)
        self._spool.give_back(size)


class _Joined:
    """Parts one after the other, as a file that is read from its beginning to its end; its calls block."""

    def __init__(self, objects: Objects, parts: Sequence[Part]) -> None:
        self._objects, self._left = objects, list(reversed(parts))
        self._open: BinaryIO | None = None

    def read(self, size: int) -> bytes:
        """Return up to ``size`` of the next bytes, none at the end."""
        while True:
            if self._open is None:
                if not self._left:
                    return b""
                self._open = self._objects.open(self._left.pop().key)
            if data := self._open.read(size):
                return data
            self._open.close()
            self._open = None

    def close(self) -> None:
        """Close the part that is open."""
        if self._open is not None:
            self._open.close()


def parse_metadata(header: str) -> dict[str, str]:
    """Return the values of an ``Upload-Metadata`` header by name. Raises InvalidInput for one that is malformed."""
    values: dict[str, str] = {}
    if len(header) > MAX_METADATA:
        raise InvalidInput(f"Upload-Metadata has more than {MAX_METADATA:,} bytes.")
    for pair in filter(None, (each.strip() for each in header.split(","))):
        name, _, encoded = pair.partition(" ")
        try:
            value = b64decode(encoded.strip(), validate=True).decode("utf-8", "replace")
        except ValueError:
            raise InvalidInput(f"Upload-Metadata: the value of {name[:40]!r} is not base64.") from None
        if name in values or not _NAME.fullmatch(name):
            raise InvalidInput("Upload-Metadata: each pair has a name of its own, of printable ASCII, and a value.")
        values[name] = value
    if not SHA256.fullmatch(values.get("sha256", "0" * 64)):
        raise InvalidInput("Upload-Metadata: sha256 has 64 hexadecimal digits.")
    return values


def _elsewhere(upload: PartialUpload, offset: int) -> OffsetMismatch:
    return OffsetMismatch(f"{upload.offset:,} bytes are here, so the next ones begin there and not at {offset:,}.")


def _too_long(upload: PartialUpload) -> MediaTooLarge:
    return MediaTooLarge(f"More bytes come than the {upload.length:,} that were announced.")
