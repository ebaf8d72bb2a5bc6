"""Programs that the store tests run as processes of their own."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from configs.settings import Settings
from stores.backup import backup
from stores.deletion import delete_asset
from stores.open import Stores
from stores.sqlite import database
from stores.valkey import start
from tests.stores.samples import asset_id, make_asset, make_features, unit_vector, write_file


def spawn(program: str, *args: str) -> "subprocess.Popen[str]":
    """Start one of the functions below in a new process."""
    argv = [sys.executable, "-m", "tests.stores.children", program, *args]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def exit_codes(children: "list[subprocess.Popen[str]]") -> list[int]:
    """Wait for all of them."""
    for child in children:
        child.communicate(timeout=120)
    return [child.returncode for child in children]


async def write_documents(url: str, first: str, count: str) -> None:
    """Insert assets and features, 8 at a time."""
    stores = Stores(documents=url)
    documents = stores.documents
    places = asyncio.Semaphore(8)

    async def write(number: int) -> None:
        async with places:
            assert await documents.insert_asset(make_asset(number))
            assert await documents.put_features(make_features(number))

    await asyncio.gather(*(write(number) for number in range(int(first), int(first) + int(count))))
    await stores.close()


async def acknowledge_for_ever(documents_url: str, objects_url: str, folder: str) -> None:
    """Print the number of every asset whose record and bytes were acknowledged."""
    stores = Stores(documents=documents_url, objects=objects_url)

    async def write(first: int) -> None:
        for number in range(first, 10**9, 4):
            source = write_file(Path(folder), content_of(number), f"upload-{first}")
            await stores.objects.put_file(asset_id(number), source, "image/jpeg")
            assert await stores.documents.insert_asset(make_asset(number))
            print(number, flush=True)

    await asyncio.gather(*(write(first) for first in range(4)))


async def work_for_ever(home: str, folder: str) -> None:
    """Upload files with features and vectors, delete every third; print each number once it is acknowledged."""
    stores = Stores.open(Settings(home=Path(home)))

    async def upload(number: int) -> None:
        source = write_file(Path(folder), content_of(number), f"upload-{number % 8}")
        await stores.objects.put_file(asset_id(number), source, "image/jpeg")
        assert await stores.documents.insert_asset(make_asset(number))
        assert await stores.documents.put_features(make_features(number))

    for first in range(0, 10**9, 8):
        numbers = range(first, first + 8)
        await asyncio.gather(*map(upload, numbers))
        print(*(f"+{number}" for number in numbers), sep="\n", flush=True)
        features = [make_features(number) for number in numbers]
        await stores.vectors.add(features)
        await stores.documents.mark_indexed(features)
        if first % 64 == 0:
            await stores.vectors.maintain(features[0].model_version)
        for number in range(first - 8, first):
            if number >= 0 and number % 3 == 0:
                print(f"-{number}", flush=True)
                await stores.documents.mark_deleting(asset_id(number))
                await delete_asset(stores, asset_id(number))


async def back_up(home: str, target: str) -> None:
    """Make a backup, and print each thing that it does."""
    said = partial(print, flush=True)
    await asyncio.to_thread(backup, Settings(home=Path(home)), Path(target), on_progress=said)


async def open_database(path: str) -> None:
    """Open a database of an earlier version, slowly; print each statement of its migration before it runs."""
    migrate = database._migrate

    def slowly(path: Path, connection: sqlite3.Connection) -> int:
        def announce(statement: str) -> None:
            print(" ".join(statement.split())[:60], flush=True)
            time.sleep(0.02)

        connection.set_trace_callback(announce)
        return migrate(path, connection)

    database._migrate = slowly
    await database.SqliteDatabase(Path(path)).close()


def content_of(number: int) -> bytes:
    return f"content of {number} ".encode() * 5000


async def add_vectors(url: str, first: str, batches: str) -> None:
    """Add batches of 20 vectors, each asset twice; maintain in between."""
    stores = Stores(vectors=url)
    for start_at in range(int(first), int(first) + 20 * int(batches), 20):
        batch = [make_features(number, unit=unit_vector(number, 32)) for number in range(start_at, start_at + 20)]
        await stores.vectors.add(batch)
        await stores.vectors.add(batch)
        await stores.vectors.maintain(batch[0].model_version)
    await stores.close()


async def claim_jobs(url: str, name: str) -> None:
    """Claim jobs until none is due; print the id of each, and finish it."""
    stores = Stores(documents=url)
    jobs = stores.jobs
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    number = 0
    while job := await jobs.claim(f"{name}-{number}", ["index"], 60):
        print(job.job_id, flush=True)
        assert await jobs.succeed(job.job_id, f"{name}-{number}", {"by": name})
        number += 1
    await stores.close()


async def hold_job(url: str, worker: str, lease_s: str) -> None:
    """Claim a job, save where it is, print its id, and keep it until killed."""
    jobs = Stores(documents=url).jobs
    job = await jobs.claim(worker, ["index"], float(lease_s))
    assert job is not None
    assert await jobs.save_checkpoint(job.job_id, worker, {"frame": 100 * job.attempts})
    print(job.job_id, flush=True)
    while True:
        await asyncio.sleep(float(lease_s) / 3)
        assert await jobs.heartbeat(job.job_id, worker, 0.5, "working", float(lease_s))


async def hold_valkey(directory: str) -> None:
    """Start a cache server, print its process id and URL, and wait to be killed."""
    server = start(Path(directory))
    print(server.pid, server.url, flush=True)
    await asyncio.sleep(600)


if __name__ == "__main__":
    program = globals()[sys.argv[1]]
    asyncio.run(program(*sys.argv[2:]))
