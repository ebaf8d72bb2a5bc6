"""Benchmark the asset API end to end: ``python -m ops.bench.assets [--out FILE]``.

Starts the service on fresh stores, and after it LitServe and a bare FastAPI application around the same stage; sends
640×480 JPEGs from 16 closed-loop clients to each, and compares them with the bare loop of the engine, which has the
machine to itself before and after each of them: by images a second, and by milliseconds of the processor an image.
"""

import argparse
import json
import statistics
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import uvloop

from ops.bench.cpu import Tree
from ops.bench.load import (
    Result,
    Service,
    bytes_request,
    closed_loop,
    jpegs,
    json_request,
    running,
    service,
    upload_request,
)
from ops.bench.peers.bare_loop import Speed, fastest_batch, load_stage, loop
from ops.bench.report import made_by, publish
from ops.cluster import free_port

CLIENTS = 16
UNCACHED = "features, uncached"


@dataclass
class Measured:
    """Results of all contestants by round; ``ceilings``: the bare loop before each contestant and after the last."""

    ceilings: list[Speed] = field(default_factory=list)
    service: list[dict[str, Result]] = field(default_factory=list)
    litserve: list[Result] = field(default_factory=list)
    fastapi: list[Result] = field(default_factory=list)


async def service_round(images: list[bytes], served: Service, seed: int) -> dict[str, Result]:
    """Measure upload, uncached features, cached features and pairwise similarity, one after the other."""
    port, server = served.port, served.cpu
    uploads = [upload_request("/api/v1/upload-media", f"{seed + i}.jpg", data, port) for i, data in enumerate(images)]
    results: dict[str, Result] = {}
    results["upload"], bodies = await closed_loop(uploads, port=port, clients=CLIENTS, server=server)
    ids = [json.loads(body)["asset_id"] for body in bodies]
    extracts = [json_request("/api/v1/extract-features", {"asset_id": asset_id}, port) for asset_id in ids]
    results[UNCACHED], _ = await closed_loop(extracts, port=port, clients=CLIENTS, server=server)
    results["features, cached"], _ = await closed_loop(extracts * 3, port=port, clients=CLIENTS, server=server)
    pairs = [
        json_request("/api/v1/calculate-similarity", {"asset_id_1": a, "asset_id_2": b}, port)
        for a, b in zip(ids, ids[1:] + ids[:1], strict=True)
    ]
    results["similarity of a pair"], _ = await closed_loop(pairs * 3, port=port, clients=CLIENTS, server=server)
    return results


async def peer_round(images: list[bytes], port: int, server: Tree, *, as_form: bool) -> Result:
    """Measure features of a peer, which takes the image as a form or as plain bytes."""
    if as_form:
        requests = [upload_request("/features", f"{index}.jpg", data, port) for index, data in enumerate(images)]
    else:
        requests = [bytes_request("/features", data, port) for data in images]
    return (await closed_loop(requests, port=port, clients=CLIENTS, server=server))[0]


def measure(count: int, rounds: int) -> Measured:
    """Measure each contestant alone on the machine, and the bare loop before and after each of them."""
    stage = load_stage()
    warm = jpegs(160, 10**6)
    batch = fastest_batch(stage, warm)
    python, measured = sys.executable, Measured()

    def bare_loop(seed: int) -> None:
        images = jpegs(count, seed)
        measured.ceilings.append(min((loop(stage, images, batch) for _ in range(2)), key=lambda speed: speed.cpu_ms))
        print(f"ceiling {measured.ceilings[-1].rate:.1f}/s", flush=True)

    bare_loop(2 * 10**6)
    with service() as served:
        uvloop.run(service_round(warm, served, 10**6))
        for index in range(rounds):
            images = jpegs(count, index * count)
            measured.service.append(uvloop.run(service_round(images, served, index * count)))
            print(f"service {measured.service[-1][UNCACHED].rate:.1f}/s", flush=True)
    bare_loop(3 * 10**6)
    for name, results, as_form in (("lit", measured.litserve, True), ("bare_fastapi", measured.fastapi, False)):
        port = free_port(8101)
        with running([python, "-m", f"ops.bench.peers.{name}", str(port)], f"http://127.0.0.1:{port}/docs", {}) as cpu:
            uvloop.run(peer_round(warm, port, cpu, as_form=as_form))
            for index in range(rounds):
                results.append(uvloop.run(peer_round(jpegs(count, index * count), port, cpu, as_form=as_form)))
                print(f"{name} {results[-1].rate:.1f}/s", flush=True)
        bare_loop(4 * 10**6)
    return measured


