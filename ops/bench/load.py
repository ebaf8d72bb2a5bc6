"""Load for benchmarks over HTTP: pictures to send, a closed-loop client, and the server under test.

The client shares the processor with what it measures, so it costs little itself. Each connection sends its next request
when the answer to the last one is complete. Requests are ready-made bytes on kept-alive connections; of an answer only
the status line and the length are parsed.
"""

import asyncio
import io
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httpx
import numpy as np
from PIL import Image, ImageOps

from ops.bench.cpu import Tree
from ops.cluster import free_port

BOUNDARY = "visiongraphbenchmark"


@dataclass
class Result:
    """The outcome of one closed loop; latencies in seconds, ``cpu_ms`` of all processes of the server together."""

    seconds: float
    latencies: list[float] = field(repr=False)
    statuses: Counter[int]
    cpu_ms: float = math.nan

    @property
    def rate(self) -> float:
        """Answers of status 200 per second."""
        return self.statuses[200] / self.seconds

    @property
    def cpu_ms_each(self) -> float:
        """Milliseconds of the processor for each answer of status 200; NaN where they were not measured."""
        return self.cpu_ms / self.statuses[200] if self.statuses[200] else math.nan

    def percentile(self, share: float) -> float:
        """Return the latency in milliseconds that this share of the requests, 0-1, did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def json_request(path: str, body: object, port: int) -> bytes:
    """Build a POST with a JSON body."""
    data = json.dumps(body).encode()
    return _request(path, "application/json", data, port)


def bytes_request(path: str, body: bytes, port: int) -> bytes:
    """Build a POST of raw bytes."""
    return _request(path, "application/octet-stream", body, port)


def upload_request(path: str, name: str, data: bytes, port: int) -> bytes:
    """Build a POST of a multipart form with one file."""
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
        """Whether the server announced that this was the last answer on this connection."""

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
        """Send a request and return status and body of the answer."""
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting


async def closed_loop(
    requests: Sequence[bytes], *, port: int, clients: int, server: Tree | None = None
) -> tuple[Result, list[bytes]]:
    """Send every request once, over ``clients`` connections; return the result, and bodies in the order of requests.

    Processor time is that of the ``server``, from the first request to the last answer.
    """
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

    used = server.ms() if server else math.nan
    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - started
    return Result(seconds, latencies, statuses, server.ms() - used if server else math.nan), bodies


@contextmanager
def running(argv: list[str], ready_url: str, environment: dict[str, str]) -> Iterator[Tree]:
    """Run a server process; the block begins with its first answer, and ends the process.

    Yields the processor time of the process and of all below it.
    """
    process = subprocess.Popen(argv, env=os.environ | environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        with Tree(process.pid) as tree:
            for _ in range(600):
                try:
                    if httpx.get(ready_url, timeout=2).status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                if process.poll() is not None:
                    raise SystemExit(f"{argv} ended with {process.returncode}")
                time.sleep(0.2)
            yield tree
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            # LitServe's workers do not always hear it; the session is the process's own.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass(frozen=True, slots=True)
class Service:
    """The whole service as it runs: its port, and the processor time of all its processes."""

    port: int
    cpu: Tree


@contextmanager
def service(*options: str, **environment: str) -> Iterator[Service]:
    """Run the whole service on empty stores, without rate limits; the block begins when all stages are loaded.

    It has a Ray of its own, whatever else runs on this machine. ``options`` are those of ``visiongraph serve``.
    """
    port = free_port(8100)
    argv = [sys.executable, "-m", "ops.cli.main", "serve", "--port", str(port)]
    argv += ["--dashboard-port", str(free_port(8266)), *options]
    with tempfile.TemporaryDirectory() as home:
        own = {"VISION_HOME": home, "RATE_LIMIT_ENABLED": "false", "RAY_ADDRESS": "local"}
        with running(argv, f"http://127.0.0.1:{port}/readyz", own | environment) as cpu:
            health = f"http://127.0.0.1:{port}/health"
            while any(stage["loading"] for stage in httpx.get(health, timeout=30).json()["models"]):
                time.sleep(0.5)
            yield Service(port, cpu)


def jpeg(seed: int, size: tuple[int, int] = (640, 480)) -> bytes:
    """Make a JPEG of about 70 kB: smooth colour fields with grain, which costs a decoder as much as a photograph."""
    rng = np.random.default_rng(seed)
    fields = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 9, (size[1], size[0], 1))
    pixels = (np.asarray(fields, np.float32) + grain).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return file.getvalue()


def jpegs(count: int, first_seed: int = 0) -> list[bytes]:
    """Make ``count`` different pictures."""
    return [jpeg(first_seed + index) for index in range(count)]


def resized(folder: Path, count: int, size: tuple[int, int] = (640, 480)) -> list[bytes]:
    """Make ``count`` JPEGs of the photos in a folder, by name and over and over, each with other grain."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    rng = np.random.default_rng(0)
    pictures = []
    for index in range(count):
        with Image.open(paths[index % len(paths)]) as image:
            pixels = np.asarray(ImageOps.fit(image.convert("RGB"), size), np.float32)
        file = io.BytesIO()
        grained = (pixels + rng.normal(0, 2, (size[1], size[0], 1))).clip(0, 255).astype(np.uint8)
        Image.fromarray(grained).save(file, "JPEG", quality=85)
        pictures.append(file.getvalue())
    return pictures
