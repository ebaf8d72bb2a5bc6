"""Measure what looking for objects costs an index: ``python -m ops.bench.objects PHOTOS``.

PHOTOS is as for ``ops.bench.indexing``. The detector is RT-DETRv2-R18 in its real size with generated weights, which
cost what trained ones do and find nothing: so what is measured is the time, not what is found. One composed film is
indexed without the detector, then with it, then completed by the detector alone, in turns.
"""

import argparse
import asyncio
import hashlib
import logging
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from deployments.objects.detector import OBJECTS
from deployments.serving.catalog import find_stage, local_handle
from graphs.indexing.decode import OBJECTS_APART_S
from graphs.web.context import Context
from ops.bench import detectors
from ops.bench.film import FPS, planned, write
from ops.bench.indexing import LARGE, Indexed, cast_of, index, opened
from ops.bench.report import made_by, publish, table

MODEL: Final = "generated-rtdetr-v2-r18vd"
ENGINE: Final = "torch-fp32"


async def measure(photos: Path, seconds: int, rounds: int) -> list[str]:
    """Return the lines of the report."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        detectors.save(
            detectors.with_random_weights(detectors.rtdetr_v2_r18vd),
            root / "checkpoint",
            detectors.preprocessing(detectors.SIDE),
        )
        detectors.register(root, **{MODEL: root / "checkpoint"})
        film, cast = root / "film.mp4", cast_of(photos)
        shots = planned(np.random.default_rng(0), cast, seconds)
        await asyncio.to_thread(write, film, shots, cast.heads, LARGE, FPS, 0)
        detector = await local_handle(find_stage(OBJECTS.key), {"models": [MODEL], "engine": ENGINE})
        runs: dict[str, list[Indexed]] = {"without objects": [], "with objects": [], "objects alone, afterwards": []}
        async with opened(root / "home") as context:
            for _ in range(rounds):
                for what, indexed in zip(runs, await _round(context, film, detector), strict=True):
                    runs[what].append(indexed)
        await detector.close()
    return _lines(runs, seconds)


async def _round(context: Context, film: Path, detector: object) -> list[Indexed]:
    """Index a film without objects, add them, and index it with them; return the results in the order of the report."""
    stages: dict[str, object] = context.stages  # type: ignore[assignment]  # a dict, as it was given one
    stages.pop(OBJECTS.key, None)
    without = await _fresh(context, film)
    stages[OBJECTS.key] = detector
    alone = await index(context, film)
    return [without, await _fresh(context, film), alone]


async def _fresh(context: Context, film: Path) -> Indexed:
    asset_id = hashlib.sha256(await asyncio.to_thread(film.read_bytes)).hexdigest()[:32]
    await context.jobs.forget(asset_id)
    await context.people.delete_index(asset_id)
    return await index(context, film)


def _lines(runs: dict[str, list[Indexed]], seconds: int) -> list[str]:
    frames = runs["with objects"][0].index.frame_count
    rows, cpu = [], {}
    for what, each in runs.items():
        took = statistics.median(run.seconds for run in each)
        cpu[what] = statistics.median(run.cpu_seconds for run in each)
        rows.append(
            (what, f"{took:.1f}", f"{seconds / took:.2f}", f"{cpu[what]:.1f}", f"{1000 * cpu[what] / frames:.1f}")
        )
    looks = round(seconds / OBJECTS_APART_S)
    more = cpu["with objects"] - cpu["without objects"]
    return [
        f"A composed film of {seconds} s, {LARGE[0]} x {LARGE[1]}, {FPS} frames a second; medians of "
        f"{len(runs['with objects'])} rounds, in turns. The detector has the size of RT-DETRv2-R18, the engine "
        f"{ENGINE} and random weights: they cost what trained ones do, and find nothing. "
        "OpenVINO, which a CPU uses by default, is not measured here.",
        "",
        *table(("index", "seconds", "times real time", "CPU seconds", "CPU ms a frame of the film"), rows),
        "",
        f"Objects are looked for in about {looks} of the {frames} frames, and cost {more:.1f} CPU seconds more: "
        f"{1000 * more / looks:.0f} CPU ms for each of those, {1000 * more / frames:.1f} for each frame of the film.",
        "",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--seconds", type=int, default=20, help="of the film")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file of the report")
    given = parser.parse_args(arguments)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    head = ["# Objects in the index", "", f"{made_by('ops.bench.objects', 'openvino', 'av')}; one process.", ""]
    publish(head + asyncio.run(measure(given.photos, given.seconds, given.rounds)), given.out)


if __name__ == "__main__":
    main()
