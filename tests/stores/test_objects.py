"""What every object store has to do."""

import asyncio
import hashlib
import os
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from stores.objects import CHUNK_BYTES, MAX_KEY_CHARS, ObjectNotFound, Objects
from tests.stores.samples import write_file

JPEG = "image/jpeg"
BAD_KEYS = (
    *("", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../b", "..a", ".a", "a/.b"),
    *("a b", "a\\b", "a\n", "a\0b", "ä", "a,b", "a@type", "@tmp", "a%2e", "k" * (MAX_KEY_CHARS + 1)),
)


async def put(objects: Objects, folder: Path, key: str, content: bytes, content_type: str = JPEG) -> None:
    await objects.put_file(key, write_file(folder, content), content_type)


async def read(objects: Objects, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in objects.stream(key, start, end)])


async def keys(objects: Objects, prefix: str = "") -> list[str]:
    return [info.key async for info in objects.list(prefix)]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_an_object_comes_back_as_it_was(objects: Objects, tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    await put(objects, tmp_path, "aa/b.jpg", b"bytes", "image/jpeg; x=1")
    info = await objects.head("aa/b.jpg")
    assert info is not None
    assert (info.key, info.size, info.content_type) == ("aa/b.jpg", 5, "image/jpeg; x=1")
    assert before < info.modified < datetime.now(UTC) + timedelta(seconds=2)
    assert info.modified.tzinfo is UTC
    assert await objects.get("aa/b.jpg") == b"bytes"
    assert await read(objects, "aa/b.jpg") == b"bytes"


async def test_an_empty_object_is_an_object(objects: Objects, tmp_path: Path) -> None:
    await put(objects, tmp_path, "empty", b"")
    info = await objects.head("empty")
    assert info is not None
    assert info.size == 0
    assert await objects.get("empty") == b""
    assert await read(objects, "empty") == b""


async def test_a_later_put_replaces_bytes_type_and_tag(objects: Objects, tmp_path: Path) -> None:
    await put(objects, tmp_path, "key", b"first")
    old = await objects.head("key")
    await put(objects, tmp_path, "key", b"later", "image/png")
    new = await objects.head("key")
    assert old is not None
    assert new is not None
    assert (old.content_type, new.content_type) == (JPEG, "image/png")
    assert old.etag != new.etag
    assert await objects.get("key") == b"later"


async def test_an_unknown_key_is_not_found(objects: Objects, tmp_path: Path) -> None:
    await put(objects, tmp_path, "ab", b"another")
    assert await objects.head("ab/c") is None
    assert not await objects.delete("ab/c")
    with pytest.raises(ObjectNotFound):
        await objects.get("ab/c")
    for start, end in ((0, None), (0, 0), (5, 5), (5, None)):
        with pytest.raises(ObjectNotFound):
            await read(objects, "ab/c", start, end)


async def test_ranges(objects: Objects, tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000  # 2.4 MiB
    size = len(content)
    await put(objects, tmp_path, "key", content)
    for start, end in (
        *((0, None), (0, 0), (0, 1), (7, 7), (1, 2), (size - 1, None), (size - 1, size), (size, None)),
        *((size, size), (size, size + 9), (size + 5, None), (size + 5, size + 9), (0, size + 100)),
        *((CHUNK_BYTES - 1, CHUNK_BYTES + 1), (CHUNK_BYTES, None), (3, 2 * CHUNK_BYTES + 5)),
    ):
        assert await read(objects, "key", start, end) == content[start:end], (start, end)
    for start, end in ((-1, None), (0, -1), (5, 4)):
        with pytest.raises(ValueError, match="byte range"):
            await read(objects, "key", start, end)


async def test_chunks_are_bounded(objects: Objects, tmp_path: Path) -> None:
    await put(objects, tmp_path, "key", b"x" * (3 * CHUNK_BYTES + 1))
    sizes = [len(chunk) async for chunk in objects.stream("key")]
    assert sum(sizes) == 3 * CHUNK_BYTES + 1
    assert max(sizes) <= CHUNK_BYTES


async def test_what_is_no_key_is_refused(objects: Objects, tmp_path: Path) -> None:
    source = write_file(tmp_path, b"x")
    for key in BAD_KEYS:
        calls = objects.put_file(key, source, JPEG), objects.head(key), objects.get(key), objects.delete(key)
        for call in (*calls, objects.presign_get(key, 60), read(objects, key)):
            with pytest.raises(ValueError, match="not an object key"):
                await call
    assert source.read_bytes() == b"x"
    assert await keys(objects) == []


async def test_deleting(objects: Objects, tmp_path: Path) -> None:
    await put(objects, tmp_path, "key", b"x")
    await put(objects, tmp_path, "key2", b"y")
    assert await objects.delete("key")
    assert not await objects.delete("key")
    assert await objects.head("key") is None
    assert await keys(objects) == ["key2"]


async def test_listing_is_in_key_order_and_by_prefix(objects: Objects, tmp_path: Path) -> None:
    names = ["a", "a/b", "a/b/c", "ab", "abc", "ab_d", "b-1", "b-2", "zz/1.jpg"]
    for name in reversed(names):
        await put(objects, tmp_path, name, name.encode())
    infos = [info async for info in objects.list()]
    # SeaweedFS puts a folder before its neighbours; S3 itself and a folder of files sort by byte.
    assert sorted(info.key for info in infos) == sorted(names)
    if objects.type == "file":
        assert [info.key for info in infos] == sorted(names)
    for info in infos:
        head = await objects.head(info.key)
        assert head is not None
        assert (info.size, info.etag) == (len(info.key), head.etag)
    assert await keys(objects, "ab") == ["ab", "ab_d", "abc"]
    assert await keys(objects, "a/") == ["a/b", "a/b/c"]
    assert await keys(objects, "b-") == ["b-1", "b-2"]
    assert await keys(objects, "zz/1.jpg") == ["zz/1.jpg"]
    assert await keys(objects, "none") == []
    with pytest.raises(ValueError, match="not an object key"):
        await keys(objects, "../")


async def test_a_large_file_goes_through_little_memory(objects: Objects, tmp_path: Path) -> None:
    source = tmp_path / "large"
    block = os.urandom(2**20)
    with source.open("wb") as file:
        for number in range(64):
            file.write(number.to_bytes(4) + block)
    expected = hashlib.md5(source.read_bytes()).hexdigest()
    size = source.stat().st_size
    tracemalloc.start()
    await objects.put_file("large", source, "video/mp4")
    digest, seen = hashlib.md5(), 0
    async for chunk in objects.stream("large"):
        digest.update(chunk)
        seen += len(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (seen, digest.hexdigest()) == (size, expected)
    assert peak < size / 4  # the eight parts that go at once are hashed by the mebibyte
    assert (
        await read(objects, "large", 17 * 2**20, 17 * 2**20 + 100)
        == ((await objects.get("large"))[17 * 2**20 : 17 * 2**20 + 100])
    )


async def test_readers_that_stop_early_leave_nothing_open(objects: Objects, tmp_path: Path) -> None:
    await put(objects, tmp_path, "key", os.urandom(4 * CHUNK_BYTES))

    async def first_chunk() -> int:
        stream = objects.stream("key")
        async for chunk in stream:
            await stream.aclose()  # type: ignore[attr-defined]
            return len(chunk)
        return 0

    await first_chunk()
    before = open_files()
    for _ in range(5):
        assert min(await asyncio.gather(*(first_chunk() for _ in range(8)))) > 0
    assert open_files() <= before + 8
    assert len(await objects.get("key")) == 4 * CHUNK_BYTES


async def test_a_cancelled_reader_does_not_disturb_the_others(objects: Objects, tmp_path: Path) -> None:
    content = os.urandom(4 * CHUNK_BYTES)
    await put(objects, tmp_path, "key", content)
    tasks = [asyncio.create_task(read(objects, "key")) for _ in range(12)]
    await asyncio.sleep(0.01)
    for task in tasks[::2]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(result == content for result in done[1::2])


async def test_many_at_once(objects: Objects, tmp_path: Path) -> None:
    async def round_trip(number: int) -> bool:
        content = f"{number}".encode() * 1000
        source = write_file(tmp_path, content, f"upload-{number}")
        await objects.put_file(f"key-{number}", source, JPEG)
        return await objects.get(f"key-{number}") == content

    assert all(await asyncio.gather(*(round_trip(number) for number in range(40))))
    assert len(await keys(objects)) == 40


async def test_presigned_urls_give_the_bytes_where_there_are_any(objects: Objects, tmp_path: Path) -> None:
    await put(objects, tmp_path, "a/key.jpg", b"the bytes")
    assert await objects.presign_get("a/key.jpg", 0) is None
    url = await objects.presign_get("a/key.jpg", 60)
    if objects.type == "file":
        assert url is None
        return
    assert url is not None
    async with httpx.AsyncClient() as client:
        answer = await client.get(url, headers={"Range": "bytes=4-"})
        assert (answer.status_code, answer.content) == (206, b"bytes")
        assert answer.headers["content-type"] == JPEG
        assert (await client.get(url.split("?", maxsplit=1)[0])).status_code == 403
        disposition = "inline; filename=\"_ 1%.jpg\"; filename*=UTF-8''%C3%A9%201%25.jpg"
        named = await objects.presign_get("a/key.jpg", 60, disposition)
        assert named is not None
        assert (await client.get(named)).headers["content-disposition"] == disposition
        assert (await client.get(url.replace("a/key.jpg", "a/key2.jpg"))).status_code == 403


async def test_it_answers(objects: Objects) -> None:
    await objects.ping()
    assert objects.type in {"file", "s3"}
