"""How many files of one kind are at hand at once, and how many more may wait; what comes beyond that gets a 429."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vision.errors import StageOverloaded


class Room:
    """``places`` for ``what``, in the plural, and as many that wait for one as ``most_waiting``."""

    def __init__(self, what: str, places: int, most_waiting: int) -> None:
        self._what, self._places, self._most_waiting = what, places, most_waiting
        self._free = asyncio.Semaphore(places)
        self._waiting = 0

    @asynccontextmanager
    async def entered(self, wait_s: float | None) -> AsyncIterator[None]:
        """A place until the block ends. Raises StageOverloaded when too many wait or ``wait_s`` were in vain."""
        if self._free.locked() and self._waiting >= self._most_waiting:
            raise StageOverloaded(
                f"This service has {self._places} {self._what} at hand and {self._waiting} more waiting, which is all "
                "that it takes; send the file again in a minute."
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise StageOverloaded(
                f"No place for {self._what} became free in {wait_s:.0f} s; send the file again in a minute."
            ) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()
