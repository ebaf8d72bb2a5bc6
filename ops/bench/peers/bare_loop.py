"""The ceiling: the fastest engine in a bare loop, with JPEG decoding and resizing and nothing else.

Threads prepare the next batches while the engine, on all cores, runs one; the fastest batch size counts.
"""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from deployments.embed.dinov3 import Config, Dinov3Embedder

BATCHES = (2, 4, 8, 16)
THREADS = 2
AHEAD = 3


def load_stage() -> Dinov3Embedder:
    """Load the embedding stage in this process."""
    stage = Dinov3Embedder(Config(max_batch_size=16))
    stage.load()
    stage.warm_up()
    return stage


def loop(stage: Dinov3Embedder, images: Sequence[bytes], batch: int) -> float:
    """Return images per second of one pass."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = iter([images[start : start + batch] for start in range(0, len(images), batch)])
        prepared: deque[list[Future[NDArray[np.float32]]]] = deque()
        started = time.perf_counter()
        while True:
            while len(prepared) < AHEAD and (chunk := next(waiting, None)) is not None:
                prepared.append([pool.submit(stage.prepare, image) for image in chunk])
            if not prepared:
                break
            stage.predict_batch([future.result() for future in prepared.popleft()])
        return len(images) / (time.perf_counter() - started)


def fastest_batch(stage: Dinov3Embedder, images: Sequence[bytes]) -> int:
    """Return the batch size at which the loop is fastest."""
    return max(BATCHES, key=lambda batch: loop(stage, images, batch))
