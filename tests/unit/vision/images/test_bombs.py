"""Pictures that take far more work or memory than they look: each is answered in time, and others go on."""

import os
import struct
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.unit.vision.calls import crash, decoded_shape, most_memory, until
from tests.unit.vision.images.samples import by_opencv, gradient, saved, written
from tests.unit.vision.images.test_jpeg import progressive, repeated
from vision import child
from vision.child import Allowance
from vision.errors import DeadlineExceeded, InvalidMedia, MediaTooLarge, StageError, StageOverloaded
from vision.images import decode, examine
from vision.images.decode import _done, opened

MAX = 80_000_000
PLENTY = Allowance(cpu_s=20, memory=2**30)


def tiff(width: int, height: int, tags: dict[int, tuple[int, list[int]]], data: bytes) -> bytes:
    """A little-endian TIFF of one page: tags with type 3 or 4, then data, which begins at byte 8."""
    tags = {256: (4, [width]), 257: (4, [height]), **tags}
    at = 8 + len(data) + len(data) % 2
    directory, values = struct.pack("<H", len(tags)), b""
    behind = at + 2 + 12 * len(tags) + 4
    for tag, (kind, numbers) in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        place = packed.ljust(4, b"\0")
        if len(packed) > 4:
            place = struct.pack("<I", behind + len(values))
            values += packed
        directory += struct.pack("<HHI", tag, kind, len(numbers)) + place
    return b"II*\0" + struct.pack("<I", at) + data.ljust(at - 8, b"\0") + directory + bytes(4) + values


def shared_strips(height: int = 4000) -> bytes:
    """Each row is a strip of megabytes of empty deflate blocks, all of them the same bytes."""
    body = b"\x78\x01" + b"\0\0\0\xff\xff" * 400_000 + zlib.compress(bytes(64))[2:]
    tags = {
        258: (3, [8]), 259: (3, [8]), 262: (3, [1]), 277: (3, [1]), 278: (4, [1]),
        273: (4, [8] * height), 279: (4, [len(body)] * height),
    }  # fmt: skip
    return tiff(64, height, tags, body)


def scans_in_a_tiff(strips: int = 12) -> bytes:
    """Strips that are one progressive JPEG with most of the scans that libtiff lets pass."""
    body = repeated(progressive(2048, 1024, "L"), 90)
    tags = {
        258: (3, [8]), 259: (3, [7]), 262: (3, [1]), 277: (3, [1]), 278: (4, [1024]),
        273: (4, [8] * strips), 279: (4, [len(body)] * strips),
    }  # fmt: skip
    return tiff(2048, 1024 * strips, tags, body)


