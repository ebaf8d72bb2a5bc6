"""Embedded stores on real file systems that are full or read-only: nothing is half-written, and deletes work."""

import asyncio
import errno
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stores import derived
from stores.disk import Disk
from stores.errors import StoreDamaged, StoreError, StoreFull, StoreReadOnly, disk_error, disk_errors
from stores.jobs import Job
from stores.open import Stores
from tests.stores.samples import MODEL, asset_id, make_asset, make_features, unit_vector
from tests.stores.volumes import Volume, volume

RESERVE_BYTES = 256 * 2**20
IMAGE = bytes(300_000)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Volume]:
    with volume(tmp_path / "disk") as mounted:
        yield mounted


def stores_on(disk: Volume) -> Stores:
    root = disk.root
    urls = {
        "documents": f"sqlite:///{root}/d.sqlite",
        "objects": f"file://{root}/objects",
        "vectors": f"file://{root}/v",
    }
    return Stores(**urls, reserve_bytes=RESERVE_BYTES)


@pytest.fixture
async def stores(disk: Volume) -> AsyncIterator[Stores]:
    stores = stores_on(disk)
    yield stores
    await stores.close()


async def put(stores: Stores, disk: Volume, number: int, data: bytes = IMAGE) -> None:
    await derived.put(stores.objects, disk.root / "spool", asset_id(number), data, "image/png")
    assert await stores.documents.insert_asset(make_asset(number))


async def test_growing_writes_are_refused_while_reads_and_deletes_work(stores: Stores, disk: Volume) -> None:
    for number in range(3):
        await put(stores, disk, number)
        assert await stores.documents.put_features(make_features(number))
    await stores.jobs.submit("index", asset_id(0), "f", {})
    before = {info.key async for info in stores.objects.list()}
    disk.fill()
    assert disk.free == 0
    for write in (
        put(stores, disk, 9),
        stores.documents.insert_asset(make_asset(9)),
        stores.documents.put_features(make_features(1)),
        stores.documents.set_config({"threshold": 0.5}),
        stores.jobs.submit("index", asset_id(1), "g", {}),
    ):
        with pytest.raises(StoreFull) as caught:
            await write
        assert (caught.value.status, caught.value.code) == (507, "STORAGE_FULL")
    assert {info.key async for info in stores.objects.list()} == before
    assert list((disk.root / "objects" / "@tmp").iterdir()) == list((disk.root / "spool").iterdir()) == []
    await stores.documents.ping()
    await stores.objects.ping()
    for store in (stores.documents, stores.objects):
        with pytest.raises(StoreFull):
            await store.check_room()
    assert len(await stores.documents.list_assets()) == 3
    assert await stores.objects.get(asset_id(1)) == IMAGE
    job = await stores.jobs.claim("worker", ["index"], 60)
    assert job is not None
    assert await stores.jobs.heartbeat(job.job_id, "worker", 0.5, "half", 60)
    # Deleting frees room, and what was freed takes new files, without a restart.
    assert await stores.objects.delete(asset_id(0))
    assert await stores.documents.delete_asset(asset_id(0))
    assert disk.free > 0
    disk.empty()
    await put(stores, disk, 9)
    assert (disk.root / "d.sqlite.reserve").stat().st_size == 8 * 2**20 // 32


async def test_a_disk_that_others_fill_again_and_again_never_stops_deletes(stores: Stores, disk: Volume) -> None:
    for number in range(60):
        assert await stores.documents.insert_asset(make_asset(number))
        assert await stores.documents.put_features(make_features(number, unit=unit_vector(number, 1024)))
    disk.fill()
    for number in range(60):
        assert await stores.documents.delete_asset(asset_id(number)), number
    assert await stores.documents.list_assets() == []
    assert (disk.root / "d.sqlite-wal").stat().st_size < 600_000
    disk.fill()
    with pytest.raises(StoreFull):
        await stores.documents.insert_asset(make_asset(99))
    disk.empty()
    await asyncio.sleep(1.1)  # the reserve is not made again at once
    assert await stores.documents.insert_asset(make_asset(99))
    assert (disk.root / "d.sqlite.reserve").exists()


async def test_writes_and_deletes_at_once_on_a_full_disk_each_get_their_own_answer(
    stores: Stores, disk: Volume
) -> None:
    for number in range(20):
        assert await stores.documents.insert_asset(make_asset(number))
    disk.fill()
    deletes = [stores.documents.delete_asset(asset_id(number)) for number in range(20)]
    inserts = [stores.documents.insert_asset(make_asset(number)) for number in range(100, 120)]
    results = await asyncio.gather(*deletes, *inserts, return_exceptions=True)
    assert results[:20] == [True] * 20
    assert all(isinstance(each, StoreFull) for each in results[20:])
    assert await stores.documents.list_assets() == []


async def test_a_commit_that_finds_no_room_loses_nothing_that_was_acknowledged(
    stores: Stores, disk: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Disk, "require", lambda *_: None)  # as if others took the room after the check
    acknowledged = []
    await stores.documents.ping()
    disk.fill(leave=200_000)
    for number in range(2000):
        try:
            await stores.documents.insert_asset(make_asset(number))
        except StoreFull:
            break
        acknowledged.append(asset_id(number))
    assert 0 < len(acknowledged) < 2000
    await stores.close()
    again = stores_on(disk)
    assert [asset.asset_id for asset in await again.documents.list_assets()] == sorted(acknowledged)
    assert await again.documents.delete_asset(acknowledged[0])
    await again.close()


