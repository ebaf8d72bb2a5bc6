"""Memory of what is decoded at once: large work waits among its like, and lets the rest pass."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.unit.vision.calls import until
from vision.errors import StageOverloaded
from vision.memory import Admission


def late(admission: Admission, size: int, seconds: float = 0.1) -> bool:
    """Whether work of a size finds no place for that long."""

    def enter() -> None:
        with admission.reserved(size):
            pass

    try:
        until(time.time() + seconds, enter)
    except StageOverloaded:
        return True
    return False


def test_large_work_leaves_a_quarter() -> None:
    admission = Admission(1000)
    with admission.reserved(5000):
        assert late(admission, 200)
        assert not late(admission, 100)
        with admission.reserved(125), admission.reserved(125):
            assert late(admission, 1)
        assert not late(admission, 125)
    assert not late(admission, 5000)


def test_small_work_may_take_all() -> None:
    admission = Admission(1000)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(admission.reserved(100))
        assert late(admission, 1)
    assert not late(admission, 1)


def test_what_left_takes_no_turn() -> None:
    admission = Admission(1000)
    with admission.reserved(700):
        assert late(admission, 600)
        assert not late(admission, 100)
    assert not late(admission, 750)


def test_never_more_than_all() -> None:
    admission, lock, used, most = Admission(1000), threading.Lock(), 0, 0

    def work(size: int) -> None:
        nonlocal used, most
        with admission.reserved(size):
            with lock:
                used += size
                most = max(most, used)
            time.sleep(0.002)
            with lock:
                used -= size

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, [50, 400, 120, 700, 10, 300] * 20))
    assert 700 <= most <= 1000
    assert used == 0


def test_an_error_gives_the_share_back() -> None:
    admission = Admission(100)
    with pytest.raises(ValueError, match="damaged"), admission.reserved(75):
        raise ValueError("damaged")
    assert not late(admission, 75)


def test_who_does_not_wait_is_told() -> None:
    admission = Admission(1000)
    with admission.reserved(700, wait=False) as held, admission.reserved(100, wait=False) as second:
        assert (held, second) == (True, True)
        with admission.reserved(600, wait=False) as third:
            assert not third
        assert late(admission, 600)
        assert not late(admission, 100)
    with admission.reserved(700, wait=False) as held:
        assert held
