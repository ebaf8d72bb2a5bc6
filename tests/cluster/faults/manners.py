"""Clients with bad manners: that send or read next to nothing, that leave, and that come all at once."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ops.bench.load import BOUNDARY, json_request
from tests.cluster.conftest import photo
from tests.cluster.faults.clients import Crowd, Mix, fates, get, read_answer

Fault = Callable[[], Awaitable[str]]
PATHS = ("/api/v1/upload-media", "/api/v1/analyze/image", "/v1/analyze", "/api/v1/extract-features")


def slow_clients(port: int, asset_id: str, senders: int = 200, readers: int = 200, seconds: float = 40) -> Fault:
    """A fault: clients that send a body at half a byte a second, or half a header, and such as read no answer."""
    form = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'

    async def sender(number: int) -> str:
        path = PATHS[number % len(PATHS)]
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n"
        if number % 5:
            json = number % len(PATHS) > 1
            kind = "application/json" if json else f"multipart/form-data; boundary={BOUNDARY}"
            head += f"Content-Type: {kind}\r\nContent-Length: 100000\r\n\r\n" + ("{" if json else form)
        return await _held(port, head.encode(), b" ", seconds)

    async def reader(_: int) -> str:
        # Pipelined until the buffers between are full: these answers are read by nobody.
        request = f"GET /api/v1/media/{asset_id}/content HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        return await _held(port, request * 50, b"", seconds)

    async def fault() -> str:
        clients = [sender(number) for number in range(senders)] + [reader(number) for number in range(readers)]
        return _listed(await asyncio.gather(*clients))

    return fault


async def _held(port: int, request: bytes, drop: bytes, seconds: float) -> str:
    """Send the request, then ``drop`` every two seconds; how that ended: a status, cut, or held."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        if not drop:
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport of a socket can
        writer.write(request)
        while loop.time() < until:
            if not drop:
                await asyncio.sleep(2)
                if writer.transport.is_closing():
                    return "cut"
                continue
            writer.write(drop)
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    status, _, _ = await read_answer(reader)
                    return str(status)
    except (OSError, asyncio.IncompleteReadError):
        return "cut"
    finally:
        if writer is not None:
            writer.close()
    return "held"


def leaving_readers(port: int, asset_id: str, clients: int = 100, rounds: int = 5) -> Fault:
    """A fault: clients that ask, read the first bytes at most, and reset the connection."""
    requests = [
        get(f"/api/v1/media/{asset_id}/content"),
        get(f"/api/v1/media/{asset_id}"),
        get("/health"),
        json_request("/api/v1/analyze-quality", {"asset_id": asset_id}, port),
    ]

    async def leaver(number: int) -> None:
        rng = random.Random(number)
        for _ in range(rounds):
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(requests[number % len(requests)])
                await asyncio.sleep(rng.random() * 0.3)
                writer.transport.abort()

    async def fault() -> str:
        await asyncio.gather(*(leaver(number) for number in range(clients)))
        return f"{clients * rounds} requests left"

    return fault


def crowd(port: int, asset_ids: list[str], clients: int = 500, idle: int = 100, seconds: float = 60) -> Fault:
    """A fault: these clients come at once, and ask again and again; some only hold a connection."""
    mix = Mix(port, asset_ids, [photo(seed) for seed in range(8)], random.Random(5))

    async def fault() -> str:
        outcomes = await Crowd(mix, clients, idle).run(seconds)
        worst = max(outcome.seconds for outcome in outcomes)
        return f"the crowd: {_counted(fates(outcomes))}, worst {worst:.1f} s"

    return fault


def _listed(ends: list[str]) -> str:
    return _counted(Counter(ends))


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in sorted(counts.items()))
