"""Benchmark of video streams: ``python -m ops.bench.streaming [--out FILE]``.

Ranges of a large file against the disk and against a bare ``sendfile`` over the same kind of socket; the first byte of
clips, copies and overlays, and single frames, of a film of 60 s in 1080p against a bare loop of the same reader.
The server is one process without Ray, so that the routes are measured and nothing else.
"""

import argparse
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np

from configs.settings import Settings, settings
from deployments.media.frames import Config as FramesConfig
from deployments.media.frames import FrameRequest, Frames
from ops.bench.report import processor
from ops.bench.server import running
from ops.bench.stored_film import FPS, FRAMES, SECONDS, store, write_film
from ops.cluster import free_port

Action = Callable[[], object]

MIB: Final = 2**20
ROUNDS: Final = 5
LARGE: Final = 256 * MIB
READERS: Final = 20
CLIP_FRAMES: Final = 5 * FPS
SETTLED_S: Final = 0.3
"""After which the encoder of a reader that left has ended."""
WHOLE: Final = "Range: bytes=0-\r\n"
STREAMS: Final = {
    "clip, encoded": "clip?",
    "clip, encoded, with a caption and boxes": "clip?mode=debug&",
    "video with boxes, encoded": "video/bbox?",
    "part of the video, copied": "video?",
}


def fetched(port: int, path: str, extra: str = "", *, enough: int | None = None) -> tuple[float, float, int]:
    """(seconds to the first byte of the body, seconds to the last one, bytes of the body) of a GET."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        buffer, head, got, first = bytearray(4 * MIB), b"", 0, 0.0
        started = time.perf_counter()
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{extra}\r\n".encode())
        while count := connection.recv_into(buffer):
            if not first:
                head += buffer[:count]
                headers, found, body = head.partition(b"\r\n\r\n")
                if not found or not body:
                    continue
                if headers.split()[1] not in (b"200", b"206"):
                    raise SystemExit(head.decode(errors="replace"))
                first, count = time.perf_counter() - started, len(body)
            got += count
            if enough is not None and got >= enough:
                break
        return first, time.perf_counter() - started, got


def megabytes(actions: Mapping[str, Action], size: int, before: Action = lambda: None) -> dict[str, float]:
    """MB/s of each, the median of some rounds in which they take turns."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS):
        for name, action in actions.items():
            before()
            started = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - started)
    return {name: size / 1e6 / statistics.median(seconds) for name, seconds in times.items()}


def cat(path: Path) -> None:
    """The file through ``cat``."""
    subprocess.run(["/bin/cat", str(path)], stdout=subprocess.DEVNULL, check=True)


def forget(path: Path) -> None:
    """Have the next read come from the disk."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def bare_sender(path: Path) -> Iterator[int]:
    """The port of a server that does nothing but ``sendfile``, once for each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, path.open("rb") as file:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    connection.sendfile(file)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def ranges(port: int, large: str, path: Path) -> list[str]:
    """Rows of MB/s: the disk, a bare sender, the service."""
    url = f"/api/v1/file/{large}/video"

    def readers(port: int) -> None:
        share = LARGE // READERS
        parts = [f"Range: bytes={n * share}-{(n + 1) * share - 1}\r\n" for n in range(READERS)]
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(lambda part: fetched(port, url, part), parts))

    with bare_sender(path) as sender:
        actions = {
            "`cat`": lambda: cat(path),
            "bare `sendfile` over a socket": lambda: fetched(sender, "/"),
            "the service, one range": lambda: fetched(port, url, WHOLE),
            f"the service, {READERS} readers of a range each": lambda: readers(port),
        }
        warm = megabytes(actions, LARGE)
        cold = megabytes(actions, LARGE, before=lambda: forget(path))
    rows = [
        f"| {LARGE // MIB} MiB, MB/s | from the disk | of `cat` | from memory | of `sendfile` |",
        "|---|---|---|---|---|",
    ]
    slow, fast = cold["`cat`"], warm["bare `sendfile` over a socket"]
    return rows + [
        f"| {name} | {cold[name]:.0f} | {cold[name] / slow:.2f} | {warm[name]:.0f} | {warm[name] / fast:.2f} |"
        for name in actions
    ]


def first_byte(port: int, url: str) -> float:
    """Milliseconds to the first byte of the body, with nothing else going on."""
    milliseconds = fetched(port, url, enough=1)[0] * 1000
    time.sleep(SETTLED_S)
    return milliseconds


