"""Pictures in a request body: base64 as the standard has it, and nothing else."""

import base64
import random

import pytest

from graphs.web import images
from graphs.web.images import from_base64
from vision.errors import InvalidMedia, MediaTooLarge


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 767, 768, 769, 5000])
def test_base64_comes_back(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_SLICE", 1024)  # so that some have several slices
    data = random.Random(size).randbytes(size)
    assert from_base64(base64.b64encode(data).decode(), max_bytes=size) == data


@pytest.mark.parametrize(
    "text",
    [
        "abc",
        "ab==cdef",
        "abcd\nefgh",
        "abcd efg",
        "ab-_",
        "a===",
        "====",
        "äbcd",
        "data:image/png;base64,abcd",
        "A" * 1020 + "AA==" + "AAAA",  # padding at the end of a slice that is not the last
    ],
)
def test_what_is_no_standard_base64(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_SLICE", 1024)
    with pytest.raises(InvalidMedia, match="no standard base64"):
        from_base64(text, max_bytes=10_000)


@pytest.mark.parametrize("size", [99, 100, 101, 102])
def test_the_limit_counts_bytes_of_the_picture(size: int) -> None:
    text = base64.b64encode(bytes(size)).decode()
    assert len(from_base64(text, max_bytes=size)) == size
    with pytest.raises(MediaTooLarge):
        from_base64(text, max_bytes=size - 1)