async def test_a_full_disk_at_start_serves_what_is_there(stores: Stores, disk: Volume) -> None:
    await put(stores, disk, 1)
    await stores.close()
    disk.fill()
    again = stores_on(disk)
    assert [asset.asset_id for asset in await again.documents.list_assets()] == [asset_id(1)]
    assert await again.objects.get(asset_id(1)) == IMAGE
    with pytest.raises(StoreFull):
        await again.documents.insert_asset(make_asset(2))
    assert await again.objects.delete(asset_id(1))
    assert await again.documents.delete_asset(asset_id(1))
    await again.close()


async def test_a_store_that_cannot_be_made_for_want_of_room_is_made_later(disk: Volume) -> None:
    disk.fill()
    stores = stores_on(disk)
    for call in (stores.documents.list_assets(), stores.documents.ping(), stores.documents.insert_asset(make_asset(1))):
        with pytest.raises(StoreFull):
            await call
    disk.empty()
    await asyncio.sleep(1.1)  # the file is not tried at every call
    await put(stores, disk, 1)
    assert await stores.objects.get(asset_id(1)) == IMAGE
    await stores.close()


async def test_without_inodes_the_reason_is_the_same_and_deletes_work(stores: Stores, disk: Volume) -> None:
    await put(stores, disk, 1)
    disk.fill_inodes()
    assert disk.free > 2**20
    with pytest.raises(StoreFull):
        await put(stores, disk, 2)
    with pytest.raises(StoreFull):
        await stores.objects.check_room()
    assert await stores.objects.delete(asset_id(1))
    assert await stores.documents.delete_asset(asset_id(1))
    disk.empty()
    await put(stores, disk, 2)


async def test_a_read_only_disk_is_named_as_such(stores: Stores, disk: Volume) -> None:
    await put(stores, disk, 1)
    await stores.close()
    disk.remount("ro")
    again = stores_on(disk)
    assert await again.objects.get(asset_id(1)) == IMAGE
    with pytest.raises(StoreReadOnly):
        await again.objects.check_room()
    source = disk.root.parent / "source"
    source.write_bytes(IMAGE)
    with pytest.raises(StoreReadOnly):
        await again.objects.put_file(asset_id(2), source, "image/png")
    with pytest.raises(StoreReadOnly):
        await again.documents.insert_asset(make_asset(2))
    disk.remount("rw")
    await asyncio.sleep(1.1)
    assert await again.documents.insert_asset(make_asset(2))
    await again.close()


async def test_vectors_on_a_full_disk(stores: Stores, disk: Volume) -> None:
    await stores.vectors.add([make_features(number, unit=unit_vector(number, 512)) for number in range(50)])
    disk.fill()
    with pytest.raises(StoreFull):
        await stores.vectors.add([make_features(number, unit=unit_vector(number, 512)) for number in range(50, 99)])
    assert await stores.vectors.count(MODEL) == 50
    nearest = await stores.vectors.search(MODEL, unit_vector(7, 512), 1)
    assert nearest[0].asset_id == asset_id(7)
    disk.empty()
    await stores.vectors.add([make_features(99, unit=unit_vector(99, 512))])
    assert await stores.vectors.count(MODEL) == 51


async def test_a_full_disk_is_logged_once(stores: Stores, disk: Volume, caplog: pytest.LogCaptureFixture) -> None:
    await stores.documents.insert_asset(make_asset(1))
    disk.fill()
    with caplog.at_level(logging.INFO, "stores"):
        for number in range(2, 50):
            with pytest.raises(StoreFull):
                await stores.documents.insert_asset(make_asset(number))
        disk.empty()
        await stores.documents.insert_asset(make_asset(2))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_reserve_of_zero_keeps_nothing(disk: Volume) -> None:
    stores = Stores(documents=f"sqlite:///{disk.root}/d.sqlite")
    await stores.documents.insert_asset(make_asset(1))
    assert not (disk.root / "d.sqlite.reserve").exists()
    disk.fill(leave=100_000)
    assert await stores.documents.insert_asset(make_asset(2))
    await stores.close()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EROFS, StoreReadOnly),
        (errno.EACCES, StoreReadOnly),
        (errno.EPERM, StoreReadOnly),
        (errno.EIO, StoreDamaged),
        (errno.ESTALE, StoreDamaged),
    ],
)
def test_errors_of_the_system_have_a_class(number: int, kind: type[StoreError]) -> None:
    with pytest.raises(kind, match=r"^spool: "), disk_errors("spool"):
        raise OSError(number, "text")
    assert disk_error("spool", OSError(errno.ENOENT, "text")) is None


def test_a_group_of_a_job_that_pauses_keeps_its_attempts() -> None:
    from datetime import UTC, datetime, timedelta

    from stores.jobs import new_job

    job: Job | None = new_job("index", "a", "f", {})
    now = datetime.now(UTC)
    for _ in range(9):
        assert job is not None
        claimed = job.claimed("worker", 20, now)
        assert claimed is not None
        job = claimed.paused("worker", StoreFull.message, 30, now)
        assert job is not None
        assert (job.status, job.attempts, job.due_at) == ("queued", 0, now + timedelta(seconds=30))
        assert job.message == f"Paused. {StoreFull.message}"
        now += timedelta(seconds=31)


async def test_a_quota_that_is_used_up_lets_deletes_use_the_reserve(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite calls it a failed write, and the disk seems to have room."""
    await stores.documents.insert_asset(make_asset(1))
    engine = stores.documents._engine  # type: ignore[attr-defined]
    monkeypatch.setattr(Disk, "fault", lambda _, text: StoreFull(text))
    quota = [True]

    def delete(connection: sqlite3.Connection) -> bool:
        if quota.pop() if quota else False:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
            raise error
        return connection.execute("DELETE FROM assets").rowcount == 1

    assert await engine.write(delete, reserve=True)
