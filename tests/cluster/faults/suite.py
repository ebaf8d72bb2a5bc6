"""Every fault, each on the service that it needs: one with embedded stores, one on a small disk, one on servers."""

import asyncio
import io
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import av
import boto3
import httpx
import numpy as np
from PIL import Image

from tests.cluster.conftest import RunningService, await_ready, photo, start, upload
from tests.cluster.faults.clients import Outcome, ask, fates, first, get, probe
from tests.cluster.faults.kills import KILLS, kill
from tests.cluster.faults.links import Link, link
from tests.cluster.faults.manners import crowd, leaving_readers, slow_clients
from tests.cluster.faults.observe import Seen, observe, unfit
from tests.stores.mongodb import mongodb
from tests.stores.seaweed import seaweedfs

Fault = Callable[[], Awaitable[str | None]]
SMALL_DISK_BYTES = 400 * 2**20
ACCESS_KEY, SECRET_KEY = "faults", "faults-secret"


def kills(running: RunningService) -> Iterator[Seen]:
    """Kill each kind of process; the gateway once one of its replicas, once all."""
    for what in KILLS:
        if what == "gateway" and len(running.processes(KILLS[what])) > 1:
            yield asyncio.run(observe(running.port, "one gateway killed", kill(running, what, most=1)))
        yield asyncio.run(observe(running.port, f"{what} killed", kill(running, what)))


def clients(running: RunningService, seconds: float = 60) -> Iterator[Seen]:
    """Let clients come that are slow, that leave, and that are many; ``/livez`` is asked by a process of its own."""
    with running.client() as client:
        asset_ids = [upload(client, photo(seed)) for seed in range(900, 910)]
        big = upload(client, _noise(1), "noise.png")
    faults = {
        "200 slow senders, 200 slow readers": slow_clients(running.port, big),
        "100 readers that leave": leaving_readers(running.port, big),
        f"500 clients for {seconds:g} s": crowd(running.port, asset_ids, seconds=seconds),
    }
    for name, fault in faults.items():
        with probing(running.port) as probed:
            seen = asyncio.run(observe(running.port, name, fault))
        worst = {path: max((each.seconds for each in probed if each.kind == path), default=0.0) for path in PROBED}
        health = ", ".join(f"{path} {seconds:.2f} s" for path, seconds in worst.items())
        bad = fates(each for each in probed if each.fate != "200")
        yield replace(seen, note=f"{seen.note}; worst {health}" + (f", {dict(bad)}" if bad else ""))


PROBED = ("/livez", "/readyz", "/health")


