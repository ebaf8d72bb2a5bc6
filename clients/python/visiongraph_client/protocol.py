"""Requests and what becomes of their answers, without a connection: the one implementation of both clients.

A flow is a generator that yields what has to be done, a ``Call``, a ``Pause`` or a ``Work``, is sent what came of it,
and returns a result. ``Client`` and ``AsyncClient`` run the same flows, each in its own way.
"""

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final, Generic, NamedTuple, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from visiongraph_client.errors import ApiError, ConnectionFailed, api_error

T = TypeVar("T")

File = Path | str | bytes | tuple[str, bytes]
"""A file to send: its path, its bytes, or a name and bytes."""
Headers = Mapping[str, str]
"""What an answer says that has no body."""
Flow = Generator[Any, Any, T]

CHUNK_BYTES: Final = 256 * 1024
REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
RETRIED: Final = frozenset({429, 502, 503, 504})
"""Errors after which a request that does no harm is sent again."""
NOT_CONNECTED: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long a request is tried again.

    It is if it was refused (429), never reached the service, or can be repeated without harm: GET, HEAD, PUT, DELETE
    after a broken connection or a 502, 503 or 504. ``Retry-After`` of the service is respected; where it asks for more
    than ``longest_s`` seconds the error is raised.
    """

    attempts: int = 4
    first_s: float = 0.5
    longest_s: float = 60.0

    def pause(self, attempt: int) -> float:
        """Return the seconds after an attempt, from 1, of which nobody said how long to wait."""
        spread = random.uniform(0.5, 1.0)  # noqa: S311 (clients must not come back all at once)
        return min(self.longest_s, self.first_s * 2.0 ** (attempt - 1)) * spread


class Slice:
    """Bytes of a file from an offset on, read as they are sent; ``on_sent`` hears how many are gone."""

    def __init__(self, path: Path, start: int, end: int, on_sent: Callable[[int], None]) -> None:
        self._path, self._start, self._end, self._on_sent = path, start, end, on_sent

    def __len__(self) -> int:
        return self._end - self._start

    def __iter__(self) -> Iterator[bytes]:
        at = self._start
        while at < self._end and (chunk := self._read(at)):
            yield chunk
            at += len(chunk)
            self._on_sent(at)

    def _read(self, at: int) -> bytes:
        # The file is open no longer than this: whoever iterates may stop anywhere, when a connection breaks.
        with self._path.open("rb") as file:
            file.seek(at)
            return file.read(min(CHUNK_BYTES, self._end - at))


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request; ``answer`` is the type of its JSON, or bytes, str or Headers where it is none."""

    method: str
    path: str
    answer: Any = None
    at: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    files: Mapping[str, File | Sequence[File]] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | Slice | None = None
    repeatable: bool = False
    timeout_s: float | None = None

    @property
    def may_be_repeated(self) -> bool:
        """Whether sending it twice does no harm."""
        return self.repeatable or self.method in REPEATABLE

    def arguments(self) -> dict[str, Any]:
        """Return what ``httpx`` is given for it, without the content; files are opened."""
        given: dict[str, Any] = {
            "method": self.method,
            "url": self.path.format(**{name: quote(str(value), safe="") for name, value in self.at.items()}),
            "params": {name: _text(value) for name, value in self.query.items() if value is not None},
            "headers": {name: str(value) for name, value in self.headers.items() if value is not None},
        }
        if self.json is not None:
            given["json"] = to_jsonable_python(_given(self.json), exclude_none=True)
        if self.files is not None:
            given["files"] = [(name, each) for name, files in self.files.items() for each in _parts(files)]
            given["data"] = {name: _text(value) for name, value in self.fields.items() if value is not None}
        if isinstance(self.content, Slice):
            given["headers"]["content-length"] = str(len(self.content))
        if self.timeout_s is not None:
            given["timeout"] = self.timeout_s
        return given

    def read(self, response: httpx.Response) -> T:
        """Return the answer in a response that was a success."""
        if self.answer is Headers:
            return dict(response.headers)  # type: ignore[return-value]
        if self.answer is bytes:
            return response.content  # type: ignore[return-value]
        if self.answer is str:
            return response.text  # type: ignore[return-value]
        read: T = _adapter(self.answer).validate_json(response.content)
        return read


class Pause(NamedTuple):
    """Wait for so many seconds."""

    seconds: float


class Work(NamedTuple):
    """Call a function that blocks, and send what it returns."""

    function: Callable[[], Any]


class Found(NamedTuple):
    """Give these to whoever iterates."""

    items: Sequence[Any]


def ask(call: Call[T], retries: Retries) -> Flow[T]:
    """Send a request, again where that is right, and return its answer. Raises ApiError and ConnectionFailed."""
    response: httpx.Response = yield from respond(call, retries)
    return call.read(response)


def respond(call: Call[Any], retries: Retries) -> Flow[httpx.Response]:
    """Send a request as ``ask`` does, and return the response."""
    attempt = 0
    while True:
        attempt += 1
        failure: ApiError | ConnectionFailed
        try:
            response: httpx.Response = yield call
        except httpx.TransportError as error:
            failure = ConnectionFailed(f"{call.method} {call.path}: {error or type(error).__name__}")
            failure.__cause__ = error
            again, pause = call.may_be_repeated or isinstance(error, NOT_CONNECTED), retries.pause(attempt)
        else:
            if response.is_success:
                return response
            failure = api_error(response)
            again = failure.status == 429 or (call.may_be_repeated and failure.status in RETRIED)
            asked = failure.retry_after_s
            pause = retries.pause(attempt) if asked is None else asked
        if not again or attempt >= retries.attempts or pause > retries.longest_s:
            raise failure
        yield Pause(pause)


def file_of(given: File) -> tuple[str, BinaryIO | bytes]:
    """Return the name and the content of a file."""
    if isinstance(given, tuple):
        return given
    if isinstance(given, bytes):
        return "file", given
    path = Path(given)
    return path.name, path.open("rb")


def _parts(files: File | Sequence[File]) -> list[tuple[str, BinaryIO | bytes]]:
    if isinstance(files, (str, bytes, Path, tuple)):
        return [file_of(files)]
    return [file_of(each) for each in files]


def _given(body: Any) -> Any:
    """Return a body without what was left out."""
    return {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else body


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return [_text(each) for each in value]
    return to_jsonable_python(value)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
