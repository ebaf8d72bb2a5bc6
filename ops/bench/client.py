"""A closed-loop HTTP client that costs little itself: it shares the processor with what it measures.

Each connection sends its next request when the answer to the last one is complete. Requests are ready-made bytes
on kept-alive connections; of an answer only the status line and the length are parsed.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

BOUNDARY = "visiongraphbenchmark"


@dataclass
class Result:
    """Outcome of one closed loop; latencies in seconds."""

    seconds: float
    latencies: list[float] = field(repr=False)
    statuses: Counter[int]

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return self.statuses[200] / self.seconds

    def percentile(self, share: float) -> float:
        """Latency in milliseconds that this share of the requests did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def json_request(path: str, body: object, port: int) -> bytes:
    """POST of a JSON body."""
    data = json.dumps(body).encode()
    return _request(path, "application/json", data, port)


def bytes_request(path: str, body: bytes, port: int) -> bytes:
    """POST of raw bytes."""
    return _request(path, "application/octet-stream", body, port)


def upload_request(path: str, name: str, data: bytes, port: int) -> bytes:
    """POST of a multipart form with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    return _request(path, f"multipart/form-data; boundary={BOUNDARY}", body, port)


def _request(path: str, content_type: str, body: bytes, port: int) -> bytes:
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self.closing = False
        """The server has said that this was the last answer on this connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has another base class

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._waiting is None:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 : (head + b"\r\n").find(b"\r\n", at)]) if at >= 0 else 0
        if len(self._buffer) >= end + 4 + length:
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            del self._buffer[: end + 4 + length]
            self.closing = b"connection: close" in head
            self._waiting.set_result((int(head[9:12]), body))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting


async def closed_loop(requests: Sequence[bytes], *, port: int, clients: int) -> tuple[Result, list[bytes]]:
    """Send every request once, over ``clients`` connections; (result, bodies in request order)."""
    loop = asyncio.get_running_loop()
    bodies: list[bytes] = [b""] * len(requests)
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    queue: Iterator[tuple[int, bytes]] = iter(enumerate(requests))

    async def client() -> None:
        transport, connection = await loop.create_connection(_Connection, "127.0.0.1", port)
        for index, request in queue:
            if connection.closing:
                transport, connection = await loop.create_connection(_Connection, "127.0.0.1", port)
            started = time.perf_counter()
            status, bodies[index] = await connection.ask(request)
            latencies.append(time.perf_counter() - started)
            statuses[status] += 1
        transport.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Result(time.perf_counter() - started, latencies, statuses), bodies
