"""Files without an end: what shows everything is accepted, what is cut short is not."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from tests.unit.vision.images.samples import difference, saved
from vision.errors import InvalidMedia
from vision.images import Pixels, decode
from vision.images.decode import Facts, examine

CODINGS = [
    {},
    {"progressive": True},
    {"subsampling": 0},
    {"restart_marker_blocks": 5},
    {"optimize": True, "quality": 30},
]


def photo(width: int = 120, height: int = 100) -> Pixels:
    rng = np.random.default_rng(5)
    small = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def shown(data: bytes) -> Pixels:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("grey", [False, True])
def test_a_jpeg_without_its_end_mark(coding: dict[str, int], grey: bool) -> None:
    data = saved(photo()[..., 0] if grey else photo(), "JPEG", **coding)
    for lost in (1, 2):
        assert difference(data[:-lost], shown(data)) == 0
    half = decode(data[:-2], max_pixels=100_000, shrink_to=25)
    assert half.shape == (50, 60, 3)
    np.testing.assert_array_equal(half, decode(data, max_pixels=100_000, shrink_to=25))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("share", [0.6, 0.8, 0.95])
def test_a_jpeg_that_is_cut_short(coding: dict[str, int], share: float) -> None:
    data = saved(photo(), "JPEG", **coding)
    with pytest.raises(InvalidMedia, match=r"^This JPEG ends .*; upload the whole file\.$") as caught:
        decode(data[: int(share * len(data))], max_pixels=100_000)
    rows = [int(word) for word in caught.value.message.split() if word.isdigit()]
    assert rows == [] if "progressive" in coding else rows[0] < 100 * share + 10


def test_black_rows_are_rows() -> None:
    picture = photo()
    picture = np.concatenate([picture, np.zeros_like(picture)])
    data = saved(picture, "JPEG")
    assert difference(data[:-2], shown(data)) == 0


def test_garbage_around_a_jpeg() -> None:
    data = saved(photo(), "JPEG")
    assert difference(data + b"\0\xff\x12" * 50, shown(data)) == 0
    assert difference(data[:2] + b"\xff\xff\xff" + data[2:], shown(data)) == 0
    assert difference(data[:20] + b"\x12\x34" + data[20:], shown(data)) == 0


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_whose_metadata_is_cut(lossless: bool) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description of some length"
    data = saved(photo(), "WEBP", lossless=lossless, exif=exif.tobytes())
    for lost in (1, 20, 40):
        assert difference(data[:-lost], shown(data)) == 0


def test_an_animation_that_is_cut_shows_its_first_frame() -> None:
    frames = [Image.fromarray(np.full((20, 30, 3), level, np.uint8)) for level in (50, 200)]
    for format in ("WEBP", "GIF"):
        data = saved(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
        assert difference(data[:-3], np.full((20, 30, 3), 50)) == 0


def test_the_padding_of_the_last_row_of_a_bmp() -> None:
    picture = photo()[:, :63]
    assert difference(saved(picture, "BMP")[:-3], picture) == 0


@pytest.mark.parametrize(("format", "lost"), [("GIF", 2), ("TIFF", 0)])
def test_other_ends(format: str, lost: int) -> None:
    data = saved(photo()[..., 0], format)
    assert difference(data[: len(data) - lost], shown(data)) == 0
    with pytest.raises(InvalidMedia):
        decode(data[: len(data) * 2 // 3], max_pixels=100_000)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_is_only_examined_is_judged_as_one_that_is_decoded_whole(
    coding: dict[str, int], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = saved(Image.fromarray(photo()).convert(mode), "JPEG", **coding)
    rng = np.random.default_rng(3)
    files = [data, *(data[: int(share * len(data))] for share in (0.3, 0.9, 0.99)), data[:-2]]
    for _ in range(12):
        damaged, start = bytearray(data), int(rng.integers(2, len(data) - 40))
        match rng.integers(3):
            case 0:
                damaged[start] = int(rng.integers(256))
            case 1:
                del damaged[start : start + int(rng.integers(1, 40))]
            case _:
                damaged[start:start] = rng.bytes(8)
        files.append(bytes(damaged))
    said = [judged(each) for each in files]
    monkeypatch.setattr(JpegImageFile, "draft", lambda *_: None)
    assert said == [judged(each) for each in files]
    assert said[0] == Facts("JPEG", 120, 100)
    assert any(isinstance(each, str) for each in said)


def judged(data: bytes) -> Facts | str:
    try:
        return examine(data, 100_000)
    except InvalidMedia as error:
        return error.message
