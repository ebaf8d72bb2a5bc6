"""Benchmark the photo API end to end: ``python -m ops.bench.photos [--photos DIR] [--out FILE]``.

The ceiling is what the stages of one request cost by themselves: decoding and every stage run in a bare loop in this
process, and their CPU seconds for one photo are added up; as many photos fit into a second of all cores. Then the
service answers /v1/analyze with all flags, from closed-loop clients that send their pictures as base64; its CPU time is
that of all its processes.
"""

import argparse
import base64
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvloop
from threadpoolctl import threadpool_limits

from deployments.people import faces as faces_stage
from deployments.serving.catalog import find_stage
from ops.bench.load import Result, Service, closed_loop, jpegs, json_request, resized, service
from ops.bench.report import Contestant, Line, processor, publish
from vision.faces.face import Face
from vision.images import Pixels, decode

STAGES = ("quality/blur", "quality/brisque", "quality/nima", "people/faces", "people/emotion", "embed/clip")
CLIENTS = 16
BATCH = 4


def cpu_seconds(work: Callable[[], object], count: int) -> float:
    """Return the CPU time of all threads of this process, per picture."""
    started = time.process_time()
    work()
    return (time.process_time() - started) / count


def stage_cost(key: str, items: Sequence[Any]) -> tuple[float, list[Any]]:
    """Return CPU seconds an item and results of a stage in a bare loop: two threads prepare, batches of four."""
    stage = find_stage(key)(find_stage(key).config_class(max_batch_size=BATCH))
    stage.load()
    stage.warm_up()
    results: list[Any] = []

    def loop() -> None:
        results.clear()
        with ThreadPoolExecutor(2) as pool:
            ready = list(pool.map(stage.prepare, items)) if stage.prepare_threads else list(items)
        for start in range(0, len(ready), BATCH):
            results.extend(stage.predict_batch(ready[start : start + BATCH]))

    loop()
    return min(cpu_seconds(loop, len(items)) for _ in range(2)), results


def ceilings(jpegs_: list[bytes]) -> dict[str, float]:
    """Return CPU seconds a photo for decoding and for each stage."""
    # As in a replica, where Ray sees to it: threads of BLAS that wait for work would be counted as working.
    threadpool_limits(1)
    pixels: list[Pixels] = []

    def decode_all() -> None:
        pixels[:] = [decode(data, max_pixels=10**8) for data in jpegs_]

    costs = {"decode": min(cpu_seconds(decode_all, len(jpegs_)) for _ in range(2))}
    faces: list[tuple[Face, ...]] = []
    for key in STAGES:
        items: list[Any] = pixels
        if key == "people/emotion":
            items = list(zip(pixels, faces, strict=True))
        elif key == "people/faces" and hasattr(faces_stage, "Boxes"):
            items = [(each, "boxes") for each in pixels]  # as photos ask; older checkouts know one way
        costs[key], results = stage_cost(key, items)
        if key == "people/faces":
            faces = results
    return costs


async def analyze(photos: list[bytes], served: Service) -> Result:
    """Run one closed loop over /v1/analyze."""
    # Where CLIP is not installed, what serves in its place is measured, as it is alone.
    bodies = [{"image": {"data": base64.b64encode(data).decode()}, "accept_fallback": True} for data in photos]
    requests = [json_request("/v1/analyze", body, served.port) for body in bodies]
    return (await closed_loop(requests, port=served.port, clients=CLIENTS, server=served.cpu))[0]


def line(served: Service, media: Path, *, count: int = 64, rounds: int = 3) -> Line:
    """Measure photo analysis; the value is its CPU time over the sum of its parts alone."""
    folder = media / "face_pairs_deepface"
    photos = resized(folder, count) if folder.is_dir() else jpegs(count)
    costs = ceilings(photos)
    uvloop.run(analyze(photos, served))
    results = [uvloop.run(analyze(photos, served)) for _ in range(rounds)]
    if any(set(result.statuses) != {200} for result in results):
        raise RuntimeError(f"/v1/analyze answered {[dict(result.statuses) for result in results]}")
    rate = statistics.median(result.rate for result in results)
    cpu_ms = statistics.median(result.cpu_ms_each for result in results)
    total = 1000 * sum(costs.values())
    parts = ", ".join(f"{name} {1000 * cost:.1f}" for name, cost in costs.items())
    bare = Contestant("its parts alone", 1000 * (os.cpu_count() or 1) / total, total)
    notes = (f"{CLIENTS} clients, {count} photos of 640 x 480, all flags. CPU ms of the parts alone: {parts}.",)
    return Line(cpu_ms / total, (Contestant("the service", rate, cpu_ms), bare), notes)


def report(costs: dict[str, float], rounds: list[Result], arguments: str) -> list[str]:
    """Return the lines of the report."""
    cores = os.cpu_count() or 1
    total = sum(costs.values())
    ceiling = cores / total
    cpu_ms = statistics.median(result.cpu_ms_each for result in rounds)
    rate = statistics.median(result.rate for result in rounds)
    errors = sum(sum(result.statuses.values()) - result.statuses[200] for result in rounds)
    return [
        "# Photo API, end to end",
        "",
        f"`python -m ops.bench.photos {arguments}`; {processor()}; "
        f"{CLIENTS} clients, 640×480 JPEGs as base64, all flags.",
        "",
        "| part, by itself | CPU ms a photo | photos/s on all cores |",
        "|---|---|---|",
        *(f"| {name} | {cost * 1000:.1f} | {cores / cost:.0f} |" for name, cost in costs.items()),
        f"| sum: the ceiling | {total * 1000:.1f} | **{ceiling:.1f}** |",
        "",
        "| /v1/analyze | photos/s | of the ceiling | CPU ms a photo | over the sum | p50 ms | p99 ms | errors |",
        "|---|---|---|---|---|---|---|---|",
        f"| visiongraph | {rate:.1f} | {rate / ceiling:.2f} | {cpu_ms:.1f} | **{cpu_ms / 1000 / total:.2f}** "
        f"| {statistics.median(result.percentile(0.5) for result in rounds):.0f} "
        f"| {statistics.median(result.percentile(0.99) for result in rounds):.0f} | {errors} |",
    ]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of photos with faces; by default pictures made from noise")
    parser.add_argument("--count", type=int, default=96, help="photos a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="Markdown file; by default only printed")
    arguments = parser.parse_args()
    photos = resized(arguments.photos, arguments.count) if arguments.photos else jpegs(arguments.count)
    costs = ceilings(photos)
    with service() as served:
        uvloop.run(analyze(photos[:48], served))
        rounds = [uvloop.run(analyze(photos, served)) for _ in range(arguments.rounds)]
    publish(report(costs, rounds, " ".join(sys.argv[1:])), arguments.out)


if __name__ == "__main__":
    main()
