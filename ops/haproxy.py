"""Ray Serve's HAProxy as this service wants it: closed to the network, with JSON errors, and never gone for long.

Serve writes HAProxy's configuration anew and starts a process of it at each change of replicas. The one setting that
reaches all of it is the program that it starts (``RAY_SERVE_HAPROXY_BINARY_PATH``): a script made by ``install`` runs
this file, which rewrites the configuration (``harden``), takes over from whichever process serves by then, and turns
into HAProxy. ``HAProxyWatch`` serves the last configuration on when that process dies, until Serve has a new one.

This file runs as a program without any package, as each reload waits for it.
"""

import fcntl
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from select import POLLIN, poll
from threading import Event, Thread
from typing import Final

log = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 2
FAILURES: Final = {
    500: ("PROCESSING_FAILED", "The service failed on this request."),
    502: ("INTERRUPTED", "The process that worked on this request has ended; send it again if it may run twice."),
    503: ("UNAVAILABLE", "No process is there to take this request; it comes back by itself, try again soon."),
    504: ("TIMEOUT", "The service did not answer in time; try again later."),
}
"""What HAProxy itself answers: status → (code, message), in the body of the asset API.

What is not HTTP and headers that come too slowly get its built-in pages, 400 and 408: no configuration of HAProxy 2.8,
which Ray has, reaches what fails before a request is whole (https://github.com/haproxy/haproxy/issues/3032).
"""
METHODS: Final = "CONNECT DELETE GET HEAD OPTIONS PATCH POST PUT TRACE"
"""Those that a replica answers in JSON, if only by 405."""
RECORD, LAST, LOCK = "serving.json", "serving.cfg", "lock"
CHECK_EVERY_S = 0.5
"""How often it is looked which process serves; that one's end is known at once."""
TAKE_OVER_CHECK_S = 0.02
MAX_BACKOFF_S = 10.0
SEND_BUFFER: Final = 128 * 1024
"""Bytes that wait for a replica in the kernel, which takes twice that; they are lost if the client leaves meanwhile.

Left alone that comes to megabytes, which a resumable upload has to send again; with less than this it is slower.
"""


def harden(text: str) -> str:
    """Return Serve's configuration with closed ports and sockets, errors in JSON, and no wrong answers.

    Every answer has the id of its request, which is that of the client where it is sane (``graphs.web.requests``).
    Its statistics ports listen on loopback and its admin socket is its owner's. While it knows no application its port
    is not open, as it would answer 404. Where no replica is there it answers 503, in place of handing the request to
    Serve's Python proxy, which has no limits. Access logs to a syslog that nobody has named are not written. All that a
    client had sent before it left reaches the replica.
    """
    if _SEND_BUFFER not in text:
        text = re.sub(r"(?m)^global\n", lambda match: match[0] + _SEND_BUFFER, text, count=1)
    text = re.sub(r"(?m)^(\s*stats socket \S+) mode \d+", r"\1 mode 600", text)
    text = re.sub(r"(?m)^(frontend prometheus\n\s*bind ):(?=\d)", r"\g<1>127.0.0.1:", text)
    text = re.sub(r"(?m)^(listen stats\n\s*bind )\*:(?=\d)", r"\g<1>127.0.0.1:", text)
    text = re.sub(r"(?m)^\s*log 127\.0\.0\.1:514 .*\n", "", text)
    text = re.sub(r"(?m)^\s*server \S+ \S+ check backup\n", "", text)
    text = re.sub(r"(?m)(^\s*errorfile \d+ .*\n)+", _errors(), text, count=1)
    if _FRONTEND not in text:
        text = re.sub(r"(?m)^(frontend http_frontend\n\s*bind .*\n)", lambda match: match[1] + _FRONTEND, text)
    return text if serves(text) else re.sub(r"(?m)^(frontend http_frontend\n)\s*bind .*\n", r"\1", text)


def keep_servers(text: str, last: str) -> str:
    """Return a configuration in which each backend without servers has those that it had in the last one.

    Serve forgets an application's replicas for a second or two while it builds a changed one anew, though they go on
    answering. One that has really ended fails its health check and is answered for as ever, by 503.
    """
    before = dict(_backends(last))
    for name, servers in _backends(text):
        if not servers:
            text = text.replace(f"\nbackend {name}\n", f"\nbackend {name}\n{before.get(name, '')}")
    return text