def many_extensions(megabytes: int = 12) -> bytes:
    """A GIF with millions of empty extensions in front of its picture."""
    gif = saved(Image.new("P", (16, 16)), "GIF")
    image = gif.index(b"\x2c")
    return gif[:image] + b"!\x01\0" * (megabytes * 2**20 // 3) + gif[image:]


def run_lengths() -> bytes:
    """A BMP whose rows are made of single pixels that are run-length coded."""
    width, height = 1200, 1000
    body = (b"\x01\x07" * width + b"\0\0") * height + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    palette = bytes(range(256)) * 4
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body


def many_chunks() -> bytes:
    """A PNG with a million empty chunks of an unknown name."""
    png = saved(gradient(), "PNG")
    empty = struct.pack(">I4sI", 0, b"quQu", zlib.crc32(b"quQu"))
    return png[:33] + empty * 1_000_000 + png[33:]


def many_riff_chunks() -> bytes:
    webp = saved(gradient(), "WEBP", lossless=True, exif=b"Exif\0\0II*\0")
    body = webp[12:] + b"quQu\0\0\0\0" * 1_000_000
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.mark.parametrize(
    "make", [shared_strips, scans_in_a_tiff, many_extensions, run_lengths, many_chunks, many_riff_chunks]
)
def test_work_is_bounded(make: Callable[[], bytes]) -> None:
    data = make()
    used = sum(os.times()[:2])
    try:
        assert decode(data, max_pixels=MAX).size > 0
    except (InvalidMedia, MediaTooLarge) as error:
        assert "decode" in error.message or "damaged" in error.message  # noqa: PT017
    # The rest is taken by children, which have two seconds for the smallest.
    assert sum(os.times()[:2]) - used < 3


def test_more_than_there_are_children_at_once_and_an_ordinary_one() -> None:
    slow = scans_in_a_tiff()

    def hostile(seconds: float) -> str:
        try:
            until(time.time() + seconds, lambda: examine(slow, MAX))
        except StageError as error:
            return type(error).__name__
        return "decoded"

    with ThreadPoolExecutor(9) as pool:
        ends = [pool.submit(hostile, 0.3) for _ in range(8)]
        jpeg = pool.submit(lambda: decode(saved(gradient(), "JPEG"), max_pixels=MAX).shape)
        assert jpeg.result(5) == (48, 64, 3)
        names = {end.result(20) for end in ends}
    assert names <= {MediaTooLarge.__name__, DeadlineExceeded.__name__, StageOverloaded.__name__}
    assert examine(saved(gradient(), "TIFF"), MAX).height == 48


def by_header(data: bytes) -> tuple[int, bool]:
    with opened(data, MAX) as still:
        effort = still.effort()
        return effort.memory, effort.short


@pytest.mark.parametrize(
    ("data", "each", "short"),
    [
        (saved(gradient(4000, 3000), "JPEG"), 7, True),
        (progressive(4000, 3000), 10, True),
        (saved(gradient(400, 300), "JPEG", progressive=True)[:-2], 14, True),
        (saved(gradient(4000, 3000), "PNG", compress_level=1), 7, True),
        (saved(gradient(8000, 4000), "PNG", compress_level=1), 7, False),
        (by_opencv(np.zeros((3000, 4000, 3), np.uint16), ".png"), 11, False),
        (saved(gradient(1200, 900), "WEBP", method=0), 20, True),
        (saved(Image.new("L", (4000, 3000)), "PNG"), 4, True),
    ],
    ids=["JPEG", "progressive", "cut", "PNG", "large", "deep", "WEBP", "grey"],
)
def test_memory_is_known_before(data: bytes, each: int, short: bool) -> None:
    with opened(data, MAX) as still:
        size, pixels = still.effort(), still.facts() if each != 14 else None
    count = 400 * 300 if pixels is None else pixels.width * pixels.height
    rest = 32 * 2**20 + 2 * len(data)
    assert size.short == short
    assert each * count * 0.95 - 2 * len(data) <= size.memory - rest <= each * count * 1.05 + 2 * len(data)


def test_a_picture_takes_what_its_header_says() -> None:
    """In a fresh child, so that nothing else is in the number; 80 million pixels of 16 bits took 2.4 GB."""
    samples = np.full((3000, 4000, 4), 31_000, np.uint16)
    data = by_opencv(samples, ".png")
    needed, short = by_header(data)
    assert not short
    process = child.Child()
    try:
        assert process.call(PLENTY, decoded_shape, saved(gradient(), "PNG"), MAX) == (48, 64, 3)
        before = process.call(PLENTY, most_memory)
        assert process.call(PLENTY, decoded_shape, data, MAX) == (3000, 4000, 3)
        grown = process.call(PLENTY, most_memory) - before
    finally:
        process.stop()
    assert grown < needed + 2**26


def test_a_decoder_that_crashes_costs_its_file() -> None:
    data = saved(gradient(), "TIFF")
    with pytest.raises(InvalidMedia, match="its decoder stops on it"):
        _done(crash, data, MAX, None)
    assert decode(data, max_pixels=MAX).shape == (48, 64, 3)


def test_a_png_written_in_tiny_parts_is_still_read() -> None:
    picture = gradient()
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in picture))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0))]
    parts += [(b"IDAT", body[at : at + 1]) for at in range(len(body))] + [(b"IDAT", b"")] * 30_000 + [(b"IEND", b"")]
    assert np.array_equal(decode(written(parts), max_pixels=MAX), picture)
