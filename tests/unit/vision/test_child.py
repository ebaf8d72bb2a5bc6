"""Functions in child processes: what they may take, how they end, and that nothing stays."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.vision.calls import until
from vision import child
from vision.child import Allowance, Child
from vision.errors import DeadlineExceeded, InvalidInput, InvalidMedia, MediaTooLarge, StageOverloaded, StageUnavailable

PLENTY = Allowance(cpu_s=20, memory=2**30)


@pytest.fixture
def process() -> Iterator[Child]:
    process = Child()
    yield process
    process.stop()


def doubled(data: memoryview) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8) * np.uint8(2)


def spin() -> None:
    while True:
        pass


def doze(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def fill(size: int) -> int:
    return len(bytes(size))


def refuse() -> None:
    raise InvalidInput("no picture of a cow")


def strange() -> object:
    return lambda: None


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


def gone(pid: int) -> bool:
    """Whether a process ends within five seconds."""
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_bytes_go_and_arrays_come_back(process: Child) -> None:
    data = np.random.default_rng(1).integers(0, 256, 5_000_001, np.uint8)
    answer = process.call(PLENTY, doubled, pickle.PickleBuffer(data.tobytes()))
    assert np.array_equal(answer, data * np.uint8(2))
    assert not answer.flags.writeable
    assert process.call(PLENTY, os.getpid) == process.call(PLENTY, os.getpid) != os.getpid()


def test_an_error_is_raised_here_and_the_child_goes_on(process: Child) -> None:
    pid = process.call(PLENTY, os.getpid)
    with pytest.raises(InvalidInput, match="no picture of a cow"):
        process.call(PLENTY, refuse)
    with pytest.raises(RuntimeError, match="pickle"):
        process.call(PLENTY, strange)
    with pytest.raises(MemoryError):
        process.call(Allowance(cpu_s=5, memory=64 * 2**20), fill, 2**29)
    assert process.call(PLENTY, fill, 2**29) == 2**29
    assert process.call(PLENTY, os.getpid) == pid


def test_processor_time_is_the_files_fault(process: Child) -> None:
    with pytest.raises(MediaTooLarge, match="takes too long to decode"):
        process.call(Allowance(cpu_s=0.5, memory=2**30), spin)
    assert not process.ready


def test_waiting_is_not(process: Child) -> None:
    assert process.call(Allowance(cpu_s=0.5, memory=2**30), doze, 1.6) == 1.6
    process.ends = time.monotonic() + 0.2
    with pytest.raises(DeadlineExceeded):
        process.call(PLENTY, doze, 60.0)
    assert not process.ready


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE])
def test_a_crash_costs_the_file(number: int) -> None:
    with pytest.raises(InvalidMedia, match="its decoder stops on it"):
        child.run(PLENTY, kill, int(number))
    assert child.run(PLENTY, fill, 9) == 9


def test_a_kill_from_outside_does_not_cost_the_file() -> None:
    with pytest.raises(StageUnavailable):
        child.run(PLENTY, kill, int(signal.SIGKILL))
    assert child.run(PLENTY, fill, 9) == 9


def test_the_place_comes_back_when_the_request_ends() -> None:
    ends: list[type[Exception]] = []

    def call(cpu_s: float, deadline: float) -> None:
        try:
            until(deadline, child.run, Allowance(cpu_s, 2**30), spin)
        except (DeadlineExceeded, MediaTooLarge, StageOverloaded) as error:
            ends.append(type(error))

    now = time.time()
    threads = [threading.Thread(target=call, args=(60, now + 1)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(end.__name__ for end in ends) == ["DeadlineExceeded"] * 2 + ["StageOverloaded"] * 4
    assert child.run(PLENTY, fill, 9) == 9


def test_children_are_stopped_when_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "IDLE_S", 0.2)
    pool = child._Pool(2)
    with pool.child(time.monotonic() + 20) as process:
        pid = process.call(PLENTY, os.getpid)
    with pool.child(time.monotonic() + 20) as process:
        assert process.call(PLENTY, os.getpid) == pid
    assert gone(pid)


def test_a_child_ends_with_its_parent() -> None:
    code = (
        "import sys, threading, time\n"
        "from tests.unit.vision.test_child import PLENTY, doze\n"
        "import os; from vision import child\n"
        "print(child.run(PLENTY, os.getpid), flush=True)\n"
        "child.run(PLENTY, doze, 60.0)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert gone(pid)
