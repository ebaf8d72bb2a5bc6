"""CPU time of the service when nobody asks: milliseconds a second of every process, and how often they wake.

    python -m ops.bench.idle --before CHECKOUT --out ops/bench/reports/idle.md

The service is started, loads all its stages, takes a picture and extracts its features, and is then left alone. Each
window gives the CPU time of all its processes, from ``/proc/PID/stat``, and the voluntary context switches of their
threads, each of which is one that had slept. ``--before`` measures the code of another checkout first.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from ops.bench.cpu import Tree
from ops.bench.load import jpegs
from ops.bench.report import made_by, publish, table
from ops.cluster import free_port

WITHIN_S: Final = 600.0
SETTLE_S: Final = 45.0
"""Until freed memory is given back and what a start leaves to do is done."""
SHOWN_MS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Window:
    """One window: CPU milliseconds a second by the name of the processes, how many those are, and wake-ups a second."""

    cpu_ms: dict[str, float]
    processes: dict[str, int]
    wakes: float

    @property
    def total_ms(self) -> float:
        """CPU milliseconds a second of all processes."""
        return sum(self.cpu_ms.values())


def observe(tree: Tree, seconds: float) -> Window:
    """Return what the processes of a tree use within a time."""
    begun, before, wakes = time.monotonic(), tree.by_name(), _wakes(tree.pids())
    time.sleep(seconds)
    passed, after, woken = time.monotonic() - begun, tree.by_name(), _wakes(tree.pids())
    used = {name: (ms - before.get(name, 0.0)) / passed for name, ms in after.items()}
    return Window(
        {name: ms for name, ms in sorted(used.items(), key=lambda entry: -entry[1]) if ms > 0},
        dict(Counter(tree.names())),
        sum(max(0, count - wakes.get(thread, 0)) for thread, count in woken.items()) / passed,
    )


def _wakes(pids: Sequence[int]) -> dict[int, int]:
    """Return the voluntary context switches of every thread of these processes."""
    counts = {}
    for pid in pids:
        with suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):
                    status = (thread / "status").read_text()
                    counts[int(thread.name)] = int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return counts


@contextmanager
def idle_service(code: Path, folder: Path, options: Sequence[str]) -> Iterator[Tree]:
    """Start the service of a checkout, wait until all is loaded and nothing is left to do; stop it at the end."""
    port, log = free_port(8100), folder / "serve.log"
    environment = {
        "PYTHONPATH": str(code),
        "VISION_HOME": str(folder / "home"),
        "RATE_LIMIT_ENABLED": "false",
        "RAY_ADDRESS": "local",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, "--port", str(port), "--dashboard-port", str(free_port(8266)), *options],
            cwd=code,
            env=os.environ | environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            give_up = time.monotonic() + WITHIN_S
            while not _loaded(client):
                if process.poll() is not None or time.monotonic() > give_up:
                    raise SystemExit(f"The service did not start:\n{log.read_text()}")
                time.sleep(1)
            asset = client.post("/api/v1/upload-media", files={"file": ("a.jpg", jpegs(1)[0])})
            answer = client.post("/api/v1/extract-features", json={"asset_id": asset.json()["asset_id"]})
            answer.raise_for_status()
        time.sleep(SETTLE_S)
        with Tree(process.pid) as tree:
            yield tree
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


_SERVE: Final = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv[0] = 'serve'; "
    "sys.argv.insert(1, 'serve'); from ops.cli.main import main; main()"
)
"""A shell makes what runs in its background ignore SIGINT."""


def _loaded(client: httpx.Client) -> bool:
    with suppress(httpx.HTTPError):
        answer = client.get("/readyz")
        return answer.is_success and not any(stage["loading"] for stage in client.get("/health").json()["models"])
    return False


def report(measured: dict[str, list[Window]], seconds: float, command: str) -> list[str]:
    """Return the lines of the report: the median of the windows, by process and in all."""
    names = sorted(
        {name for windows in measured.values() for window in windows for name in window.cpu_ms},
        key=lambda name: [-_median(windows, name) for windows in measured.values()],
    )
    head = ["process", *(f"{column} {state}" for state in measured for column in ("processes", "CPU ms/s"))]
    rows = [
        [name, *(cell for windows in measured.values() for cell in _cells(windows, name))]
        for name in names
        if any(_median(windows, name) >= SHOWN_MS for windows in measured.values())
    ]
    totals = []
    for windows in measured.values():
        total = statistics.median(window.total_ms for window in windows)
        totals += [str(sum(windows[-1].processes.values())), f"**{total:.1f}**"]
    rows.append(["**all**", *totals])
    lines = [
        "# The idle service",
        "",
        made_by(command, "ray", "torch", "openvino") + ".",
        "",
        f"CPU milliseconds a second, the median of windows of {seconds:.0f} s; `ended` are children that have ended.",
        "",
        *table(head, rows),
    ]
    for state, windows in measured.items():
        each = ", ".join(f"{window.total_ms:.1f}" for window in windows)
        wakes = statistics.median(window.wakes for window in windows)
        lines += [f"{state.capitalize()}: {each} ms/s in each window; {wakes:.0f} wake-ups of threads a second.", ""]
    return lines


def _median(windows: Sequence[Window], name: str) -> float:
    return statistics.median(window.cpu_ms.get(name, 0.0) for window in windows)


def _cells(windows: Sequence[Window], name: str) -> tuple[str, str]:
    return str(windows[-1].processes.get(name, "")), f"{_median(windows, name):.1f}"


def main() -> None:
    """Measure this checkout, and the one before it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a window")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--before", type=Path, help="a checkout of the code to compare with")
    parser.add_argument("--config", type=Path, help="Serve configuration")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    options = ["--config", str(args.config)] if args.config else []
    checkouts = {"before": args.before} if args.before else {}
    measured = {}
    for state, code in (checkouts | {"now": Path(__file__).parents[2]}).items():
        with tempfile.TemporaryDirectory(prefix="idle-") as folder, idle_service(code, Path(folder), options) as tree:
            measured[state] = [observe(tree, args.seconds) for _ in range(args.windows)]
            print(state, *(f"{window.total_ms:.1f}" for window in measured[state]), flush=True)
    publish(report(measured, args.seconds, "ops.bench.idle " + " ".join(sys.argv[1:])), args.out)


if __name__ == "__main__":
    main()
