"""What others reach, as seen of real processes that listen."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console

from ops.check.ports import API, Listener, reachable, what_is
from ops.cli.check import _show_ports

LISTEN = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[1]]
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
with socket.socket(family, kind) as server:
    server.bind((sys.argv[2], 0))
    if sys.argv[1] == "tcp":
        server.listen()
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listen(running: ExitStack, protocol: str, address: str, *title: str) -> tuple[int, int]:
    """A process that listens and has these words in its command line; its id and port."""
    process = running.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", LISTEN, protocol, address, *title],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    assert process.stdin is not None
    assert process.stdout is not None
    running.callback(process.stdin.close)
    return process.pid, int(process.stdout.readline())


@pytest.mark.parametrize(
    ("protocol", "address"), [("tcp", "0.0.0.0"), ("tcp", "::"), ("udp", "0.0.0.0"), ("udp", "::")]
)
def test_what_listens_for_all_is_listed(running: ExitStack, protocol: str, address: str) -> None:
    pid, port = listen(running, protocol, address, "/opt/ray/gcs_server")
    [found] = [each for each in reachable() if each.pid == pid]
    assert (found.address, found.port, found.protocol) == (address, port, protocol)
    assert found.what.startswith("Ray's GCS: ")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9", "::1"])
def test_what_listens_on_loopback_is_not(running: ExitStack, address: str) -> None:
    pid, _ = listen(running, "tcp", address, "/opt/ray/gcs_server")
    assert [each for each in reachable() if each.pid == pid] == []


def test_what_is_not_of_the_service_is_not(running: ExitStack) -> None:
    pid, _ = listen(running, "tcp", "0.0.0.0", "/usr/bin/another-server")
    assert [each for each in reachable() if each.pid == pid] == []


def test_haproxys_port_for_clients_is_the_api(running: ExitStack, tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    pid, port = listen(running, "tcp", "0.0.0.0", "haproxy", "-f", str(config))
    frontend = "frontend {}\n    bind {}:{}\n    mode http\n"
    config.write_text(frontend.format("prometheus", "", port) + frontend.format("http_frontend", "*", port + 1))
    [found] = [each for each in reachable() if each.pid == pid]
    assert (found.what, found.is_api) == ("HAProxy: metrics (9101) or statistics (8404)", False)
    config.write_text(frontend.format("prometheus", "", port + 1) + frontend.format("http_frontend", "0.0.0.0", port))
    [found] = [each for each in reachable() if each.pid == pid]
    assert (found.what, found.is_api) == (API, True)


def test_another_haproxy_is_not(running: ExitStack, tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text("frontend tls\n    bind :443\n")
    pid, _ = listen(running, "tcp", "0.0.0.0", "haproxy", "-f", str(config))
    assert [each for each in reachable() if each.pid == pid] == []


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("python -u /venv/ray/dashboard/agent.py --node-ip-address=10.0.0.1", "Ray's agent"),
        ("python -u /venv/ray/dashboard/dashboard.py --host=0.0.0.0", "Ray's dashboard"),
        ("python /venv/ray/_private/runtime_env/agent/main.py", "Ray's runtime-env agent"),
        ("/venv/ray/core/src/ray/raylet/raylet --raylet_socket_name=/tmp/x", "Ray's raylet"),
        ("ray::ServeReplica:models:models", "a replica of models:models"),
        ("ray::DashboardAgent --raylet-name=/tmp/raylet --gcs-address=10.0.0.1:6379", "Ray's agent"),
        ("ray::IDLE", "a worker of Ray: IDLE"),
        ("/home/valkey-server unixsocket:/run/valkey.sock", "Valkey"),
        ("sshd: /usr/sbin/sshd -D", None),
    ],
)
def test_processes_are_known_by_their_commands(command: str, what: str | None) -> None:
    found = what_is(command)
    assert found is None if what is None else (found or "").startswith(what)


def test_the_check_warns_of_all_but_the_api() -> None:
    console = Console(width=200, record=True, file=None, quiet=False)
    api = Listener("0.0.0.0", 8000, "tcp", "haproxy", 7, API)
    with console.capture() as said:
        _show_ports(console, [api])
    assert said.get().splitlines()[1] == "  0.0.0.0:8000/tcp haproxy (pid 7): the API".ljust(200)
    assert "→" not in said.get()
    with console.capture() as said:
        _show_ports(console, [api, Listener("::", 8090, "tcp", "python", 8, "Ray's agent")])
    assert "[::]:8090/tcp python (pid 8): Ray's agent" in said.get()
    assert "→ on one machine" in said.get()
