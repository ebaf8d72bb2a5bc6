"""Processor time of a contestant: of a process and of all below it, those included that have ended meanwhile.

Wall-clock figures of a machine that others share say little; milliseconds of the processor do. They are those of
``/proc/PID/stat``, user and system, to 10 ms of each process. What a service is made of counts as a whole: Ray's GCS,
raylet, dashboard and agents, HAProxy, Valkey, controllers, workers and their children.

    with Tree(process.pid) as tree:      # samples meanwhile, so that nothing is lost that ends
        before = tree.ms()
        …                                # the load
        print(tree.ms() - before, tree.by_name())
"""

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

SAMPLE_S: Final = 0.5
_TICK_MS: Final = 1000 / os.sysconf("SC_CLK_TCK")
_SIGCHLD: Final = 1 << 16
ENDED: Final = "ended"


@dataclass(slots=True)
class _Process:
    """A process at its last sample, in ticks; ``children``: those of its children that it has waited for."""

    name: str
    parent: int
    own: int = 0
    children: int = 0
    collects: bool = True
    """Whether the kernel adds the time of its children to its own when they end: not where SIGCHLD is ignored."""

    @property
    def ticks(self) -> int:
        return self.own + self.children


class Tree:
    """A process and all below it. A process that was seen once belongs to it, whoever is its parent later.

    Time of a process that has ended is that which its parent got for it or, where the parent got none, as under Ray's
    raylet, that of its last sample.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._members: dict[tuple[int, int], _Process] = {}
        self._lost: dict[str, int] = {}
        """Ticks of ended processes that no other has, by name."""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._sampler = threading.Thread(target=self._sample_all, daemon=True)
        self.ms()

    def __enter__(self) -> Self:
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._sampler.join()

    def ms(self) -> float:
        """Return the milliseconds that all have used until now; differences of two calls are of use."""
        with self._lock:
            self._sample()
            return _TICK_MS * (sum(each.ticks for each in self._members.values()) + sum(self._lost.values()))

    def by_name(self) -> dict[str, float]:
        """Return the milliseconds until now by the names of the processes; children that have ended are ``ended``."""
        with self._lock:
            self._sample()
            ticks = dict(self._lost)
            for (pid, _), each in self._members.items():
                # Ray's workers change their names, to say what runs in them.
                each.name = _name(pid) or each.name
                ticks[each.name] = ticks.get(each.name, 0) + each.own
                ticks[ENDED] = ticks.get(ENDED, 0) + each.children
        return {name: _TICK_MS * count for name, count in sorted(ticks.items(), key=lambda item: -item[1])}

    def pids(self) -> list[int]:
        """Return the ids of all that run."""
        with self._lock:
            self._sample()
            return [pid for pid, _ in self._members]

    def names(self) -> list[str]:
        """Return the names of all that run, each once for every process of that name."""
        with self._lock:
            self._sample()
            return [_name(pid) or each.name for (pid, _), each in self._members.items()]

    def _sample_all(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            self.ms()

    def _sample(self) -> None:
        running = _running()
        last, self._members = self._members, {}
        known = {pid for pid, start in last if pid in running and running[pid].start == start} | {self.pid}
        for pid, stat in running.items():
            if _belongs(pid, running, known):
                key = pid, stat.start
                process = self._members[key] = last.get(key) or _Process(_name(pid), stat.parent)
                process.parent, process.own, process.children = stat.parent, stat.own, stat.children
        by_pid = {pid: process for (pid, _), process in (last | self._members).items()}
        for pid in {process.parent for process in self._members.values()} & by_pid.keys():
            by_pid[pid].collects = not _ignores_children(pid)
        ended = {key: process for key, process in last.items() if key not in self._members}
        for process in ended.values():
            if not _collected(process, by_pid, {pid for pid, _ in ended}):
                self._lost[process.name] = self._lost.get(process.name, 0) + process.ticks


@dataclass(frozen=True, slots=True)
class _Stat:
    """Fields of ``/proc/PID/stat``: ``start`` tells processes with the same id apart."""

    parent: int
    start: int
    own: int
    children: int


def _running() -> dict[int, _Stat]:
    """Return all processes of this machine, by id."""
    stats = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 (paths take twice the time, of which this has to take little)
        if name.isdecimal():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 (as above)
                fields = file.read().rpartition(b")")[2].split()
                stats[int(name)] = _Stat(
                    parent=int(fields[1]),
                    start=int(fields[19]),
                    own=int(fields[11]) + int(fields[12]),
                    children=int(fields[13]) + int(fields[14]),
                )
    return stats


def _belongs(pid: int, running: dict[int, _Stat], known: set[int]) -> bool:
    """Return whether a process or one above it is known; those between become known."""
    path = []
    while pid in running and pid not in known:
        path.append(pid)
        pid = running[pid].parent
    if pid not in known:
        return False
    known.update(path)
    return True


def _collected(process: _Process, by_pid: dict[int, _Process], ended: set[int]) -> bool:
    """Return whether the time of a process that has ended is in that of a member that runs."""
    parent = by_pid.get(process.parent)
    if parent is None or not parent.collects:
        return False
    return process.parent not in ended or _collected(parent, by_pid, ended)


def _ignores_children(pid: int) -> bool:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigIgn:"):
                return bool(int(line.split()[1], 16) & _SIGCHLD)
    return False


def _name(pid: int) -> str:
    """Return a short name: what runs in a worker of Ray, the module or script of an interpreter, or the program."""
    words: list[str] = []
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ").split()
    if not words:
        return ""
    if words[0].startswith(("ray::", "ray-")):
        return words[0].removeprefix("ray::").split(".")[0]
    name = Path(words[0]).name
    if not name.startswith("python"):
        return name
    module = next((words[place + 1] for place, word in enumerate(words[:-1]) if word == "-m"), None)
    script = next((Path(word).stem for word in words[1:] if word.endswith(".py")), None)
    return module or script or name
