"""Memory of what is decoded at once: large work waits among its like, and lets the rest pass."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.unit.vision.calls import until
from vision.errors import StageOverloaded
from vision.memory import MemoryBudget


def late(budget: MemoryBudget, size: int, seconds: float = 0.1) -> bool:
    """Whether work of a size finds no place for that long."""

    def enter() -> None:
        with budget.reserved(size):
            pass

    try:
        until(time.time() + seconds, enter)
    except StageOverloaded:
        return True
    return False


def test_large_work_leaves_a_quarter() -> None:
    budget = MemoryBudget(1000)
    with budget.reserved(5000):
        assert late(budget, 200)
        assert not late(budget, 100)
        with budget.reserved(125), budget.reserved(125):
            assert late(budget, 1)
        assert not late(budget, 125)
    assert not late(budget, 5000)


def test_small_work_may_take_all() -> None:
    budget = MemoryBudget(1000)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(budget.reserved(100))
        assert late(budget, 1)
    assert not late(budget, 1)


def test_what_left_takes_no_turn() -> None:
    budget = MemoryBudget(1000)
    with budget.reserved(700):
        assert late(budget, 600)
        assert not late(budget, 100)
    assert not late(budget, 750)


def test_never_more_than_all() -> None:
    budget, lock, used, most = MemoryBudget(1000), threading.Lock(), 0, 0

    def work(size: int) -> None:
        nonlocal used, most
        with budget.reserved(size):
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
    budget = MemoryBudget(100)
    with pytest.raises(ValueError, match="damaged"), budget.reserved(75):
        raise ValueError("damaged")
    assert not late(budget, 75)


def test_who_does_not_wait_is_told() -> None:
    budget = MemoryBudget(1000)
    with budget.reserved(700, wait=False) as held, budget.reserved(100, wait=False) as second:
        assert (held, second) == (True, True)
        with budget.reserved(600, wait=False) as third:
            assert not third
        assert late(budget, 600)
        assert not late(budget, 100)
    with budget.reserved(700, wait=False) as held:
        assert held
