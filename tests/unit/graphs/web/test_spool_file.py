"""Files from elsewhere, copied into the spool."""

import hashlib
import io
import os
from pathlib import Path

import pytest

from graphs.web.uploads.spool import spool_file
from vision.errors import InvalidMedia, MediaTooLarge


async def test_a_copy_is_hashed_and_removed(tmp_path: Path) -> None:
    data = os.urandom(3 * 2**20 + 5)
    async with spool_file(io.BytesIO(data), "films/a.mp4", tmp_path / "spool", len(data)) as spooled:
        assert spooled.path.read_bytes() == data
        assert (spooled.size, spooled.filename) == (len(data), "a.mp4")
        assert spooled.sha256_hex == hashlib.sha256(data).hexdigest()
    assert list((tmp_path / "spool").iterdir()) == []


async def test_a_copy_may_be_taken(tmp_path: Path) -> None:
    async with spool_file(io.BytesIO(b"film"), "a.mp4", tmp_path / "spool", 4) as spooled:
        spooled.path.rename(tmp_path / "taken")
    assert (tmp_path / "taken").read_bytes() == b"film"


@pytest.mark.parametrize(("size", "error"), [(0, InvalidMedia), (11, MediaTooLarge)])
async def test_empty_and_large_files_leave_nothing(tmp_path: Path, size: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"'a\.mp4'"):
        async with spool_file(io.BytesIO(b"x" * size), "a.mp4", tmp_path / "spool", 10):
            pytest.fail("it was taken")
    assert list((tmp_path / "spool").iterdir()) == []
