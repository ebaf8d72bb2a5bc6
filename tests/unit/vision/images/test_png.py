"""PNG: text and profiles of any size, checksums, missing ends, animations, and what chunks say of colours."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from tests.cases.colour import P3, SRGB, profile, srgb_decode, srgb_encode, to_xyz
from tests.unit.vision.images.samples import (
    by_opencv,
    chunks,
    difference,
    gradient,
    saved,
    tall,
    with_chunks,
    written,
)
from vision.errors import InvalidMedia
from vision.images import decode
from vision.images.png import first_picture
from vision.images.profiles import MAX_PROFILE

PICTURE = gradient()
PNG = saved(PICTURE, "PNG")
LIGHT = srgb_decode(PICTURE / 255)
IN_P3 = np.rint(255 * srgb_encode(LIGHT @ (np.linalg.inv(to_xyz(P3)) @ to_xyz(SRGB)).T)).astype(np.uint8)
GAMMA_1 = (b"gAMA", struct.pack(">I", 100_000))
GAMMA_SRGB = (b"gAMA", struct.pack(">I", 45_455))
POINTS_P3 = (b"cHRM", struct.pack(">8I", *(round(1e5 * v) for point in ((0.3127, 0.329), *P3) for v in point)))


def icc(data: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"x\0\0" + zlib.compress(data)


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param((b"tEXt", b"prompt\0" + b"a" * 3_000_000), id="text"),
        pytest.param((b"zTXt", b"prompt\0\0" + zlib.compress(bytes(100_000_000))), id="text bomb"),
        pytest.param((b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(b"a" * 5_000_000)), id="international text"),
        pytest.param((b"eXIf", b"MM\0*\xff\xff\xff\xff" * 100), id="broken EXIF"),
        pytest.param(icc(bytes(200_000_000)), id="profile bomb"),
        pytest.param(icc(profile(SRGB, 2.2, "long") + bytes(5_000_000)), id="long profile"),
        pytest.param((b"iCCP", b"x\0\0" + b"no zlib"), id="broken profile"),
        pytest.param((b"iCCP", b""), id="empty profile"),
        pytest.param((b"caNv", bytes(16)), id="private"),
        pytest.param((b"gAMA", b"\0"), id="short gamma"),
        pytest.param((b"tRNS", b"\0"), id="short transparency"),
        pytest.param((b"gAMA", bytes(4)), id="gamma of nothing"),
        pytest.param((b"cICP", b"\1"), id="short colour codes"),
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_what_is_no_picture_costs_none(chunk: tuple[bytes, bytes]) -> None:
    data = with_chunks(PNG, chunk)
    tracemalloc.start()
    assert difference(data, PICTURE) == 0
    assert tracemalloc.get_traced_memory()[1] < 4 * MAX_PROFILE
    tracemalloc.stop()


@pytest.mark.parametrize("name", [b"tEXt", b"pHYs", b"iCCP", b"sRGB", b"tIME", b"abCd", b"tRNS", b"eXIf"])
def test_ancillary_chunks_with_a_wrong_checksum_are_left_out(name: bytes) -> None:
    assert difference(with_chunks(PNG, (name, b"\0" * 9), damaged=name), PICTURE) == 0


@pytest.mark.parametrize("name", [b"IHDR", b"IDAT", b"PLTE"])
def test_critical_chunks_with_a_wrong_checksum_are_damage(name: bytes) -> None:
    data = written(chunks(saved(gradient()[..., 0], "PNG")), name)
    if name == b"PLTE":
        data = with_chunks(PNG, (name, bytes(6)), damaged=name)
    with pytest.raises(InvalidMedia, match="This PNG is damaged: a checksum is wrong"):
        decode(data, max_pixels=10_000)


def test_pixels_that_changed_on_the_way_are_damage() -> None:
    data = bytearray(PNG)
    data[len(data) // 2] ^= 0x10
    with pytest.raises(InvalidMedia, match="damaged"):
        decode(bytes(data), max_pixels=10_000)


@pytest.mark.parametrize("lost", [1, 4, 8, 12, 16, 18])
def test_no_end_is_needed_behind_the_last_row(lost: int) -> None:
    assert chunks(PNG)[-1] == (b"IEND", b"")
    assert difference(PNG[:-lost], PICTURE) == 0


def test_bytes_behind_the_end_are_left_alone() -> None:
    assert difference(PNG + b"tEXt" * 1000, PICTURE) == 0
    assert difference(PNG + PNG, PICTURE) == 0


def test_a_picture_in_parts() -> None:
    header, (name, body), end = chunks(PNG)
    parts = [(name, body[at : at + 100]) for at in range(0, len(body), 100)]
    assert difference(written([header, *parts, (name, b""), end]), PICTURE) == 0


def test_very_many_parts_take_little_memory() -> None:
    header, part, end = chunks(PNG)
    data = written([header, *[(b"IDAT", b"")] * 30_000, part, end])
    tracemalloc.start()
    assert difference(data, PICTURE) == 0
    assert tracemalloc.get_traced_memory()[1] < 4 * len(data)
    tracemalloc.stop()


@pytest.mark.parametrize("default", [True, False])
def test_animations_show_their_first_frame(default: bool) -> None:
    frames = [saved(np.full((8, 12, 3), level, np.uint8), "PNG") for level in (10, 100, 200)]
    header, end = chunks(frames[0])[0], (b"IEND", b"")
    data = [chunks(frame)[1][1] for frame in frames]

    def control(number: int) -> tuple[bytes, bytes]:
        return b"fcTL", struct.pack(">5I2H2B", number, 12, 8, 0, 0, 1, 25, 0, 0)

    shown = [control(0), (b"IDAT", data[0])] if default else [(b"IDAT", data[0]), control(0)]
    rest = [] if default else [(b"fdAT", struct.pack(">I", 1) + data[1])]
    later = [control(2), (b"fdAT", struct.pack(">I", 3) + data[2])]
    png = written([header, (b"acTL", struct.pack(">2I", 2, 0)), *shown, *rest, *later, end])
    assert decode(png, max_pixels=1000)[0, 0, 0] == (10 if default else 100)
    assert b"fdAT" not in first_picture(png)[0]


@pytest.mark.parametrize(
    ("stored", "extra"),
    [
        pytest.param(PICTURE, [GAMMA_SRGB], id="gamma of sRGB"),
        pytest.param(PICTURE, [(b"gAMA", struct.pack(">I", 45_000))], id="nearly that"),
        pytest.param(PICTURE, [POINTS_P3], id="primaries alone"),
        pytest.param(PICTURE, [GAMMA_SRGB, (b"cHRM", bytes(32))], id="primaries that are all 0"),
        pytest.param(PICTURE, [(b"sRGB", b"\0"), GAMMA_1, POINTS_P3], id="sRGB before gamma"),
        pytest.param(PICTURE, [(b"cICP", bytes([1, 13, 0, 1])), GAMMA_1], id="codes before gamma"),
        pytest.param(PICTURE, [(b"cICP", bytes([1, 13, 0, 1])), icc(profile(P3, 1.0, "no"))], id="codes before ICC"),
        pytest.param(PICTURE, [icc(profile(SRGB, 2.2, "so")), GAMMA_1], id="ICC before gamma"),
        pytest.param(PICTURE, [icc(b"garbage" * 50)], id="broken ICC"),
    ],
)
def test_srgb_by_any_name_stays(stored: np.ndarray, extra: list[tuple[bytes, bytes]]) -> None:
    assert difference(with_chunks(saved(stored, "PNG"), *extra), PICTURE) == 0


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param([(b"cICP", bytes([12, 13, 0, 1]))], id="codes"),
        pytest.param([GAMMA_SRGB, POINTS_P3], id="primaries"),
    ],
)
def test_wide_gamuts_become_srgb(extra: list[tuple[bytes, bytes]]) -> None:
    # P3 of 8 bits has steps of up to 8 levels of sRGB where that is steep, so most pixels are compared.
    pixels = decode(with_chunks(saved(IN_P3, "PNG"), *extra), max_pixels=10_000)
    change = np.abs(pixels.astype(int) - PICTURE)
    assert np.percentile(change, 99) <= 2
    assert np.abs(IN_P3.astype(int) - PICTURE).mean() > 8


@pytest.mark.parametrize("chunk", [GAMMA_1, icc(profile(SRGB, 1.0, "linear")), (b"cICP", bytes([1, 8, 0, 1]))])
def test_linear_light_of_sixteen_bits_keeps_its_shadows(chunk: tuple[bytes, bytes]) -> None:
    png = by_opencv(np.rint(65_535 * LIGHT).astype(np.uint16), ".png")
    assert difference(with_chunks(png, chunk), PICTURE) <= 1


def test_gamma_of_grey() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    linear = by_opencv(np.rint(65_535 * srgb_decode(grey / 255)).astype(np.uint16), ".png")
    assert difference(with_chunks(linear, GAMMA_1), tall(grey)) <= 1


def test_hdr_codes_are_tone_mapped() -> None:
    from tests.cases.colour import hdr_patches, pq_encode

    signal = np.rint(65_535 * pq_encode(hdr_patches())).astype(np.uint16)
    pixels = decode(with_chunks(by_opencv(signal, ".png"), (b"cICP", bytes([9, 16, 0, 1]))), max_pixels=100_000)
    white, red = pixels[20, 20].astype(int), pixels[70, 20].astype(int)
    assert white.min() >= 170
    assert np.ptp(white) <= 3
    assert np.ptp(red) >= 180
