"""How fast archives are indexed, and what kill -9 costs: ``python -m ops.bench.bulk PHOTOS VIDEO...``.

PHOTOS is a folder of photographs of faces with ``master.csv``, as for ``ops.bench.indexing``. Films are made of them
and of the videos. Needs a machine to itself, and takes about a quarter of an hour on two cores.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from graphs.indexing.jobs import KIND
from ops.bench import bulk_bare, bulk_films
from ops.bench.bulk_bare import Bare
from ops.bench.report import processor
from stores.jobs import Job
from stores.open import open_jobs, open_people, open_shots

TOO_LONG_S = 1800
TWO = ("--decoders", "1", "--people", "2", "--cuts", "1")
ONE = ("--decoders", "1", "--people", "1", "--cuts", "1")


@dataclass(frozen=True)
class Ran:
    """A run to its end; ``cpu``: seconds of all its processes."""

    report: dict[str, Any]
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Frames a second once all workers are up."""
        return float(self.report["totals"]["frames_per_s"])


class Run:
    """A bulk run in a process of its own."""

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
        self._cpu: dict[int, float] = {}

    def wait(self, reached: Callable[[list[Job]], bool]) -> None:
        """Until its jobs are so far."""
        while not reached(jobs_of(self.home)):
            self._look()

    def end(self) -> Ran:
        """Its end, which must be a good one."""
        while self.process.poll() is None:
            self._look()
        if self.process.returncode != 0:
            raise RuntimeError((self.home / "log").read_text())
        return Ran(json.loads(self._report.read_text()), time.perf_counter() - self._started, sum(self._cpu.values()))

    def kill(self) -> None:
        """kill -9 of the driver, with which its Ray goes."""
        self.process.kill()
        self.process.wait()

    def kill_worker(self, name: str) -> None:
        """kill -9 of one worker."""
        while self.process.poll() is None:
            for each in self._processes():
                with suppress(psutil.Error):
                    if f"MapBatches({name})" in " ".join(each.cmdline()):
                        os.kill(each.pid, signal.SIGKILL)
                        return
            self._look()
        raise RuntimeError(f"it ended before its {name} was killed: {(self.home / 'log').read_text()}")

    def _look(self) -> None:
        if time.perf_counter() > self._started + TOO_LONG_S:
            self.kill()
            raise TimeoutError((self.home / "log").read_text())
        for each in self._processes():
            try:
                used = each.cpu_times()
            except psutil.Error:
                continue
            self._cpu[each.pid] = used.user + used.system
        time.sleep(0.2)

    def _processes(self) -> list[psutil.Process]:
        try:
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.Error:
            return []


def jobs_of(home: Path) -> list[Job]:
    """Jobs of videos in the stores of a run."""

    async def jobs() -> list[Job]:
        store = open_jobs(_documents(home))
        try:
            return list(await store.list(kind=KIND, limit=1000))
        finally:
            await store.close()

    return asyncio.run(jobs()) if (home / "documents.jobs.sqlite").exists() else []


def found_in(home: Path) -> dict[str, tuple[int, int]]:
    """By video: traces and shots that are stored."""

    async def found() -> dict[str, tuple[int, int]]:
        people, shots = open_people(_documents(home)), open_shots(_documents(home))
        try:
            counts = {}
            for job in jobs:
                analysis = await shots.get_analysis(job.subject)
                traces = await people.list_traces(job.subject)
                counts[job.subject] = len(traces), 0 if analysis is None else len(analysis.shots)
            return counts
        finally:
            await people.close()
            await shots.close()

    jobs = jobs_of(home)
    return asyncio.run(found())


def _documents(home: Path) -> str:
    return f"sqlite:///{home}/documents.sqlite"


def _ended(jobs: Sequence[Job]) -> int:
    return sum(job.status == "succeeded" for job in jobs)


def measure(films: Path, total: int, home: Path, parts: Sequence[str]) -> Iterator[list[str]]:
    """Lines of the report, part by part."""
    count = len([*films.iterdir()])
    bare = bulk_bare.side_by_side(sorted(films.iterdir()), total)
    two = Run(films, home / "two", TWO).end()
    yield _speed(count, total, bare, two)
    whole = found_in(home / "two")
    if "worker" in parts:
        yield _worker_killed(films, home / "worker", count, whole)
    if "driver" in parts:
        yield _driver_killed(films, home / "driver", count, whole)
    if "scaling" in parts:
        yield _scaling(Run(films, home / "one", ONE, [0]).end(), two)


