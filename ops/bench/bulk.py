"""Measure how fast archives are indexed, and what kill -9 costs: ``python -m ops.bench.bulk PHOTOS VIDEO...``.

PHOTOS is a folder of photographs of faces with ``master.csv``, as for ``ops.bench.indexing``. Films are composed of
them and cut from the videos. Needs a machine to itself, and takes about a quarter of an hour on two cores.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from graphs.indexing.jobs import INDEX_VIDEO
from ops.bench import bulk_bare
from ops.bench.bulk_bare import Bare
from ops.bench.cpu import Tree
from ops.bench.film import FPS, Cast, people_of, planned, portraits, write
from ops.bench.report import Contestant, Line, made_by
from stores.jobs import Job
from stores.open import Stores
from vision.media.reader import VideoReader

TOO_LONG_S = 1800
TWO = ("--decoders", "1", "--people", "2", "--cuts", "1")
ONE = ("--decoders", "1", "--people", "1", "--cuts", "1")
COMPOSED = 10
"""Composed films; the others are pieces of videos."""
SIZE = (960, 540)
HOUR = 90_000
"""Frames of an hour of film."""
PHOTOS = 12
"""Photographs that heads are cut out of."""


@dataclass(frozen=True)
class Ran:
    """A finished run; ``cpu``: CPU seconds of all its processes, and ``steady_cpu`` those from the first row that
    passed all workers to the end of the last file, so without the start of Ray and of the workers."""

    report: dict[str, Any]
    seconds: float
    cpu: float
    steady_cpu: float

    @property
    def rate(self) -> float:
        """Frames a second after all workers have started."""
        return float(self.report["totals"]["frames_per_s"])


class Run:
    """A bulk run in another process."""

    def __init__(self, films: Path, home: Path, options: Sequence[str], cores: Sequence[int] | None = None) -> None:
        self.home = home
        self._report = home / "report.json"
        home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "ops.bulk", str(films), "--share", "1", "--report", str(self._report)]
        self._started = time.perf_counter()
        # A Ray of its own, whatever else runs on this machine, and no nicer than what it is compared with.
        environment = os.environ | {"VISION_HOME": str(home), "RAY_ADDRESS": "local", "RAY_worker_niceness": "0"}
        with (home / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=log)
        if cores is not None:
            os.sched_setaffinity(self.process.pid, cores)
        self._tree = Tree(self.process.pid)
        self._used: list[tuple[float, float]] = []
        """Time of the day, and milliseconds of the processor until then."""

    def wait(self, reached: Callable[[list[Job]], bool]) -> None:
        """Wait until its jobs have come this far."""
        while not reached(jobs_of(self.home)):
            self._look()

    def end(self) -> Ran:
        """Wait for its end. Raises RuntimeError when it fails, and TimeoutError."""
        while self.process.poll() is None:
            self._look()
        if self.process.returncode != 0:
            raise RuntimeError((self.home / "log").read_text())
        seconds, report = time.perf_counter() - self._started, json.loads(self._report.read_text())
        end = self._report.stat().st_mtime
        return Ran(
            report, seconds, self._tree.ms() / 1000, self._until(end) - self._until(end - report["totals"]["took_s"])
        )

    def kill(self) -> None:
        """Kill the driver with SIGKILL; its Ray ends with it."""
        self.process.kill()
        self.process.wait()

    def kill_worker(self, name: str) -> None:
        """Kill one worker with SIGKILL. Raises RuntimeError when the run ends first."""
        while self.process.poll() is None:
            for pid in self._tree.pids():
                with suppress(OSError):
                    if f"MapBatches({name})".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(pid, signal.SIGKILL)
                        return
            self._look()
        raise RuntimeError(f"it ended before its {name} was killed: {(self.home / 'log').read_text()}")

    def _until(self, when: float) -> float:
        """Return the CPU seconds that it had used at a time of the day."""
        times, used = zip(*self._used, strict=True)
        return float(np.interp(when, times, used)) / 1000

    def _look(self) -> None:
        if time.perf_counter() > self._started + TOO_LONG_S:
            self.kill()
            raise TimeoutError((self.home / "log").read_text())
        self._used.append((time.time(), self._tree.ms()))
        time.sleep(0.2)


def jobs_of(home: Path) -> list[Job]:
    """Return the video jobs in the stores of a run."""

    async def jobs() -> list[Job]:
        stores = Stores(documents=_documents(home))
        try:
            return list(await stores.jobs.list(kind=INDEX_VIDEO, limit=1000))
        finally:
            await stores.close()

    return asyncio.run(jobs()) if (home / "documents.sqlite").exists() else []


def counts_of(home: Path) -> dict[str, tuple[int, int]]:
    """Return the numbers of stored traces and shots by video."""

    async def counts_by_video() -> dict[str, tuple[int, int]]:
        stores = Stores(documents=_documents(home))
        try:
            counts = {}
            for job in jobs:
                analysis = await stores.shots.get_analysis(job.subject)
                traces = await stores.people.list_traces(job.subject)
                counts[job.subject] = len(traces), 0 if analysis is None else len(analysis.shots)
            return counts
        finally:
            await stores.close()

    jobs = jobs_of(home)
    return asyncio.run(counts_by_video())


def _documents(home: Path) -> str:
    return f"sqlite:///{home}/documents.sqlite"


def _ended(jobs: Sequence[Job]) -> int:
    return sum(job.status == "succeeded" for job in jobs)


def measure(films: Path, total: int, home: Path, parts: Sequence[str]) -> Iterator[list[str]]:
    """Yield the lines of the report, part by part."""
    count = len([*films.iterdir()])
    bare = bulk_bare.side_by_side(sorted(films.iterdir()), total)
    two = Run(films, home / "two", TWO).end()
    yield _speed(count, total, bare, two)
    whole = counts_of(home / "two")
    if "worker" in parts:
        yield _worker_killed(films, home / "worker", count, whole)
    if "driver" in parts:
        yield _driver_killed(films, home / "driver", count, whole)
    if "scaling" in parts:
        yield _scaling(Run(films, home / "one", ONE, [0]).end(), two)


def line(media: Path, *, count: int = 20, frames: int = 75) -> Line:
    """Measure a bulk run; the value is its CPU time a frame, once all workers run, over that of its steps alone."""
    home = Path(tempfile.mkdtemp(prefix="bulk-"))
    try:
        videos = sorted((media / "shots").glob("*.mp4"))
        total = write_films(home / "films", media / "face_pairs_deepface", videos, count, frames)
        films = sorted((home / "films").iterdir())
        bare = bulk_bare.side_by_side(films, total)
        ran = Run(home / "films", home / "run", TWO).end()
    finally:
        shutil.rmtree(home, ignore_errors=True)
    steps, totals = 1000 * sum(each.cpu for each in bare) / total, ran.report["totals"]
    steady, whole = 1000 * ran.steady_cpu / total, 1000 * ran.cpu / total
    an_hour = steady + (whole - steady) * total / HOUR
    contestants = (
        Contestant("the pipeline once it runs, frames", ran.rate, steady),
        Contestant("the pipeline and its start, frames", total / ran.seconds, whole),
        Contestant("its steps alone, frames", bare[-1].rate, steps),
        *(Contestant(f"{each.step} alone, frames", each.rate, 1000 * each.cpu / total) for each in bare),
    )
    notes = (
        f"{count} films, {total} frames. {totals['shots']} shots and {totals['traces']} traces were found. To start "
        f"and stop Ray and all workers takes {ran.cpu - ran.steady_cpu:.0f} CPU seconds, however many frames follow: "
        f"with them the ratio is {whole / steps:.2f} for these {total} frames, and {an_hour / steps:.2f} for an hour "
        "of film at 25 frames a second. The pipeline also finalizes every film (features of its shots, traces, "
        "identities), stores it, and keeps its job, which is none of the steps.",
    )
    return Line(steady / steps, contestants, notes)


def _speed(count: int, total: int, bare: Sequence[Bare], ran: Ran) -> list[str]:
    slowest = bare[-1]
    cpu, totals = sum(each.cpu for each in bare), ran.report["totals"]
    return [
        "## Speed",
        "",
        f"{count} films, {total} frames of 160 x 90 to 1920 x 1080 pixels; about every second frame is searched for "
        "faces. The ceiling is the slowest step by itself: the same workers in processes that have all their rows in "
        "memory and never wait, all steps at the same time on the same cores. The pipeline does more: it "
        "copies rows between processes, stores parts and checkpoints, and makes shots, embeddings, traces and "
        "identities.",
        "",
        "| | frames/s | CPU ms a frame |",
        "|---|---|---|",
        *(f"| {each.step} alone | {each.rate:.1f} | {1000 * each.cpu / total:.1f} |" for each in bare),
        f"| **pipeline** | **{ran.rate:.1f}** | {1000 * ran.cpu / total:.1f} |",
        "",
        f"The pipeline reaches **{ran.rate / slowest.rate:.2f}** of the slowest step ({slowest.step}), and "
        f"{ran.rate * cpu / total / (os.cpu_count() or 1):.2f} of what {os.cpu_count()} cores could do if they ran "
        "nothing but the steps. The steps need "
        f"{cpu:.0f} CPU seconds by themselves, the whole run {ran.cpu:.0f}, including the start of Ray and the loading "
        f"of every model. The command took {ran.seconds:.0f} s, and frames were processed for "
        f"{totals['took_s']:.0f} s of it. {totals['shots']} shots and {totals['traces']} traces were found.",
        "",
    ]


def _scaling(one: Ran, two: Ran) -> list[str]:
    return [
        "## From one worker process to two",
        "",
        "| workers for faces and camera | cores | frames/s |",
        "|---|---|---|",
        f"| 1 | 1 | {one.rate:.1f} |",
        f"| 2 | {os.cpu_count()} | {two.rate:.1f} |",
        "",
        f"Twice as many workers on twice as many cores are **{two.rate / one.rate:.2f}** times as fast.",
        "",
    ]


def _driver_killed(films: Path, home: Path, count: int, whole: dict[str, tuple[int, int]]) -> list[str]:
    first = Run(films, home, TWO)
    first.wait(lambda jobs: _ended(jobs) >= count // 2)
    first.kill()
    before = {job.subject: job for job in jobs_of(home)}
    ended, begun = _ended([*before.values()]), sum(job.status == "running" for job in before.values())
    ran = Run(films, home, TWO).end()
    jobs = jobs_of(home)
    attempts = sorted({job.attempts for job in jobs if before.get(job.subject, job).status == "running"})
    again = sum(job.attempts > 1 for job in jobs if job.subject in before and before[job.subject].finished)
    return [
        "## kill -9 of the driver halfway, and a second run",
        "",
        f"When it was killed, {ended} of {count} files were done and {begun} were in progress. The second run: "
        f"{_counts(ran)}. Of {len(jobs)} jobs {_ended(jobs)} succeeded, those in progress after "
        f"{' or '.join(map(str, attempts)) or 'no'} attempts; {again} of the finished ones ran more than once. "
        f"{_same(counts_of(home), whole)}",
        "",
    ]


def _worker_killed(films: Path, home: Path, count: int, whole: dict[str, tuple[int, int]]) -> list[str]:
    lines = ["## kill -9 of workers", ""]
    run = Run(films, home, TWO)
    # Films this short are all decoded and searched for faces long before the cuts of most of them are detected.
    for after, name in ((1, "InferFrames"), (1, "DecodeVideos"), (count // 2, "InferCuts")):
        run.wait(lambda jobs, after=after: _ended(jobs) >= after)  # type: ignore[misc]
        run.kill_worker(name)
    ran = run.end()
    jobs = jobs_of(home)
    return [
        *lines,
        "A worker for faces and a decoder after the first file, one for cuts after half of "
        f"them: {_counts(ran)}, all in the same run. {_ended(jobs)} of {len(jobs)} jobs succeeded, in "
        f"{max(job.attempts for job in jobs)} attempt at most. {ran.report['totals']['decoded_frames']} frames were "
        f"counted, of {ran.report['totals']['frames']}. {_same(counts_of(home), whole)}",
        "",
    ]


def _counts(ran: Ran) -> str:
    return ", ".join(f"{count} {state}" for state, count in ran.report["counts"].items())


def _same(counts: dict[str, tuple[int, int]], whole: dict[str, tuple[int, int]]) -> str:
    if counts == whole:
        return "Every file has as many traces and shots as in an undisturbed run."
    other = sum(counts.get(key) != value for key, value in whole.items())
    return f"**{other} files have other numbers of traces or shots than in an undisturbed run.**"


def write_films(folder: Path, photos: Path, videos: Sequence[Path], count: int, frames: int) -> int:
    """Write ``count`` films of about ``frames`` frames each, and return the number of their frames.

    Films that are already in the folder are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if there := [*folder.iterdir()]:
        return sum(map(_frames, there))
    people = [names[:3] for names in people_of(photos / "master.csv")[: PHOTOS // 3]]
    heads = portraits(photos, [name for names in people for name in names])
    cast = Cast({chr(ord("A") + number): names for number, names in enumerate(people)}, heads)
    composed = min(COMPOSED, count)
    for number in range(composed):
        shots = planned(np.random.default_rng(number), cast, max(1, frames // FPS))
        write(folder / f"people-{number:02d}.mp4", shots, heads, SIZE, FPS, number)
    for number in range(count - composed):
        video = videos[number % len(videos)]
        piece(video, folder / f"real-{number:02d}.mp4", number // len(videos), frames)
    return sum(_frames(path) for path in folder.iterdir())


def piece(video: Path, target: Path, number: int, frames: int) -> None:
    """Encode the ``number``-th stretch of ``frames`` frames, or the last one of a shorter video."""
    with VideoReader(video) as reader, av.open(str(target), "w", format="mp4") as output:
        facts = reader.facts
        start = min(number * frames, max(0, facts.frame_count - frames))
        stream = output.add_stream("libx264", rate=round(facts.fps), options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height = facts.width // 2 * 2, facts.height // 2 * 2
        stream.pix_fmt = "yuv420p"
        output.metadata["comment"] = f"piece {number}"  # where a video is too short, its pieces are not the same file
        for _, picture in reader.pictures(start, start + frames):
            pixels = reader.pixels(picture)[: stream.height, : stream.width]
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        output.mux(stream.encode())


def _frames(path: Path) -> int:
    with VideoReader(path) as reader:
        return reader.facts.frame_count


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--frames", type=int, default=300, help="of each film")
    parser.add_argument("--films", type=Path, help="folder for the films, or with films of an earlier run")
    parser.add_argument("--parts", nargs="*", default=["worker", "driver", "scaling"], help="beside the speed")
    parser.add_argument("--out", type=Path, help="file of the report")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="bulk-"))
    films = arguments.films or home / "films"
    command = f"ops.bench.bulk PHOTOS VIDEO... --count {arguments.count} --frames {arguments.frames}"
    text = [
        "# Bulk indexing",
        "",
        f"{made_by(command, 'ray', 'openvino', 'av')}.",
        "",
    ]
    try:
        total = write_films(films, arguments.photos, arguments.videos, arguments.count, arguments.frames)
        for lines in measure(films, total, home, arguments.parts):
            print("\n".join(lines), flush=True)
            text += lines
            if arguments.out is not None:
                arguments.out.write_text("\n".join(text))
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
