"""Processor time and memory of a process and of all below it, from outside."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

SAMPLE_S: Final = 0.05
TREE_S: Final = 0.3
IDLE: Final = 0.1
"""Share of one processor below which a tree of processes is idle."""


@dataclass
class Usage:
    """What a request has cost: seconds of the processor and of the clock, and by how many MB memory grew at most."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    grown_mb: float = 0.0
    peak_mb: float = 0.0
    died: tuple[str, ...] = ()


class Meter:
    """Watches a process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._root = pid
        self._replicas: dict[int, str] = {}
        """Those that ran at the end of the last block, by process id."""

    def pids(self) -> list[int]:
        """Return the ids of all that run."""
        found = [self._root]
        for pid in found:  # it grows while it is walked
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with suppress(OSError):
                    found += map(int, children.read_text().split())
        return found

    def cpu_s(self, pids: list[int] | None = None) -> float:
        """Return the processor seconds of all that run and of what has ended below them."""
        total = 0.0
        for pid in pids or self.pids():
            with suppress(psutil.Error):
                times = psutil.Process(pid).cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def rss_mb(self, pids: list[int] | None = None) -> float:
        """Return the resident memory of all that run, in MB of 2**20 bytes."""
        return sum(_resident(pid) for pid in pids or self.pids())

    @property
    def alive(self) -> bool:
        """Whether the root runs."""
        with suppress(psutil.Error):
            return bool(psutil.Process(self._root).status() != psutil.STATUS_ZOMBIE)
        return False

    @contextmanager
    def watch(self) -> Iterator[Usage]:
        """Measure what happens in the block; the result is filled in at its end.

        ``died`` also names replicas that have ended since the last block: work may go on after an answer.
        """
        usage = Usage()
        before = self.pids()
        replicas = self._replicas | _replicas(before)
        started, base, since = self.cpu_s(before), self.rss_mb(before), time.monotonic()
        for pid in before:
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")
        peak, ended = [base], threading.Event()

        def sample() -> None:
            pids, at = before, since
            while not ended.wait(SAMPLE_S):
                if time.monotonic() - at > TREE_S:
                    pids, at = self.pids(), time.monotonic()
                peak.append(self.rss_mb(pids))

        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        try:
            yield usage
        finally:
            ended.set()
            sampler.join()
            after = self.pids()
            # The kernel's own marks miss no short peak; what came and went has only the samples.
            usage.peak_mb = max(*peak, sum(_resident(pid, "VmHWM:") for pid in after))
            usage.grown_mb = max(0.0, usage.peak_mb - base)
            usage.cpu_s, usage.wall_s = max(0.0, self.cpu_s(after) - started), time.monotonic() - since
            usage.died = tuple(name for pid, name in replicas.items() if pid not in after)
            self._replicas = _replicas(after)

    def settle(self, most_s: float) -> float:
        """Wait until nothing works any more, and return how many processor seconds that took, ``most_s`` or more."""
        used = began = self.cpu_s()
        while used - began < most_s:
            time.sleep(0.2)
            now = self.cpu_s()
            if now - used < IDLE * 0.2:
                return now - began
            used = now
        return used - began


def _resident(pid: int, line: str = "VmRSS:") -> float:
    with suppress(OSError):
        for found in Path(f"/proc/{pid}/status").read_text().splitlines():
            if found.startswith(line):
                return int(found.split()[1]) / 1024
    return 0.0


def _replicas(pids: list[int]) -> dict[int, str]:
    names = {}
    for pid in pids:
        with suppress(OSError):
            names[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    return {pid: name for pid, name in names.items() if name.startswith("ray::Serve")}


def service_at(port: int) -> int | None:
    """Return the process under which everything of a service runs that listens on this port of this machine.

    That is the parent of all Ray's, where it is Ray that listens; None for a service of another machine.
    """
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            process = psutil.Process(connection.pid)
            for above in [process, *process.parents()]:
                if above.name() == "raylet":
                    return int(above.pid)
            return int(process.pid)
    return None
