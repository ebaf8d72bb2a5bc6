"""kill -9 of each process that a request needs, and of those that look after them."""

import os
import signal
from collections.abc import Awaitable, Callable

from tests.cluster.conftest import RunningService

KILLS = {
    "models replica": "ray::ServeReplica:models",
    "jobs worker": "ray::ServeReplica:jobs",
    "Serve controller": "ray::ServeController",
    "Serve's HAProxy manager": "ray::HAProxyManager",
    "HAProxy": "bin/haproxy",
    "Valkey": "valkey-server",
    "gateway": "ray::ServeReplica:gateway",
}
"""What is killed, and what the command lines of these processes have in them."""


def kill(running: RunningService, what: str, *, most: int = 100) -> Callable[[], Awaitable[str]]:
    """A fault: SIGKILL for the processes of this kind, at most so many of them."""

    async def fault() -> str:
        processes = running.processes(KILLS[what])[:most]
        if not processes:
            raise LookupError(f"no process of {what} runs")
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
        return f"{len(processes)} killed" if len(processes) > 1 else ""

    return fault
