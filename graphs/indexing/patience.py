"""Stages that are full, or away, are waited for: a job has time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from vision.errors import StageError

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

PAUSES_S: Final = (0.2, 0.5, 1, 2, 5, 10, 20, 30)
"""Before a stage that is full, or away, is asked again."""


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """What a stage answers, asked again while it is full or away. Raises its last StageError."""
    for pause in PAUSES_S:
        try:
            return await call()
        except StageError as error:
            if not error.retryable:
                raise
            logger.info("waiting %g s: %s", pause, error.message)
        await asyncio.sleep(pause)
    return await call()
