"""Objects opened as files, and the blocks that those of a bucket are read in."""

import io
import os
import random
import tracemalloc
from pathlib import Path

import pytest

from stores.errors import StoreError
from stores.objects import ObjectNotFound, Objects
from stores.s3.objects import BLOCK_BYTES, CACHED_BLOCKS, MOST_AHEAD, RangedFile
from tests.stores.samples import write_file

CONTENT = os.urandom(5 * BLOCK_BYTES + 1234)


async def put(objects: Objects, folder: Path, content: bytes = CONTENT) -> None:
    await objects.put_file("film", write_file(folder, content), "video/mp4")


async def test_an_object_is_read_like_a_file(objects: Objects, tmp_path: Path) -> None:
    await put(objects, tmp_path)
    expected = io.BytesIO(CONTENT)
    with objects.open("film") as file:
        assert file.seekable()
        assert file.seek(0, io.SEEK_END) == len(CONTENT)
        assert file.read(10) == b""
        rng = random.Random(5)
        for _ in range(60):
            place, size = rng.randrange(len(CONTENT) + 100), rng.choice([1, 100, 70_000, BLOCK_BYTES + 7])
            assert file.seek(place) == expected.seek(place)
            assert file.read(size) == expected.read(size)
            assert file.tell() == expected.tell()
        file.seek(-5, io.SEEK_END)
        file.seek(-3, io.SEEK_CUR)
        assert file.read() == CONTENT[-8:]
        file.seek(0)
        assert file.read() == CONTENT
    assert file.closed


async def test_an_empty_object_is_an_empty_file(objects: Objects, tmp_path: Path) -> None:
    await put(objects, tmp_path, b"")
    with objects.open("film") as file:
        assert file.read() == b""


async def test_an_unknown_key_cannot_be_opened(objects: Objects) -> None:
    with pytest.raises(ObjectNotFound):
        objects.open("film")
    with pytest.raises(ValueError, match="not an object key"):
        objects.open("../film")


async def test_a_file_is_of_one_object_only(objects: Objects, tmp_path: Path) -> None:
    await put(objects, tmp_path)
    with objects.open("film") as file:
        assert file.read(100) == CONTENT[:100]
        await put(objects, tmp_path, bytes(len(CONTENT)))
        file.seek(4 * BLOCK_BYTES)
        if objects.type == "file":
            assert file.read(100) == CONTENT[4 * BLOCK_BYTES :][:100]
        else:
            with pytest.raises(StoreError, match="GetObject"):
                file.read(100)


class Ranges:
    """Serves ``content``, and notes what was asked for, in blocks."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []

    def __call__(self, start: int, end: int) -> bytes:
        assert start < end <= len(self.content)
        self.asked.append((start // BLOCK_BYTES, -(-end // BLOCK_BYTES)))
        return self.content[start:end]


def test_reading_in_a_row_asks_for_more_and_more() -> None:
    ranges = Ranges(bytes(40 * BLOCK_BYTES))
    file = RangedFile(ranges, len(ranges.content))
    while file.read(100_000):
        pass
    assert ranges.asked == [(0, 1), (1, 3), (3, 7), (7, 15), (15, 23), (23, 31), (31, 39), (39, 40)]


def test_jumping_about_asks_for_single_blocks_once() -> None:
    ranges = Ranges(bytes(40 * BLOCK_BYTES))
    file = RangedFile(ranges, len(ranges.content))
    for block in (30, 5, 39, 5, 30):
        file.seek(block * BLOCK_BYTES + 17)
        assert len(file.read(100)) == 100
    assert ranges.asked == [(30, 31), (5, 6), (39, 40)]


@pytest.mark.parametrize("jumping", [False, True])
def test_memory_does_not_grow_with_the_object(jumping: bool) -> None:
    size = 400 * BLOCK_BYTES
    file = RangedFile(lambda start, end: bytes(end - start), size)
    rng = random.Random(1)
    tracemalloc.start()
    for block in range(0, 400):
        file.seek((rng.randrange(400) if jumping else block) * BLOCK_BYTES)
        file.read(BLOCK_BYTES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (CACHED_BLOCKS + 2 * MOST_AHEAD + 2) * BLOCK_BYTES


def test_no_place_before_the_start() -> None:
    file = RangedFile(Ranges(b"abc"), 3)
    with pytest.raises(ValueError, match="-1"):
        file.seek(-1)
    assert file.seek(5) == 5
    assert file.read(1) == b""