def report(measured: Measured, arguments: str) -> list[str]:
    """Return the lines of the report."""
    beside = [
        Speed(statistics.mean(each.rate for each in pair), statistics.mean(each.cpu_ms for each in pair))
        for pair in pairwise(measured.ceilings)
    ]
    ceilings = " / ".join(f"{each.rate:.1f}" for each in measured.ceilings)
    costs = " / ".join(f"{each.cpu_ms:.1f}" for each in measured.ceilings)
    lines = [
        "# Asset API, end to end",
        "",
        f"{made_by(f'ops.bench.assets {arguments}', 'ray', 'openvino')}.",
        "",
        "16 closed-loop clients on the same machine, 640×480 JPEGs of about 75 kB, all different. The ceiling is "
        "the bare loop of the fastest engine, JPEG decoding and resizing included, with the machine "
        f"to itself, the cheaper of two passes, before and after each contestant: {ceilings} images/s, {costs} CPU ms "
        "an image; a contestant is compared with the mean of the two beside it. CPU milliseconds are those of all its "
        "processes together. The service also reads the stored "
        "asset and writes the features durably; the two others get the bytes and store nothing.",
        "",
        "| features, uncached | images/s | of the ceiling | by round | CPU ms an image | over the ceiling's "
        "| p50 ms | p99 ms | errors |",
        "|---|---|---|---|---|---|---|---|---|",
        _row("visiongraph (HAProxy → gateway → stage)", [each[UNCACHED] for each in measured.service], beside[0]),
        _row("LitServe", measured.litserve, beside[1]),
        _row("bare FastAPI", measured.fastapi, beside[2]),
        "",
        "| visiongraph, other routes | requests/s | CPU ms a request | p50 ms | p99 ms | errors |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("upload", "features, cached", "similarity of a pair"):
        results = [each[name] for each in measured.service]
        lines.append(
            f"| {name} | {statistics.median(x.rate for x in results):.0f} "
            f"| {statistics.median(x.cpu_ms_each for x in results):.2f} "
            f"| {statistics.median(x.percentile(0.5) for x in results):.1f} "
            f"| {statistics.median(x.percentile(0.99) for x in results):.1f} "
            f"| {_errors(results)} |"
        )
    return lines


def _errors(results: list[Result]) -> int:
    return sum(sum(result.statuses.values()) - result.statuses[200] for result in results)


def _row(name: str, results: list[Result], ceiling: Speed) -> str:
    rates = [result.rate for result in results]
    p50 = statistics.median(result.percentile(0.5) for result in results)
    p99 = statistics.median(result.percentile(0.99) for result in results)
    each = " / ".join(f"{rate / ceiling.rate:.2f}" for rate in rates)
    median, cpu = statistics.median(rates), statistics.median(result.cpu_ms_each for result in results)
    return (
        f"| {name} | {median:.1f} | {median / ceiling.rate:.2f} | {each} | {cpu:.1f} | **{cpu / ceiling.cpu_ms:.2f}** "
        f"| {p50:.0f} | {p99:.0f} | {_errors(results)} |"
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=320, help="images per round and contestant")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="Markdown file; by default only printed")
    arguments = parser.parse_args()
    measured = measure(arguments.images, arguments.rounds)
    publish(report(measured, " ".join(sys.argv[1:])), arguments.out)


if __name__ == "__main__":
    main()
