"""Compare PyAV and decord as backends that sample frames of a video, on the frames that authenticity analyses.

``python -m ops.bench.sampling [--out FILE]`` encodes its clips with PyAV's x264, runs both backends beside each other,
round by round, and prints a table. The ceiling is a bare PyAV loop that was given the key frames and the wanted PTS,
so it reads no index and checks nothing.
"""

import argparse
import asyncio
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from graphs.authenticity.video import Footage, evenly
from ops.bench.report import made_by
from vision.media.decord_reader import Backend, open_reader
from vision.media.reader import VideoReader

SIZES: Final = ((640, 360), (1920, 1080))
SECONDS: Final = (30, 120)
FPS: Final = 25
FRAMES: Final = 16
ROUNDS: Final = 3
CUT_EVERY: Final = 170
"""Frames from one cut of a clip to the next."""

Task = Callable[[Path], int]


@dataclass(frozen=True)
class Cost:
    """Medians of all rounds. ``cpu_ms``: of this process and its children."""

    cpu_ms: float
    wall_ms: float


def clip(path: Path, width: int, height: int, seconds: int) -> None:
    """Write an MP4 of noise-grained pans over random pictures, with cuts and x264's own GOPs."""
    rng = np.random.default_rng(5)
    grain = rng.normal(0, 4, (height, width, 1)).astype(np.int16)
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * FPS):
            if number % CUT_EVERY == 0:
                coarse = rng.integers(0, 256, (height // 16 + 20, width // 16 + 20, 3), np.uint8)
                scene = coarse.repeat(16, 0).repeat(16, 1).astype(np.int16)
            x, y = int(150 + 140 * np.sin(number / 50)), int(150 + 140 * np.cos(number / 37))
            pixels = scene[y : y + height, x : x + width] + np.roll(grain, number * 7, 1)
            frame = av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def bare(path: Path) -> Task:
    """Return the ceiling: a loop that knows the PTS of the wanted frames and of the key frames before them."""
    with VideoReader(path) as reader:
        index = reader.index
    wanted = [(int(index.pts[n]), int(index.keys[index.key_before(n)])) for n in evenly(len(index.pts), FRAMES)]

    def run(path: Path) -> int:
        count, here = 0, -1
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count, stream.codec_context.thread_type = 2, "AUTO"
            packets: Iterator[Any] = iter(())
            for pts, key in wanted:
                if key > here:
                    container.seek(key, stream=stream)
                    packets = container.demux(stream)
                for packet in packets:
                    early = packet.pts is not None and packet.pts < pts
                    stream.codec_context.skip_frame = "NONREF" if early else "DEFAULT"
                    frame = next((frame for frame in packet.decode() if frame.pts == pts), None)
                    if frame is not None:
                        frame.to_ndarray(format="rgb24")
                        count, here = count + 1, pts
                        break
        return count

    return run


def single(backend: Backend) -> Task:
    """Return a task that reads evenly spread frames, each by its number."""

    def run(path: Path) -> int:
        reader = open_reader(path, backend)
        try:
            return len([reader.frame(number) for number in evenly(len(reader.times), FRAMES)])
        finally:
            reader.close()

    return run


def footage(backend: Backend, *, follow: bool) -> Task:
    """Return a task that reads the frames of authenticity: away from cuts, or those in which a face is tracked."""

    async def read(path: Path) -> int:
        async with Footage.opened(path, backend) as footage:
            if follow:
                return len([time async for time, _ in footage.face_frames()])
            return len([await footage.frame_near(number) for number in evenly(len(footage.times), FRAMES)])

    def run(path: Path) -> int:
        count = asyncio.run(read(path))
        # The CPU time of decord's process counts only once that thread has ended it.
        while any(thread.name.startswith("authenticity-video") for thread in threading.enumerate()):
            time.sleep(0.001)
        return count

    return run


def measure(tasks: dict[str, Task], path: Path) -> dict[str, Cost]:
    """Run all tasks in turn, ``ROUNDS`` times, after one round that is not counted."""
    costs: dict[str, list[Cost]] = {name: [] for name in tasks}
    counts = {name: task(path) for name, task in tasks.items()}
    assert len(set(counts.values())) == 1, counts
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            cpu, wall = _cpu_s(), time.perf_counter()
            task(path)
            costs[name].append(Cost((_cpu_s() - cpu) * 1000, (time.perf_counter() - wall) * 1000))
    return {
        name: Cost(statistics.median(c.cpu_ms for c in each), statistics.median(c.wall_ms for c in each))
        for name, each in costs.items()
    }


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@dataclass(frozen=True)
class Row:
    """A row of the table; ``cpu`` and ``wall``: decord over PyAV."""

    line: str
    cpu: float
    wall: float


def rows(path: Path, name: str) -> list[Row]:
    """Return the table rows of one clip."""
    ceiling = bare(path)
    workloads: dict[str, dict[str, Task]] = {
        f"{FRAMES} frames": {"bare": ceiling, "pyav": single("pyav"), "decord": single("decord")},
        f"{FRAMES} frames, not at a cut": {backend: footage(backend, follow=False) for backend in ("pyav", "decord")},
        "10 s, for tracking a face": {backend: footage(backend, follow=True) for backend in ("pyav", "decord")},
    }
    rows = []
    for workload, tasks in workloads.items():
        costs = measure(tasks, path)
        bare_cost, pyav, decord = costs.get("bare"), costs["pyav"], costs["decord"]
        of_ceiling = f"{bare_cost.cpu_ms / pyav.cpu_ms:.2f}" if bare_cost else ""
        cpu, wall = decord.cpu_ms / pyav.cpu_ms, decord.wall_ms / pyav.wall_ms
        line = (
            f"| {name} | {workload} | {pyav.cpu_ms:.0f} | {decord.cpu_ms:.0f} | **{cpu:.2f}** | "
            f"{pyav.wall_ms:.0f} | {decord.wall_ms:.0f} | **{wall:.2f}** | {of_ceiling} |"
        )
        print(line, flush=True)
        rows.append(Row(line, cpu, wall))
    return rows


def report(table: list[Row]) -> str:
    """Return the report."""
    cheaper, faster = sum(row.cpu < 1 for row in table), sum(row.wall < 1 for row in table)
    lines = [
        "# Sampling frames: PyAV and decord",
        "",
        f"{made_by('ops.bench.sampling', 'av', 'decord2')}.",
        "",
        f"decord takes less CPU time than PyAV in {cheaper} of {len(table)} rows and less wall time in {faster}: "
        f"{min(row.cpu for row in table):.1f} to {max(row.cpu for row in table):.1f} times the CPU time. So PyAV is "
        "the default, and `VISION_ANALYSIS_VIDEO_BACKEND=decord` selects decord for videos that are safe for it.",
        "",
        f"Clips of H.264 at {FPS} frames a second with x264's own key frames, safe for decord by their packet index. "
        f"Both backends in turn, medians of {ROUNDS} rounds; opening the file is part of each, for decord the packet "
        "index and its child process too. CPU time is that of all processes; wall times are comparable within a row "
        "only, as the machine may be busy. The ceiling is a bare PyAV loop that "
        "knows the key frames and PTS beforehand and reads 16 frames; the last column is its CPU time over PyAV's.",
        "",
        "| clip | frames | PyAV CPU ms | decord CPU ms | decord / PyAV | PyAV wall ms | decord wall ms "
        "| decord / PyAV | of the ceiling |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row.line for row in table),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.sampling", description=__doc__)
    parser.add_argument("--out", type=Path, help="write the report to this file")
    out = parser.parse_args().out
    table: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            for seconds in SECONDS:
                path = Path(folder) / f"{width}x{height}-{seconds}.mp4"
                clip(path, width, height, seconds)
                table += rows(path, f"{width} x {height}, {seconds} s")
                path.unlink()
    if out is not None:
        out.write_text(report(table))


if __name__ == "__main__":
    main()
