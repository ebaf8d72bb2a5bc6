"""End-to-end benchmark of the asset API: ``make bench`` or ``python -m ops.bench [--out FILE]``.

Starts the service on fresh stores, and beside it LitServe and a bare FastAPI application around the same stage; sends
640×480 JPEGs from 16 closed-loop clients to one after the other, in several rounds, and compares each with the bare
loop of the engine measured in the same round.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from ops.bench.client import Result, bytes_request, closed_loop, json_request, upload_request
from ops.bench.images import jpegs
from ops.bench.raw import fastest_batch, load_stage, loop
from ops.bench.report import Round, write
from ops.cluster import free_port

CLIENTS = 16


@contextmanager
def running(argv: list[str], ready_url: str, environment: dict[str, str]) -> Iterator[None]:
    """A server process from its first answer to the end of the block."""
    process = subprocess.Popen(argv, env=os.environ | environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(600):
            try:
                if httpx.get(ready_url, timeout=2).status_code < 500:
                    break
            except httpx.HTTPError:
                pass
            if process.poll() is not None:
                raise SystemExit(f"{argv} ended with {process.returncode}")
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


async def service_round(images: list[bytes], port: int, seed: int) -> dict[str, Result]:
    """Upload, uncached features, cached features and pairwise similarity, one after the other."""
    uploads = [upload_request("/api/v1/upload-media", f"{seed + i}.jpg", data, port) for i, data in enumerate(images)]
    results: dict[str, Result] = {}
    results["upload"], bodies = await closed_loop(uploads, port=port, clients=CLIENTS)
    ids = [json.loads(body)["asset_id"] for body in bodies]
    extracts = [json_request("/api/v1/extract-features", {"asset_id": asset_id}, port) for asset_id in ids]
    results["features, uncached"], _ = await closed_loop(extracts, port=port, clients=CLIENTS)
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


def measure(images_each: int, rounds: int) -> list[Round]:
    """Every contestant in every round, in turns, so that a slow minute of the machine meets all of them."""
    stage = load_stage()
    api, lit, bare = free_port(8100), free_port(8101), free_port(8102)
    python = sys.executable
    done: list[Round] = []
    with ExitStack() as servers:
        home = servers.enter_context(tempfile.TemporaryDirectory())
        serve = [
            python,
            "-m",
            "ops.cli.main",
            "serve",
            "--port",
            str(api),
            "--dashboard-port",
            str(free_port(8266)),
        ]
        for argv, port, path, environment in (
            (serve, api, "/readyz", {"VISION_HOME": home}),
            ([python, "-m", "ops.bench.peers.lit", str(lit)], lit, "/health", {}),
            ([python, "-m", "ops.bench.peers.bare_fastapi", str(bare)], bare, "/docs", {}),
        ):
            servers.enter_context(running(argv, f"http://127.0.0.1:{port}{path}", environment))
        warm = jpegs(160, 10**6)
        asyncio.run(service_round(warm, api, 10**6))
        asyncio.run(peer_round(warm, lit, as_form=True))
        asyncio.run(peer_round(warm, bare, as_form=False))
        batch = fastest_batch(stage, warm)
        for index in range(rounds):
            seed = index * images_each
            images = jpegs(images_each, seed)
            # The bare loop runs before, between and after the others: the machine is not equally fast all the time.
            ceilings = [loop(stage, images, batch)]
            service = asyncio.run(service_round(images, api, seed))
            ceilings.append(loop(stage, images, batch))
            litserve = asyncio.run(peer_round(images, lit, as_form=True))
            fastapi = asyncio.run(peer_round(images, bare, as_form=False))
            ceilings.append(loop(stage, images, batch))
            done.append(Round(statistics.mean(ceilings), service, litserve, fastapi))
            print(f"round {index + 1}: {done[-1].summary()}", flush=True)
    return done


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
