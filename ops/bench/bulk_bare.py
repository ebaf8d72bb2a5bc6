"""Run the steps of the bulk pipeline without a pipeline: each worker in its own process, all rows in its memory.

They start together, so that they share the cores as in the pipeline, and never wait: the one that ends last is the
slowest step, and its speed is the ceiling of the pipeline.
"""

import multiprocessing as mp
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphs.indexing.decode import ChunkDecoder
from ops.bulk.workers import InferCuts, InferFrames, StageSetup, chunk_row
from vision.media.reader import VideoReader

STEPS = ("decoding", "faces and camera", "cuts")


@dataclass(frozen=True, slots=True)
class Bare:
    """One step over ``frames`` frames: ``seconds`` on the clock, and CPU seconds."""

    step: str
    frames: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds


def side_by_side(films: Sequence[Path], frames: int) -> list[Bare]:
    """Run all steps at the same time; the slowest comes last."""
    context = mp.get_context("spawn")
    ready, results = context.Barrier(len(STEPS)), context.Queue()
    processes = [context.Process(target=_step, args=(step, films, ready, results)) for step in STEPS]
    for process in processes:
        process.start()
    times = [results.get(timeout=1800) for _ in STEPS]
    for process in processes:
        process.join()
    return [Bare(step, frames, seconds, cpu) for step, seconds, cpu in sorted(times, key=lambda each: each[1])]


def _step(step: str, films: Sequence[Path], ready: Any, results: Any) -> None:
    if step == STEPS[0]:
        ready.wait()
        results.put((step, *_timed(lambda: sum(1 for film in films for _ in _rows(film)))))
        return
    rows: list[Any] = [row for film in films for row in _rows(film)]
    infer_frames = InferFrames(StageSetup())
    if step == STEPS[2]:
        infer_cuts = InferCuts(StageSetup())
        # Without their images there is nothing to detect, and the windows stay.
        blank = [{**row, "images": np.zeros_like(row["images"][:, :, :32, :32])} for row in rows]
        inferred = [infer_frames(row) for row in blank]
        ready.wait()
        results.put((step, *_timed(lambda: [infer_cuts(row) for row in inferred])))
        return
    ready.wait()
    results.put((step, *_timed(lambda: [infer_frames(row) for row in rows])))


def _rows(film: Path) -> Any:
    with VideoReader(film) as reader:
        for chunk in ChunkDecoder(reader).chunks():
            yield chunk_row("bare", chunk)


def _timed(work: Any) -> tuple[float, float]:
    cpu, started = _cpu(), time.perf_counter()
    work()
    return time.perf_counter() - started, _cpu() - cpu


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
