"""Benchmark the asset API end to end: ``python -m ops.bench.assets [--model NAME] [--out FILE]``.

The service on fresh stores, LitServe and a bare FastAPI application around the same stage, and the bare loop of that
stage take turns in short rounds, so that what disturbs the machine disturbs all alike. 16 closed-loop clients send
640×480 JPEGs of about 75 kB, all different. The figure that counts is milliseconds of the processor an image, of all
processes of a contestant together, over those of the bare loop in the same round; the median of the rounds is reported.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import uvloop
import yaml

import configs
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
from ops.bench.peers.bare_loop import cheapest_batch, load_stage, loop
from ops.bench.report import Contestant, Line, contestants_table, made_by, publish
from ops.cluster import free_port

CLIENTS: Final = 16
LIGHT: Final = "efficientnet-lite0"
"""The lightest model of the chain: what is around a model shows most where that costs least."""
HEAVIER_MS: Final = 20.2
"""What a ViT-S and its JPEG take on a processor with AMX: what is around a model costs the same for each."""
OURS, BARE, STARLETTE = "the service", "bare loop", "bare Starlette, same body"
SERVE: Final = "HAProxy and empty Serve replicas, same body"
PEERS: Final = {"LitServe": ("lit", True), "bare FastAPI": ("bare_fastapi", False)}
"""Module of a peer, and whether it takes a picture as a form, else as plain bytes."""
ROUNDS: Final = 8
EXTRACT: Final = "/api/v1/extract-features"

Turn = Callable[[int], Contestant]


@contextmanager
def light_service(model: str = LIGHT) -> Iterator[Service]:
    """Run the service for small machines, with one model for features."""
    config = yaml.safe_load((Path(configs.__file__).parent / "laptop.yaml").read_text())
    options = list(_options(config, "embed/dinov3"))
    if not options:
        raise SystemExit("configs/laptop.yaml has no user_config of embed/dinov3.")
    for each in options:
        each["models"] = [model]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "light.yaml"
        path.write_text(yaml.safe_dump(config))
        with service("--config", str(path)) as served:
            yield served


def _options(config: Any, stage: str) -> Iterator[dict[str, Any]]:
    """Find the user_config of a stage, wherever it stands."""
    values = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    if isinstance(config, dict) and isinstance(config.get(stage), dict):
        yield config[stage]
    for value in values:
        yield from _options(value, stage)


def in_turn(turns: dict[str, Turn], rounds: int = ROUNDS) -> dict[str, list[Contestant]]:
    """Let each contestant have its turn in each round, another one first each time; return what each has done.

    The first round, which is not counted, warms all of them up. A turn gets the number of its round.
    """
    names, done = list(turns), {name: list[Contestant]() for name in turns}
    for name in names:
        turns[name](0)
    for index in range(1, rounds + 1):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            done[name].append(turns[name](index))
        print(" ".join(f"{name} {done[name][-1].cpu_ms:.1f} ms," for name in names), file=sys.stderr, flush=True)
    return done


def of(name: str, result: Result) -> Contestant:
    """Return what a closed loop says of a contestant. Raises RuntimeError when a request failed."""
    if set(result.statuses) != {200}:
        raise RuntimeError(f"{name} answered {dict(result.statuses)}")
    return Contestant(name, result.rate, result.cpu_ms_each)


def medians(done: dict[str, list[Contestant]]) -> tuple[Contestant, ...]:
    """Return the median of what each has done."""
    return tuple(
        Contestant(
            name,
            statistics.median(each.rate or 0.0 for each in rounds),
            statistics.median(each.cpu_ms or 0.0 for each in rounds),
        )
        for name, rounds in done.items()
    )


def uploaded(images: Sequence[bytes], served: Service) -> tuple[Result, list[str]]:
    """Upload pictures; return the result and their ids."""
    requests = [upload_request("/api/v1/upload-media", f"{n}.jpg", data, served.port) for n, data in enumerate(images)]
    result, bodies = uvloop.run(closed_loop(requests, port=served.port, clients=CLIENTS, server=served.cpu))
    return result, [json.loads(body)["asset_id"] for body in bodies]


def features(served: Service, *, model: str = LIGHT, peers: bool = True, count: int = 96, rounds: int = ROUNDS) -> Line:
    """Measure features that nobody has asked for yet; the value is CPU ms over those of the bare loop."""
    stage, warm = load_stage(model), jpegs(count, 10**6)
    batch = cheapest_batch(stage, warm)

    def ours(index: int) -> Contestant:
        _, ids = uploaded(jpegs(count, index * count), served)
        requests = [json_request(EXTRACT, {"asset_id": asset_id}, served.port) for asset_id in ids]
        loop_ = closed_loop(requests, port=served.port, clients=CLIENTS, server=served.cpu)
        return of(OURS, uvloop.run(loop_)[0])

    turns: dict[str, Turn] = {OURS: ours, BARE: lambda index: loop(stage, jpegs(count, index * count), batch)}
    with ExitStack() as started:
        for name, (module, as_form) in PEERS.items() if peers else ():
            turns[name] = started.enter_context(_peer(name, module, model, count, as_form=as_form))
        done = in_turn(turns, rounds)
    beside = {name: list(zip(its, done[BARE], strict=True)) for name, its in done.items() if name != BARE}
    over = {
        name: statistics.median((each.cpu_ms or 0.0) / (bare.cpu_ms or 1.0) for each, bare in pairs)
        for name, pairs in beside.items()
    }
    more = {
        name: statistics.median((each.cpu_ms or 0.0) - (bare.cpu_ms or 0.0) for each, bare in pairs)
        for name, pairs in beside.items()
    }
    notes = (
        f"Model {model}; {rounds} rounds of {count} pictures. CPU ms over the bare loop's, median of the rounds: "
        + ", ".join(f"{name} {over[name]:.3f}, which is {more[name]:.1f} ms more" for name in beside)
        + f". Beside a model of {HEAVIER_MS:g} ms the service's {more[OURS]:.1f} ms are a ratio of "
        f"{1 + more[OURS] / HEAVIER_MS:.3f}. The service also reads the stored picture and stores the features; the "
        "others get the bytes and store nothing.",
    )
    return Line(over[OURS], medians(done), notes)


@contextmanager
def _peer(name: str, module: str, model: str, count: int, *, as_form: bool) -> Iterator[Turn]:
    port = free_port(8101)

    def request(number: int, data: bytes) -> bytes:
        path = "/features"
        return upload_request(path, f"{number}.jpg", data, port) if as_form else bytes_request(path, data, port)

    argv = [sys.executable, "-m", f"ops.bench.peers.{module}", str(port), model]
    with running(argv, f"http://127.0.0.1:{port}/docs", {}) as cpu:

        def turn(index: int) -> Contestant:
            requests = [request(number, data) for number, data in enumerate(jpegs(count, index * count))]
            return of(name, uvloop.run(closed_loop(requests, port=port, clients=CLIENTS, server=cpu))[0])

        yield turn


def cached(served: Service, *, peers: bool = True, count: int = 3000, rounds: int = ROUNDS) -> Line:
    """Measure features that are stored; the value is requests a second over those of bare Starlette.

    ``peers``: whether empty replicas behind HAProxy have their turn as well, the floor of any service on Ray Serve.
    """
    _, ids = uploaded(jpegs(CLIENTS, 2 * 10**6), served)
    asked = [json_request(EXTRACT, {"asset_id": asset_id}, served.port) for asset_id in ids]
    uvloop.run(closed_loop(asked, port=served.port, clients=CLIENTS))
    _, bodies = uvloop.run(closed_loop(asked, port=served.port, clients=CLIENTS))

    def turn(name: str, requests: Sequence[bytes], to: Service) -> Turn:
        many = [requests[number % len(requests)] for number in range(count)]
        return lambda _: of(name, uvloop.run(closed_loop(many, port=to.port, clients=CLIENTS, server=to.cpu))[0])

    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body.json"
        body.write_bytes(bodies[0])
        turns = {OURS: turn(OURS, asked, served)}
        with ExitStack() as started:
            for name, module in ((STARLETTE, "bare_starlette"), (SERVE, "empty_serve"))[: 1 + peers]:
                port = free_port(8101)
                argv = [sys.executable, "-m", f"ops.bench.peers.{module}", str(port), str(body)]
                cpu = started.enter_context(running(argv, f"http://127.0.0.1:{port}/", {}))
                peer = [json_request(EXTRACT, {"asset_id": asset_id}, port) for asset_id in ids]
                turns[name] = turn(name, peer, Service(port, cpu))
            done = in_turn(turns, rounds)

    def share(peer: str) -> float:
        pairs = zip(done[OURS], done[peer], strict=True)
        return statistics.median((ours.rate or 0.0) / (its.rate or 1.0) for ours, its in pairs)

    notes = [
        f"{rounds} rounds of {count} requests, {CLIENTS} clients on the same cores. Bare Starlette has a process for "
        f"each core and answers {len(bodies[0]):,} bytes from memory."
    ]
    if peers:
        more = statistics.median(
            (ours.cpu_ms or 0.0) - (its.cpu_ms or 0.0) for ours, its in zip(done[OURS], done[SERVE], strict=True)
        )
        floor = statistics.median(each.cpu_ms or 0.0 for each in done[SERVE])
        notes.append(
            f"HAProxy before empty replicas of Ray Serve, set up as the service is, costs {floor:.2f} CPU ms a "
            f"request: the floor of any application on them. The service costs {more:.2f} more; it checks the key, "
            "reads the asset and the features, and writes them as JSON."
        )
    return Line(share(STARLETTE), medians(done), tuple(notes))


def pairs_of_stored(served: Service, count: int = 1000) -> Contestant:
    """Measure similarities of pairs whose features are stored."""
    _, ids = uploaded(jpegs(CLIENTS, 2 * 10**6), served)
    requests = [
        json_request("/api/v1/calculate-similarity", {"asset_id_1": a, "asset_id_2": b}, served.port)
        for a, b in zip(ids, ids[1:] + ids[:1], strict=True)
    ]
    many = [requests[number % len(requests)] for number in range(count)]
    loop_ = closed_loop(many, port=served.port, clients=CLIENTS, server=served.cpu)
    return of("similarity of a pair", uvloop.run(loop_)[0])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=LIGHT, help=f"model for features; {LIGHT} is the lightest")
    parser.add_argument("--images", type=int, default=96, help="pictures of a round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, help="Markdown file; by default only printed")
    arguments = parser.parse_args()
    with light_service(arguments.model) as served:
        lines = {
            "Features": features(served, model=arguments.model, count=arguments.images, rounds=arguments.rounds),
            "Features that are stored": cached(served, rounds=arguments.rounds),
        }
        others = [
            of("upload", uploaded(jpegs(4 * arguments.images, 3 * 10**6), served)[0]),
            pairs_of_stored(served),
        ]
    command = " ".join(["ops.bench.assets", *sys.argv[1:]])
    text = [
        "# Asset API, end to end",
        "",
        f"{made_by(command, 'ray', 'openvino')}.",
        "",
        (__doc__ or "").partition("\n\n")[2],
    ]
    for title, line in lines.items():
        text += [f"## {title}", "", *contestants_table(line.contestants), *line.notes, ""]
    text += ["## Other routes", "", *contestants_table(others)]
    publish(text, arguments.out)


if __name__ == "__main__":
    main()
