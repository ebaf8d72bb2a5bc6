"""Backups of embedded stores that are used meanwhile, and homes that are restored from them."""

import asyncio
import hashlib
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from configs.settings import Settings
from stores import backup as module
from stores.backup import BackupError, Copied, Header, backup, elsewhere, restore, verify
from stores.deletion import delete_asset
from stores.open import Stores
from stores.repair import repair
from tests.stores.children import content_of, spawn
from tests.stores.samples import MODEL, asset_id, make_asset, make_features, unit_vector, write_file
from tests.stores.test_sqlite_migration import tables_of


def settings_of(home: Path) -> Settings:
    return Settings(home=home)


async def fill(home: Path, count: int, spool: Path) -> None:
    """Assets with bytes, features and vectors."""
    stores = Stores.open(settings_of(home))
    for number in range(count):
        source = write_file(spool, content_of(number), "one")
        await stores.objects.put_file(asset_id(number), source, "image/jpeg")
        assert await stores.documents.insert_asset(make_asset(number))
        assert await stores.documents.put_features(make_features(number))
    features = [make_features(number) for number in range(count)]
    await stores.vectors.add(features)
    await stores.documents.mark_indexed(features)
    await stores.close()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    await fill(tmp_path / "home", 6, tmp_path)
    (tmp_path / "home" / "models.yaml").write_text("models: {}\n")
    return tmp_path / "home"


async def test_everything_acknowledged_before_a_backup_is_in_it(tmp_path: Path) -> None:
    said: list[str] = []
    with spawn("work_for_ever", str(tmp_path / "home"), str(tmp_path)) as writer:
        assert writer.stdout is not None
        reading = threading.Thread(target=lambda: said.extend(writer.stdout or ()))
        reading.start()
        try:
            for number in range(3):
                await asyncio.to_thread(wait_for, said, 150 * (number + 1))
                before = list(said)
                await made(tmp_path / "home", tmp_path / f"backup-{number}")
                after = list(said)
                assert len(after) > len(before)  # it wrote meanwhile
                await check_restored(tmp_path, number, numbers(before, "+") - numbers(after, "-"))
        finally:
            writer.kill()
            reading.join()


def wait_for(lines: list[str], count: int) -> None:
    deadline = time.monotonic() + 60
    while len(lines) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def numbers(lines: list[str], sign: str) -> set[int]:
    """Those that were uploaded (+), or whose delete had begun (-)."""
    return {int(line[1:]) for line in lines if line.startswith(sign)}


async def made(home: Path, target: Path, *, link: bool = True) -> tuple[Header, Copied]:
    return await asyncio.to_thread(backup, settings_of(home), target, link=link)


async def check_restored(tmp_path: Path, number: int, wanted: set[int]) -> None:
    config = settings_of(tmp_path / f"restored-{number}")
    await asyncio.to_thread(restore, config, tmp_path / f"backup-{number}")
    stores = Stores.open(config)
    ids = {asset_id(each) for each in wanted}
    assets = await stores.documents.get_assets(ids)
    assert {each for each, asset in assets.items() if not asset.deleting} == ids
    features = await stores.documents.get_features(MODEL, ids)
    assert features.keys() == ids
    for each in wanted:
        assert await stores.objects.get(asset_id(each)) == content_of(each)
        head = await stores.objects.head(asset_id(each))
        assert head is not None
        assert head.content_type == "image/jpeg"
    # What a search takes from the documents is all that is not among the vectors.
    unindexed = {each.asset_id for each in await stores.documents.unindexed_features(MODEL, 10**6)}
    vectors = {each async for each in stores.vectors.ids()}
    assert ids <= unindexed | vectors
    assert (await repair(stores)).without_bytes == []
    [nearest] = await stores.vectors.search(MODEL, unit_vector(0), 1)
    assert nearest.cosine <= 1.0001
    await stores.close()


