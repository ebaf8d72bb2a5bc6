"""The muzzle API on a socket, in a thread with an event loop of its own, for clients that know nothing of asyncio."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from configs.settings import Settings
from tests.graphs.media import listening
from tests.graphs.muzzle import MuzzleService, serving_muzzle


@contextmanager
def muzzle_server(config: Settings) -> Iterator[tuple[str, MuzzleService]]:
    """(URL, service) of a running server by dummies."""
    started: dict[str, tuple[str, MuzzleService]] = {}
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving_muzzle(config) as service, listening(service.app) as port:
            started["it"] = f"http://127.0.0.1:{port}", service
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="muzzle-server")
    thread.start()
    try:
        if not ready.wait(60):
            raise RuntimeError("the server did not start")
        yield started["it"]
    finally:
        done.set()
        thread.join()
