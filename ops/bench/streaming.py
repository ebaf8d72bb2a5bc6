"""Benchmark video streams: ``python -m ops.bench.streaming [--out FILE]``.

Ranges of a large file against the disk and against a bare ``sendfile`` over the same kind of socket; the first byte of
clips, copies and overlays, and single frames, of a film of 60 s in 1080p against a bare loop of the same reader.
The server is one process without Ray, so that the routes are measured and nothing else.
"""

import argparse
import asyncio
import hashlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvicorn
import uvloop

from configs.settings import Settings, settings
from deployments.media.frames import Config as FramesConfig
from deployments.media.frames import FrameExtractor, FrameRequest
from deployments.serving.catalog import find_stage, local_handle
from graphs.web.api import find_apis
from graphs.web.gateway import build_app, open_context
from ops.bench.cpu import Tree
from ops.bench.load import Service, running
from ops.bench.report import Contestant, Line, contestants_table, made_by, publish
from ops.cluster import free_port
from stores.open import Stores
from stores.people import TraceBoxes, TraceRecord, VideoIndex
from stores.records import Asset
from vision.media.probe import Limits, probe

Action = Callable[[], object]

SERVED: Final = ("media/clips", "media/frames")
"""Stages of the server; the others have handles that nobody calls."""
SECONDS, FPS, SIZE = 60, 25, (1920, 1080)
FRAMES: Final = SECONDS * FPS
MIB: Final = 2**20
ROUNDS: Final = 5
LARGE: Final = 256 * MIB
READERS: Final = 20
CLIP_FRAMES: Final = 5 * FPS
SETTLED_S: Final = 0.3
"""After that long the encoder of a disconnected reader has stopped."""
WHOLE: Final = "Range: bytes=0-\r\n"
STREAMS: Final = {
    "clip, encoded": "clip?",
    "clip, encoded, with a caption and boxes": "clip?mode=debug&",
    "video with boxes, encoded": "video/bbox?",
    "part of the video, copied": "video?",
}


def fetched(port: int, path: str, extra: str = "", *, enough: int | None = None) -> tuple[float, float, int]:
    """GET a path; return seconds to the first byte of the body, to the last one, and bytes of the body."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        buffer, head, got, first = bytearray(4 * MIB), b"", 0, 0.0
        started = time.perf_counter()
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{extra}\r\n".encode())
        while count := connection.recv_into(buffer):
            if not first:
                head += buffer[:count]
                headers, blank, body = head.partition(b"\r\n\r\n")
                if not blank or not body:
                    continue
                if headers.split()[1] not in (b"200", b"206"):
                    raise SystemExit(head.decode(errors="replace"))
                first, count = time.perf_counter() - started, len(body)
            got += count
            if enough is not None and got >= enough:
                break
        return first, time.perf_counter() - started, got


def megabytes(actions: Mapping[str, Action], size: int, before: Action = lambda: None) -> dict[str, float]:
    """Return MB/s of each action, the median of rounds taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS):
        for name, action in actions.items():
            before()
            started = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - started)
    return {name: size / 1e6 / statistics.median(seconds) for name, seconds in times.items()}


def cat(path: Path) -> None:
    """Read the file with ``cat``."""
    subprocess.run(["/bin/cat", str(path)], stdout=subprocess.DEVNULL, check=True)


