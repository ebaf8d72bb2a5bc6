"""The ceiling: the fastest engine in a bare loop, with JPEG decoding and resizing and nothing else.

Threads prepare the next batches while the engine, on all cores, runs one; the fastest batch size counts.
"""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deployments.embed.dinov3 import Config, Dinov3Embedder

BATCHES = (2, 4, 8, 16)
THREADS = 2
AHEAD = 3


@dataclass(frozen=True, slots=True)
class Speed:
    """Images a second of one pass, and milliseconds of the processor an image."""

    rate: float
    cpu_ms: float


def load_stage() -> Dinov3Embedder:
    """Load the embedding stage in this process."""
    stage = Dinov3Embedder(Config(max_batch_size=16))
    stage.load()
    stage.warm_up()
    return stage


def loop(stage: Dinov3Embedder, images: Sequence[bytes], batch: int) -> Speed:
    """Return the speed of one pass."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = iter([images[start : start + batch] for start in range(0, len(images), batch)])
        prepared: deque[list[Future[NDArray[np.float32]]]] = deque()
        started, used = time.perf_counter(), time.process_time()
        while True:
            while len(prepared) < AHEAD and (chunk := next(waiting, None)) is not None:
                prepared.append([pool.submit(stage.prepare, image) for image in chunk])
            if not prepared:
                break
            stage.predict_batch([future.result() for future in prepared.popleft()])
        used, seconds = time.process_time() - used, time.perf_counter() - started
        return Speed(len(images) / seconds, 1000 * used / len(images))


def fastest_batch(stage: Dinov3Embedder, images: Sequence[bytes]) -> int:
    """Return the batch size at which the loop is fastest."""
    return max(BATCHES, key=lambda batch: loop(stage, images, batch).rate)
