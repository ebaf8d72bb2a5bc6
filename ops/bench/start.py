"""How the service starts: when it answers, takes an upload, is ready and has loaded everything; CPU and memory.

    python -m ops.bench.start --runs 3 --out ops/bench/reports/start.md

A *first* start has the weights but no engine: everything is converted. A *later* one finds those engines.
All processes below the command are sampled, so CPU seconds and memory are of the whole service.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from configs.settings import settings
from ops.bench.load import jpegs
from ops.bench.report import made_by, publish, table
from ops.cluster import free_port

CPU_EVERY_S: Final = 0.1
MEMORY_EVERY_S: Final = 1.0
ASK_EVERY_S: Final = 0.1
WITHIN_S: Final = 600.0
MB: Final = 2**20
MILESTONES: Final = {
    "livez": "/livez answers",
    "upload": "first upload stored",
    "features": "first features",
    "ready": "ready",
    "loaded": "all stages loaded",
}


class Sampler(threading.Thread):
    """Samples CPU seconds and proportional memory of a process and everything below it, until it is stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self.peak_of: dict[str, int] = {}
        self._root = psutil.Process(pid)
        self._cpu_s: dict[psutil.Process, tuple[str, float]] = {}
        self._stopped = threading.Event()

    @property
    def cpu_s(self) -> float:
        """Return the CPU seconds of every process that there was, to its last sample."""
        return sum(seconds for _, seconds in list(self._cpu_s.values()))

    def by_name(self) -> dict[str, float]:
        """Return CPU seconds by the name of the processes, the most first."""
        seconds: dict[str, float] = {}
        for name, used in self._cpu_s.values():
            seconds[name] = seconds.get(name, 0.0) + used
        return dict(sorted(seconds.items(), key=lambda entry: -entry[1]))

    def run(self) -> None:
        weighed = 0.0
        while not self._stopped.wait(CPU_EVERY_S):
            with suppress(psutil.Error):
                processes = [self._root, *self._root.children(recursive=True)]
                self._count(processes)
                if time.monotonic() - weighed > MEMORY_EVERY_S:
                    self._weigh(processes)
                    weighed = time.monotonic()

    def stop(self) -> None:
        """Take no more samples."""
        self._stopped.set()
        self.join()

    def _count(self, processes: Sequence[psutil.Process]) -> None:
        for process in processes:
            with suppress(psutil.Error), process.oneshot():
                times = process.cpu_times()
                # The command line of one that has ended is empty.
                name = _name(process) if process.cmdline() else self._cpu_s.get(process, ("ended", 0.0))[0]
                self._cpu_s[process] = name, times.user + times.system

    def _weigh(self, processes: Sequence[psutil.Process]) -> None:
        sizes: dict[str, int] = {}
        for process in processes:
            with suppress(psutil.Error, OSError):
                name = _name(process)
                sizes[name] = sizes.get(name, 0) + proportional_bytes(process.pid)
        if sum(sizes.values()) > self.peak_bytes:
            self.peak_bytes, self.peak_of = sum(sizes.values()), sizes