def first_bytes(port: int, film: str, unopened: dict[str, list[float]], starts: Sequence[int]) -> list[str]:
    """Rows of milliseconds to the first byte of the body, at random places of the film."""
    rows = [
        f"| first byte of 5 s of {SECONDS} s in 1080p, ms | median | worst of {len(starts)} | film not open yet |",
        "|---|---|---|---|",
    ]
    first_byte(port, address(film, STREAMS["clip, encoded"], 0))
    for name, route in STREAMS.items():
        times = [first_byte(port, address(film, route, start)) for start in starts]
        opening = statistics.median(unopened[name])
        rows.append(f"| {name} | {statistics.median(times):.0f} | {max(times):.0f} | {opening:.0f} |")
    return rows


def unopened(config: Settings, film: str, other: str, starts: Sequence[int]) -> dict[str, list[float]]:
    """Milliseconds to the first byte of each stream from a warm server that has not seen the film before."""
    times: dict[str, list[float]] = {}
    for name, route in STREAMS.items():
        for start in starts:
            with server(config) as port:
                first_byte(port, address(other, route, 0))
                times.setdefault(name, []).append(first_byte(port, address(film, route, start)))
    return times


def making(port: int, film: str, starts: Sequence[int]) -> list[str]:
    """Rows of how much faster than it plays a part is made."""
    rows = ["| 5 s of 1080p, until the last byte | times as fast as it plays |", "|---|---|"]
    for name, route in STREAMS.items():
        seconds = [fetched(port, address(film, route, start))[1] for start in starts[:2]]
        rows.append(f"| {name} | {CLIP_FRAMES / FPS / statistics.median(seconds):.1f} |")
    return rows


def thumbnails(port: int, film: str, numbers: Sequence[int]) -> list[str]:
    """Rows of single frames a second, against the stage in a bare loop."""

    def ask(number: int) -> None:
        fetched(port, f"/api/v1/file/{film}/thumbnail?frame={number}")

    def rate(action: Action) -> float:
        started = time.perf_counter()
        action()
        return len(numbers) / (time.perf_counter() - started)

    stage = Frames(FramesConfig())
    stage.load()
    stage.predict_batch([FrameRequest(film, 0)])
    bare = rate(lambda: [stage.predict_batch([FrameRequest(film, number)]) for number in numbers])
    rows = ["| single frames of 1080p as JPEG, at random places | a second | of the bare stage |", "|---|---|---|"]
    rows.append(f"| the stage in a bare loop | {bare:.1f} | |")
    for clients in (1, 4):
        with ThreadPoolExecutor(clients) as pool:
            found = rate(lambda pool=pool: list(pool.map(ask, numbers)))  # type: ignore[misc]
        rows.append(f"| {clients} client{'s' * (clients > 1)} | {found:.1f} | **{found / bare:.2f}** |")
    return rows


def address(film: str, route: str, start: int) -> str:
    """Of the stream of a part."""
    return f"/api/v1/file/{film}/{route}start_frame={start}&end_frame={start + CLIP_FRAMES - 1}"


@contextmanager
def server(config: Settings) -> Iterator[int]:
    """A server over the stores of the settings; its port."""
    port = free_port(8120)
    environment = {"VISION_HOME": str(config.home), "RATE_LIMIT_ENABLED": "false"}
    with running(
        [sys.executable, "-m", "ops.bench.media_server", str(port)], f"http://127.0.0.1:{port}/livez", environment
    ):
        yield port


def measure() -> list[str]:
    """All tables."""
    rng = np.random.default_rng(1)
    starts = rng.integers(0, FRAMES - CLIP_FRAMES, 10).tolist()
    with tempfile.TemporaryDirectory(dir=os.environ.get("VISION_HOME")) as home:
        os.environ["VISION_HOME"] = home
        config, path = settings(), Path(home) / "upload"
        with path.open("wb") as file:
            for _ in range(LARGE // MIB):
                file.write(rng.bytes(MIB))
        large = store(config, path, film=False)
        write_film(path)
        film = store(config, path, film=True)
        write_film(path, seconds=6)
        other = store(config, path, film=True)
        stored = next(Path(home).rglob(large))
        opening = unopened(config, film, other, starts[:2])
        with server(config) as port:
            return [
                *ranges(port, large, stored),
                "",
                *first_bytes(port, film, opening, starts),
                "",
                *making(port, film, starts),
                "",
                *thumbnails(port, film, rng.integers(0, FRAMES, 40).tolist()),
            ]


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="Markdown file; by default only printed")
    arguments = parser.parse_args()
    lines = [
        "# Video streams",
        "",
        f"`python -m ops.bench.streaming {' '.join(sys.argv[1:])}`, {date.today().isoformat()}; {processor()}; "
        f"PyAV {version('av')}, uvicorn {version('uvicorn')}, Python {platform.python_version()}.",
        "",
        "One process with the media API and its stages, without Ray, and a client on the same machine.",
        "",
        *measure(),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
