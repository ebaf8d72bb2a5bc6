"""The idle benchmark: what processes use while they are watched, and its table."""

import signal
import subprocess
import sys
import time

from ops.bench.cpu import Tree
from ops.bench.idle import Window, observe, report

BUSY = """
import subprocess, sys, threading, time
sleeper = subprocess.Popen([sys.executable, "-c", "import time; [time.sleep(0.01) for _ in range(100000)]"])
print("up", flush=True)
try:
    while True: pass
except KeyboardInterrupt:
    sleeper.kill()
"""


def test_who_works_and_who_only_wakes_is_told() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with Tree(process.pid) as tree:
            busy = observe(tree, 1.0)
            started = time.monotonic()
            again = observe(tree, 0.5)
            passed = time.monotonic() - started
        process.send_signal(signal.SIGINT)
    # Two interpreters without a script: one of a whole core at most, one that sleeps 10 ms at a time.
    (name,) = busy.processes
    assert (busy.processes[name], again.processes[name]) == (2, 2)
    assert 50 < busy.cpu_ms[name] <= 1200
    assert busy.total_ms == sum(busy.cpu_ms.values())
    assert 0 < again.wakes <= 110 * passed / 0.5
    assert busy.memory_mb > 5


def test_the_report_has_medians_before_and_now() -> None:
    def window(cpu_ms: dict[str, float], wakes: float) -> Window:
        return Window(cpu_ms, dict.fromkeys(cpu_ms, 2), wakes, 2048.0)

    measured = {
        "before": [window({"raylet": 6.0, "log_monitor": cpu}, 2000) for cpu in (7.0, 8.0, 30.0)],
        "now": [window({"raylet": cpu, "haproxy": 0.01}, 1500) for cpu in (2.0, 3.0, 2.5)],
    }
    lines = report(measured, 60, "ops.bench.idle --before X")
    rows = [line for line in lines if line.startswith(("| raylet", "| log_monitor", "| haproxy", "| **all**"))]
    assert rows == [
        "| log_monitor | 2 | 8.0 |  | 0.0 |",
        "| raylet | 2 | 6.0 | 2 | 2.5 |",
        "| **all** | 4 | **14.0** | 4 | **2.5** |",
    ]
    assert "Before: 13.0, 14.0, 36.0 ms/s in each window; 2000 wake-ups a second; 2.0 GiB" in "\n".join(lines)