async def test_a_restored_home_holds_what_the_first_one_held(home: Path, tmp_path: Path) -> None:
    header, copied = await made(home, tmp_path / "backup")
    assert header.stores == ("documents", "objects", "vectors")
    assert copied.linked_bytes > 6 * len(content_of(0))  # the objects, and the files of the vectors
    assert restore(settings_of(tmp_path / "new"), tmp_path / "backup") == header
    assert tables_of(tmp_path / "new" / "documents.sqlite") == tables_of(home / "documents.sqlite")
    objects = {name: data for name, data in files_of(home / "objects").items() if "@tmp" not in name}
    assert files_of(tmp_path / "new" / "objects") == objects
    assert (tmp_path / "new" / "models.yaml").read_text() == "models: {}\n"
    for folder in (home, tmp_path / "new"):
        stores = Stores.open(settings_of(folder))
        hits = await stores.vectors.search(MODEL, unit_vector(3), 2)
        assert (hits[0].asset_id, round(hits[0].cosine, 5)) == (asset_id(3), 1)
        await stores.close()


async def test_what_happens_later_changes_no_backup(home: Path, tmp_path: Path) -> None:
    await made(home, tmp_path / "backup")
    before = files_of(tmp_path / "backup")
    restore(settings_of(tmp_path / "new"), tmp_path / "backup")
    for folder in (home, tmp_path / "new"):
        stores = Stores.open(settings_of(folder))
        await stores.documents.mark_deleting(asset_id(1))
        await delete_asset(stores, asset_id(1))
        await stores.objects.put_file(asset_id(2), write_file(tmp_path, b"another"), "image/png")
        await stores.close()
    assert files_of(tmp_path / "backup") == before
    assert verify(tmp_path / "backup").files == len(before) - 2


@pytest.mark.parametrize("link", [True, False])
async def test_files_are_linked_or_copied(home: Path, tmp_path: Path, *, link: bool) -> None:
    _, copied = await made(home, tmp_path / "backup", link=link)
    [first], [second] = (list((each / "objects").rglob(asset_id(0))) for each in (home, tmp_path / "backup"))
    assert first.samefile(second) is link
    assert (copied.linked_bytes > 0) is link
    assert second.stat().st_mtime_ns == first.stat().st_mtime_ns


OTHER_DISK = Path("/dev/shm")


@pytest.mark.skipif(OTHER_DISK.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev, reason="no other disk")
async def test_another_disk_has_copies(home: Path) -> None:
    with tempfile.TemporaryDirectory(dir=OTHER_DISK) as folder:
        header, copied = await made(home, Path(folder, "backup"))
        assert copied.linked_bytes == 0
        assert verify(Path(folder, "backup")) == header


def test_a_backup_that_is_killed_is_resumed_by_the_next_one(tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path / "home", 40, tmp_path))
    target = tmp_path / "backup"
    with spawn("back_up", str(tmp_path / "home"), str(target)) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("verified")
        child.kill()
    assert not target.exists()
    part = target.with_name("backup.part")
    kept = {path.name: path.stat().st_ino for path in (part / "objects").rglob("*") if path.is_file()}
    assert len(kept) == 80
    stray = part / "objects" / "00"
    stray.mkdir(exist_ok=True)
    (stray / "0000,gone").write_bytes(b"deleted since")
    backup(settings_of(tmp_path / "home"), target)
    assert {path.name: path.stat().st_ino for path in (target / "objects").rglob("*") if path.is_file()} == kept
    assert not part.exists()
    verify(target)


