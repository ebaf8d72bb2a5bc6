"""The folder of objects alone: what is on the disk, and where the source of a put goes."""

import asyncio
import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from stores.errors import StoreError
from stores.file.objects import STALE_TEMP_S, FileObjects, _delete
from tests.stores.samples import write_file
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def objects(root: Path) -> FileObjects:
    return FileObjects(f"file://{root}")


@pytest.fixture
def far_source(tmp_path: Path) -> Iterator[Path]:
    """A file on another volume."""
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second volume at /dev/shm")
    source = write_file(other, b"far away", f"visiongraph-test-{os.getpid()}")
    yield source
    assert source.read_bytes() == b"far away"
    source.unlink()


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def test_names_on_the_disk(objects: FileObjects, root: Path, tmp_path: Path) -> None:
    for key in ("abcdef", "abc/d.jpg", "a"):
        await objects.put_file(key, write_file(tmp_path, b"x"), "image/png")
    assert files(root) == [
        "a/a",
        "a/a@type",
        "ab/abc,d.jpg",
        "ab/abc,d.jpg@type",
        "ab/abcdef",
        "ab/abcdef@type",
    ]
    await objects.delete("abcdef")
    assert files(root) == ["a/a", "a/a@type", "ab/abc,d.jpg", "ab/abc,d.jpg@type"]


async def test_a_source_on_the_same_volume_is_moved(objects: FileObjects, root: Path, tmp_path: Path) -> None:
    source = write_file(tmp_path, b"x")
    inode = source.stat().st_ino
    os.utime(source, (1, 1))
    await objects.put_file("key", source, "image/png")
    assert not source.exists()
    assert (root / "ke" / "key").stat().st_ino == inode
    info = await objects.head("key")
    assert info is not None
    assert info.modified.year > 2000


async def test_a_source_on_another_volume_is_copied(objects: FileObjects, root: Path, far_source: Path) -> None:
    await objects.put_file("key", far_source, "image/png")
    assert await objects.get("key") == b"far away"
    assert list((root / "@tmp").iterdir()) == []


async def test_a_source_with_a_second_name_is_copied(objects: FileObjects, tmp_path: Path) -> None:
    source = write_file(tmp_path, b"original")
    for name, make in (("soft", "symlink_to"), ("hard", "hardlink_to")):
        link = tmp_path / name
        getattr(link, make)(source)
        await objects.put_file(name, link, "image/png")
    source.write_bytes(b"changed!")
    assert await objects.get("soft") == await objects.get("hard") == b"original"


