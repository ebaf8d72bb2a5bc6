"""Measure what looking for objects costs an index: ``python -m ops.bench.objects PHOTOS``.

PHOTOS is as for ``ops.bench.indexing``. The detector is RT-DETRv2-R18 in its real size with generated weights, which
cost what trained ones do and find nothing of use: so what is measured is the time, not what is found. A composed film,
in which everything moves, and one that shows a single frame of it are indexed without the detector and with it, in
turns; the first is completed by the detector alone too.
"""

import argparse
import asyncio
import hashlib
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, repeat
from pathlib import Path
from typing import Final

import numpy as np

from deployments.objects.detector import OBJECTS, Config, ObjectDetector
from deployments.serving.catalog import find_stage, local_handle
from graphs.indexing.decode import OBJECTS_APART_S
from graphs.web.context import Context
from ops.bench import detectors
from ops.bench.film import FPS, planned, write
from ops.bench.indexing import LARGE, Indexed, cast_of, index, opened
from ops.bench.report import made_by, publish_section, table
from vision.engines import Engine, EngineName
from vision.images import Pixels

MODEL: Final = "generated-rtdetr-v2-r18vd"
ENGINES: Final[tuple[EngineName, ...]] = ("openvino-fp32", "torch-fp32")
BATCHES: Final = (1, 2, 4, 8)
WITHOUT, ALONE = "without objects", "objects alone, afterwards"
Runs = dict[tuple[str, str], list[Indexed]]
"""By film, and by what was looked for."""


async def measure(photos: Path, seconds: int, rounds: int) -> list[str]:
    """Return the lines of the section."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        network = detectors.with_random_weights(detectors.rtdetr_v2_r18vd)
        detectors.save(network, root / "checkpoint", detectors.preprocessing(detectors.SIDE))
        detectors.register(root, **{MODEL: root / "checkpoint"})
        del network
        lines = await asyncio.to_thread(_of_engines)
        films = {"everything moves": root / "film.mp4", "nothing moves": root / "still.mp4"}
        cast = cast_of(photos)
        shots = planned(np.random.default_rng(0), cast, seconds)
        await asyncio.to_thread(write, films["everything moves"], shots, cast.heads, LARGE, FPS, 0)
        await asyncio.to_thread(_still, films["everything moves"], films["nothing moves"], seconds)
        stage = find_stage(OBJECTS.key)
        handles = {engine: await local_handle(stage, {"models": [MODEL], "engine": engine}) for engine in ENGINES}
        runs: Runs = {}
        async with opened(root / "home") as context:
            for _ in range(rounds):
                for what, film in films.items():
                    await _round(context, what, film, handles, runs)
        for handle in handles.values():
            await handle.close()
    return [*lines, *_of_films(runs, seconds, rounds)]


def _still(film: Path, target: Path, seconds: int) -> None:
    """Encode the first frame of a film over and over."""
    import av

    with av.open(str(film)) as source:
        picture = next(islice(source.decode(video=0), FPS, None)).to_ndarray(format="rgb24")
    with av.open(str(target), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = *LARGE, "yuv420p"
        for pixels in _noisy(picture, seconds * FPS):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())


def _noisy(picture: Pixels, frames: int) -> Iterator[Pixels]:
    """Yield a picture with the noise of a camera, of a standard deviation of 4 of 255."""
    random = np.random.default_rng(0)
    for still in repeat(picture, frames):
        yield np.clip(still + random.normal(0, 4, still.shape[:2])[..., None], 0, 255).astype(np.uint8)


def _of_engines() -> list[str]:
    """Return the lines about the network alone: CPU milliseconds a picture by engine and batch."""
    rows = []
    for name in ENGINES:
        stage = ObjectDetector(Config(models=[MODEL], engine=name))
        stage.load()
        rows.append((name, *(f"{_cpu_ms(stage._engine, size):.0f}" for size in BATCHES)))
    return table(("CPU ms a picture, in batches of", *map(str, BATCHES)), rows)


def _cpu_ms(engine: Engine, size: int, rounds: int = 3) -> float:
    pictures = np.random.default_rng(0).random((size, 3, detectors.SIDE, detectors.SIDE), np.float32)
    engine(pictures)
    used = []
    for _ in range(rounds):
        began = time.process_time()
        engine(pictures)
        used.append(time.process_time() - began)
    return 1000 * statistics.median(used) / size


async def _round(context: Context, what: str, film: Path, handles: Mapping[EngineName, object], runs: Runs) -> None:
    """Index a film without objects, add them, and index it with them by each engine."""
    stages: dict[str, object] = context.stages  # type: ignore[assignment]  # a dict, as it was given one

    def note(how: str, indexed: Indexed) -> None:
        runs.setdefault((what, how), []).append(indexed)

    stages.pop(OBJECTS.key, None)
    note(WITHOUT, await _fresh(context, film))
    stages[OBJECTS.key] = handles[ENGINES[0]]
    note(ALONE, await index(context, film))
    for engine, handle in handles.items():
        stages[OBJECTS.key] = handle
        note(f"with objects, {engine}", await _fresh(context, film))


async def _fresh(context: Context, film: Path) -> Indexed:
    asset_id = hashlib.sha256(await asyncio.to_thread(film.read_bytes)).hexdigest()[:32]
    await context.jobs.forget(asset_id)
    await context.people.delete_index(asset_id)
    return await index(context, film)


def _of_films(runs: Runs, seconds: int, rounds: int) -> list[str]:
    rows = []
    for (what, how), each in runs.items():
        frames = each[0].index.frame_count
        took = statistics.median(run.seconds for run in each)
        cpu = statistics.median(run.cpu_seconds for run in each)
        more = cpu - statistics.median(run.cpu_seconds for run in runs[what, WITHOUT])
        rows.append(
            (
                what,
                how,
                f"{took:.1f}",
                f"{seconds / took:.2f}",
                f"{1000 * cpu / frames:.1f}",
                "" if how in (WITHOUT, ALONE) else f"{1000 * more / frames:.1f}",
            )
        )
    heads = ("film", "index", "seconds", "times real time", "CPU ms a frame", "of them for objects")
    return [
        f"Two films of {seconds} s, {LARGE[0]} x {LARGE[1]}, {FPS} frames a second; medians of {rounds} rounds, in "
        f"turns. Objects are looked for in about {round(seconds / OBJECTS_APART_S)} frames of each, and where a frame "
        "shows what the one before shows, its objects are those of that one. Alone they are looked for by "
        f"{ENGINES[0]}, which a CPU uses by default.",
        "",
        *table(heads, rows),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--seconds", type=int, default=20, help="of the film")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file of the report, of which one section is written")
    given = parser.parse_args(arguments)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    made = made_by("ops.bench.objects", "openvino", "torch", "av")
    lines = [
        f"{made}; one process. The detector has the architecture and the size of RT-DETRv2-R18 "
        "(`PekingU/rtdetr_v2_r18vd`), and generated weights: they cost what trained ones do.",
        "",
        *asyncio.run(measure(given.photos, given.seconds, given.rounds)),
    ]
    publish_section("Cost", lines, given.out)


if __name__ == "__main__":
    main()
