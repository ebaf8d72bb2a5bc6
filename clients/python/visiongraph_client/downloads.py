"""Downloads that go on where a broken connection has ended, and that have their name once they are whole."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Self

import httpx

from visiongraph_client.errors import ConnectionFailed, VisiongraphError, api_error
from visiongraph_client.protocol import RETRIED, Call, Flow, Pause, Retries

_RANGE: Final = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class Part:
    """What has come of a file, beside the place that it goes to; ``with`` and ``async with`` receive more of it.

    It is kept in ``NAME.part`` as long as what it is of can be told, by the strong ETag in ``NAME.part.json``: the rest
    is only asked for if the file is still the same (RFC 9110, section 13.1.5). ``source`` is path and query.
    """

    def __init__(self, to: Path, source: str) -> None:
        self._to, self._source = to, source
        self._path, self._note = to.with_name(f"{to.name}.part"), to.with_name(f"{to.name}.part.json")
        self._file: IO[bytes] | None = None
        self.whole = False
        self.size, self._etag = self._kept()

    @property
    def resumable(self) -> bool:
        """Whether what is here is worth keeping."""
        return bool(self._etag)

    def headers(self) -> dict[str, str]:
        """Return the headers of a request for what is missing."""
        # Ranges are those of the file only where nothing compresses it on its way.
        plain = {"Accept-Encoding": "identity"}
        return {**plain, "Range": f"bytes={self.size}-", "If-Range": self._etag} if self.size else plain

    def takes(self, response: httpx.Response) -> bool:
        """Open the file for the body of a response, but of no error. Raises VisiongraphError for bytes of elsewhere."""
        said = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if response.status_code == 416 and self.size:
            # The last byte had come, but not the end of the answer.
            self.whole = said is not None and said[2] == str(self.size)
            if not self.whole:
                self.discard()
            return False
        if not response.is_success:
            return False
        if response.status_code == 206:
            if said is None or said[1] != str(self.size) or response.headers.get("etag", self._etag) != self._etag:
                self.discard()
                raise VisiongraphError(f"{self._source}: the service sent other bytes than those that were asked for.")
            self._file = self._path.open("r+b")
            self._file.seek(self.size)
            return True
        self._begin(response.headers)
        return True

    def add(self, chunk: bytes) -> None:
        """Add bytes."""
        if self._file is not None:
            self._file.write(chunk)
            self.size += len(chunk)

    def keep(self) -> None:
        """Give the file its name."""
        self._path.replace(self._to)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget what has come."""
        self.size, self._etag = 0, ""
        for path in (self._path, self._note):
            path.unlink(missing_ok=True)

    def _begin(self, headers: Mapping[str, str]) -> None:
        self.discard()
        etag = headers.get("etag", "")
        self._file = self._path.open("wb")
        if etag.startswith('"') and "content-encoding" not in headers:
            self._note.write_text(json.dumps({"source": self._source, "etag": etag}))
            self._etag = etag

    def _kept(self) -> tuple[int, str]:
        """Return how many bytes an earlier call has left, and what they are of."""
        try:
            note = json.loads(self._note.read_text())
            if note["source"] == self._source:
                return self._path.stat().st_size, str(note["etag"])
        except (OSError, ValueError, KeyError, TypeError):  # there are none, or nobody knows what they are of
            pass
        return 0, ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._file is None:
            return
        self._file.close()
        self._file = None
        self.whole = error is None
        if error is not None and not self.resumable:
            self.discard()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)


class Receive(NamedTuple):
    """Send a request and add the body of its answer to a part; what is sent back is the response."""

    call: Call[bytes]
    part: Part


def download(path: str, to: Path, query: Mapping[str, Any], retries: Retries) -> Flow[int]:
    """Save what a route sends and return its number of bytes; what breaks off goes on as ``retries`` says.

    Raises ApiError and ConnectionFailed. What has come by then is kept for a later call, if the service names the
    version of the file.
    """
    part = Part(to, f"{path}?{httpx.QueryParams(Call[bytes]('GET', path, query=query).arguments()['params'])}")
    attempt = 0
    while True:
        before = part.size
        failure: VisiongraphError
        try:
            response: httpx.Response = yield Receive(
                Call[bytes]("GET", path, bytes, query=query, headers=part.headers()), part
            )
        except httpx.TransportError as error:
            kept = f"; {part.size:,} bytes are in {to.name}.part" if part.resumable and part.size else ""
            failure = ConnectionFailed(f"GET {path}: {error or type(error).__name__}{kept}")
            failure.__cause__ = error
            again, asked = True, None
        else:
            if part.whole:
                part.keep()
                return part.size
            failure = refusal = api_error(response)
            # What was kept is not of this file any more (416).
            again, asked = response.status_code in RETRIED or before > part.size, refusal.retry_after_s
        attempt = 1 if part.resumable and part.size > before else attempt + 1
        pause = retries.pause(attempt) if asked is None else asked
        if not again or attempt >= retries.attempts or pause > retries.longest_s:
            raise failure
        yield Pause(pause)
