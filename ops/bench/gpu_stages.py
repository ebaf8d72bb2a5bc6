"""How fast every stage with a network is at batches of 1, 8 and 64, beside a bare loop of the same module in bf16.

    python -m ops.bench.gpu_stages [--stages embed/dinov3,people/faces] [--engine torch-fp32] [--small]

The stage gets items that are prepared already and returns its results, on its default engine: one batch alone, and as
many at a time as the service runs. The bare loop runs the module that torch runs in the stage, with the same tensors,
which are on the device already: it is the ceiling. Memory is what torch has reserved of the card, without the half
gigabyte of a CUDA context.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from deployments.serving.catalog import find_stage
from ops.bench.load import jpeg
from ops.bench.report import table
from vision.engines import has_cuda
from vision.errors import StageError
from vision.faces.face import Face
from vision.images import decode
from vision.weights import registry

BATCHES: Final = (1, 8, 64)
SMALL_BATCHES: Final = (1, 2)
ROUND_S: Final = 0.6
"""For which each number is measured, after one round to warm up."""
MOST_PIXELS: Final = 80_000_000
FACE: Final = ((22.0, 26.0), (42.0, 26.0), (32.0, 38.0), (24.0, 48.0), (40.0, 48.0))
"""Landmarks of a made-up face, in 64ths of its box."""
HEAD: Final = ("stage", "engine", "batch", "ms", "items/s", "bare bf16, items/s", "of it", "MB", "vram_mb")

Call = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
"""A module, and what it was called with."""


@dataclass(frozen=True, slots=True)
class Speed:
    """``ms``: of a batch alone; ``rate``: items a second, as many batches at a time as the stage asks for; ``bare_ms``:
    of the same calls of the bare module in bf16, None where torch runs none; ``memory_mb``: that torch reserved on the
    card, None without one."""

    batch: int
    ms: float
    rate: float
    bare_ms: float | None
    memory_mb: float | None


def samples(media: Path | None) -> dict[str, Any]:
    """Return an item for each stage with a network; pictures are those of ``media`` where it has some."""
    paths = sorted(media.rglob("*.jpg")) if media else []
    data = paths[0].read_bytes() if paths else jpeg(0, (1280, 720))
    image = decode(data, max_pixels=MOST_PIXELS)
    side = min(image.shape[:2]) / 2
    landmarks = tuple((side / 2 + x * side / 64, side / 2 + y * side / 64) for x, y in FACE)
    face = Face(side / 2, side / 2, side, side, 0.9, landmarks)
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, 64_000).astype(np.float32)
    return {
        "embed/dinov3": data,
        "embed/clip": image,
        "embed/sentence": "a wide shot of a city at night, seen from a hill",
        "quality/nima": image,
        "people/faces": image,
        "people/video_faces": image,
        "people/identity": (image, (face,)),
        "people/emotion": (image, (face,)),
        "shots/cuts": rng.integers(0, 256, (100, 27, 48, 3), dtype=np.uint8),
        "muzzle/ensemble": data,
        "forensics/visual": (image, (face,)),
        "forensics/generated": image,
        "forensics/speech": sound,
        "forensics/voice": sound,
    }


def load_stage(key: str, engine: str | None) -> Any:
    """Load a stage; ``engine`` where it has a choice. Raises ModelNotLoaded."""
    stage_class = find_stage(key)
    fields = stage_class.config_class.model_fields
    stage = stage_class(stage_class.config_class(**({"engine": engine} if engine and "engine" in fields else {})))
    stage.load()
    return stage


def measure(stage: Any, item: Any, batch: int) -> Speed:
    """Measure a loaded stage on ``batch`` copies of an item. Raises the StageError of an item."""
    if has_cuda():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    ready = [stage.prepare(item) for _ in range(batch)]

    def predict() -> None:
        for result in stage.predict_batch(ready):
            if isinstance(result, StageError):
                raise result

    with recorded(stage) as calls:
        predict()
    first = list(calls)
    ms = timed(predict)
    rate = batch * throughput(predict, stage.batches_at_once())
    memory = torch.cuda.max_memory_reserved() / 1e6 if has_cuda() else None
    return Speed(batch, ms, rate, bare(first) if first else None, memory)


def bare(calls: Sequence[Call]) -> float:
    """Return the milliseconds of these calls one after the other, the modules and their inputs in bf16."""
    modules = {id(module): copy.deepcopy(module).to(torch.bfloat16) for module, _, _ in calls}

    def lower(value: Any) -> Any:
        return value.to(torch.bfloat16) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    with torch.inference_mode():
        lowered = [
            (modules[id(module)], tuple(map(lower, args)), {name: lower(value) for name, value in named.items()})
            for module, args, named in calls
        ]

    def predict() -> None:
        with torch.inference_mode():
            for module, args, named in lowered:
                module(*args, **named)

    return timed(predict)


def timed(work: Callable[[], None]) -> float:
    """Return the median milliseconds of a round, what it left running on the device included."""
    milliseconds: list[float] = []
    began = time.perf_counter()
    while not milliseconds or time.perf_counter() - began < ROUND_S:
        started = time.perf_counter()
        work()
        if has_cuda():
            torch.cuda.synchronize()
        milliseconds.append(1000 * (time.perf_counter() - started))
    return statistics.median(milliseconds[1:] or milliseconds)


def throughput(work: Callable[[], None], at_once: int) -> float:
    """Return how often a second it is done, by so many threads for ``ROUND_S`` and once each at least."""
    began = time.perf_counter()

    def go_on(_: int) -> int:
        done = 0
        while not done or time.perf_counter() - began < ROUND_S:
            work()
            done += 1
        return done

    with ThreadPoolExecutor(at_once) as pool:
        done = sum(pool.map(go_on, range(at_once)))
    return done / (time.perf_counter() - began)


@contextmanager
def recorded(stage: Any) -> Iterator[list[Call]]:
    """Yield what the torch modules of a stage are called with, while the block runs."""
    calls: list[Call] = []

    def hook(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        calls.append((module, args, named))

    hooks = [module.register_forward_pre_hook(hook, with_kwargs=True) for module in modules_of(stage)]
    try:
        yield calls
    finally:
        for each in hooks:
            each.remove()


def modules_of(stage: Any) -> list[nn.Module]:
    """Return the torch modules that a stage or the objects in it hold, each once."""
    seen: dict[int, Any] = {}
    waiting = [stage]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if not isinstance(value, nn.Module) and type(value).__module__.startswith(("deployments", "vision", "tests")):
            slots = [getattr(value, name, None) for name in getattr(type(value), "__slots__", ())]
            waiting += [*getattr(value, "__dict__", {}).values(), *slots]
    return [value for value in seen.values() if isinstance(value, nn.Module)]


def rows(key: str, item: Any, batches: Sequence[int], engine: str | None) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a stage; one that says why where it does not load or a batch fails."""
    try:
        stage = load_stage(key, engine)
    except StageError as error:
        yield key, f"not measured: {error.message.splitlines()[0]}", *[""] * (len(HEAD) - 2)
        return
    info = stage.info()
    models = registry().root
    vram = sum(model.vram_mb for name, model in models.items() if f"{name}@" in str(info))
    label = f"{info.get('engine', 'torch')}, {info.get('device', '')}"
    for batch in batches:
        try:
            speed = measure(stage, item, batch)
        except (StageError, torch.cuda.OutOfMemoryError) as error:
            yield key, label, batch, f"{type(error).__name__}", *[""] * (len(HEAD) - 4)
            continue
        ceiling = None if speed.bare_ms is None else 1000 * batch / speed.bare_ms
        memory = "" if speed.memory_mb is None else f"{speed.memory_mb:.0f}"
        shares = ("", "") if ceiling is None else (f"{ceiling:.0f}", f"{speed.rate / ceiling:.2f}")
        yield key, label, batch, f"{speed.ms:.1f}", f"{speed.rate:.1f}", *shares, memory, vram


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", help="keys, separated by commas; by default all with a network")
    parser.add_argument("--engine", help="engine of the stages that have a choice; by default auto")
    parser.add_argument("--media", type=Path, help="folder of photographs; else a picture is made")
    parser.add_argument("--small", action="store_true", help="batches of 1 and 2")
    args = parser.parse_args()
    items = samples(args.media)
    keys = args.stages.split(",") if args.stages else list(items)
    if unknown := set(keys) - set(items):
        raise SystemExit(f"There is no stage with a network called {', '.join(sorted(unknown))}.")
    head, rule, *_ = table(HEAD, [])
    print(head, rule, sep="\n", flush=True)
    for key in keys:
        for row in rows(key, items[key], SMALL_BATCHES if args.small else BATCHES, args.engine):
            print(f"| {' | '.join(map(str, row))} |", flush=True)
        if has_cuda():
            torch.cuda.empty_cache()
    if has_cuda():
        free, total = torch.cuda.mem_get_info()
        context = (total - free - torch.cuda.memory_reserved()) / 1e6
        print(f"\nBeside that the card holds {context:.0f} MB of contexts and of other programs.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