async def test_a_file_that_was_deleted_meanwhile_is_marked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came after the first look at the objects and went before the second; the documents know it in between."""
    copy = module._copy_documents
    stores = Stores.open(settings_of(home))

    async def upload() -> None:
        await stores.objects.put_file(asset_id(7), write_file(tmp_path, content_of(7)), "image/jpeg")
        assert await stores.documents.insert_asset(make_asset(7))

    async def remove() -> None:
        await stores.documents.mark_deleting(asset_id(7))
        await delete_asset(stores, asset_id(7))

    loop = asyncio.get_running_loop()

    def meanwhile(source: Path, target: Path) -> int:
        asyncio.run_coroutine_threadsafe(upload(), loop).result()
        schema = copy(source, target)
        asyncio.run_coroutine_threadsafe(remove(), loop).result()
        return schema

    monkeypatch.setattr(module, "_copy_documents", meanwhile)
    await made(home, tmp_path / "backup")
    await stores.close()
    restore(settings_of(tmp_path / "new"), tmp_path / "backup")
    stores = Stores.open(settings_of(tmp_path / "new"))
    assets = await stores.documents.get_assets(map(asset_id, range(8)))
    assert {each: asset.deleting for each, asset in assets.items()} == {
        asset_id(number): number == 7 for number in (*range(6), 7)
    }
    done = await repair(stores)
    assert (done.finished, done.without_bytes) == ([asset_id(7)], [])
    await stores.close()


async def test_vectors_that_are_not_in_it_are_indexed_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = module._copy_vectors
    loop = asyncio.get_running_loop()
    stores = Stores.open(settings_of(home))

    async def index() -> None:
        features = make_features(5, model="another/1", unit=unit_vector(5))
        assert await stores.documents.put_features(features)
        await stores.vectors.add([features])
        await stores.documents.mark_indexed([features])

    def meanwhile(*args: object, **options: bool) -> None:
        copy(*args, **options)  # type: ignore[arg-type]
        asyncio.run_coroutine_threadsafe(index(), loop).result()

    monkeypatch.setattr(module, "_copy_vectors", meanwhile)
    await made(home, tmp_path / "backup")
    await stores.close()
    with closing(sqlite3.connect(tmp_path / "backup" / "documents.sqlite")) as connection:
        rows = connection.execute("SELECT asset_id, model_version FROM features WHERE indexed = 0").fetchall()
    assert rows == [(asset_id(5), "another/1")]


async def test_a_table_whose_files_go_meanwhile_is_taken_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, lost = module._take, [2]

    def sometimes(source: Path, target: Path, copied: Copied, *, link: bool) -> bool:
        if source.suffix == ".lance" and lost[0]:
            lost[0] -= 1
            return False
        return take(source, target, copied, link=link)

    monkeypatch.setattr(module, "_take", sometimes)
    await made(home, tmp_path / "backup")
    assert lost == [0]
    restore(settings_of(tmp_path / "new"), tmp_path / "backup")
    stores = Stores.open(settings_of(tmp_path / "new"))
    assert await stores.vectors.count(MODEL) == 6
    await stores.close()
    lost[0] = 10**9
    with pytest.raises(BackupError, match=r"being reorganised; try again"):
        await made(home, tmp_path / "second")
    assert not (tmp_path / "second").exists()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()  # else the link of the first home would be damaged as well
    path.write_bytes(data)


DAMAGE: list[tuple[str, Callable[[Path], None], str]] = [
    ("documents.sqlite", flipped, r"documents\.sqlite is damaged or missing"),
    (f"objects/{asset_id(2)[:2]}/{asset_id(2)}", flipped, "is damaged or missing"),
    (f"objects/{asset_id(2)[:2]}/{asset_id(2)}", Path.unlink, "is damaged or missing"),
    ("SHA256SUMS", truncated, "SHA256SUMS was changed"),
    ("backup.json", truncated, "is not that of a backup"),
    ("backup.json", Path.unlink, r"cannot be read .*a backup that was completed"),
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGE)
async def test_a_damaged_backup_is_refused(
    home: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    await made(home, tmp_path / "backup", link=False)
    damage(tmp_path / "backup" / name)
    with pytest.raises(BackupError, match=message):
        restore(settings_of(tmp_path / "new"), tmp_path / "backup")
    assert not (tmp_path / "new").exists()


async def test_what_is_there_stays(home: Path, tmp_path: Path) -> None:
    await made(home, tmp_path / "backup")
    with pytest.raises(BackupError, match="backup exists already"):
        await made(home, tmp_path / "backup")
    before = files_of(home)
    with pytest.raises(BackupError, match=r"home is not empty, and stays as it is; set VISION_HOME"):
        restore(settings_of(home), tmp_path / "backup")
    assert files_of(home) == before
    (tmp_path / "empty").mkdir()
    restore(settings_of(tmp_path / "empty"), tmp_path / "backup")
    with pytest.raises(BackupError, match="no documents in"):
        await made(tmp_path / "nothing", tmp_path / "of nothing")


async def test_a_restore_that_is_cut_short_is_resumed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(home, tmp_path / "backup")
    new = tmp_path / "new"
    new.mkdir()  # such as the volume of a container
    rename = Path.rename

    def dies(path: Path, target: Path) -> Path:
        if path.name == "documents.sqlite":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", dies)
    with pytest.raises(KeyboardInterrupt):
        restore(settings_of(new), tmp_path / "backup")
    assert sorted(path.name for path in new.iterdir()) == [".restoring", "models.yaml", "objects", "vectors"]
    monkeypatch.undo()
    restore(settings_of(new), tmp_path / "backup")
    assert sorted(path.name for path in new.iterdir()) == ["documents.sqlite", "models.yaml", "objects", "vectors"]
    assert tables_of(new / "documents.sqlite") == tables_of(home / "documents.sqlite")


async def test_only_its_owner_reads_a_backup(home: Path, tmp_path: Path) -> None:
    await made(home, tmp_path / "backup")
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o700


def test_its_digests_are_read_by_sha256sum(tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path / "home", 3, tmp_path))
    backup(settings_of(tmp_path / "home"), tmp_path / "backup")
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=tmp_path / "backup", check=False).returncode == 0


async def test_a_newer_backup_and_a_newer_database_are_refused(home: Path, tmp_path: Path) -> None:
    await made(home, tmp_path / "backup")
    header = tmp_path / "backup" / "backup.json"
    header.write_text(header.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(BackupError, match="made by a newer version"):
        restore(settings_of(tmp_path / "new"), tmp_path / "backup")
    with closing(sqlite3.connect(home / "documents.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(BackupError, match="schema 99"):
        await made(home, tmp_path / "second")


async def test_a_path_that_leads_out_of_a_backup_is_refused(home: Path, tmp_path: Path) -> None:
    await made(home, tmp_path / "backup")
    sums, header = tmp_path / "backup" / "SHA256SUMS", tmp_path / "backup" / "backup.json"
    before = hashlib.sha256(sums.read_bytes()).hexdigest()
    (tmp_path / "secret").write_bytes(b"secret")
    with sums.open("a") as file:
        file.write(f"{hashlib.sha256(b'secret').hexdigest()}  ../secret\n")
    header.write_text(header.read_text().replace(before, hashlib.sha256(sums.read_bytes()).hexdigest()))
    with pytest.raises(BackupError, match="names a file elsewhere"):
        restore(settings_of(tmp_path / "new"), tmp_path / "backup")


def test_stores_that_are_elsewhere_have_other_means(tmp_path: Path) -> None:
    mongo = Settings(home=tmp_path, documents_url="mongodb://host/vision")
    assert elsewhere(mongo) == {"documents": "mongodump, or snapshots of its host, taken while nothing is deleted"}
    with pytest.raises(BackupError, match="use mongodump"):
        backup(mongo, tmp_path / "backup")
    with pytest.raises(BackupError, match="unset VISION_DOCUMENTS_URL"):
        restore(mongo, tmp_path / "backup")


async def test_a_bucket_is_left_out(home: Path, tmp_path: Path) -> None:
    mixed = Settings(home=home, objects_url="s3://objects?region=us-east-1")
    header, _ = await asyncio.to_thread(backup, mixed, tmp_path / "backup")
    assert header.stores == ("documents", "vectors")
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == [
        *("SHA256SUMS", "backup.json", "documents.sqlite", "models.yaml", "vectors"),
    ]
    assert "versioning or replication" in elsewhere(mixed)["objects"]


async def test_one_backup_at_a_time_is_made_into_a_folder(home: Path, tmp_path: Path) -> None:
    with module._part_of(tmp_path / "backup"), pytest.raises(BackupError, match=r"Another process is writing to"):
        await made(home, tmp_path / "backup")
