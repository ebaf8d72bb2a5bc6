"""Calls that run at once and fail as one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """asyncio's TaskGroup, whose first failure comes out alone, so that an error handler knows its class.

    A failure, or leaving early, cancels the tasks that still run.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