def proportional_bytes(pid: int) -> int:
    """Return the memory of a process, what it shares with others divided among them. Raises OSError."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _name(process: psutil.Process) -> str:
    words: list[str] = process.cmdline() or [process.name()]
    if words[0].startswith(("ray::", "ray-")):
        return words[0].removeprefix("ray::").split(".")[0].split()[0]
    name = Path(words[0]).name
    scripts = [Path(word).stem for word in words[1:] if word.endswith(".py")]
    if name.startswith("python"):
        if "vision.child" in " ".join(words):
            return "child"
        return "serve" if "serve" in words else scripts[0] if scripts else name
    return name.split()[0]


@dataclass(slots=True)
class Start:
    """One start: ``seconds`` and ``cpu`` of all processes at each milestone, and the most memory at once."""

    seconds: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    peak_of: dict[str, int] = field(default_factory=dict)
    by_name: dict[str, float] = field(default_factory=dict)


def start(home: Path, cache: Path, log: Path, options: Sequence[str]) -> Start:
    """Start the service, ask until every milestone is reached, and stop it."""
    port, picture = free_port(8100), jpegs(1)[0]
    argv = [sys.executable, "-m", "ops.cli.main", "serve", "--port", str(port)]
    environment = {
        "VISION_HOME": str(home),
        "VISION_MODELS_CACHE": str(cache),
        "RATE_LIMIT_ENABLED": "false",
        "RAY_ADDRESS": "local",
    }
    result, begun = Start(), time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*argv, "--dashboard-port", str(free_port(8266)), *options],
            env=os.environ | environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    sampler = Sampler(process.pid)
    sampler.start()
    asset_id = ""

    def reach(name: str, ask: Callable[[], bool]) -> None:
        if name in result.seconds:
            return
        with suppress(httpx.HTTPError):
            if ask():
                result.seconds[name] = time.monotonic() - begun
                result.cpu[name] = sampler.cpu_s

    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

        def upload() -> bool:
            nonlocal asset_id
            answer = client.post("/api/v1/upload-media", files={"file": ("a.jpg", picture)})
            asset_id = answer.json().get("asset_id", "") if answer.is_success else ""
            return answer.is_success

        def features() -> bool:
            return client.post("/api/v1/extract-features", json={"asset_id": asset_id}).is_success

        def loaded() -> bool:
            stages: list[dict[str, Any]] = client.get("/health").json()["models"]
            return not any(stage["loading"] for stage in stages)

        try:
            while len(result.seconds) < len(MILESTONES):
                if process.poll() is not None or time.monotonic() - begun > WITHIN_S:
                    raise SystemExit(log.read_text())
                reach("livez", lambda: client.get("/livez").is_success)
                if "livez" in result.seconds:
                    reach("ready", lambda: client.get("/readyz").is_success)
                    reach("upload", upload)
                    if "upload" in result.seconds:
                        reach("features", features)
                    if "ready" in result.seconds:
                        reach("loaded", loaded)
                time.sleep(ASK_EVERY_S)
        finally:
            sampler.stop()
            process.send_signal(signal.SIGINT)
            process.wait(120)
    result.peak_bytes, result.peak_of, result.by_name = sampler.peak_bytes, sampler.peak_of, sampler.by_name()
    return result


def report(kinds: dict[str, list[Start]], command: str) -> list[str]:
    """Return the lines of the report: medians of the runs."""
    rows = []
    for kind, starts in kinds.items():
        for name, shown in MILESTONES.items():
            seconds = statistics.median(run.seconds[name] for run in starts)
            cpu = statistics.median(run.cpu[name] for run in starts)
            rows.append([kind, shown, f"{seconds:.1f}", f"{cpu:.1f}"])
    lines = [
        "# Start",
        "",
        made_by(command, "ray", "torch", "openvino") + ".",
        "",
        *table(["start", "until", "seconds", "CPU seconds of all processes"], rows),
    ]
    for kind, starts in kinds.items():
        run = max(starts, key=lambda run: run.peak_bytes)
        largest = sorted(run.peak_of.items(), key=lambda entry: -entry[1])[:6]
        used = list(run.by_name.items())[:10]
        lines += [
            f"{kind.capitalize()} start: at most {run.peak_bytes / 2**30:.1f} GiB at once (proportional set size): "
            + ", ".join(f"{name} {size / MB:.0f} MB" for name, size in largest)
            + ". CPU seconds: "
            + ", ".join(f"{name} {seconds:.1f}" for name, seconds in used)
            + ".",
            "",
        ]
    return lines


def main() -> None:
    """Measure first and later starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1, help="starts of each kind")
    parser.add_argument("--only", choices=["first", "later"], help="starts of one kind")
    parser.add_argument("--config", type=Path, help="Serve configuration")
    parser.add_argument("--engines", type=Path, help="cache of models whose engines a later start finds")
    parser.add_argument("--log", type=Path, help="what the service of the last run printed is written here")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    options = ["--config", str(args.config)] if args.config else []
    kinds: dict[str, list[Start]] = {}
    downloads = settings().models_cache.expanduser() / "models"
    with tempfile.TemporaryDirectory(prefix="start-") as folder:
        work = Path(folder)
        cache, log = args.engines or work / "cache", args.log or work / "serve.log"
        for _ in range(args.runs):
            for kind in ["first", "later"] if args.only is None else [args.only]:
                if kind == "first":
                    shutil.rmtree(cache / "engines", ignore_errors=True)
                if downloads.is_dir() and not (cache / "models").exists():
                    shutil.copytree(downloads, cache / "models")
                shutil.rmtree(work / "home", ignore_errors=True)
                kinds.setdefault(kind, []).append(start(work / "home", cache, log, options))
                print(kind, kinds[kind][-1])
    publish(report(kinds, "ops.bench.start " + " ".join(sys.argv[1:])), args.out)


if __name__ == "__main__":
    main()
