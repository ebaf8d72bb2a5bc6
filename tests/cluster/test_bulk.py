"""A bulk run on a real Ray: its driver is killed, then a decoder of the next one; every video is indexed once."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from graphs.indexing.jobs import INDEX_VIDEO
from stores.jobs import Job
from stores.open import Stores
from tests.graphs.indexing import Shot, film, long_film

FILMS = 4
SECONDS = 30
FPS = 10


def _shots(seconds: int) -> tuple[Shot, ...]:
    """Ada walks above, and a dog runs below."""
    last = FPS * seconds - 1
    return ((last + 1, {"ada": (0, last, (10, 2), (150, 4)), "dog": (0, last, (5, 80), (150, 84))}),)


def test_what_a_killed_run_left_is_resumed(tmp_path: Path) -> None:
    films, home = tmp_path / "films", tmp_path / "home"
    films.mkdir()
    for number in range(FILMS):
        (films / f"{number}.mp4").write_bytes(film(_shots(SECONDS + number), FPS))
    (films / "broken.mp4").write_bytes(long_film(2)[:900])

    first = _start(films, home, tmp_path / "first.json")
    _wait(first, home, lambda jobs: any(j.status == "succeeded" for j in jobs) and any(map(_begun, jobs)))
    first.kill()
    first.wait()
    left = {job.subject: job for job in _jobs(home)}
    done = {asset_id for asset_id, job in left.items() if job.status == "succeeded"}
    assert 0 < len(done) < FILMS

    second = _start(films, home, tmp_path / "second.json")
    _wait(second, home, lambda jobs: sum(map(_begun, jobs)) > 0 and sum(j.attempts for j in jobs) > len(jobs))
    (decoder,) = _workers(second, "DecodeVideos")
    os.kill(decoder.pid, signal.SIGKILL)
    second.wait(120)
    output = (tmp_path / "second.log").read_text()
    assert second.returncode == 1, output  # one file is broken

    report = json.loads((tmp_path / "second.json").read_text())
    states = {file["asset_id"]: file["state"] for file in report["files"]}
    assert report["counts"] == {"failed": 1, "skipped": len(done), "indexed": FILMS - len(done)}
    assert {asset_id for asset_id, state in states.items() if state == "skipped"} == done
    (failure,) = report["failures"]
    assert failure["name"].endswith("broken.mp4")
    jobs = _jobs(home)
    assert len(jobs) == FILMS
    for job in jobs:
        assert (job.status, job.error) == ("succeeded", None)
        begun_before = job.subject in left and job.subject not in done
        assert job.attempts == (2 if begun_before else 1), output
        assert job.result is not None
        assert (job.result["traces"], job.result["shots"], job.result["objects"]) == (1, 1, 1)
        assert job.result["object_models"] == job.payload["objects"] == "dummy@00000000:"
        assert asyncio.run(_traces(home, job.subject)) == 1
    # What the first run had kept was not decoded again.
    kept = sum(job.checkpoint.get("next_frame", 0) for job in left.values() if job.subject not in done)
    to_do = sum(file["frames"] for file in report["files"] if file["state"] == "indexed")
    assert kept > 0
    assert report["totals"]["decoded_frames"] == to_do - kept
    assert asyncio.run(_parts(home)) == []


def _start(films: Path, home: Path, report: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.cluster.bulk", str(films), str(report)]
    environment = os.environ | {"VISION_HOME": str(home), "VISION_CACHE_URL": "", "RAY_ADDRESS": "local"}
    with report.with_suffix(".log").open("w") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _begun(job: Job) -> bool:
    return job.status == "running" and job.checkpoint.get("parts", 0) > 0


def _wait(process: "subprocess.Popen[bytes]", home: Path, reached: Callable[[list[Job]], bool]) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError("it ended too early")
        if home.exists() and reached(_jobs(home)):
            return
        time.sleep(0.05)
    process.kill()
    raise AssertionError("it took too long")


def _workers(process: "subprocess.Popen[bytes]", name: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if f"ray::MapWorker(MapBatches({name}))" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def _jobs(home: Path) -> list[Job]:
    async def jobs() -> list[Job]:
        stores = Stores(documents=f"sqlite:///{home}/documents.sqlite")
        try:
            return list(await stores.jobs.list(kind=INDEX_VIDEO))
        finally:
            await stores.close()

    return asyncio.run(jobs())


async def _traces(home: Path, asset_id: str) -> int:
    stores = Stores(documents=f"sqlite:///{home}/documents.sqlite")
    try:
        return len(await stores.people.list_traces(asset_id))
    finally:
        await stores.close()


async def _parts(home: Path) -> list[str]:
    stores = Stores(objects=f"file://{home}/objects")
    try:
        return [info.key async for info in stores.objects.list() if "/index/" in info.key]
    finally:
        await stores.close()
