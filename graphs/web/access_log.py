"""The access log: a line of JSON for each request, in files that all gateways of a machine share.

A line is written whole by one call, at the end of the file, so the lines of several processes never mix. A file that
has its size is renamed by whoever finds it so, under a lock; the others see that and open the new one.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from graphs.web.access import Caller

logger = logging.getLogger("ray.serve")

NAME: Final = "access.jsonl"
CHECK_S: Final = 1.0
"""Between two looks at the size of the file."""
FAULTS_S: Final = 60.0
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
"""Everything but printable ASCII is escaped, so that no value begins a line or moves the cursor of a terminal."""


CLIENT_LEFT: Final = 499
"""Status of a request whose client left before its answer began; nobody gets it."""

Outcome = Literal["sent", "left", "broken"]


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and its answer, which has ended; ``route``: the template of its path, empty where there is none.

    ``outcome``: the answer was ``sent`` as a whole, its client ``left`` before or was cut as it did not read, or the
    answer is ``broken`` by an error in its middle. ``bytes_in`` and ``bytes_out`` are those of the bodies, as far as
    they came and went.
    """

    request_id: str
    method: str
    route: str
    api: str
    caller: Caller | None
    status: int
    outcome: Outcome
    began_at: float
    """Seconds since 1970."""
    seconds: float
    bytes_in: int
    bytes_out: int
    latency_s: float | None = None
    """To the first byte of the answer, without that for which its client was waited for; None: no answer."""
    failure: str = ""
    """Code of the failure that is answered, empty for none."""
    trace_id: str = ""
    """Of its trace, empty where none is recorded."""

    def line(self) -> dict[str, Any]:
        """Return what the access log says of it: nothing that a client has sent, but its id."""
        began = datetime.fromtimestamp(self.began_at, UTC).isoformat(timespec="milliseconds")
        caller = self.caller
        line = {
            "time": f"{began[:-6]}Z",
            "request_id": self.request_id,
            "key": caller.name if caller else None,
            "key_name": caller.key_name if caller else None,
            "api": self.api or None,
            "route": self.route or None,
            "method": self.method,
            "status": self.status,
            "ms": round(self.seconds * 1000, 1),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "outcome": self.outcome,
        }
        return line | {"trace_id": self.trace_id} if self.trace_id else line


class AccessLog:
    """Writes to ``folder/access.jsonl``; a file over ``max_bytes`` becomes ``access.jsonl.1``, of which ``keep`` stay.

    A failure, as of a full disk, costs the line and is logged once a minute. Belongs to one thread.
    """

    def __init__(self, folder: Path, max_bytes: int, keep: int) -> None:
        self._path = folder / NAME
        self._max_bytes, self._keep = max_bytes, keep
        self._file = -1
        self._check_at = 0.0
        self._fault_at = -FAULTS_S

    def write(self, exchange: Exchange) -> None:
        """Append the line of an exchange."""
        data = (_encode(exchange.line()) + "\n").encode()
        try:
            now = time.monotonic()
            if now >= self._check_at:
                self._check_at = now + CHECK_S
                self._follow()
            os.write(self._file, data)
        except OSError as error:
            now = time.monotonic()
            if now > self._fault_at + FAULTS_S:
                self._fault_at = now
                logger.warning("the access log cannot be written: %s", error.strerror)

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._check_at = -1, 0.0

    def _follow(self) -> None:
        """Have the present file open, and one that is full renamed."""
        self._open()
        if os.fstat(self._file).st_size >= self._max_bytes:
            with self._locked():
                self._open()  # another process may have renamed it meanwhile
                if os.fstat(self._file).st_size >= self._max_bytes:
                    self._rename()
                    self._open()

    def _open(self) -> None:
        with suppress(FileNotFoundError):
            if self._file >= 0 and self._path.stat().st_ino == os.fstat(self._file).st_ino:
                return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        opened = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self.close()
        self._file, self._check_at = opened, time.monotonic() + CHECK_S

    def _rename(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            with suppress(FileNotFoundError):
                self._numbered(number).replace(self._numbered(number + 1))
        if self._keep:
            self._path.replace(self._numbered(1))
        else:
            self._path.unlink()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{NAME}.{number}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._path.with_name(f"{NAME}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Follower:
    """Reads what is added to the access log of a folder from now on, through renames."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file: BinaryIO | None = None
        self._rest = b""
        with suppress(FileNotFoundError):
            self._file = self._path.open("rb")
            self._file.seek(0, os.SEEK_END)

    def read(self) -> bytes:
        """Return the lines that have come since the last call."""
        data = self._rest + (self._file.read() if self._file else b"")
        with suppress(FileNotFoundError):
            if self._file is None or self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
                fresh = self._path.open("rb")
                if self._file is not None:
                    data += self._file.read()  # what came before it was renamed
                    self._file.close()
                self._file = fresh
                data += fresh.read()
        lines, end, self._rest = data.rpartition(b"\n")
        return lines + end

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
