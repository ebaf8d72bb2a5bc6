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
from ops.bench.start import proportional_bytes
from ops.cluster import free_port

WITHIN_S: Final = 600.0
SETTLE_S: Final = 45.0
"""Until freed memory is given back and what a start leaves to do is done."""
SHOWN_MS: Final = 0.05


HARD_CODED: Final = (
    "## What no setting reaches",
    "",
    "Ray 2.60.0, uvicorn and gRPC wake on their own as follows; figures are of threads (`/proc/PID/task/*/schedstat`).",
    "",
    *table(
        ["what", "where", "CPU ms/s", "what would help upstream"],
        [
            [
                "Every worker (replicas, controller, proxies) looks for signals 100 times a second",
                "`src/ray/core_worker/core_worker.cc`, `RunTaskExecutionLoop`: 10 ms, `CoreWorker.CheckSignal`",
                "4.7 in each of them, 28 in the six of `configs/laptop.yaml`",
                "a period from `ray_config_def.h`; or no timer: Python can write to a descriptor of the event loop "
                "when a signal comes (`signal.set_wakeup_fd`), and an exit of the actor can post itself",
            ],
            [
                "Each thread that polls for replies wakes four times a second",
                "`src/ray/rpc/client_call.h`, `PollEventsFromCompletionQueue`: a deadline of 250 ms",
                "0.1 a thread, 3 to 6 threads a process",
                "`Next` without a deadline, as the server's threads do; shutting the queue down ends it",
            ],
            [
                "Each module of the dashboard is asked for its health, and asks whether its parent lives",
                "`ray/dashboard/subprocesses/handle.py:315` and `module.py:87`: 1 s",
                "1.0 a module, 0.4 for it in the head",
                "periods from the environment; or waiting for the end of the process (`multiprocessing`'s sentinels)",
            ],
            [
                "The dashboard measures the lag of its event loop",
                "`ray/dashboard/head.py:496`: four times a second",
                "0.4",
                "a period from the environment, as the agent has for its own",
            ],
            [
                "The log monitor lists all log files ten times a second; left out here",
                "`ray/_private/log_monitor.py:481` and `:503`; `LOG_NAME_UPDATE_INTERVAL_S` counts from 1,000 files on",
                "7.6",
                "the interval for any number of files; none of it where no driver asks for logs",
            ],
            [
                "Serve starts a Python proxy beside HAProxy; left out here",
                "`ray/serve/_private/proxy_state.py:930`",
                "8.2",
                "a setting for who answers 503 where no replica is there",
            ],
            [
                "Every replica of an application's first deployment has a web server, with a route or without",
                "`ray/serve/_private/replica.py:2317`; `uvicorn/server.py:248` wakes every 100 ms, here every second",
                "1.2, here 0.2",
                "no server where `route_prefix` is null; uvicorn: an event in place of the loop",
            ],
            [
                "Serve's controller asks the GCS for nodes and resources in each control loop",
                "`ray/serve/_private/controller.py:647`",
                "2",
                "a subscription to changes of nodes, or an interval of its own",
            ],
        ],
    ),
)


@dataclass(frozen=True, slots=True)
class Window:
    """One window: CPU milliseconds a second by the name of the processes, how many those are, and of all of them the
    wake-ups a second and the proportional memory in MB."""

    cpu_ms: dict[str, float]
    processes: dict[str, int]
    wakes: float
    memory_mb: float

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
        _memory_mb(tree.pids()),
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


def _memory_mb(pids: Sequence[int]) -> float:
    size = 0
    for pid in pids:
        with suppress(OSError):
            size += proportional_bytes(pid)
    return size / 2**20


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
        memory = f"{windows[-1].memory_mb / 1024:.1f} GiB of memory (proportional set size)"
        lines += [f"{state.capitalize()}: {each} ms/s in each window; {wakes:.0f} wake-ups a second; {memory}.", ""]
    return [*lines, *HARD_CODED]


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
