"""The ceiling: the fastest engine in a bare loop, with JPEG decoding and resizing and nothing else.

Threads prepare the next batches while the engine, on all cores, runs one; the batch size of least CPU time counts.
"""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from deployments.embed.dinov3 import CHAIN, Config, Dinov3Embedder
from ops.bench.report import Contestant

BATCHES = (2, 4, 8, 16)
THREADS = 2
AHEAD = 3


def load_stage(model: str = "") -> Dinov3Embedder:
    """Load the embedding stage in this process, with this model or the first one that is available."""
    stage = Dinov3Embedder(Config(max_batch_size=16, models=[model] if model else CHAIN))
    stage.load()
    stage.warm_up()
    return stage


def loop(stage: Dinov3Embedder, images: Sequence[bytes], batch: int) -> Contestant:
    """Measure one pass."""
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
    return Contestant("bare loop", len(images) / seconds, 1000 * used / len(images))


def cheapest_batch(stage: Dinov3Embedder, images: Sequence[bytes]) -> int:
    """Return the batch size at which the loop needs the least time of the processor."""
    return min(BATCHES, key=lambda batch: loop(stage, images, batch).cpu_ms or 0.0)
