"""End-to-end benchmark of the asset API: ``python -m ops.bench.assets [--out FILE]``.

Starts the service on fresh stores, and after it LitServe and a bare FastAPI application around the same stage; sends
640×480 JPEGs from 16 closed-loop clients to each, and compares them with the bare loop of the engine, which has the
machine to itself before and after each of them.
"""

import argparse
import json
import sys
from pathlib import Path

import uvloop

from ops.bench.client import Result, bytes_request, closed_loop, json_request, upload_request
from ops.bench.images import jpegs
from ops.bench.raw import fastest_batch, load_stage, loop
from ops.bench.report import UNCACHED, Measured, write
from ops.bench.server import running, service
from ops.cluster import free_port

CLIENTS = 16


async def service_round(images: list[bytes], port: int, seed: int) -> dict[str, Result]:
    """Upload, uncached features, cached features and pairwise similarity, one after the other."""
    uploads = [upload_request("/api/v1/upload-media", f"{seed + i}.jpg", data, port) for i, data in enumerate(images)]
    results: dict[str, Result] = {}
    results["upload"], bodies = await closed_loop(uploads, port=port, clients=CLIENTS)
    ids = [json.loads(body)["asset_id"] for body in bodies]
    extracts = [json_request("/api/v1/extract-features", {"asset_id": asset_id}, port) for asset_id in ids]
    results[UNCACHED], _ = await closed_loop(extracts, port=port, clients=CLIENTS)
    results["features, cached"], _ = await closed_loop(extracts * 3, port=port, clients=CLIENTS)
    pairs = [
        json_request("/api/v1/calculate-similarity", {"asset_id_1": a, "asset_id_2": b}, port)
        for a, b in zip(ids, ids[1:] + ids[:1], strict=True)
    ]
    results["similarity of a pair"], _ = await closed_loop(pairs * 3, port=port, clients=CLIENTS)
    return results


async def peer_round(images: list[bytes], port: int, *, as_form: bool) -> Result:
    """Features from a peer, which takes the image as a form or as plain bytes."""
    if as_form:
        requests = [upload_request("/features", f"{index}.jpg", data, port) for index, data in enumerate(images)]
    else:
        requests = [bytes_request("/features", data, port) for data in images]
    return (await closed_loop(requests, port=port, clients=CLIENTS))[0]


def measure(count: int, rounds: int) -> Measured:
    """Each contestant alone on the machine, the bare loop before and after each of them."""
    stage = load_stage()
    warm = jpegs(160, 10**6)
    batch = fastest_batch(stage, warm)
    python, measured = sys.executable, Measured()

    def bare_loop(seed: int) -> None:
        images = jpegs(count, seed)
        measured.ceilings.append(max(loop(stage, images, batch) for _ in range(2)))
        print(f"ceiling {measured.ceilings[-1]:.1f}/s", flush=True)

    bare_loop(2 * 10**6)
    with service() as port:
        uvloop.run(service_round(warm, port, 10**6))
        for index in range(rounds):
            images = jpegs(count, index * count)
            measured.service.append(uvloop.run(service_round(images, port, index * count)))
            print(f"service {measured.service[-1][UNCACHED].rate:.1f}/s", flush=True)
    bare_loop(3 * 10**6)
    for name, results, as_form in (("lit", measured.litserve, True), ("bare_fastapi", measured.fastapi, False)):
        port = free_port(8101)
        with running([python, "-m", f"ops.bench.peers.{name}", str(port)], f"http://127.0.0.1:{port}/docs", {}):
            uvloop.run(peer_round(warm, port, as_form=as_form))
            for index in range(rounds):
                results.append(uvloop.run(peer_round(jpegs(count, index * count), port, as_form=as_form)))
                print(f"{name} {results[-1].rate:.1f}/s", flush=True)
        bare_loop(4 * 10**6)
    return measured


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=320, help="images per round and contestant")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="Markdown file; by default only printed")
    arguments = parser.parse_args()
    write(measure(arguments.images, arguments.rounds), arguments.out, " ".join(sys.argv[1:]))


if __name__ == "__main__":
    main()