def _backends(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each backend of an application with its lines of servers."""
    for match in re.finditer(r"(?m)^backend (\S+)\n((?:[ \t].*\n|\n)*)", text):
        yield match[1], "".join(re.findall(r"(?m)^\s*server .*\n", match[2]))


def serves(text: str) -> bool:
    """Whether a configuration knows an application."""
    return re.search(r"(?m)^\s*use_backend ", text) is not None


def _errors() -> str:
    lines = []
    for status, (code, message) in FAILURES.items():
        retry = f" hdr Retry-After {RETRY_AFTER_S}" if status > 500 else ""
        lines.append(f"    http-error status {status} {_json(code, message)}{retry}\n")
    return "".join(lines)


def _json(code: str, message: str) -> str:
    body = {"code": code, "message": message, "details": None, "timestamp": "%[date,utime(%Y-%m-%dT%H:%M:%SZ)]"}
    return f"content-type application/json lf-string '{json.dumps({'error': body})}'"


_SEND_BUFFER: Final = f"    tune.sndbuf.server {SEND_BUFFER}\n"
_FRONTEND: Final = (
    "    http-request set-header X-Request-Id %[uuid]"
    " unless { req.fhdr_cnt(x-request-id) 1 } { req.fhdr(x-request-id) -m reg ^[A-Za-z0-9._:/=+@-]{1,128}$ }\n"
    "    http-request set-var(txn.request_id) req.fhdr(x-request-id)\n"
    "    http-after-response set-header X-Request-Id %[var(txn.request_id)] if { var(txn.request_id) -m found }\n"
    f"    http-request return status 501 {_json('UNKNOWN_METHOD', 'There is no such HTTP method.')}"
    f" unless {{ method {METHODS} }}\n"
    "    http-response del-header server\n"
)


def install(folder: Path, binary: str) -> dict[str, str]:
    """Write the program that Serve starts in place of HAProxy; return the variables that make Serve use it.

    ``folder`` has to exist, be its owner's alone, and have a short path: sockets lie in it.
    """
    from vision.parent import launcher

    program = folder / "haproxy"
    launch = shlex.join(launcher(signal.SIGKILL))  # no HAProxy outlives who would reload it
    command = shlex.join([sys.executable, "-IS", str(Path(__file__).resolve()), binary, str(folder)])
    program.write_text(f'#!/bin/sh\nexec {launch} "$PPID" {command} "$@"\n')
    program.chmod(0o700)
    return {
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(program),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


LONGEST_SOCKET: Final = f"{'0' * 56}/admin.{2**22}.tmp"
"""Path below the folder of the longest socket: Serve adds the node's id, HAProxy binds under a temporary name."""


class HAProxyWatch:
    """Serves the last configuration while the HAProxy that Serve started is gone; a thread, until ``stop``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._standbys: list[subprocess.Popen[bytes]] = []
        self._stop = Event()
        self._stopped = os.eventfd(0)
        self._thread = Thread(target=self._run, name="haproxy-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch, and the processes that it has started."""
        self._stop.set()
        os.eventfd_write(self._stopped, 1)
        self._thread.join()
        os.close(self._stopped)
        for standby in self._standbys:
            standby.kill()
            standby.wait()

    def _run(self) -> None:
        backoff_s, lost_at = 0.0, -MAX_BACKOFF_S
        pid: int | None = None
        while not self._stop.wait(backoff_s):
            self._await_end(pid)
            pid = _recorded(self._folder)
            for standby in [each for each in self._standbys if each.poll() is not None]:
                self._standbys.remove(standby)
                if pid != standby.pid:
                    log.info("Serve's HAProxy serves again")
            if pid is None or _is_haproxy(pid):
                continue
            backoff_s = min(MAX_BACKOFF_S, 2 * backoff_s + 0.1) if time.monotonic() - lost_at < MAX_BACKOFF_S else 0.0
            lost_at = time.monotonic()
            self._serve_on(pid)

    def _await_end(self, pid: int | None) -> None:
        """Wait until a process ends or the watch does, but not for long: another process may serve by then."""
        ends = poll()
        ends.register(self._stopped, POLLIN)
        if pid is None:
            ends.poll(CHECK_EVERY_S * 1000)
            return
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            ends.register(process, POLLIN)
            ends.poll(CHECK_EVERY_S * 1000)
        finally:
            os.close(process)

    def _serve_on(self, pid: int) -> None:
        last = str(self._folder / LAST)
        command = [str(self._folder / "haproxy"), "-db", "-f", last, "--instead-of", str(pid)]
        try:
            with (self._folder / "standby.log").open("wb") as output:
                standby = subprocess.Popen(  # noqa: S603 (no shell, no outside input)
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
        except OSError as error:
            log.warning("HAProxy (pid %d) is gone and cannot be started (%s)", pid, error)
            return
        self._standbys.append(standby)
        log.warning("HAProxy (pid %d) is gone; pid %d serves on", pid, standby.pid)
        while standby.poll() is None and _recorded(self._folder) == pid:  # it has not taken over yet
            if self._stop.wait(TAKE_OVER_CHECK_S):
                return


def _recorded(folder: Path) -> int | None:
    """Return the process that was last to serve, None before the first."""
    try:
        return int(json.loads((folder / RECORD).read_text())["pid"])
    except FileNotFoundError:
        return None


def _is_haproxy(pid: int) -> bool:
    """Whether this process lives and is, or turns into, one of these; the command line of a zombie is empty."""
    try:
        return b"haproxy" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
        file.write(text)
    part.replace(path)


def main(binary: str, folder: Path, arguments: Sequence[str]) -> None:
    """Rewrite the configuration that the arguments name, take over, and turn into HAProxy."""
    # Without -dR processes share the port, so there is no moment without one that listens.
    given = [argument for argument in arguments if argument != "-dR"]
    instead_of = 0
    if "--instead-of" in given:
        at = given.index("--instead-of")
        instead_of = int(given[at + 1])
        del given[at : at + 2]
    config = Path(given[given.index("-f") + 1])
    text = harden(config.read_text())
    with _locked(folder):
        before = _recorded(folder)
        if before is not None:
            text = keep_servers(text, (folder / LAST).read_text())
        _write(config, text)
        if instead_of and before != instead_of:
            return  # Serve was faster
        if serves(text):
            if before is not None and before != instead_of and str(before) not in given and _is_haproxy(before):
                at = given.index("-sf") + 1 if "-sf" in given else len(given)
                given[at:at] = [str(before)] if "-sf" in given else ["-sf", str(before)]
            # What serves on must not answer in the name of the process that is gone.
            _write(folder / LAST, re.sub(r"(?m)^\s*stats socket .*\n", "", text))
            _write(folder / RECORD, json.dumps({"pid": os.getpid()}))
    os.execv(binary, [binary, *given])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