def forget(path: Path) -> None:
    """Drop the file from the page cache, so that the next read comes from the disk."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def bare_sender(path: Path) -> Iterator[int]:
    """Yield the port of a server that only calls ``sendfile``, once for each connection."""
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
    """Return rows of MB/s: the disk, a bare sender, the service."""
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
    """Return milliseconds to the first byte of the body, on an idle server."""
    milliseconds = fetched(port, url, enough=1)[0] * 1000
    time.sleep(SETTLED_S)
    return milliseconds


def first_bytes(port: int, film: str, unopened: dict[str, list[float]], starts: Sequence[int]) -> list[str]:
    """Return rows of milliseconds to the first byte of the body, at random places of the film."""
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
    """Return milliseconds to the first byte of each stream, from a warm server that has not opened the film yet."""
    times: dict[str, list[float]] = {}
    for name, route in STREAMS.items():
        for start in starts:
            with server(config) as served:
                first_byte(served.port, address(other, route, 0))
                times.setdefault(name, []).append(first_byte(served.port, address(film, route, start)))
    return times


def making(served: Service, film: str, starts: Sequence[int]) -> list[str]:
    """Return rows of the speed at which parts are made, in times real time, and of what they cost."""
    rows = ["| 5 s of 1080p, until the last byte | times real time | CPU ms a frame |", "|---|---|---|"]
    for name, route in STREAMS.items():
        used = served.cpu.ms()
        seconds = [fetched(served.port, address(film, route, start))[1] for start in starts[:2]]
        cpu_ms = (served.cpu.ms() - used) / len(seconds) / CLIP_FRAMES
        rows.append(f"| {name} | {CLIP_FRAMES / FPS / statistics.median(seconds):.1f} | {cpu_ms:.1f} |")
    return rows


def thumbnails(served: Service, film: str, path: Path, rng: np.random.Generator, count: int = 40) -> list[Contestant]:
    """Measure single frames of a film, which is ``path`` too, as JPEG, each contestant at random places of its own.

    They are the service with one client and with four, its stage in a loop, and a loop of PyAV and Pillow that decodes
    each frame from the key frame before it. What is open already when it begins is what 40 frames before have left.
    """

    def ask(number: int) -> None:
        fetched(served.port, f"/api/v1/file/{film}/thumbnail?frame={number}")

    def speed(name: str, work: Callable[[list[int]], object], tree: Tree) -> Contestant:
        work(rng.integers(0, FRAMES, count).tolist())
        numbers = rng.integers(0, FRAMES, count).tolist()
        started, used = time.perf_counter(), tree.ms()
        work(numbers)
        return Contestant(name, count / (time.perf_counter() - started), (tree.ms() - used) / count)

    def clients(several: int) -> Contestant:
        with ThreadPoolExecutor(several) as pool:
            name = f"the service, {several} client{'s' * (several > 1)}"
            return speed(name, lambda numbers: list(pool.map(ask, numbers)), served.cpu)

    own, stage = Tree(os.getpid()), FrameExtractor(FramesConfig())
    stage.load()
    measured = [clients(4), clients(1)]
    measured.append(
        speed(
            "the stage in a bare loop",
            lambda numbers: [stage.predict_batch([FrameRequest(film, number)]) for number in numbers],
            own,
        )
    )
    stage.close()
    return [*measured, speed("PyAV and Pillow, from the key frame", lambda numbers: decoded(path, numbers), own)]


def decoded(path: Path, numbers: Sequence[int]) -> None:
    """Make JPEGs of frames of a film of constant rate, each decoded from the key frame before it."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", FramesConfig().decoder_threads
        for number in numbers:
            seconds = Fraction(number, FPS)
            container.seek(int(seconds / stream.time_base), stream=stream)
            frame = next(frame for frame in container.decode(stream) if frame.pts * stream.time_base >= seconds)
            frame.to_image().save(BytesIO(), "JPEG", quality=90)


