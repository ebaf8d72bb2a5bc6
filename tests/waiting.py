"""Wait for what has to come about, for as long as a busy machine takes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 120.0
"""What has not come by then is taken for never."""


def wait_for(condition: Callable[[], T], every_s: float = 0.02) -> T:
    """What the condition gives as soon as it gives something."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not happen within {PATIENCE_S:.0f} s"
        time.sleep(every_s)
    return found


async def until(condition: Callable[[], T | Awaitable[T]], every_s: float = 0.01) -> T:
    """What the condition, which may be a coroutine, gives as soon as it gives something."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = condition()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            await asyncio.sleep(every_s)
