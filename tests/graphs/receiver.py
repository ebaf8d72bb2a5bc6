"""A receiver of webhooks on a socket of this machine, which answers as a test says."""

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.waiting import PATIENCE_S

Answer = Callable[[int], tuple[str, list[str]]]
"""Status line and headers of the answer to the request of a number, from 0."""


@dataclass
class Got:
    """One request: its path, its headers in lower case, and its body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event

    def is_signed_with(self, secret: str) -> bool:
        """Whether one of the signatures is that of the secret, as Standard Webhooks describes it."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        wanted = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
        return wanted in self.headers["webhook-signature"].split(" ")


def ok(_: int) -> tuple[str, list[str]]:
    return "204 No Content", []


@dataclass
class Receiver:
    """Answers after ``delay_s``, and keeps what it got."""

    port: int = 0
    answer: Answer = ok
    delay_s: float = 0.0
    got: list[Got] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def wait(self, number: int) -> list[Got]:
        """The first requests, of which so many must come."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.got) < number:  # noqa: ASYNC110 (several wait for different numbers)
                await asyncio.sleep(0.005)
        return self.got[:number]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                pairs = (line.partition(": ") for line in head[1:] if line)
                headers = {name.lower(): value for name, _, value in pairs}
                body = await reader.readexactly(int(headers["content-length"]))
                status, more = self.answer(len(self.got))
                self.got.append(Got(head[0].split(" ")[1], headers, body))
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                await asyncio.sleep(self.delay_s)
                self._at_once -= 1
                writer.write("\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 0", *more, "", ""]).encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def receiving(**values: Any) -> AsyncIterator[Receiver]:
    """A receiver that listens while the block runs."""
    receiver = Receiver(**values)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