def line(count: int = 40) -> Line:
    """Measure thumbnails of 1080p at random places; the value is how many a second with four clients."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("VISION_HOME")) as home:
        os.environ["VISION_HOME"] = home
        config, path = settings(), Path(home) / "upload"
        write_film(path)
        film = store(config, path, film=True)
        with server(config) as served:
            contestants = thumbnails(served, film, next(Path(home).rglob(film)), np.random.default_rng(1), count)
    notes = (
        f"A film of {SECONDS} s in 1080p with a key frame every ten seconds; {count} frames at random places, after as "
        "many others.",
    )
    return Line(contestants[0].rate or 0.0, tuple(contestants), notes)


def address(film: str, route: str, start: int) -> str:
    """Return the URL path of the stream of a part."""
    return f"/api/v1/file/{film}/{route}start_frame={start}&end_frame={start + CLIP_FRAMES - 1}"


@contextmanager
def server(config: Settings) -> Iterator[Service]:
    """Run a server over the stores of the settings."""
    port = free_port(8120)
    environment = {"VISION_HOME": str(config.home), "RATE_LIMIT_ENABLED": "false"}
    with running(
        [sys.executable, "-m", "ops.bench.streaming", "--serve", str(port)],
        f"http://127.0.0.1:{port}/livez",
        environment,
    ) as cpu:
        yield Service(port, cpu)


def measure() -> list[str]:
    """Return all tables."""
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
        with server(config) as served:
            return [
                *ranges(served.port, large, stored),
                "",
                *first_bytes(served.port, film, opening, starts),
                "",
                *making(served, film, starts),
                "",
                "Single frames of 1080p as JPEG, at random places:",
                "",
                *contestants_table(thumbnails(served, film, next(Path(home).rglob(film)), rng)),
            ]


def write_film(path: Path, seconds: int = SECONDS) -> None:
    """Write a pan over a grainy picture with a tone: H.264 and AAC in MP4, a key frame every ten seconds."""
    import av

    width, height = SIZE
    rng = np.random.default_rng(0)
    coarse = av.VideoFrame.from_ndarray(rng.integers(20, 236, (24, 64, 3), np.uint8), format="rgb24")
    wide = coarse.reformat(width * 2, height, interpolation="BICUBIC").to_ndarray().astype(np.float32)
    wide = (wide + rng.normal(0, 6, wide.shape[:2])[:, :, None]).clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w", format="mp4") as output:
        video: Any = output.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "23", "g": "250"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio: Any = output.add_stream("aac", rate=48_000, layout="stereo")
        for number in range(seconds * FPS):
            pixels = np.ascontiguousarray(wide[:, number % width : number % width + width])
            output.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(video.encode())
        wave = np.sin(np.arange(seconds * 48_000) / 15).astype(np.float32) * 0.2
        for start in range(0, len(wave), 1024):
            block = av.AudioFrame.from_ndarray(np.stack([wave[start : start + 1024]] * 2), "fltp", "stereo")
            block.sample_rate, block.pts, block.time_base = 48_000, start, Fraction(1, 48_000)
            output.mux(audio.encode(block))
        output.mux(audio.encode())


def store(config: Settings, path: Path, *, film: bool) -> str:
    """Move a file into the store and return its id. A ``film`` gets a trace from its first frame to its last."""
    with path.open("rb") as file:
        asset_id = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    unread = {"kind": "video", "format": "MP4", "content_type": "video/mp4"}
    facts: dict[str, Any] = asdict(probe(path, Limits.of(config))) if film else unread
    asset = Asset(asset_id, path.name, file_size=path.stat().st_size, uploaded_at=datetime.now(UTC), **facts)
    asyncio.run(_put(config, path, asset, indexed=film))
    return asset_id


async def _put(config: Settings, path: Path, asset: Asset, *, indexed: bool) -> None:
    stores = Stores.open(config)
    await stores.objects.put_file(asset.asset_id, path, asset.content_type)
    await stores.documents.insert_asset(asset)
    if indexed:
        index = VideoIndex(asset.asset_id, "none", *SIZE, FPS, FRAMES, SECONDS, 1, (), 1, datetime.now(UTC))
        vector = np.eye(1, 128, dtype=np.float32)[0]
        trace = TraceRecord(asset.asset_id, 0, 0, FRAMES - 1, 0, SECONDS, FRAMES, None, vector)
        frames, ones = np.arange(FRAMES), np.ones(FRAMES, np.float32)
        boxes = np.stack([100 + frames, np.full(FRAMES, 200), np.full(FRAMES, 300), np.full(FRAMES, 300)], 1)
        traces = [(trace, TraceBoxes(frames, boxes.astype(np.float32), ones, ones.astype(bool)))]
        await stores.people.put_index(index, traces)
    await stores.close()


async def serve(port: int) -> None:
    """Serve the media API and its stages in this process, without Ray, until SIGINT."""
    clips, frames = [await local_handle(find_stage(key)) for key in SERVED]
    handles = dict.fromkeys(find_apis()["media"].stage_keys, clips) | {"media/frames": frames}
    app = build_app(open_context(settings(), handles), ["media"])
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
    await uvicorn.Server(config).serve()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="Markdown file; by default only printed")
    parser.add_argument("--serve", type=int, metavar="PORT", help="only run the server under test")
    arguments = parser.parse_args()
    if arguments.serve is not None:
        with suppress(KeyboardInterrupt):
            uvloop.run(serve(arguments.serve))
        return
    lines = [
        "# Video streams",
        "",
        f"{made_by(' '.join(['ops.bench.streaming', *sys.argv[1:]]), 'av', 'uvicorn')}.",
        "",
        "One process with the media API and its stages, without Ray, and a client on the same machine.",
        "",
        *measure(),
    ]
    publish(lines, arguments.out)


if __name__ == "__main__":
    main()