def _speed(count: int, total: int, bare: Sequence[Bare], ran: Ran) -> list[str]:
    slowest = bare[-1]
    cpu, found = sum(each.cpu for each in bare), ran.report["totals"]
    return [
        "## Speed",
        "",
        f"{count} films, {total} frames of 160 x 90 to 1920 x 1080 pixels; every second frame or so is looked at for "
        "faces. The ceiling is the slowest step by itself: the same workers in processes that have all their rows in "
        "memory and wait for nobody, all steps at the same time on the same cores. The pipeline does more: it "
        "copies rows between processes, keeps parts and checkpoints, and makes shots, embeddings, traces and "
        "identities.",
        "",
        "| | frames/s | CPU ms a frame |",
        "|---|---|---|",
        *(f"| {each.step} alone | {each.rate:.1f} | {1000 * each.cpu / total:.1f} |" for each in bare),
        f"| **pipeline** | **{ran.rate:.1f}** | {1000 * ran.cpu / total:.1f} |",
        "",
        f"The pipeline reaches **{ran.rate / slowest.rate:.2f}** of the slowest step ({slowest.step}), and "
        f"{ran.rate * cpu / total / (os.cpu_count() or 1):.2f} of what {os.cpu_count()} cores could do if they did "
        "nothing but the steps. The steps need "
        f"{cpu:.0f} CPU seconds by themselves, the whole run {ran.cpu:.0f}, starting Ray and loading every model "
        f"included. From the command to its end it took {ran.seconds:.0f} s, and frames came out for "
        f"{found['took_s']:.0f} s of it. {found['shots']} shots and {found['traces']} traces were found.",
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
        f"Twice as many on twice as many cores are **{two.rate / one.rate:.2f}** times as fast.",
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
        "## kill -9 of the driver halfway, and a second submit",
        "",
        f"When it was killed, {ended} of {count} files were done and {begun} were begun. The second run: "
        f"{_counts(ran)}. Of {len(jobs)} jobs {_ended(jobs)} succeeded; those that were begun in "
        f"{' or '.join(map(str, attempts)) or 'no'} attempts, {again} of those that were done more than once. "
        f"{_same(found_in(home), whole)}",
        "",
    ]


def _worker_killed(films: Path, home: Path, count: int, whole: dict[str, tuple[int, int]]) -> list[str]:
    lines = ["## kill -9 of workers", ""]
    run = Run(films, home, TWO)
    # Films this short are all decoded and looked at long before the cuts of most of them are found.
    for after, name in ((1, "LookAtFrames"), (1, "DecodeVideos"), (count // 2, "FindCuts")):
        run.wait(lambda jobs, after=after: _ended(jobs) >= after)  # type: ignore[misc]
        run.kill_worker(name)
    ran = run.end()
    jobs = jobs_of(home)
    return [
        *lines,
        "A worker for faces and a decoder after the first file, one for cuts after half of "
        f"them: {_counts(ran)}, all in the same run. {_ended(jobs)} of {len(jobs)} jobs succeeded, in "
        f"{max(job.attempts for job in jobs)} attempt at most. {ran.report['totals']['decoded_frames']} frames were "
        f"counted, of {ran.report['totals']['frames']}. {_same(found_in(home), whole)}",
        "",
    ]


def _counts(ran: Ran) -> str:
    return ", ".join(f"{count} {state}" for state, count in ran.report["counts"].items())


def _same(found: dict[str, tuple[int, int]], whole: dict[str, tuple[int, int]]) -> str:
    if found == whole:
        return "Traces and shots of every file are as many as in a run that nobody disturbed."
    other = sum(found.get(key) != value for key, value in whole.items())
    return f"**{other} files have other numbers of traces or shots than in a run that nobody disturbed.**"


def main() -> None:
    """Measure, print, and write where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--frames", type=int, default=300, help="of each film")
    parser.add_argument("--films", type=Path, help="folder to make the films in, or of those made before")
    parser.add_argument("--parts", nargs="*", default=["worker", "driver", "scaling"], help="beside the speed")
    parser.add_argument("--out", type=Path, help="file of the report")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="bulk-"))
    films = arguments.films or home / "films"
    text = [
        "# Bulk indexing",
        "",
        f"`python -m ops.bench.bulk PHOTOS VIDEO... --count {arguments.count} --frames {arguments.frames}`, "
        f"{date.today().isoformat()}; {processor()}; ray {version('ray')}, openvino {version('openvino')}, av "
        f"{version('av')}, python {platform.python_version()}.",
        "",
    ]
    try:
        total = bulk_films.make(films, arguments.photos, arguments.videos, arguments.count, arguments.frames)
        for lines in measure(films, total, home, arguments.parts):
            print("\n".join(lines), flush=True)
            text += lines
            if arguments.out is not None:
                arguments.out.write_text("\n".join(text))
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
