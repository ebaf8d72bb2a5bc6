"""Pages of a TIFF: thumbnails in front, below, masks, sensors, and directories that lead nowhere."""

import struct
from contextlib import suppress

import numpy as np
import pytest

from vision.errors import InvalidMedia, MediaTooLarge
from vision.images import decode
from vision.images.tiff import MOST_PAGES, full_page

Tags = dict[int, int]


def tiff(pages: list[tuple[Tags, list[Tags]]], order: str = "<", *, big: bool = False) -> bytes:
    """Grey pages, each with those below it; a page has 256: width and 257: height, and is as bright as it is wide."""
    width, number, entry = (8, "Q", "HHQQ") if big else (4, "I", "HHII")
    mark = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    data = bytearray(mark + (struct.pack(order + "HHQ", 8, 0, 0) if big else bytes(4)))

    def directory(tags: Tags, below: list[int]) -> tuple[int, int]:
        pixels = len(data)
        data.extend(bytes([tags[256] % 256]) * (tags[256] * tags[257]))
        listed = len(data)
        data.extend(struct.pack(f"{order}{len(below)}{number}", *below))
        all_tags: dict[int, tuple[int, int]] = {tag: (1, value) for tag, value in tags.items()}
        all_tags |= {258: (1, 8), 259: (1, 1), 273: (1, pixels), 277: (1, 1), 278: (1, tags[257])}
        all_tags.setdefault(262, (1, 1))
        all_tags[279] = (1, tags[256] * tags[257])
        if below:
            all_tags[330] = (len(below), below[0] if len(below) == 1 else listed)
        start = len(data)
        data.extend(struct.pack(order + ("Q" if big else "H"), len(all_tags)))
        for tag, (count, value) in sorted(all_tags.items()):
            data.extend(struct.pack(order + entry, tag, 16 if big else 4, count, value))
        data.extend(bytes(width))
        return start, len(data) - width

    link = 8 if big else 4
    for tags, below in pages:
        offsets = [directory(part, [])[0] for part in below]
        start, following = directory(tags, offsets)
        struct.pack_into(order + number, data, link, start)
        link = following
    return bytes(data)


def page(width: int, **tags: int) -> Tags:
    names = {"subfile": 254, "old": 255, "photometric": 262}
    return {256: width, 257: 10} | {names[name]: value for name, value in tags.items()}


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize(
    ("pages", "width"),
    [
        pytest.param([(page(40), []), (page(50), [])], 40, id="document"),
        pytest.param([(page(40), [page(80, subfile=1)]), (page(20, subfile=1), [])], 40, id="pyramid"),
        pytest.param([(page(16, subfile=1), []), (page(40), []), (page(60), [])], 40, id="thumbnail first"),
        pytest.param([(page(16, old=2), []), (page(40, old=1), [])], 40, id="thumbnail first, old tag"),
        pytest.param([(page(60, subfile=4), []), (page(40), [])], 40, id="mask first"),
        pytest.param([(page(16, subfile=1), [page(50), page(40)])], 50, id="picture below its thumbnail"),
        pytest.param(
            [(page(16, subfile=1), [page(90, photometric=32_803), page(30, subfile=1)])], 30, id="sensor and previews"
        ),
        pytest.param([(page(16, subfile=1), []), (page(30, subfile=1), [])], 30, id="thumbnails alone"),
    ],
)
def test_the_full_page(pages: list[tuple[Tags, list[Tags]]], width: int, order: str, big: bool) -> None:
    pixels = decode(tiff(pages, order, big=big), max_pixels=1000)
    np.testing.assert_array_equal(pixels, np.full((10, width, 3), width, np.uint8))


def test_the_first_page_costs_no_copy() -> None:
    data = tiff([(page(40), []), (page(16, subfile=1), [])])
    assert full_page(data) is data


def test_directories_that_go_in_circles() -> None:
    data = bytearray(tiff([(page(40, subfile=1), [page(20, subfile=1)])]))
    (start,) = struct.unpack_from("<I", data, 4)
    struct.pack_into("<I", data, len(data) - 4, start)
    assert decode(bytes(data), max_pixels=1000).shape == (10, 40, 3)


def test_directories_without_end() -> None:
    data = tiff([(page(10, subfile=1), [])] * (MOST_PAGES + 6))
    assert decode(data, max_pixels=1000).shape == (10, 10, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed", range(20))
def test_damaged_directories(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(tiff([(page(16, subfile=1), [page(50), page(40)]), (page(30), [])]))
    for _ in range(8):
        data[rng.integers(len(data))] = rng.integers(256)
    assert len(full_page(bytes(data))) == len(data)
    with suppress(InvalidMedia, MediaTooLarge):
        assert decode(bytes(data), max_pixels=10_000_000).shape[2] == 3
