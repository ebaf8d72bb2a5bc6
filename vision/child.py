"""Runs functions on untrusted bytes in child processes, which can be killed.

A decoder cannot be interrupted, and a damaged file may crash it. In a child it takes no more processor time and memory
than it is given, ends when the request ends for which it works, and costs nobody but itself.

Children start when they are needed, serve one call after the other, and are stopped when none came for a while. They
end with their parent. Arguments and results of any size come and go in shared memory: buffers of arrays are not copied
on the way back.
"""

import math
import mmap
import os
import pickle
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from vision.deadlines import time_left
from vision.errors import DeadlineExceeded, InvalidMedia, MediaTooLarge, StageOverloaded, StageUnavailable
from vision.memory import trim
from vision.parent import end_with_parent

T = TypeVar("T")

CHILDREN: Final = 2
"""Of one process. Files that take as long as they may leave other clients the second one half of the time."""
IDLE_S: Final = 20.0
UNLIMITED_S: Final = 60.0
"""Seconds for a call that belongs to no request."""
_ALIGNED: Final = 64
_MESSAGE: Final = 4096
_LINUX: Final = sys.platform == "linux"
_MESSAGES: Final = socket.SOCK_SEQPACKET if _LINUX else socket.SOCK_STREAM
_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Pages that the next picture needs are kept until there is none for a moment.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**20),
}
_REST_S: Final = 2.0
"""After which pages go back to the system."""
_KEPT: Final = 256 * 2**20
"""Bytes of them that a child may keep until then."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a call may take: ``cpu_s`` seconds of processor time of all its threads, and bytes of memory."""

    cpu_s: float
    memory: int


@contextmanager
def leased() -> Iterator["Child"]:
    """Have a child for a while, in which module state of one call is there in the next; take no memory before it.

    Raises StageOverloaded when none came free before the request ended.
    """
    left = time_left()
    ends = time.monotonic() + (UNLIMITED_S if left is None else left)
    with _pool().child(ends) as child:
        child.ends = ends
        yield child


def run(allowance: Allowance, function: Callable[..., T], *args: Any) -> T:
    """Return or raise what a function does in a child, as ``Child.call``. Raises StageOverloaded as ``leased``."""
    with leased() as child:
        return child.call(allowance, function, *args)


