"""A bare FastAPI application: a queue, a batching task, one inference thread. ``python -m … PORT [MODEL]``."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from graphs.web.bodies import JsonResponse
from ops.bench.peers.bare_loop import load_stage

BATCH = 16


def build() -> FastAPI:
    """Build the application, with its model loaded."""
    app = FastAPI()
    stage = load_stage(*sys.argv[2:3])
    preparers, worker = ThreadPoolExecutor(2), ThreadPoolExecutor(1)
    queue: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] = asyncio.Queue()
    tasks: list[asyncio.Task[None]] = []

    async def batches() -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await queue.get()]
            while len(batch) < BATCH and not queue.empty():
                batch.append(queue.get_nowait())
            results = await loop.run_in_executor(worker, stage.predict_batch, [item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)

    @app.post("/features")
    async def features(request: Request) -> JsonResponse:
        loop = asyncio.get_running_loop()
        if not tasks:
            tasks.append(asyncio.create_task(batches()))
        item = await loop.run_in_executor(preparers, stage.prepare, await request.body())
        future: asyncio.Future[Any] = loop.create_future()
        await queue.put((item, future))
        return JsonResponse({"features": (await future).raw})

    return app


if __name__ == "__main__":
    uvicorn.run(build(), port=int(sys.argv[1]), host="127.0.0.1", log_level="warning")
