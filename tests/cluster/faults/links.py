"""A TCP proxy before a store, which can be slow, refuse, or keep silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

State = Literal["open", "slow", "refusing", "silent"]
SLOW_S = 1.0
"""What each piece is late when a link is slow."""


@dataclass(slots=True)
class Link:
    """Passes on what comes to ``port``; ``state`` says how, also for the connections that there are."""

    target: int
    port: int = 0
    state: State = "open"
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _talking: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.set(self.state)

    def set(self, state: State) -> None:
        """Change how it passes on; a link that begins to refuse resets its connections."""
        self.state = state
        if state == "silent":
            self._talking.clear()
        else:
            self._talking.set()
        if state == "refusing":
            for writer in list(self._writers):
                writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.state == "slow":
                await asyncio.sleep(SLOW_S)
            await self._talking.wait()
            writer.write(data)
            await writer.drain()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.state == "refusing":
            writer.transport.abort()
            return
        self._writers.add(writer)
        with suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(there_writer)
            ways = [
                asyncio.create_task(self._pass_on(reader, there_writer)),
                asyncio.create_task(self._pass_on(there_reader, writer)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._writers.discard(there_writer)
            there_writer.transport.abort()
        self._writers.discard(writer)
        writer.transport.abort()


@asynccontextmanager
async def link(target: int) -> AsyncIterator[Link]:
    """Run a link to a port of 127.0.0.1."""
    made = Link(target)
    server = await asyncio.start_server(made._accepted, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.set("refusing")
