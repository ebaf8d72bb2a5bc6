"""Clients that write down what becomes of each request: its status, or how its connection ended, and how long it took.

A request is ready-made bytes on a connection of its own, so that what is measured is the service and not the client.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from ops.bench.load import json_request, upload_request
from tests.cluster.conftest import photo

GIVE_UP_S = 60.0
"""After this long without an answer a request counts as ``hung``."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one request: ``fate`` is a status, or refused, reset, closed (without an answer) or hung.

    ``at`` is the time of the event loop when it was sent, ``seconds`` how long it took; ``retry_after`` is what the
    answer said, None where it said nothing. ``body`` are the first bytes of the answer's body.
    """

    kind: str
    at: float
    seconds: float
    fate: str
    retry_after: float | None = None
    content_type: str = ""
    body: bytes = b""

    @property
    def answered(self) -> bool:
        return self.fate.isdigit()


async def ask(port: int, kind: str, request: bytes, give_up_s: float = GIVE_UP_S) -> Outcome:
    """Send a request on a new connection and wait for the whole answer."""
    loop = asyncio.get_running_loop()
    at = loop.time()
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(give_up_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
            writer.write(request)
            status, headers, body = await read_answer(reader)
    except TimeoutError:
        return Outcome(kind, at, loop.time() - at, "hung")
    except ConnectionRefusedError:
        return Outcome(kind, at, loop.time() - at, "refused")
    except ConnectionError:
        return Outcome(kind, at, loop.time() - at, "reset")
    except (asyncio.IncompleteReadError, ValueError):
        return Outcome(kind, at, loop.time() - at, "closed")
    finally:
        if writer is not None:
            writer.close()
    wait = headers.get("retry-after", "")
    return Outcome(
        kind,
        at,
        loop.time() - at,
        str(status),
        float(wait) if wait.isdigit() else None,
        headers.get("content-type", ""),
        body[:2000],
    )


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Read one answer: status, headers by lower-case name, body. Raises IncompleteReadError where it is cut."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(lines[0].split()[1]), headers, body


def get(path: str) -> bytes:
    """A GET."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()


def upload(seed: int, port: int) -> bytes:
    """An upload of a picture that no other seed has."""
    return upload_request("/api/v1/upload-media", f"{seed}.jpg", photo(seed), port)


@dataclass(slots=True)
class Mix:
    """Makes requests of an ordinary mixture: uploads of new pictures, features, a photo analysis, records, lists."""

    port: int
    asset_ids: list[str]
    photos: list[bytes]
    rng: random.Random

    def next(self) -> tuple[str, bytes]:
        """The next request and its kind."""
        kind = self.rng.choices(("upload", "features", "record", "config", "quality"), (3, 3, 3, 2, 1))[0]
        asset_id = self.rng.choice(self.asset_ids)
        if kind == "upload":
            # Bytes behind the end of a picture make another file of it, at no cost to this client.
            data = self.rng.choice(self.photos) + self.rng.randbytes(16)
            return kind, upload_request("/api/v1/upload-media", "a.jpg", data, self.port)
        if kind == "features":
            return kind, json_request("/api/v1/extract-features", {"asset_id": asset_id}, self.port)
        if kind == "quality":
            return kind, json_request("/api/v1/analyze-quality", {"asset_id": asset_id}, self.port)
        return kind, get(f"/api/v1/media/{asset_id}" if kind == "record" else "/api/v1/config")


@dataclass(slots=True)
class Crowd:
    """``clients`` that arrive at once: some only hold a connection, the others ask again when they have an answer."""

    mix: Mix
    clients: int
    idle: int = 0
    give_up_s: float = GIVE_UP_S

    async def run(self, seconds: float) -> list[Outcome]:
        """Let them ask for this many seconds, and return the outcome of every request."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        outcomes: list[Outcome] = []

        async def client() -> None:
            while loop.time() < until:
                outcome = await ask(self.mix.port, *self.mix.next(), self.give_up_s)
                outcomes.append(outcome)
                if outcome.fate != "200":
                    await asyncio.sleep(min(outcome.retry_after or 0.5, 5))

        async def idler() -> None:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.mix.port)
                await asyncio.sleep(until - loop.time())
                writer.close()

        tasks = [client() for _ in range(self.clients - self.idle)] + [idler() for _ in range(self.idle)]
        await asyncio.gather(*tasks)
        return outcomes


async def probe(port: int, paths: Iterable[str], seconds: float, every_s: float = 0.1) -> list[Outcome]:
    """Ask these paths every ``every_s``, whether or not those before were answered; ``kind`` is the path."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    asked: list[asyncio.Task[Outcome]] = []
    due = loop.time()
    while loop.time() < until:
        asked += [asyncio.create_task(ask(port, path, get(path))) for path in paths]
        due += every_s
        await asyncio.sleep(max(0.0, due - loop.time()))
    return list(await asyncio.gather(*asked))


def first() -> None:
    """Give this process a higher priority than the service, where the system lets it: its own waiting is no result."""
    with suppress(PermissionError):
        os.nice(-10)


def fates(outcomes: Iterable[Outcome], key: Callable[[Outcome], bool] = lambda _: True) -> Counter[str]:
    """How many requests had which fate."""
    return Counter(outcome.fate for outcome in outcomes if key(outcome))
