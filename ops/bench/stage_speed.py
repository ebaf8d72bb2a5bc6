"""Measure the speed of one stage by itself, and behind its runner against the ceiling: the same code in a bare loop.

The bare loop has one thread for each core, each preparing and predicting a batch at a time; the runner has as many
items in flight as it would have callers.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from deployments.serving.catalog import AnyStage
from deployments.serving.runner import StageRunner
from vision.errors import StageError

IN_FLIGHT = 16
ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Speed:
    """``alone_ms``: one item with the machine to itself; ``ceiling`` and ``served``: items per second."""

    stage: str
    alone_ms: float
    ceiling: float
    served: float


def measure(stage_class: AnyStage, items: Sequence[Any]) -> Speed:
    """Measure the best of ``ROUNDS`` rounds of each, taken in turn."""
    stage = stage_class(stage_class.config_class())
    stage.load()
    stage.warm_up()
    alone = min(_timed(stage, [items[0]]) for _ in range(2 * ROUNDS))
    ceiling, served = asyncio.run(_in_turn(stage, stage_class, items))
    return Speed(stage_class.key, 1000 * alone, ceiling, served)


async def _in_turn(stage: Any, stage_class: AnyStage, items: Sequence[Any]) -> tuple[float, float]:
    runner = StageRunner(stage_class)
    await runner.configure({})
    try:
        bare, through = [], []
        for _ in range(ROUNDS):
            bare.append(await asyncio.to_thread(_bare_loop, stage, items))
            through.append(await _closed_loop(runner, items))
        return max(bare), max(through)
    finally:
        await runner.close()


def _timed(stage: Any, batch: Sequence[Any]) -> float:
    started = time.perf_counter()
    results = stage.predict_batch([stage.prepare(item) for item in batch])
    elapsed = time.perf_counter() - started
    _check(results)
    return elapsed


def _bare_loop(stage: Any, items: Sequence[Any]) -> float:
    threads = os.cpu_count() or 1
    batch = max(1, min(stage.config.max_batch_size, len(items) // threads))
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda start: _timed(stage, items[start : start + batch]), range(0, len(items), batch)):
            pass
    return len(items) / (time.perf_counter() - started)


async def _closed_loop(runner: StageRunner, items: Sequence[Any]) -> float:
    waiting = iter(items)

    async def caller(own: Iterator[Any]) -> None:
        for item in own:
            _check(await runner.run([item], None))

    started = time.perf_counter()
    await asyncio.gather(*(caller(waiting) for _ in range(IN_FLIGHT)))
    return len(items) / (time.perf_counter() - started)


def _check(results: Sequence[Any]) -> None:
    for result in results:
        if isinstance(result, StageError):
            raise result