class Child:
    """A process that runs one function at a time; use it on one thread at a time.

    ``ends`` is when the work has to be done, by ``time.monotonic``. ``environment`` is added to that of this process.
    """

    def __init__(self, environment: Mapping[str, str] = _ENVIRONMENT) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, _MESSAGES)
        with theirs:
            path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
            # It ends with the thread that starts it, so that one has to stay.
            self._process = (
                _starter()
                .submit(
                    subprocess.Popen,
                    [sys.executable, "-c", f"from vision.child import serve; serve({theirs.fileno()}, {os.getpid()})"],
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **environment, "PYTHONPATH": path},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                .result()
            )
        self._socket = ours
        self.ends = time.monotonic() + UNLIMITED_S
        self._answered = True

    @property
    def ready(self) -> bool:
        """Whether it runs and waits for a call."""
        return self._answered and self._process.poll() is None

    def call(self, allowance: Allowance, function: Callable[..., T], *args: Any) -> T:
        """Return or raise what a function of this package does there; wrap large bytes in ``pickle.PickleBuffer``.

        Arrays of the result are read-only. Raises MediaTooLarge when it takes more time than it may, InvalidMedia when
        it crashes, and, where that is not the file's fault, DeadlineExceeded and StageUnavailable.
        """
        self._answered = False
        self._process.send_signal(signal.SIGCONT)
        try:
            _send(self._socket, (allowance, function, args))
            self._socket.settimeout(max(self.ends - time.monotonic(), 0.001))
            result, raised = _received(self._socket)
            self._answered = True
        except TimeoutError:
            self.stop()
            raise DeadlineExceeded("The time of this request ran out while its file was decoded; try again.") from None
        except (EOFError, ConnectionError):
            self._raise_end()
        if raised:
            raise result
        return result  # type: ignore[no-any-return]

    def pause(self) -> None:
        """Halt the process, with what it does in other threads, until the next call."""
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """Kill the process."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _raise_end(self) -> NoReturn:
        self._socket.close()
        code = -self._process.wait()
        if code == signal.SIGXCPU:
            raise MediaTooLarge(
                "This file takes too long to decode, far longer than others of its size. Save it again with ordinary "
                "settings, or as a JPEG or PNG."
            )
        if code in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL):
            raise InvalidMedia("This file is damaged: its decoder stops on it. Upload the original file again.")
        raise StageUnavailable("The decoder was stopped while it worked on this file; try again in a few seconds.")


class _Pool:
    def __init__(self, most: int) -> None:
        self._places = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Child]] = []
        self._timer: threading.Timer | None = None

    @contextmanager
    def child(self, ends: float) -> Iterator[Child]:
        if not self._places.acquire(timeout=max(ends - time.monotonic(), 0)):
            raise StageOverloaded("Too many files are being decoded; try again in a few seconds.")
        try:
            child = self._taken()
            try:
                yield child
            finally:
                self._give_back(child)
        finally:
            self._places.release()

    def _taken(self) -> Child:
        with self._lock:
            while self._idle:
                _, child = self._idle.pop()
                if child.ready:
                    return child
                child.stop()
        return Child()

    def _give_back(self, child: Child) -> None:
        if not child.ready:
            child.stop()
            return
        with self._lock:
            self._idle.append((time.monotonic(), child))
            if self._timer is None:
                self._stop_later()

    def _stop_later(self) -> None:
        self._timer = threading.Timer(IDLE_S, self._stop_idle)
        self._timer.daemon = True
        self._timer.start()

    def _stop_idle(self) -> None:
        now = time.monotonic()
        with self._lock:
            late = [child for since, child in self._idle if now - since >= IDLE_S / 2]
            self._idle = [entry for entry in self._idle if entry[1] not in late]
            self._timer = None
            if self._idle:
                self._stop_later()
        for child in late:
            child.stop()


@cache
def _starter() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="children")


@cache
def _pool() -> _Pool:
    return _Pool(CHILDREN)


def _send(connection: socket.socket, value: Any) -> None:
    """Send a value: its pickle and the buffers beside it in shared memory, their sizes in a message."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, 5, buffer_callback=buffers.append)
    parts = [memoryview(body), *(buffer.raw() for buffer in buffers)]
    starts, end = [], 0
    for part in parts:
        starts.append(end)
        end += -(-len(part) // _ALIGNED) * _ALIGNED
    file = os.memfd_create("call", os.MFD_CLOEXEC) if _LINUX else _unnamed_file()
    try:
        os.ftruncate(file, max(end, 1))
        with mmap.mmap(file, max(end, 1)) as shared:
            for start, part in zip(starts, parts, strict=True):
                shared[start : start + len(part)] = part
        sizes = struct.pack(f"{len(parts)}Q", *map(len, parts))
        socket.send_fds(connection, [sizes], [file])
    finally:
        os.close(file)


def _unnamed_file() -> int:
    """Return the descriptor of a file that goes with it, for systems without memory that is one."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _received(connection: socket.socket) -> Any:
    sizes, files, _, _ = socket.recv_fds(connection, _MESSAGE, 1)
    if not files:
        raise EOFError
    try:
        shared = memoryview(mmap.mmap(files[0], 0, mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0), mmap.PROT_READ))
    finally:
        os.close(files[0])
    parts, at = [], 0
    for (size,) in struct.iter_unpack("Q", sizes):
        parts.append(shared[at : at + size])
        at += -(-size // _ALIGNED) * _ALIGNED
    return pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 (from our own process)


def serve(descriptor: int, parent: int) -> None:
    """Serve calls in a child until the parent closes the socket."""
    end_with_parent(signal.SIGKILL, parent)  # where that is not Linux's it ends when it next waits for a call
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=descriptor) as connection:
        while True:
            if not select.select([connection], [], [], _REST_S)[0]:
                trim()
            try:
                allowance, function, args = _received(connection)
            except EOFError:
                return
            outcome = _outcome(allowance, function, args)
            try:
                _send(connection, outcome)
            except (pickle.PicklingError, TypeError, AttributeError) as error:
                _send(connection, (RuntimeError(repr(error)), True))
            del args, outcome
            if _LINUX and _data_bytes() > _KEPT:
                trim()


def _outcome(allowance: Allowance, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, bool]:
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    _limit(resource.RLIMIT_CPU, math.ceil(used + allowance.cpu_s))
    if _LINUX:
        _limit(resource.RLIMIT_DATA, _data_bytes() + allowance.memory)
    try:
        return function(*args), False
    except Exception as error:
        return error.with_traceback(None), True
    finally:
        _limit(resource.RLIMIT_CPU, resource.RLIM_INFINITY)
        _limit(resource.RLIMIT_DATA, resource.RLIM_INFINITY)


def _limit(what: int, value: int) -> None:
    resource.setrlimit(what, (value, resource.RLIM_INFINITY))


def _data_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
