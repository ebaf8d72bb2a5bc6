"""The work of a JPEG, known from its markers: scans over blocks, whatever the bytes and pixels."""

from io import BytesIO

import pytest
from PIL import Image

from tests.unit.vision.images.samples import by_opencv, gradient, saved
from vision.errors import InvalidMedia, MediaTooLarge
from vision.images import decode
from vision.images.jpeg import MOST_VISITS, read_scans

MAX = 80_000_000
SCAN = 500
GREY = 40 * 30
"""Blocks of 320 x 240 samples."""


def repeated(jpeg: bytes, times: int, scan: int = -1) -> bytes:
    """A JPEG in which one of its scans stands ``times`` more."""
    starts = [at for at in range(len(jpeg)) if jpeg[at : at + 2] == b"\xff\xda"]
    start = starts[scan]
    end = next((at for at in starts if at > start), len(jpeg) - 2)
    return jpeg[:end] + jpeg[start:end] * times + jpeg[end:]


def progressive(width: int = 320, height: int = 240, mode: str = "RGB", subsampling: int = 0) -> bytes:
    picture = Image.fromarray(gradient(width, height)).convert(mode)
    return saved(picture, "JPEG", progressive=True, quality=60, subsampling=subsampling)


@pytest.mark.parametrize(
    ("data", "visits"),
    [
        (saved(gradient(320, 240), "JPEG", subsampling=0), 3 * GREY + SCAN),
        (saved(gradient(320, 240), "JPEG", subsampling=2), 1.5 * GREY + SCAN),
        # libjpeg's script: DC of all, 2 of DC; Y in 4 more scans, each colour in 3.
        (progressive(), (2 * 3 + 4 + 2 * 3 - 2) * GREY + 10 * SCAN),
        (progressive(mode="L"), 6 * GREY + 6 * SCAN),
        (progressive(313, 233, mode="L"), 6 * GREY + 6 * SCAN),
        (b"", 0),
        (b"\xff\xd8\xff\xda\x00", 0),
        (b"\xff\xd8\xff\xc0\x00\x02\xff\xda\x00\x03\x01", SCAN),
    ],
)
def test_visits_of_what_encoders_write(data: bytes, visits: float) -> None:
    assert read_scans(data).visits == visits


@pytest.mark.parametrize("side", [160, 320])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_each_repeated_scan_counts(side: int, mode: str) -> None:
    data = progressive(side, side, mode)
    once = read_scans(data).visits
    last = read_scans(repeated(data, 1)).visits - once
    assert last == (side // 8) ** 2 + SCAN
    assert read_scans(repeated(data, 50)).visits == once + 50 * last


def test_thumbnails_and_later_pictures_do_not_count() -> None:
    data = progressive()
    thumbnail = b"\xff\xe1" + (len(data) + 2).to_bytes(2, "big") + data
    assert read_scans(data[:2] + thumbnail + data[2:]).visits == read_scans(data).visits
    assert read_scans(data + repeated(data, 99)).visits == read_scans(data).visits
    assert read_scans(data + data, past_end=True).visits == 2 * read_scans(data).visits


def test_arithmetic_coding_weighs_more() -> None:
    data = progressive()
    coded = data.replace(b"\xff\xc2", b"\xff\xca", 1)
    assert read_scans(coded).visits - 10 * SCAN == 8 * (read_scans(data).visits - 10 * SCAN)


@pytest.mark.parametrize(
    "data",
    [
        repeated(progressive(1600, 1200, "L"), 2200),
        repeated(progressive(1600, 1200), 800, scan=0),
        repeated(progressive(800, 1200, "CMYK"), 4500),
        repeated(progressive(1280, 960, subsampling=2), 9_000, scan=5),
        repeated(progressive(8, 8, "L"), 130_000),
        repeated(progressive(1600, 1200, "L"), 300).replace(b"\xff\xc2", b"\xff\xca", 1),
    ],
    ids=["grey", "first scan", "CMYK", "colour", "tiny", "arithmetic"],
)
def test_too_many_scans_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(MediaTooLarge, match=r"more scans than a picture of its size needs|segments"):
        decode(data, max_pixels=MAX)


def test_scans_of_a_stereo_picture_count() -> None:
    picture = Image.fromarray(gradient(1600, 1200))
    file = BytesIO()
    picture.save(file, "MPO", save_all=True, append_images=[picture], progressive=True)
    data = file.getvalue()
    end = data.index(b"\xff\xd9", data.rindex(b"\xff\xda", 0, len(data) // 2))
    last = data.rindex(b"\xff\xda", 0, end)
    with pytest.raises(MediaTooLarge, match="more scans"):
        decode(data[:end] + data[last:end] * 2200 + data[end:], max_pixels=MAX)
    assert decode(data, max_pixels=MAX).shape == (1200, 1600, 3)


def test_scans_that_say_something_stay() -> None:
    data = progressive(1600, 1200)
    assert decode(repeated(data, 40), max_pixels=MAX).shape == (1200, 1600, 3)
    assert read_scans(by_opencv(gradient(4000, 3000), ".jpg", 2, 1)).visits < MOST_VISITS // 16


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (9, 17), (17, 1000), (1000, 17), (640, 480), (2049, 2047)])
def test_a_picture_of_one_colour_has_the_bytes_that_it_needs(
    size: tuple[int, int], progressive: bool, subsampling: int
) -> None:
    # Nothing takes fewer bytes: each block is the same as the one before.
    white = Image.new("RGB", size, "white")
    data = saved(white, "JPEG", optimize=True, progressive=progressive, subsampling=subsampling)
    scans = read_scans(data)
    assert 0 <= scans.least <= scans.coded
    assert decode(data, max_pixels=MAX).shape == (*size[::-1], 3)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("kept", [0, 30])
def test_a_header_without_its_picture_is_none(mode: str, progressive: bool, ended: bool, kept: int) -> None:
    picture = Image.fromarray(gradient(1600, 1200)).convert(mode)
    data = saved(picture, "JPEG", progressive=progressive)
    scan = data.index(b"\xff\xda")
    begun = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big") + kept
    with pytest.raises(InvalidMedia, match=rf"its picture data has {kept} of at least .* upload the whole file"):
        decode(data[:begun] + b"\xff\xd9" * ended, max_pixels=MAX)
