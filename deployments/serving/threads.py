"""Calls that block, on a thread of a pool."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


async def on_thread(pool: Executor, function: Callable[..., T], *args: object) -> T:
    """What the function returns, and what it raises.

    A StopIteration comes as RuntimeError: a future of asyncio takes none, and whoever awaited it would wait for good.
    """

    def call() -> T:
        try:
            return function(*args)
        except StopIteration as error:
            raise RuntimeError("StopIteration was raised on a thread") from error

    return await asyncio.get_running_loop().run_in_executor(pool, call)
