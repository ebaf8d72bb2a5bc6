"""The desk between decoders and the driver: a mailbox, since Ray can call actors and not drivers.

A decoder asks for leave before it opens a video, so that a job is claimed when its turn has come and not before.
"""

import asyncio
from typing import Any, Final

import ray
from ray.actor import ActorHandle

from ops.bulk.rows import Grant

LINGER_S: Final = 5.0
"""How long the driver's question for questions stays open."""


class Mailbox:
    """The actor."""

    def __init__(self) -> None:
        self._asked: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[Grant | None]] = {}
        self._wanted: set[str] = set()
        self._count = 0

    async def ask(self, number: int) -> Grant | None:
        """For decoders: leave to decode an item."""
        self._count += 1
        ticket = self._count
        self._answers[ticket] = asyncio.get_running_loop().create_future()
        self._asked.put_nowait((ticket, number))
        try:
            grant = await self._answers[ticket]
        finally:
            del self._answers[ticket]
        if grant is not None:
            self._wanted.add(grant.attempt)
        return grant

    async def wanted(self, attempt: str) -> bool:
        """For decoders: whether to go on."""
        return attempt in self._wanted

    async def next(self) -> tuple[int, int] | None:
        """For the driver: ticket and item number of the next question; None where none came."""
        try:
            return await asyncio.wait_for(self._asked.get(), LINGER_S)
        except TimeoutError:
            return None

    async def answer(self, ticket: int, grant: Grant | None) -> None:
        """For the driver."""
        waiting = self._answers.get(ticket)
        if waiting is not None and not waiting.done():
            waiting.set_result(grant)

    async def drop(self, attempt: str) -> None:
        """For the driver: nobody waits for the rows of this attempt any more."""
        self._wanted.discard(attempt)


class RemoteDesk:
    """The desk as decoders have it."""

    def __init__(self, mailbox: "ActorHandle[Any]") -> None:
        self._mailbox = mailbox

    def ask(self, number: int) -> Grant | None:
        """As ``Desk`` says."""
        grant: Grant | None = ray.get(self._mailbox.ask.remote(number))
        return grant

    def wanted(self, attempt: str) -> bool:
        """As ``Desk`` says."""
        return bool(ray.get(self._mailbox.wanted.remote(attempt)))
