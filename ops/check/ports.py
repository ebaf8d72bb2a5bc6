"""What other machines reach of the service that runs on this one: ports that do not listen on loopback alone."""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Final

import psutil

API: Final = "the API"
HAPROXY: Final = "HAProxy: metrics (9101) or statistics (8404)"
PROGRAMS: Final = (
    (r"haproxy", HAPROXY),
    (r"valkey-server", "Valkey: the cache"),
    (
        r"gcs_server(?: |$)",
        "Ray's GCS: whoever reaches it, with the cluster's token where there is one, runs code",
    ),
    (r"^\S*raylet(?: |$)", "Ray's raylet: tasks and objects of this node"),
    (r"ray.client.server|ray/util/client/server", "Ray's client server: whoever reaches it runs code"),
    (r"runtime_env/agent|ray::RuntimeEnvAgent", "Ray's runtime-env agent"),
    (r"dashboard/agent\.py|ray::DashboardAgent", "Ray's agent: metrics (8090), and jobs (52365)"),
    (r"dashboard/dashboard\.py|ray-dashboard", "Ray's dashboard: jobs and Serve, and metrics (44227)"),
    (r"autoscaler/_private/monitor|autoscaler/v2/monitor", "Ray's autoscaler: metrics (44217)"),
    (r"ray::ServeReplica:(\S+)", "a replica of {}: requests past HAProxy, and calls between replicas"),
    (r"ray::(ProxyActor|HAProxyManager)", "Serve's proxy: requests past HAProxy, and its health"),
    (r"ray::(\S+)", "a worker of Ray: {}"),
    (r"visiongraph|ops\.cli\.main", "visiongraph serve, which is a driver of Ray"),
)
"""By what is in the command line of a process: what its ports are; the first that is found counts."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that other machines reach, ``tcp`` or ``udp``, and what it is."""

    address: str
    port: int
    protocol: str
    process: str
    pid: int
    what: str

    @property
    def is_api(self) -> bool:
        """Return whether it is meant to be reached."""
        return self.what == API


def reachable() -> list[Listener]:
    """Return the ports of processes of the service, as far as this user may look into them, that others reach."""
    listeners: set[Listener] = set()
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            what = what_is(" ".join(command))
            if what is None:
                continue
            frontends = _frontends(command) if what == HAPROXY else ""
            if what == HAPROXY and not frontends:
                continue  # somebody else's
            for address, port, protocol in _listening(process):
                known = API if re.search(rf"(?m)^\s*bind \S*:{port}\b", frontends) else what
                listeners.add(Listener(address, port, protocol, process.name(), process.pid, known))
        except psutil.Error:
            continue
    return sorted(listeners, key=lambda each: (not each.is_api, each.port, each.pid, each.address))


def what_is(command: str) -> str | None:
    """Return what the ports of a process with this command line are, None for one that is not of the service."""
    for pattern, what in PROGRAMS:
        if match := re.search(pattern, command):
            return what.format(*match.groups())
    return None


def _listening(process: psutil.Process) -> Iterator[tuple[str, int, str]]:
    for each in process.net_connections("inet"):
        is_udp = each.type == socket.SOCK_DGRAM
        if (is_udp and not each.raddr) or each.status == psutil.CONN_LISTEN:
            address = ip_address(each.laddr.ip)
            if not (getattr(address, "ipv4_mapped", None) or address).is_loopback:
                yield each.laddr.ip, each.laddr.port, "udp" if is_udp else "tcp"


def _frontends(command: list[str]) -> str:
    """Return where Serve's HAProxy takes requests of clients, as its configuration says; empty for another HAProxy."""
    frontends = ""
    for option, value in pairwise(command):
        if option == "-f":
            try:
                text = Path(value).read_text(encoding="utf-8")
            except OSError:
                continue
            frontends += "".join(re.findall(r"(?m)^frontend http_frontend\n(?:[ \t].*\n?)*", text))
    return frontends
