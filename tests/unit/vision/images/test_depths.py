"""Samples of any depth, CMYK, Lab, transparency: by OpenCV and FFmpeg, whose encoders know more than Pillow's."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.unit.vision.images.samples import by_ffmpeg, by_opencv, chunks, difference, gradient, saved, tall, written
from vision.images import decode

RNG = np.random.default_rng(3)
DEEP = RNG.integers(0, 65_536, (24, 32, 3), dtype=np.uint16)
ROUNDED = np.rint(DEEP / 257).astype(np.uint8)


@pytest.mark.parametrize("compression", [1, 5, 8, 32_773])
def test_sixteen_bits_of_a_tiff_are_rounded(compression: int) -> None:
    options = (cv2.IMWRITE_TIFF_COMPRESSION, compression)
    assert difference(by_opencv(DEEP, ".tif", *options), ROUNDED) == 0
    assert difference(by_opencv(DEEP[..., 0], ".tif", *options), tall(ROUNDED[..., 0])) == 0


def test_sixteen_bits_of_a_png_are_rounded() -> None:
    assert difference(by_opencv(DEEP, ".png"), ROUNDED) == 0
    assert difference(by_opencv(DEEP[..., 1], ".png"), tall(ROUNDED[..., 1])) == 0


@pytest.mark.parametrize(("codec", "layout"), [("png", "rgb48be"), ("png", "rgba64be"), ("tiff", "rgb48le")])
def test_sixteen_bits_of_another_encoder(codec: str, layout: str) -> None:
    assert difference(by_ffmpeg(DEEP, codec, layout), ROUNDED) == 0


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_lie_on_white_where_they_are_clear(suffix: str) -> None:
    alpha = np.full((24, 32, 1), 0x8080, np.uint16)
    alpha[:12] = 0
    shares = np.where(np.arange(24) < 12, 0, 128 / 255)[:, None, None]
    expected = np.rint(ROUNDED * shares + 255 * (1 - shares))
    assert difference(by_opencv(np.concatenate([DEEP, alpha], 2), suffix), expected) <= 1


def test_a_clear_colour_of_sixteen_bits() -> None:
    header, *rest = chunks(by_opencv(DEEP, ".png"))
    clear = written([header, (b"tRNS", struct.pack(">3H", *DEEP[5, 5])), *rest])
    expected = ROUNDED.copy()
    expected[5, 5] = 255
    assert difference(clear, expected) == 0


def test_a_clear_grey() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = tall(grey)
    expected[0, 7] = 255
    assert difference(saved(grey, "PNG", transparency=7), expected) == 0


@pytest.mark.parametrize("writer", ["pillow", "opencv"])
def test_floats_run_from_black_to_white(writer: str) -> None:
    values = np.array([[0, 0.25, 0.5, 1, 2, -1, np.nan, np.inf]], np.float32)
    data = saved(values, "TIFF") if writer == "pillow" else by_opencv(values, ".tif")
    assert decode(data, max_pixels=100)[0, :, 0].tolist() == [0, 64, 128, 255, 255, 0, 0, 255]


def tiff(samples: bytes, width: int, height: int, bits: int, photometric: int = 1, kind: int = 1) -> bytes:
    """A grey TIFF of one strip."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: height}
    tags |= {279: len(samples), 339: kind}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + samples


def test_unsigned_samples_of_32_bits() -> None:
    values = np.array([[0, 2**31, 2**32 - 1]], np.uint32)
    assert decode(tiff(values.tobytes(), 3, 1, 32), max_pixels=10)[0, :, 1].tolist() == [0, 128, 255]


@pytest.mark.parametrize(("bits", "kind"), [(16, 1), (32, 3)])
def test_zero_can_be_white(bits: int, kind: int) -> None:
    values = np.array([[0, 0.5, 1]], np.float32) if kind == 3 else np.array([[0, 32_768, 65_535]], np.uint16)
    pixels = decode(tiff(values.tobytes(), 3, 1, bits, photometric=0, kind=kind), max_pixels=10)
    assert pixels[0, :, 0].tolist() in ([255, 127, 0], [255, 128, 0])


def test_twelve_bits_have_their_own_white() -> None:
    packed = bytes([0x00, 0x0F, 0xFF])  # 0 and 4095
    assert decode(tiff(packed, 2, 1, 12), max_pixels=10)[0, :, 0].tolist() == [0, 255]


def test_lab() -> None:
    # Levels of a and b are coarse, so colours of the darkest tones are not compared.
    picture = np.maximum(gradient(), 40)
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.fromarray(picture), *profiles, outputMode="LAB")
    pixels = decode(saved(lab, "TIFF"), max_pixels=10_000)
    assert np.percentile(np.abs(pixels.astype(int) - picture), 95) <= 3


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_inks_without_a_profile(format: str) -> None:
    inks = Image.fromarray(gradient()).convert("CMYK")
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    assert difference(saved(inks, format, **options), gradient()) <= 2


@pytest.mark.parametrize("mode", ["LA", "La", "RGBA", "RGBa"])
def test_transparency_of_any_kind_lies_on_white(mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (100, 100, 100, 0))
    image.putpixel((1, 0), (100, 100, 100, 128))
    grey = mode in ("LA", "La")
    data = saved(image.convert("LA") if grey else image, "TIFF")
    if mode in ("La", "RGBa"):  # associated: colours are those times alpha
        kind = struct.pack("<HHIHxx", 338, 3, 1, 2)
        assert kind in data
        data = data.replace(kind, struct.pack("<HHIHxx", 338, 3, 1, 1))
        colours = bytes([100, 128] if grey else [100, 100, 100, 128])
        assert colours in data
        data = data.replace(colours, bytes([50, 128] if grey else [50, 50, 50, 128]))
    pixels = decode(data, max_pixels=10)
    assert pixels[0, 0].tolist() == [255] * 3
    assert abs(int(pixels[0, 1, 0]) - 177) <= 1
