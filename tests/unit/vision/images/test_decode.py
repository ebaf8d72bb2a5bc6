"""Every format and mode to RGB, orientation, truncation, bombs."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile
from pillow_heif import register_heif_opener

from vision.errors import InvalidMedia, MediaTooLarge
from vision.images import decode

register_heif_opener()
MAX = 80_000_000
BMP_HEADER = b"BM" + bytes(8) + struct.pack("<IIii", 54, 40, 50_000, 50_000) + b"\1\0\x18\0" + bytes(24)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"]


def noise(width: int = 48, height: int = 32) -> Image.Image:
    """Four by four blocks of random colours, so that lossy formats keep them."""
    blocks = np.random.default_rng(7).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(blocks.repeat(4, 0).repeat(4, 1))


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def distance(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> float:
    return float(np.abs(left.astype(int) - right).mean())


def png(width: int, height: int, *chunks: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    body = b"".join(chunk(data[:4], data[4:]) for data in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *(("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")),
        *(("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")),
        *(("GIF", mode) for mode in ("L", "P")),
    ],
)
def test_lossless_modes_equal_transformers(format: str, mode: str) -> None:
    from transformers.image_transforms import convert_to_rgb

    image = noise()
    if "A" in mode:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = encoded(image.convert(mode), format)
    pixels = decode(data, max_pixels=MAX)
    assert (pixels.shape, pixels.dtype) == ((32, 48, 3), np.uint8)
    np.testing.assert_array_equal(pixels, convert_to_rgb(Image.open(BytesIO(data)), return_numpy=True))


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "HEIF"])
def test_lossy_formats_are_close(format: str) -> None:
    image = noise()
    assert distance(decode(encoded(image, format, quality=95), max_pixels=MAX), np.asarray(image)) < 20


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_modes(mode: str) -> None:
    image = noise().convert(mode)
    pixels = decode(encoded(image, "JPEG", quality=95), max_pixels=MAX)
    assert distance(pixels, np.asarray(image.convert("RGB"))) < 6


def test_transparency_lies_on_white() -> None:
    image = Image.new("RGBA", (2, 1), (200, 100, 0, 0))
    image.putpixel((1, 0), (200, 100, 0, 128))
    assert decode(encoded(image, "PNG"), max_pixels=MAX).tolist() == [[[255, 255, 255], [227, 177, 127]]]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([10, 20, 30])
    assert decode(encoded(palette, "PNG", transparency=0), max_pixels=MAX).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("dtype", [np.int32, np.int16])
def test_samples_without_an_agreed_white_are_refused(dtype: type) -> None:
    signed = encoded(Image.fromarray(np.zeros((2, 2), np.int32)), "TIFF")
    if dtype == np.int16:  # Pillow writes none: as many bytes are read of each row, half of the samples
        signed = signed.replace(struct.pack("<HHIHxx", 258, 3, 1, 32), struct.pack("<HHIHxx", 258, 3, 1, 16))
    with pytest.raises(InvalidMedia, match=r"signed samples.*8 or 16 bits"):
        decode(signed, max_pixels=MAX)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_first_frame_only(format: str) -> None:
    first, second = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    pixels = decode(encoded(first, format, save_all=True, append_images=[second]), max_pixels=MAX)
    assert distance(pixels, np.asarray(first)) < 3


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_a_first_frame_smaller_than_the_canvas_lies_on_white(format: str) -> None:
    first, second = Image.new("RGBA", (64, 48), (0, 0, 0, 0)), Image.new("RGBA", (64, 48), "lime")
    first.paste((255, 0, 0, 255), (10, 16, 26, 32))
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(format, {})
    pixels = decode(encoded(first, format, save_all=True, append_images=[second], **options), max_pixels=MAX)
    expected = np.full((48, 64, 3), 255, np.uint8)
    expected[16:32, 10:26] = (255, 0, 0)
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def test_several_pictures_in_one_file_show_the_primary_one() -> None:
    from pillow_heif import HeifFile

    pictures = [Image.new("RGB", (32, 32), colour) for colour in ("blue", "red")]
    burst, file = HeifFile(), BytesIO()
    for picture in pictures:
        burst.add_from_pillow(picture)
    burst.save(file, quality=95, primary_index=1)
    assert distance(decode(file.getvalue(), max_pixels=MAX), np.asarray(pictures[1])) < 5
    stereo = encoded(pictures[1], "MPO", save_all=True, append_images=pictures[:1])
    for data in (stereo, stereo[:-50]):
        assert distance(decode(data, max_pixels=MAX), np.asarray(pictures[1])) < 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF", "HEIF"])
def test_orientation(format: str, orientation: int) -> None:
    upright = noise()
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(inverse[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"lossless": True} if format == "WEBP" else {"quality": 95}
    pixels = decode(encoded(stored, format, exif=exif.tobytes(), **options), max_pixels=MAX)
    assert pixels.shape == (32, 48, 3)
    assert distance(pixels, np.asarray(upright)) < 20  # a wrong turn gives 80


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_costs_no_pixel() -> None:
    data = encoded(noise(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\xff" * 40)
    assert decode(data, max_pixels=MAX).shape == (32, 48, 3)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("format", FORMATS)
def test_truncated(format: str, share: float) -> None:
    data = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)), format)
    with pytest.raises(InvalidMedia) as caught:
        decode(data[: int(len(data) * share)], max_pixels=MAX)
    assert len(caught.value.message) < 150
    assert "object at" not in caught.value.message


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP"])
def test_truncation_says_how_much_came(format: str) -> None:
    noisy = np.random.default_rng(1).integers(1, 256, (400, 100, 3), np.uint8)
    data = encoded(Image.fromarray(noisy), format)
    with pytest.raises(InvalidMedia, match=rf"^This {format} ends .*; upload the whole file\.$") as caught:
        decode(data[: int(len(data) * 0.7)], max_pixels=MAX)
    if format != "BMP":  # a BMP is stored from the bottom up
        assert abs(int(caught.value.message.split()[4]) - 70) < 10


@pytest.mark.parametrize("pillow_limit", [None, Image.MAX_IMAGE_PIXELS])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png(60_000, 60_000), id="png header"),
        pytest.param(encoded(Image.new("1", (10_000, 9_000)), "PNG"), id="real 1-bit png"),
        pytest.param(b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0", id="gif canvas"),
        pytest.param(BMP_HEADER, id="bmp"),
    ],
)
def test_bombs_are_refused_by_their_header(
    data: bytes, pillow_limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded before the check")

    if data.startswith(b"GIF"):
        data += b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(MediaTooLarge, match="80 million"):
        decode(data, max_pixels=MAX)


def test_huge_tile_of_a_small_tiff() -> None:
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 322: 32_768, 323: 32_768, 324: 8, 325: 8}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    with pytest.raises(MediaTooLarge, match="16 x 16"):
        decode(data, max_pixels=MAX)


@pytest.mark.parametrize("size", [(65_536, 1), (1, 65_536), (100_000, 20)])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_no_side_is_longer_than_that_of_a_jpeg(kind: str, size: tuple[int, int]) -> None:
    data = encoded(Image.new("L", size), kind)
    with pytest.raises(MediaTooLarge, match=f"a {kind} with {size[0]} x {size[1]} pixels; no side may .* 65,535"):
        decode(data, max_pixels=MAX)


@pytest.mark.parametrize("size", [(65_535, 2), (1, 65_535)])
def test_a_side_may_be_as_long_as_that_of_a_jpeg(size: tuple[int, int]) -> None:
    assert decode(encoded(Image.new("L", size), "PNG"), max_pixels=MAX).shape == (*size[::-1], 3)


def test_pixel_limit_is_exact() -> None:
    data = encoded(noise(), "PNG")
    assert decode(data, max_pixels=48 * 32).shape == (32, 48, 3)
    with pytest.raises(MediaTooLarge, match="This is a PNG with 48 x 32 pixels"):
        decode(data, max_pixels=48 * 32 - 1)


def test_shrink_to_keeps_twice_the_wanted_side() -> None:
    image = Image.radial_gradient("L").resize((640, 480)).convert("RGB")
    data = encoded(image, "JPEG", quality=95)
    for wanted, shape in ((60, (120, 160)), (61, (240, 320)), (120, (240, 320)), (121, (480, 640))):
        assert decode(data, max_pixels=MAX, shrink_to=wanted).shape == (*shape, 3)
    half = decode(data, max_pixels=MAX, shrink_to=120)
    assert distance(half, np.asarray(image.reduce(2))) < 1
    assert decode(encoded(image, "PNG"), max_pixels=MAX, shrink_to=60).shape == (480, 640, 3)


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.7\n", b"<svg/>", b"\xff\xd8\xff\xe0" + b"x" * 400])
def test_what_is_no_image(data: bytes) -> None:
    with pytest.raises(InvalidMedia, match="Send JPG, PNG"):
        decode(data, max_pixels=MAX)


def test_truncated_images_are_never_loaded() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
