"""The state of a job as it changes, as server-sent events (HTML Standard, section 9.2)."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, Generic, TypeVar

from pydantic import BaseModel

from vision.errors import StageOverloaded

LOOK_S: Final = 0.5
QUIET_S: Final = 15.0
"""After so long without a change a comment is sent, so that nothing between takes the connection for dead."""
LONGEST_S: Final = 3600.0
"""A client that still listens then asks again, as browsers do by themselves."""
AT_ONCE: Final = 200
"""Listeners of one gateway."""
HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


StateT = TypeVar("StateT", bound=BaseModel)


class JobEvents(Generic[StateT]):
    """Sends the state of jobs to whoever listens, a bounded number at once."""

    def __init__(self) -> None:
        self._listening = 0

    async def of(
        self, look: Callable[[], Awaitable[StateT]], is_last: Callable[[StateT], bool]
    ) -> AsyncGenerator[bytes, None]:
        """Yield the state that ``look`` returns, now and whenever it changes, until ``is_last`` says so of one.

        Raises StageOverloaded, and what ``look`` raises.
        """
        if self._listening >= AT_ONCE:
            raise StageOverloaded(f"{AT_ONCE} clients follow jobs here already; try again in a minute.")
        self._listening += 1
        try:
            sent, began = "", time.monotonic()
            told = began
            while time.monotonic() - began < LONGEST_S:
                state = await look()
                text = state.model_dump_json()
                if text != sent:
                    sent, told = text, time.monotonic()
                    yield f"event: job\ndata: {text}\n\n".encode()
                elif time.monotonic() - told > QUIET_S:
                    told = time.monotonic()
                    yield b": still here\n\n"
                if is_last(state):
                    return
                await asyncio.sleep(LOOK_S)
        finally:
            self._listening -= 1
