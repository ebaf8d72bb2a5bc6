"""ICC profiles, EXIF and HEIF codes to sRGB."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tests.cases.colour import ADOBE, P3, SRGB, hdr_patches, pq_encode, profile, srgb_decode, srgb_encode, to_xyz
from tests.unit.vision.images.samples import by_opencv, difference, gradient, saved, tall, with_chunks
from vision.images import Pixels, decode
from vision.images.codes import colour_codes
from vision.images.profiles import MAX_PROFILE, matrix_profile

PICTURE = gradient()
LIGHT = srgb_decode(PICTURE / 255)


def stored(primaries: Any, gamma: float, levels: int = 255) -> NDArray[Any]:
    """The picture in other primaries, by a gamma; floats from 0 to ``levels``."""
    linear = np.clip(LIGHT @ (np.linalg.inv(to_xyz(primaries)) @ to_xyz(SRGB)).T, 0, 1)
    return np.rint(levels * linear ** (1 / gamma))


def off(data: bytes) -> float:
    """99th percentile of the difference: where sRGB is steep, a level of another curve is several of its own."""
    return float(np.percentile(np.abs(decode(data, max_pixels=10_000).astype(int) - PICTURE), 99))


@pytest.mark.parametrize(("primaries", "gamma"), [(P3, 2.2), (ADOBE, 563 / 256), (ADOBE, 1.8), (SRGB, 1.8)])
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ],
)
def test_profiles_of_wide_gamuts(primaries: Any, gamma: float, format: str, options: dict[str, Any]) -> None:
    picture = stored(primaries, gamma).astype(np.uint8)
    data = saved(picture, format, icc_profile=profile(primaries, gamma, "wide"), **options)
    tolerance = {"JPEG": 8, "AVIF": 12}.get(format, 4)  # lossy, even at their best
    assert off(data) <= tolerance < np.percentile(np.abs(picture.astype(int) - PICTURE), 99)


def test_colours_of_a_palette_and_behind_transparency() -> None:
    icc = profile(P3, 2.2, "wide")
    picture = Image.fromarray(stored(P3, 2.2).astype(np.uint8))
    plain = decode(saved(picture, "PNG", icc_profile=icc), max_pixels=10_000)
    clear = picture.convert("RGBA")
    clear.putpixel((0, 0), (1, 2, 3, 0))
    pixels = decode(saved(clear, "PNG", icc_profile=icc), max_pixels=10_000)
    assert pixels[0, 0].tolist() == [255] * 3
    np.testing.assert_array_equal(pixels[1:], plain[1:])
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 234, 51, 35])  # the red of sRGB in P3
    reds = decode(saved(palette, "PNG", icc_profile=matrix_profile(P3_D65, "srgb")), max_pixels=100)
    assert np.abs(reds[0, 0].astype(int) - [255, 0, 0]).max() <= 4


P3_D65 = (*P3, (0.3127, 0.3290))


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("deep", [False, True])
def test_grey_profiles(gamma: float, deep: bool) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    light = srgb_decode(grey / 255) ** (1 / gamma)
    icc = matrix_profile(None, gamma)
    if deep:
        data = saved(np.rint(65_535 * light).astype(np.uint16), "TIFF", icc_profile=icc)
        assert difference(data, tall(grey)) <= 1
    else:
        data = saved(np.rint(255 * light).astype(np.uint8), "PNG", icc_profile=icc)
        assert np.abs(decode(data, max_pixels=1000).astype(int) - tall(grey))[4:].max() <= 2


@pytest.mark.parametrize("primaries", [P3, ADOBE])
def test_profiles_of_sixteen_bits(primaries: Any) -> None:
    png = by_opencv(stored(primaries, 1.0, 65_535).astype(np.uint16), ".png")
    icc = profile(primaries, 1.0, "linear")
    data = with_chunks(png, (b"iCCP", b"x\0\0" + zlib.compress(icc)))
    assert off(data) <= 2


def press_profile() -> bytes:
    """A profile of a press whose inks are grey: lightness 100 without ink, and 25 less for each of the four."""
    corners = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    lab = b"".join(bytes([255 - round(255 * sum(inks) / 4), 128, 128]) for inks in corners)
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *(65_536 * (i % 4 == 0) for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + 4 * ramp + lab + 3 * ramp
    tags = [(b"A2B0", 0, table), (b"A2B1", 0, table), (b"wtpt", len(table), matrix_profile(None, 1.0)[-20:])]
    head = struct.pack(">I4xI4s4s4s12x4s28x", 0, 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    head += struct.pack(">3i", *(round(65_536 * value) for value in (0.9642, 1.0, 0.8249))) + bytes(48)
    start = len(head) + 4 + 12 * len(tags)
    listed = b"".join(struct.pack(">4sII", name, start + at, len(table) if at == 0 else 20) for name, at, _ in tags)
    data = head + struct.pack(">I", len(tags)) + listed + table + tags[2][2]
    return struct.pack(">I", len(data)) + data[4:]


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_inks_by_the_profile_of_a_press(format: str) -> None:
    inks = Image.new("CMYK", (16, 16), (255, 0, 0, 0))  # cyan by the book, light grey on this press
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    pixels = decode(saved(inks, format, icc_profile=press_profile(), **options), max_pixels=1000)
    assert np.ptp(pixels[0, 0].astype(int)) <= 3
    assert abs(int(pixels[0, 0, 1]) - 185) <= 6  # lightness 75
    assert difference(saved(inks, format, **options), np.full((16, 16, 3), [0, 255, 255])) <= 2


@pytest.mark.parametrize(
    "icc",
    [
        pytest.param(b"garbage" * 50, id="garbage"),
        pytest.param(profile(P3, 2.2, "cut")[:200], id="cut short"),
        pytest.param(profile(P3, 2.2, "wrong").replace(b"RGB ", b"CMYK"), id="of other channels"),
        pytest.param(matrix_profile(None, 1.0), id="grey"),
        pytest.param(profile(P3, 2.2, "huge") + bytes(MAX_PROFILE), id="huge"),
        pytest.param(profile(SRGB, 2.2, "simple"), id="simple sRGB"),
        pytest.param(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), id="sRGB"),
        pytest.param(matrix_profile((*SRGB, (0.3127, 0.3290)), "srgb"), id="sRGB, version 4"),
    ],
)
def test_profiles_that_change_nothing(icc: bytes) -> None:
    assert difference(saved(PICTURE, "TIFF", icc_profile=icc), PICTURE) == 0


def test_the_profile_of_a_colour_picture_in_a_grey_one() -> None:
    grey = PICTURE[..., 0]
    assert difference(saved(grey, "PNG", icc_profile=profile(P3, 1.0, "wrong")), tall(grey)) == 0


@pytest.mark.parametrize(
    ("by", "format"),
    [("color space", "JPEG"), ("color space", "TIFF"), ("interoperability", "JPEG"), ("interoperability", "WEBP")],
)
def test_cameras_name_adobe_rgb_by_exif(by: str, format: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 2 if by == "color space" else 65_535
    if by == "interoperability":
        exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "TIFF": {}}[format]
    picture = stored(ADOBE, 563 / 256).astype(np.uint8)
    assert off(saved(picture, format, exif=exif.tobytes(), **options)) <= (8 if format == "JPEG" else 4)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 1
    assert off(saved(PICTURE, format, exif=exif.tobytes(), **options)) <= 2


def heic(pixels: NDArray[Any], primaries: int, transfer: int) -> bytes:
    mode = "RGB" if pixels.dtype == np.uint8 else "RGB;16"
    file = BytesIO()
    image = pillow_heif.from_bytes(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes())
    codes = {"color_primaries": primaries, "transfer_characteristics": transfer, "matrix_coefficients": 6}
    image.save(file, quality=95, chroma=444, full_range_flag=1, **codes)
    return file.getvalue()


def test_codes_of_a_heic() -> None:
    wide = np.rint(255 * srgb_encode(LIGHT @ (np.linalg.inv(to_xyz(P3)) @ to_xyz(SRGB)).T)).astype(np.uint8)
    plain, converted = (decode(heic(wide, code, 13), max_pixels=10_000).astype(int) for code in (1, 12))
    assert np.abs(plain - wide).mean() < 2
    assert np.abs(converted - PICTURE).mean() < 3 < np.abs(plain - PICTURE).mean()


def hlg_encode(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    luminance = np.maximum(nits @ [0.2627, 0.6780, 0.0593], 1e-6)[..., None]
    scene = nits / 1000 * (luminance / 1000) ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-6)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * np.maximum(scene, 0)), high)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_of_a_heic_is_tone_mapped(transfer: int, bits: int) -> None:
    signal = pq_encode(hdr_patches()) if transfer == 16 else hlg_encode(hdr_patches())
    levels = np.rint((2**bits - 1) * signal).astype(np.uint8 if bits == 8 else np.uint16)
    pixels = decode(heic(levels, 9, transfer), max_pixels=100_000)
    assert_patches(pixels)


def assert_patches(pixels: Pixels) -> None:
    """White of 203 cd/m², red and green of sRGB."""
    white, red, green = (pixels[y, x].astype(int) for y, x in ((20, 30), (70, 30), (70, 100)))
    assert white.min() >= 170
    assert np.ptp(white) <= 8
    assert np.ptp(red) >= 180
    assert red.argmax() == 0
    assert np.ptp(green) >= 100
    assert green.argmax() == 1


def test_codes_of_an_avif() -> None:
    signal = np.rint(255 * pq_encode(hdr_patches())).astype(np.uint8)
    plain = saved(signal, "AVIF", quality=95, subsampling="4:4:4")
    assert colour_codes(plain) == (13, 1)
    at = plain.index(b"colrnclx") + 8
    hdr = plain[:at] + bytes([0, 9, 0, 16]) + plain[at + 4 :]
    assert colour_codes(hdr) == (16, 9)
    assert_patches(decode(hdr, max_pixels=100_000))
    for end in range(0, at + 4, 7):
        assert colour_codes(hdr[:end]) in (None, (16, 9))


def test_the_first_frame_of_a_gif_lies_on_a_white_canvas() -> None:
    small = saved(Image.new("P", (4, 4), 0), "GIF")
    data = bytearray(small)
    data[6:10] = (10).to_bytes(2, "little") + (8).to_bytes(2, "little")
    at = data.index(b",")
    data[at + 1 : at + 5] = (3).to_bytes(2, "little") + (2).to_bytes(2, "little")
    pixels = decode(bytes(data), max_pixels=100)
    expected = np.full((8, 10, 3), 255)
    expected[2:6, 3:7] = decode(small, max_pixels=100)
    np.testing.assert_array_equal(pixels, expected)