@contextmanager
def probing(port: int) -> Iterator[list[Outcome]]:
    """Ask for the health from another process while the block runs; the list has the outcomes afterwards."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        stop = Path(folder) / "stop"
        argv = [sys.executable, "-m", "tests.cluster.faults.suite", str(port), str(stop)]
        prober = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert prober.stdout is not None
        prober.stdout.readline()  # it has started
        try:
            yield outcomes
        finally:
            stop.touch()
            for line in (prober.communicate()[0] or "").splitlines():
                path, seconds, fate = line.split()
                outcomes.append(Outcome(path, 0.0, float(seconds), fate))


def restarts(running: RunningService, folder: Path) -> Iterator[tuple[Seen, RunningService]]:
    """Stop and kill the whole service while it indexes a film, and start it again on the same stores."""
    for name, stop in {"stopped and started again": _stop, "all processes killed, started again": _kill_all}.items():
        with running.client() as client:
            film = upload(client, _film(int(time.time())), "film.mp4")
            job = client.post(f"/api/v1/file/{film}/index").raise_for_status().json()["job_id"]
            _await_job(client, job, {"running"})
        running, seen = asyncio.run(_restart(running, name, stop, folder, job))
        yield seen, running


async def _restart(
    running: RunningService, name: str, stop: Callable[[RunningService], None], folder: Path, job: str
) -> tuple[RunningService, Seen]:
    again = running

    async def fault() -> str:
        nonlocal again
        await asyncio.to_thread(stop, running)
        log = folder / f"again-{time.time():.0f}.log"
        started = time.monotonic()
        again = await asyncio.to_thread(start, running.home, log, {}, port=running.port)
        with again.client() as client:
            status = await asyncio.to_thread(_await_job, client, job, {"succeeded", "failed", "cancelled"})
        return f"ready {time.monotonic() - started:.0f} s after the start with its job; the job {status}"

    seen = await observe(running.port, name, fault)
    return again, seen  # which the fault has set


def _stop(running: RunningService) -> None:
    running.stop()


def _kill_all(running: RunningService) -> None:
    for process in [*running.processes(""), running.process]:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    running.process.wait()


def _await_job(client: httpx.Client, job: str, statuses: set[str]) -> str:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        status = str(client.get(f"/api/v1/jobs/{job}").json().get("status"))
        if status in statuses | {"succeeded", "failed", "cancelled"}:
            return status
        time.sleep(0.2)
    return "did not end"


def disk_and_clock(folder: Path) -> Iterator[Seen]:
    """Fill the disk under the stores and free it again; move the clock by an hour and by a day, there and back."""
    disk, offset = folder / "disk", folder / "offset"
    disk.mkdir()
    offset.write_bytes(struct.pack("q", 0))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "none", str(disk)], check=False)
    compiled = _compiled_clock(folder)
    environment = {"LD_PRELOAD": str(compiled), "CLOCK_OFFSET": str(offset)} if compiled else {}
    try:
        running = start(disk / "home", folder / "disk.log", environment)
        try:
            if mounted.returncode == 0:
                yield asyncio.run(observe(running.port, "disk full for 20 s", _full(disk, running)))
            if compiled:
                for name, seconds in {
                    "clock an hour ahead": 3600,
                    "clock a day back": -86400,
                    "clock right again": 0,
                }.items():
                    yield asyncio.run(observe(running.port, name, _clock(offset, seconds)))
        finally:
            running.stop()
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(disk)], check=False)


def _compiled_clock(folder: Path) -> Path | None:
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def _clock(offset: Path, seconds: int) -> Fault:
    async def fault() -> None:
        with offset.open("r+b") as file:
            file.write(struct.pack("q", seconds))

    return fault


def _full(disk: Path, running: RunningService) -> Fault:
    async def fault() -> str:
        with running.client() as client:
            victim = upload(client, photo(990))
            filler = disk / "filler"
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(2**20))
            await asyncio.sleep(5)
            said = []
            answer = await asyncio.to_thread(client.post, "/api/v1/upload-media", files={"file": ("a.png", _noise(2))})
            said.append(f"upload {answer.status_code}")
            answer = await asyncio.to_thread(client.get, "/health")
            said.append(f"health {answer.json()['status']}")
            answer = await asyncio.to_thread(client.get, "/readyz")
            said.append(f"readyz {answer.status_code}")
            answer = await asyncio.to_thread(client.delete, f"/api/v1/media/{victim}")
            said.append(f"DELETE {answer.status_code}")
            await asyncio.sleep(15)
            filler.unlink()
        return "while full: " + ", ".join(said)

    return fault


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[dict[str, Link]]:
    """S3 and MongoDB, each behind a link."""
    with seaweedfs(_made(folder / "weed"), ACCESS_KEY, SECRET_KEY) as endpoint, mongodb(_made(folder / "mongo")) as url:
        async with link(_port(endpoint)) as objects, link(_port(url)) as documents:
            yield {"objects": objects, "documents": documents}


def stores(folder: Path) -> Iterator[Seen]:
    """Start with stores that refuse, then let each refuse, be silent and be slow in the middle of requests."""
    results: list[Seen] = []
    asyncio.run(_stores(folder, results))
    yield from results


async def _stores(folder: Path, results: list[Seen]) -> None:
    async with servers(folder) as links:
        await _bucket(links["objects"].port)
        environment = {
            "VISION_OBJECTS_URL": f"s3://faults?endpoint_url=http://127.0.0.1:{links['objects'].port}&region=us-east-1",
            "VISION_DOCUMENTS_URL": f"mongodb://127.0.0.1:{links['documents'].port}/faults?directConnection=true",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        for each in links.values():
            each.set("refusing")
        running = start(folder / "remote", folder / "remote.log", environment, wait=False)
        try:
            results.append(await _down_at_start(running, links))
            for name, each in links.items():
                for state in ("refusing", "silent", "slow"):
                    fault = _link(each, state, 15)
                    results.append(await observe(running.port, f"{name} {state} for 15 s", fault))
        finally:
            await asyncio.to_thread(running.stop)


async def _down_at_start(running: RunningService, links: dict[str, Link]) -> Seen:
    """Start without stores, which come when the gateway has begun to answer, or after a minute and a half."""
    loop = asyncio.get_running_loop()
    begun, outcomes = loop.time(), list[Outcome]()
    while loop.time() < begun + 90 and len([each for each in outcomes if each.answered]) < 20:
        outcomes.append(await ask(running.port, "/readyz", get("/readyz"), 10))
        await asyncio.sleep(0.5)
    for each in links.values():
        each.set("open")
    at = loop.time()
    await asyncio.to_thread(await_ready, running)
    ready = loop.time() - at
    answered = [each for each in outcomes if each.answered]
    note = f"readyz without stores: {dict(fates(answered))}"
    worst = max((each.seconds for each in answered), default=0.0)
    return Seen("stores down at start", fates(answered), worst, ready, ready, 0, 0, note, len(unfit(answered)))


def _link(each: Link, state: str, seconds: float) -> Fault:
    async def fault() -> None:
        each.set(state)  # type: ignore[arg-type]  # one of its states
        await asyncio.sleep(seconds)
        each.set("open")

    return fault


async def _bucket(port: int) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    await asyncio.to_thread(s3.create_bucket, Bucket="faults")


def _port(url: str) -> int:
    return int(httpx.URL(url).port or 0)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _film(seed: int, seconds: int = 60) -> bytes:
    """An MP4 of 640×360 whose frames are noise, which takes a while to index."""
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        small = rng.integers(0, 256, (seconds, 9, 16, 3), np.uint8)
        for number in range(25 * seconds):
            pixels = np.repeat(np.repeat(small[number // 25], 40, axis=0), 40, axis=1)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())
    return file.getvalue()


def _noise(seed: int) -> bytes:
    """A PNG of 3 MB."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (1000, 1000, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def _probe_until(port: int, stop: Path) -> None:
    first()
    print("started", flush=True)
    while not stop.exists():
        for outcome in asyncio.run(probe(port, PROBED, 1.0)):
            print(outcome.kind, outcome.seconds, outcome.fate)


if __name__ == "__main__":
    _probe_until(int(sys.argv[1]), Path(sys.argv[2]))
