"""SQLite alone: group commit, many processes, sudden death."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event

import pytest

from ops.stores.documents import StoreError
from ops.stores.file_objects import FileObjects
from ops.stores.sqlite_documents import SqliteDocuments
from tests.stores.children import content_of, exit_codes, spawn
from tests.stores.samples import MODEL, asset_id, make_asset, make_features

SET = "INSERT INTO config VALUES (?, ?)"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state/documents.sqlite"


@pytest.fixture
async def documents(url: str) -> AsyncIterator[SqliteDocuments]:
    store = SqliteDocuments(url)
    yield store
    await store.close()


async def hold_writer(documents: SqliteDocuments) -> tuple[Event, asyncio.Task[bool]]:
    """Keep the writer thread in an operation until the event is set."""
    entered, release = Event(), Event()

    def operation(_: sqlite3.Connection) -> bool:
        entered.set()
        return release.wait(30)

    task = asyncio.create_task(documents._writer.submit(operation))
    await asyncio.to_thread(entered.wait, 30)
    return release, task


async def test_concurrent_writers_share_transactions(documents: SqliteDocuments) -> None:
    async def write(first: int) -> None:
        for number in range(first, first + 20):
            assert await documents.insert_asset(make_asset(number))

    before = documents.transactions
    await asyncio.gather(*(write(100 * writer) for writer in range(16)))
    assert len(await documents.list_assets()) == 320
    assert 1 <= documents.transactions - before <= 320 // 2


async def test_waiting_writes_are_one_transaction(documents: SqliteDocuments) -> None:
    release, held = await hold_writer(documents)
    before = documents.transactions
    writes = [asyncio.create_task(documents.insert_asset(make_asset(number))) for number in range(50)]
    await asyncio.sleep(0)
    release.set()
    assert await held
    assert await asyncio.gather(*writes) == [True] * 50
    assert documents.transactions - before == 2


async def test_a_failing_operation_fails_alone(documents: SqliteDocuments) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        connection.execute(SET, ("undone", 1.0))
        raise LookupError("my own mistake")

    def refused(connection: sqlite3.Connection) -> None:
        connection.execute(SET, ("undone too", 1.0))
        connection.execute(SET, ("undone too", 2.0))

    release, held = await hold_writer(documents)
    before = documents.transactions
    writes = [
        asyncio.create_task(documents.set_config({"first": 1.0})),
        asyncio.create_task(documents._writer.submit(broken)),
        asyncio.create_task(documents._writer.submit(refused)),
        asyncio.create_task(documents.set_config({"last": 2.0})),
    ]
    await asyncio.sleep(0)
    release.set()
    await held
    first, own, store, last = await asyncio.gather(*writes, return_exceptions=True)
    assert (first, last) == (None, None)
    assert isinstance(own, LookupError)
    assert isinstance(store, StoreError)
    assert await documents.get_config() == {"first": 1.0, "last": 2.0}
    assert documents.transactions - before == 2


async def test_a_full_disk_fails_the_group_and_not_the_writer(documents: SqliteDocuments) -> None:
    def limit(pages: int) -> None:
        documents._writer._connection.execute(f"PRAGMA max_page_count = {pages}")

    await documents.insert_asset(make_asset(0))
    limit(20)
    writes = [documents.set_config({f"{number}" + "x" * 5000: 1.0}) for number in range(40)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    failed = [result for result in results if result is not None]
    assert failed
    assert all(isinstance(error, StoreError) and "full" in str(error) for error in failed)
    assert len(await documents.get_config()) == 40 - len(failed)
    limit(100_000)
    assert await documents.insert_asset(make_asset(1))


async def test_a_cancelled_write_that_was_waiting_never_happens(documents: SqliteDocuments) -> None:
    release, held = await hold_writer(documents)
    write = asyncio.create_task(documents.insert_asset(make_asset(1)))
    await asyncio.sleep(0)
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    release.set()
    await held
    assert await documents.insert_asset(make_asset(2))
    assert [asset.asset_id for asset in await documents.list_assets()] == [asset_id(2)]


async def test_a_closed_store_says_so(url: str) -> None:
    documents = SqliteDocuments(url)
    pending = asyncio.create_task(documents.insert_asset(make_asset(1)))
    await asyncio.sleep(0)
    await documents.close()
    assert await pending
    await documents.close()
    with pytest.raises(StoreError):
        await documents.insert_asset(make_asset(2))
    with pytest.raises(StoreError):
        await documents.list_assets()
    with pytest.raises(StoreError):
        await documents.ping()


def test_a_file_of_another_version_is_refused(url: str, tmp_path: Path) -> None:
    path = tmp_path / "newer.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="schema 99"):
        SqliteDocuments(f"sqlite:///{path}")
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        SqliteDocuments(f"sqlite:///{path}")


async def test_every_write_is_synced(documents: SqliteDocuments) -> None:
    connection = documents._writer._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        documents._inline.execute("DELETE FROM config")


async def test_processes_write_at_once_and_lose_nothing(url: str) -> None:
    children = [spawn("write_documents", url, str(1000 * child), "150") for child in range(4)]
    assert exit_codes(children) == [0, 0, 0, 0]
    documents = SqliteDocuments(url)
    expected = {asset_id(1000 * child + number) for child in range(4) for number in range(150)}
    assert set(await documents.get_assets(expected)) == expected
    assert set(await documents.get_features(MODEL, expected)) == expected
    assert len(await documents.list_assets(limit=10_000)) == 600
    await documents.close()


async def test_what_was_acknowledged_survives_kill_9(url: str, tmp_path: Path) -> None:
    objects_url = f"file://{tmp_path}/objects"
    with spawn("acknowledge_for_ever", url, objects_url, str(tmp_path)) as child:
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(100)]
        child.kill()
        lines = child.stdout.read().split("\n")
        acknowledged += [int(line) for line in lines[:-1]]
    documents, objects = SqliteDocuments(url), FileObjects(objects_url)
    assert len(acknowledged) >= 100
    found = await documents.get_assets([asset_id(number) for number in acknowledged])
    assert found == {asset_id(number): make_asset(number) for number in acknowledged}
    for number in acknowledged:
        assert await objects.get(asset_id(number)) == content_of(number)
        info = await objects.head(asset_id(number))
        assert info is not None
        assert info.content_type == "image/jpeg"
    assert await documents.put_features(make_features(acknowledged[0]))
    await documents.close()
