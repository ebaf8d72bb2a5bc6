"""Batches paced by the worker: who shares one, in which order, and what ends with whom."""

import asyncio
from typing import Any

import pytest

from deployments.serving.batching import Batcher


class Worker:
    """Doubles numbers, one batch at a time, when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.deadlines: list[float] = []
        self.running = 0
        self.gate = asyncio.Event()
        self.error: BaseException | None = None

    async def __call__(self, items: list[int], deadlines: list[float]) -> list[int]:
        self.batches.append(items)
        self.deadlines += deadlines
        self.running += 1
        assert self.running == 1
        await self.gate.wait()
        self.running -= 1
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return [item * 2 for item in items]


def submit(batcher: Batcher, *items: int) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(batcher.submit(item, float(item))) for item in items]


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_arrives_while_a_batch_runs_is_the_next_one() -> None:
    worker = Worker()
    batcher = Batcher(worker, 4, 0)
    calls = submit(batcher, 0)
    await settle()
    calls += submit(batcher, 1, 2, 3)
    await settle()
    calls += submit(batcher, 4, 5, 6)
    await settle()
    assert worker.batches == [[0]]
    worker.gate.set()
    assert await asyncio.gather(*calls) == [0, 2, 4, 6, 8, 10, 12]
    assert worker.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert worker.deadlines == [0, 1, 2, 3, 4, 5, 6]
    assert await batcher.submit(7, 7.0) == 14  # it starts again after a rest


async def test_a_batch_waits_only_for_items_that_were_announced() -> None:
    worker = Worker()
    worker.gate.set()
    batcher = Batcher(worker, 4, 60)
    assert await batcher.submit(0, 0.0) == 0  # at once, though it may wait a minute
    with batcher.announced():
        first = submit(batcher, 1)
        await settle()
        assert worker.batches == [[0]]
        second = submit(batcher, 2)
    assert await asyncio.gather(*first, *second) == [2, 4]
    assert worker.batches == [[0], [1, 2]]


async def test_a_full_batch_and_a_batch_out_of_time_wait_for_nothing() -> None:
    worker = Worker()
    worker.gate.set()
    full, hurried = Batcher(worker, 2, 60), Batcher(worker, 2, 0.001)
    with full.announced(), hurried.announced():
        assert await asyncio.gather(*submit(full, 1, 2)) == [2, 4]
        assert await asyncio.gather(*submit(hurried, 3)) == [6]


async def test_a_caller_that_left_takes_no_place() -> None:
    worker = Worker()
    batcher = Batcher(worker, 2, 0)
    calls = submit(batcher, 0)
    await settle()
    calls += submit(batcher, 1, 2, 3)
    await settle()
    for left in (0, 1):  # the first one is being computed already
        calls[left].cancel()
    await settle()
    worker.gate.set()
    assert await asyncio.gather(*calls[2:]) == [4, 6]
    assert worker.batches == [[0], [2, 3]]


@pytest.mark.parametrize("error", [ValueError("a bug"), type("PanicException", (BaseException,), {})("in Rust")])
async def test_a_batch_that_fails_answers_its_callers_and_no_others(error: BaseException) -> None:
    worker = Worker()
    batcher = Batcher(worker, 2, 0)
    calls = submit(batcher, 0)
    await settle()
    calls += submit(batcher, 1, 2, 3)
    await settle()
    worker.error = error
    worker.gate.set()
    results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
    assert results == [error, 2, 4, 6]


async def test_sizes_change_in_place() -> None:
    worker = Worker()
    batcher = Batcher(worker, 1, 0)
    calls = submit(batcher, 0, 1, 2, 3)
    await settle()
    batcher.max_size = 2
    worker.gate.set()
    assert await asyncio.gather(*calls) == [0, 2, 4, 6]
    assert worker.batches == [[0], [1, 2], [3]]


async def test_no_item_is_lost_between_two_workers() -> None:
    worker = Worker()
    worker.gate.set()
    batcher = Batcher(worker, 1, 0)
    for number in range(200):
        # Each comes in the very turn of the loop in which the answer to the one before was given.
        assert await asyncio.wait_for(batcher.submit(number, 0.0), 5) == 2 * number


async def test_several_batches_at_once() -> None:
    running: list[int] = []
    gate = asyncio.Event()

    async def run(items: list[int], _: list[float]) -> list[int]:
        running.append(len(items))
        await gate.wait()
        return items

    batcher = Batcher(run, 2, 0)
    batcher.at_once = 2
    calls = [asyncio.create_task(batcher.submit(item, 0.0)) for item in range(6)]
    await settle()
    assert running == [2, 2]
    gate.set()
    assert await asyncio.gather(*calls) == list(range(6))
    assert running == [2, 2, 2]
