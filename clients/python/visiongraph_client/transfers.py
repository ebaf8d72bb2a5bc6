"""Uploads that end although connections break: the hash first, then the bytes that the service does not have yet."""

import hashlib
from base64 import b64encode
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import httpx

from visiongraph_client.errors import NotFound, UploadInterrupted, VisiongraphError, api_error
from visiongraph_client.models import UploadState
from visiongraph_client.protocol import Call, Flow, Headers, Pause, Retries, Slice, Work, respond

UPLOADS: Final = "/api/v1/uploads"
OCTETS: Final = "application/offset+octet-stream"
STORING_S: Final = 900.0
"""For which the answer to the last bytes is waited for: the service reads the file once more then."""
_HASHED: Final = 2**20
_AGAIN: Final = frozenset({408, 409, 423, 429, 500, 502, 503, 504})
"""After these the service is asked how far the upload is, and it goes on from there."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload is: ``done`` of ``total`` bytes are hashed, then sent."""

    stage: Literal["hashing", "sending", "stored"]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Stored:
    """An uploaded file; ``sent`` are the bytes that went over the connection, 0 where the service had the file."""

    asset_id: str
    filename: str
    size: int
    sha256: str
    sent: int

    @property
    def duplicate(self) -> bool:
        """Whether the service had the file already."""
        return self.sent == 0


OnProgress = Callable[[Progress], Any]


def upload(
    path: Path,
    retries: Retries,
    *,
    filename: str | None,
    label: str | None,
    on_progress: OnProgress | None,
    unfinished: MutableMapping[str, str] | None,
) -> Flow[Stored]:
    """Upload a file, going on where a broken connection, or an earlier call, has ended.

    ``unfinished`` keeps the ids of unfinished uploads by hash, for calls of other processes too. Raises
    UploadInterrupted when nothing goes on any more.
    """
    tell = on_progress or (lambda _: None)
    size: int = yield Work(lambda: path.stat().st_size)
    sha256: str = yield Work(lambda: _hash(path, lambda done: tell(Progress("hashing", done, size))))
    known = {} if unfinished is None else unfinished
    offset, upload_id, asset_id = yield from _begin(path, retries, size, sha256, filename, label, known)
    sent = 0
    attempt = 0
    while not asset_id:
        tell(Progress("sending", offset, size))
        before = offset
        try:
            response: httpx.Response = yield _patch(upload_id, path, offset, size, tell)
        except httpx.TransportError as error:
            failure: Exception = error
            pause = retries.pause(attempt + 1)
        else:
            if response.is_success and (asset_id := response.headers.get("upload-asset-id", "")):
                sent += size - offset
                break
            failure = refusal = api_error(response)
            if not response.is_success and response.status_code not in _AGAIN:
                known.pop(sha256, None)
                raise refusal
            asked = refusal.retry_after_s
            pause = retries.pause(attempt + 1) if asked is None else min(asked, retries.longest_s)
        attempt += 1
        stopped = f"The upload of {path.name} stopped at {offset:,} of {size:,} bytes"
        if attempt > retries.attempts:
            raise UploadInterrupted(f"{stopped}: {failure or type(failure).__name__}", upload_id) from failure
        yield Pause(pause)
        try:
            state: UploadState = yield from _state(upload_id, retries)
        except VisiongraphError as error:
            raise UploadInterrupted(f"{stopped}: {error}", upload_id) from error
        offset, asset_id = state.offset, state.asset_id or ""
        sent += offset - before
        if offset > before:
            attempt = 0
    known.pop(sha256, None)
    tell(Progress("stored", size, size))
    return Stored(asset_id, filename or path.name, size, sha256, sent)


def _begin(
    path: Path,
    retries: Retries,
    size: int,
    sha256: str,
    filename: str | None,
    label: str | None,
    known: MutableMapping[str, str],
) -> Flow[tuple[int, str, str]]:
    """Return how many bytes the service has, the id of the upload, and that of the asset if it is whole."""
    if upload_id := known.get(sha256, ""):
        try:
            state: UploadState = yield from _state(upload_id, retries)
        except NotFound:
            del known[sha256]
        else:
            if state.length == size:
                return state.offset, upload_id, state.asset_id or ""
    said = {"filename": filename or path.name, "sha256": sha256, **({"label": label} if label else {})}
    pairs = ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in said.items())
    # Beginning twice leaves an empty upload behind, which expires.
    call = Call[Headers](
        "POST", UPLOADS, Headers, headers={"Upload-Length": size, "Upload-Metadata": pairs}, repeatable=True
    )
    response: httpx.Response = yield from respond(call, retries)
    upload_id = response.headers["location"].rstrip("/").rpartition("/")[2]
    known[sha256] = upload_id
    return int(response.headers["upload-offset"]), upload_id, response.headers.get("upload-asset-id", "")


def _state(upload_id: str, retries: Retries) -> Flow[UploadState]:
    call = Call[UploadState]("GET", UPLOADS + "/{upload_id}", UploadState, at={"upload_id": upload_id})
    response: httpx.Response = yield from respond(call, retries)
    return call.read(response)


def _patch(upload_id: str, path: Path, offset: int, size: int, tell: OnProgress) -> Call[Headers]:
    content = Slice(path, offset, size, lambda done: tell(Progress("sending", done, size)))
    return Call[Headers](
        "PATCH",
        UPLOADS + "/{upload_id}",
        Headers,
        at={"upload_id": upload_id},
        headers={"Upload-Offset": offset, "Content-Type": OCTETS},
        content=content,
        timeout_s=STORING_S,
    )


def _hash(path: Path, on_hashed: Callable[[int], None]) -> str:
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_HASHED):
            digest.update(chunk)
            done += len(chunk)
            on_hashed(done)
    return digest.hexdigest()
