"""The steps of the bulk pipeline without a pipeline: each worker in a process of its own, all rows in its memory.

They start together, so that they share the cores as in the pipeline, and nothing has to be waited for: the one that
ends last is the slowest step, and how fast it is is the ceiling of the pipeline.
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
from ops.bulk.actors import FindCuts, LookAtFrames, Models
from ops.bulk.rows import decoded_row
from vision.media.reader import VideoReader

STEPS = ("decoding", "faces and camera", "cuts")


@dataclass(frozen=True, slots=True)
class Bare:
    """``seconds`` on the clock and of CPU for ``frames`` frames."""

    step: str
    frames: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds


def side_by_side(films: Sequence[Path], frames: int) -> list[Bare]:
    """All steps at the same time."""
    context = mp.get_context("spawn")
    ready, results = context.Barrier(len(STEPS)), context.Queue()
    processes = [context.Process(target=_step, args=(step, films, ready, results)) for step in STEPS]
    for process in processes:
        process.start()
    found = [results.get(timeout=1800) for _ in STEPS]
    for process in processes:
        process.join()
    return [Bare(step, frames, seconds, cpu) for step, seconds, cpu in sorted(found, key=lambda each: each[1])]


def _step(step: str, films: Sequence[Path], ready: Any, results: Any) -> None:
    if step == STEPS[0]:
        ready.wait()
        results.put((step, *_timed(lambda: sum(1 for film in films for _ in _rows(film)))))
        return
    rows: list[Any] = [row for film in films for row in _rows(film)]
    look = LookAtFrames(Models())
    if step == STEPS[2]:
        cut = FindCuts(Models())
        # Without their images nothing has to be looked at, and the windows stay.
        blank = [{**row, "images": np.zeros_like(row["images"][:, :, :32, :32])} for row in rows]
        looked = [look(row) for row in blank]
        ready.wait()
        results.put((step, *_timed(lambda: [cut(row) for row in looked])))
        return
    ready.wait()
    results.put((step, *_timed(lambda: [look(row) for row in rows])))


def _rows(film: Path) -> Any:
    with VideoReader(film) as reader:
        for chunk in ChunkDecoder(reader).chunks():
            yield decoded_row("bare", chunk)


def _timed(work: Any) -> tuple[float, float]:
    cpu, started = _cpu(), time.perf_counter()
    work()
    return time.perf_counter() - started, _cpu() - cpu


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
