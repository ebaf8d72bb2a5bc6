"""How many pieces of work of one kind are done at once, and how many may wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deployments.serving.streams import in_time
from vision.errors import DeadlineExceeded, StageOverloaded


class Admission:
    """Admits ``slots`` of a kind at once and lets ``most_waiting`` wait; ``kind`` is a plural, for messages.

    A slot is taken when all that is needed is here, never while somebody still sends it.
    """

    def __init__(self, kind: str, slots: int, most_waiting: int) -> None:
        self._kind, self._slots, self._most_waiting = kind, slots, most_waiting
        self._free = asyncio.Semaphore(slots)
        self._waiting = 0

    def refuse_when_full(self) -> None:
        """Raise StageOverloaded when no slot is free and too many wait, so that a sender learns it at once."""
        if self._free.locked() and self._waiting >= self._most_waiting:
            waiting = f" and {self._waiting} more are waiting" if self._waiting else ""
            raise StageOverloaded(
                f"{self._slots} {self._kind} are being processed{waiting}, which is the limit; try again in a minute."
            )

    @asynccontextmanager
    async def slot(self, share: float = 1.0) -> AsyncIterator[None]:
        """Hold a slot until the block ends.

        Raises StageOverloaded when too many wait, or none comes free in a share of the time of the request.
        """
        self.refuse_when_full()
        self._waiting += 1
        try:
            await in_time(self._free.acquire(), share=share)
        except DeadlineExceeded:
            raise StageOverloaded(f"No slot for {self._kind} became free in time; try again in a minute.") from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()