async def test_a_missing_source_changes_nothing(objects: FileObjects, root: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        await objects.put_file("key", tmp_path / "missing", "image/png")
    assert files(root) == []
    assert await objects.head("key") is None


async def test_a_reader_keeps_the_bytes_it_began_with(objects: FileObjects, tmp_path: Path) -> None:
    old = os.urandom(3 * 2**20)
    await objects.put_file("key", write_file(tmp_path, old), "image/png")
    stream = objects.stream("key")
    seen = [await anext(stream)]
    await objects.put_file("key", write_file(tmp_path, b"new"), "image/png")
    await objects.delete("key")
    seen += [chunk async for chunk in stream]
    assert b"".join(seen) == old


async def test_a_reader_that_leaves_while_a_file_is_opened_leaves_none_open(
    objects: FileObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await objects.put_file("key", write_file(tmp_path, b"bytes"), "image/png")
    begun, go_on, opened = threading.Event(), threading.Event(), list[BinaryIO]()

    def slow(path: Path, mode: str) -> BinaryIO:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        opened.append(cast(BinaryIO, open(path, mode)))  # noqa: PTH123, SIM115
        return opened[0]

    monkeypatch.setattr(Path, "open", slow)
    reading = asyncio.ensure_future(anext(objects.stream("key")))
    await until(begun.is_set)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert opened == []
    go_on.set()
    await until(lambda: opened and opened[0].closed)


async def test_puts_and_deletes_at_once_leave_whole_objects(objects: FileObjects, tmp_path: Path) -> None:
    present = 0
    for number in range(60):
        sources = [write_file(tmp_path, b"x" * 100, f"{number}-{put}") for put in range(2)]
        await asyncio.gather(
            objects.put_file("key", sources[0], "image/png"),
            objects.delete("key"),
            objects.put_file("key", sources[1], "image/png"),
        )
        info = await objects.head("key")
        if info is not None:
            present += 1
            assert (info.size, info.content_type) == (100, "image/png")
    assert present > 0


async def test_a_delete_in_the_middle_of_a_put_leaves_the_type(
    objects: FileObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await objects.put_file("key", write_file(tmp_path, b"old"), "image/png")
    put_sidecar, deletions = FileObjects._put_sidecar, [True]

    def put_sidecar_then_delete(self: FileObjects, target: Path, content_type: str) -> None:
        put_sidecar(self, target, content_type)
        if deletions.pop():
            deletions.append(False)
            assert _delete(target)

    monkeypatch.setattr(FileObjects, "_put_sidecar", put_sidecar_then_delete)
    await objects.put_file("key", write_file(tmp_path, b"new"), "image/png")
    info = await objects.head("key")
    assert info is not None
    assert (info.size, info.content_type) == (3, "image/png")
    assert await objects.get("key") == b"new"


async def test_bytes_type_and_names_are_synced(
    objects: FileObjects, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int]] = []

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(("folder" if path.is_dir() else "file", path.stat().st_ino))

    monkeypatch.setattr(os, "fsync", fsync)
    await objects.put_file("key", write_file(tmp_path, b"x"), "image/png")
    shard = root / "ke"
    expected = {("file", (shard / name).stat().st_ino) for name in ("key", "key@type")}
    expected |= {("folder", path.stat().st_ino) for path in (root, shard)}
    assert set(synced) == expected
    assert synced[-1] == ("folder", shard.stat().st_ino)
    synced.clear()
    await objects.delete("key")
    assert synced == [("folder", shard.stat().st_ino)]


async def test_objects_of_one_type_share_the_file_that_says_so(
    objects: FileObjects, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    for key in ("one", "two", "three"):
        await objects.put_file(key, write_file(tmp_path, b"x"), "image/png")
    assert len({(root / key[:2] / f"{key}@type").stat().st_ino for key in ("one", "two", "three")}) == 1
    monkeypatch.setattr(os, "fsync", fsync)
    await objects.put_file("twice", write_file(tmp_path, b"x"), "image/png")
    # Its bytes under their name of before the move, and its names: nothing was written for the type.
    assert len(synced) == 2
    assert synced[-1] == "tw"
    assert not list((root / "@tmp").iterdir())


@pytest.mark.parametrize("end", ["deleted", "replaced", "no more names"])
async def test_a_shared_type_is_right_whatever_became_of_the_object_it_is_from(
    objects: FileObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    await objects.put_file("first", write_file(tmp_path, b"x"), "image/png")
    if end == "deleted":
        await objects.delete("first")
    elif end == "replaced":  # by another process, of whose types this one knows nothing
        await FileObjects(f"file://{objects._root}").put_file("first", write_file(tmp_path, b"y"), "image/jpeg")
    else:

        def hardlink_to(self: Path, target: Path) -> None:
            raise OSError(errno.EMLINK, "Too many links")

        monkeypatch.setattr(Path, "hardlink_to", hardlink_to)
    for key in ("second", "third"):
        await objects.put_file(key, write_file(tmp_path, b"x"), "image/png")
        info = await objects.head(key)
        assert info is not None
        assert info.content_type == "image/png"
    if end == "replaced":
        info = await objects.head("first")
        assert info is not None
        assert info.content_type == "image/jpeg"


async def test_leftovers_of_killed_processes_are_removed(objects: FileObjects, root: Path) -> None:
    stale, fresh = root / "@tmp" / "stale", root / "@tmp" / "fresh"
    for path in (stale, fresh):
        path.write_bytes(b"half")
    old = time.time() - STALE_TEMP_S - 1
    os.utime(stale, (old, old))
    again = FileObjects(f"file://{root}")
    assert (stale.exists(), fresh.exists()) == (False, True)
    assert [info async for info in again.list()] == []


async def test_a_folder_that_is_gone_is_reported(objects: FileObjects, root: Path) -> None:
    (root / "@tmp").rmdir()
    with pytest.raises(StoreError, match="No such file"):
        await objects.ping()
    (root / "file").touch()
    with pytest.raises(StoreError):
        FileObjects(f"file://{root}/file")
