"""SQLite alone: group commit, many processes, sudden death."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from stores.errors import StoreError
from stores.file.objects import FileObjects
from stores.sqlite import engine
from stores.sqlite.database import SqliteDatabase
from stores.sqlite.documents import SqliteDocuments
from stores.uploads import Upload
from tests.stores.children import content_of, exit_codes, spawn
from tests.stores.samples import MODEL, MOMENT, asset_id, make_asset, make_faces, make_features

SET = "INSERT INTO config VALUES (?, ?)"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state/documents.sqlite"


def documents_at(url: str) -> SqliteDocuments:
    return SqliteDatabase(Path(url.removeprefix("sqlite:///"))).documents


@pytest.fixture
async def documents(url: str) -> AsyncIterator[SqliteDocuments]:
    store = documents_at(url)
    yield store
    await store._engine.close()


async def hold_writer(documents: SqliteDocuments) -> tuple[Event, asyncio.Task[bool]]:
    """Keep the writer thread in an operation until the event is set."""
    entered, release = Event(), Event()

    def operation(_: sqlite3.Connection) -> bool:
        entered.set()
        return release.wait(30)

    task = asyncio.create_task(documents._engine.write(operation))
    await asyncio.to_thread(entered.wait, 30)
    return release, task


async def test_concurrent_writers_share_transactions(documents: SqliteDocuments) -> None:
    async def write(first: int) -> None:
        for number in range(first, first + 20):
            assert await documents.insert_asset(make_asset(number))

    before = documents._engine.transactions
    await asyncio.gather(*(write(100 * writer) for writer in range(16)))
    assert len(await documents.list_assets()) == 320
    assert 1 <= documents._engine.transactions - before <= 320 // 2


async def test_waiting_writes_are_one_transaction(documents: SqliteDocuments) -> None:
    release, held = await hold_writer(documents)
    before = documents._engine.transactions
    writes = [asyncio.create_task(documents.insert_asset(make_asset(number))) for number in range(50)]
    await asyncio.sleep(0)
    release.set()
    assert await held
    assert await asyncio.gather(*writes) == [True] * 50
    assert documents._engine.transactions - before == 2


async def test_a_failing_operation_fails_alone(documents: SqliteDocuments) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        connection.execute(SET, ("undone", 1.0))
        raise LookupError("my own mistake")

    def refused(connection: sqlite3.Connection) -> None:
        connection.execute(SET, ("undone too", 1.0))
        connection.execute(SET, ("undone too", 2.0))

    release, held = await hold_writer(documents)
    before = documents._engine.transactions
    writes = [
        asyncio.create_task(documents.set_config({"first": 1.0})),
        asyncio.create_task(documents._engine.write(broken)),
        asyncio.create_task(documents._engine.write(refused)),
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
    assert documents._engine.transactions - before == 2


async def test_a_full_disk_fails_the_group_and_not_the_writer(documents: SqliteDocuments) -> None:
    def limit(pages: int) -> None:
        documents._engine._writer._connection.execute(f"PRAGMA max_page_count = {pages}")

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


async def test_a_write_waits_for_that_of_another_process_but_not_for_ever(
    documents: SqliteDocuments, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        write = asyncio.create_task(documents.set_config({"first": 1.0}))
        await asyncio.sleep(0.05)
        assert not write.done()
        other.execute("COMMIT")
        await write
        monkeypatch.setattr(engine, "BUSY_TIMEOUT_S", 0.05)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            await documents.set_config({"second": 2.0})
        other.execute("ROLLBACK")
    assert await documents.get_config() == {"first": 1.0}


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
    documents = documents_at(url)
    pending = asyncio.create_task(documents.insert_asset(make_asset(1)))
    await asyncio.sleep(0)
    await documents._engine.close()
    assert await pending
    await documents._engine.close()
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
        documents_at(f"sqlite:///{path}")
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        documents_at(f"sqlite:///{path}")


VERSION_1 = """
    CREATE TABLE assets (
        asset_id TEXT PRIMARY KEY, filename TEXT NOT NULL, kind TEXT NOT NULL, format TEXT NOT NULL,
        content_type TEXT NOT NULL, file_size INTEGER NOT NULL, uploaded_at INTEGER NOT NULL,
        width INTEGER, height INTEGER, duration REAL, fps REAL, frame_count INTEGER, rotation INTEGER,
        has_audio INTEGER, deleting INTEGER NOT NULL, error_message TEXT) WITHOUT ROWID;
    CREATE TABLE features (
        asset_id TEXT NOT NULL REFERENCES assets ON DELETE CASCADE, model_version TEXT NOT NULL,
        kind TEXT NOT NULL, raw BLOB NOT NULL, unit BLOB NOT NULL, created_at INTEGER NOT NULL,
        indexed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (asset_id, model_version));
    CREATE INDEX features_unindexed ON features (model_version, created_at) WHERE indexed = 0;
    CREATE TABLE config (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
    INSERT INTO config VALUES ('similarity_threshold', 80);
    INSERT INTO assets VALUES ('one', 'one.jpg', 'image', 'jpeg', 'image/jpeg', 9, 1772600767123457,
                               4, 3, NULL, NULL, NULL, NULL, NULL, 0, NULL);
    INSERT INTO features VALUES ('one', 'dinov3-vits16/1', 'image', x'0000803f', x'0000803f', 1772600767123457, 1);
    PRAGMA user_version = 1;
"""


def schema_of(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


async def test_a_file_of_version_1_is_brought_to_this_one(url: str, tmp_path: Path) -> None:
    old = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(VERSION_1)
    for _ in range(2):  # the second time there is nothing left to do
        documents = documents_at(f"sqlite:///{old}")
        assert await documents.get_config() == {"similarity_threshold": 80}
        (asset,) = await documents.list_assets()
        assert asset.uploads == (Upload("", "one.jpg", MOMENT),)
        assert (asset.filename, asset.uploaded_at, asset.file_size, asset.width) == ("one.jpg", MOMENT, 9, 4)
        (features,) = (await documents.get_features(MODEL, ["one"])).values()
        assert features.raw.tolist() == [1.0]
        assert await documents.unindexed_features(MODEL, 9) == []
        assert await documents.put_faces(replace(make_faces(1), asset_id="one"))
        assert set(await documents.get_faces(MODEL, ["one"])) == {"one"}
        await documents._engine.close()
    await documents_at(url)._engine.close()
    new = Path(url.removeprefix("sqlite:///"))
    plain = {name: "".join(sql.split()) for name, sql in schema_of(new).items()}
    assert {name: "".join(sql.split()) for name, sql in schema_of(old).items()} == plain


async def test_several_processes_may_bring_one_file_to_this_version(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
    stores = await asyncio.gather(*(asyncio.to_thread(documents_at, f"sqlite:///{path}") for _ in range(6)))
    assert [len(await store.list_assets()) for store in stores] == [1] * 6
    for store in stores:
        await store._engine.close()


def test_a_file_that_is_refused_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "newer.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    for _ in range(2):
        with pytest.raises(StoreError, match="schema 99"):
            documents_at(f"sqlite:///{path}")
    assert schema_of(path) == {}


async def test_every_write_is_synced(documents: SqliteDocuments) -> None:
    connection = documents._engine._writer._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        documents._engine._inline.execute("DELETE FROM config")


async def test_processes_write_at_once_and_lose_nothing(url: str) -> None:
    children = [spawn("write_documents", url, str(1000 * child), "150") for child in range(4)]
    assert exit_codes(children) == [0, 0, 0, 0]
    documents = documents_at(url)
    expected = {asset_id(1000 * child + number) for child in range(4) for number in range(150)}
    assert set(await documents.get_assets(expected)) == expected
    assert set(await documents.get_features(MODEL, expected)) == expected
    assert len(await documents.list_assets(limit=10_000)) == 600
    await documents._engine.close()


async def test_what_was_acknowledged_survives_kill_9(url: str, tmp_path: Path) -> None:
    objects_url = f"file://{tmp_path}/objects"
    with spawn("acknowledge_for_ever", url, objects_url, str(tmp_path)) as child:
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(100)]
        child.kill()
        lines = child.stdout.read().split("\n")
        acknowledged += [int(line) for line in lines[:-1]]
    documents, objects = documents_at(url), FileObjects(objects_url)
    assert len(acknowledged) >= 100
    assets = await documents.get_assets([asset_id(number) for number in acknowledged])
    assert assets == {asset_id(number): make_asset(number) for number in acknowledged}
    for number in acknowledged:
        assert await objects.get(asset_id(number)) == content_of(number)
        info = await objects.head(asset_id(number))
        assert info is not None
        assert info.content_type == "image/jpeg"
    assert await documents.put_features(make_features(acknowledged[0]))
    await documents._engine.close()
