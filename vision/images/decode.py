"""Decodes still images to RGB pixels: the one place that opens a still image.

The pixel limit is checked on the header, before any pixel is decoded, and whatever a decoder raises on
damaged bytes becomes ``InvalidMedia``. Never set ``ImageFile.LOAD_TRUNCATED_IMAGES`` in a process
that uses this module: half an image would pass for a whole one.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from vision.colour import GAMMAS, PEAK, PRIMARIES, ColourConverter, is_srgb
from vision.errors import InvalidMedia, MediaTooLarge
from vision.images import png, webp
from vision.images.codes import colour_codes
from vision.images.jpeg import check_scans
from vision.images.profiles import (
    ADOBE_GAMMA,
    ADOBE_RGB,
    SRGB_CURVE,
    Pixels,
    deep_to_srgb,
    lab_to_rgb,
    matrix_profile,
    to_srgb,
)
from vision.images.tiff import full_page
from vision.images.truncation import JpegSource, shown_share

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
ACCEPTED: Final = "JPG, PNG, WEBP, GIF, BMP, TIFF, AVIF or HEIC"

_DEEP: Final = {"I;16", "I;16L", "I;16B", "I", "F"}
_MODES: Final = {
    *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB"),
    *_DEEP,
}
_UNSIGNED, _FLOAT = 1, 3
"""Values of the TIFF tag SampleFormat."""
# Pillow reads the high byte of these; what reads the other byte of the same samples.
_LOW_BYTE: Final = {
    **{f"{mode};16B": f"{mode};16L" for mode in ("RGB", "RGBA", "RGBX")},
    **{f"{mode};16L": f"{mode};16B" for mode in ("RGB", "RGBA", "RGBX")},
    **{f"{mode};16N": f"{mode};16B" for mode in ("RGB", "RGBA", "RGBX")},
}

# What Pillow's plugins raise on damaged bytes.
_BROKEN: Final = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError),
    *(AttributeError, AssertionError, RuntimeError, MemoryError, struct.error, zlib.error),
)

_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ADOBE_RGB: Final = 2
"""Value of the EXIF tag ColorSpace that cameras write, though no standard has it; others say R03 by DCF."""
_ADOBE_MARKS: Final = (b"R03\0", struct.pack(">HHIH", 0xA001, 3, 1, 2), struct.pack("<HHIH", 0xA001, 3, 1, 2))
"""Bytes of EXIF without which it does not say so."""

_BITS_TAG, _PHOTOMETRIC_TAG, _TILE_WIDTH_TAG, _TILE_HEIGHT_TAG, _FORMAT_TAG = 258, 262, 322, 323, 339


def decode(data: bytes, *, max_pixels: int, shrink_to: int | None = None) -> Pixels:
    """Return an encoded image as RGB in the colours of sRGB: uint8 (H, W, 3), contiguous, read-only.

    ``shrink_to`` is the shortest side, in pixels, that the caller will resize to. A JPEG is then decoded at
    1/2, 1/4 or 1/8 of its size as long as its shortest side stays at least twice that, which leaves the later
    resize enough to filter; anything else comes in full size. Raises ``InvalidMedia`` and ``MediaTooLarge``.
    """
    with opened(data, max_pixels) as image:
        return np.asarray(image.rgb(shrink_to))


@contextmanager
def opened(data: bytes, max_pixels: int) -> Iterator["StillImage"]:
    """Open an image: its header is read and its limits are checked, no pixel is decoded.

    Do nothing but read the image in the body: a decoder's exception becomes ``InvalidMedia`` there too.
    """
    _register_heif()
    still: StillImage | None = None
    try:
        still = StillImage(data)
        still.check(max_pixels)
        yield still
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        # Pillow's own limit (179 MP) is far above ours; it raises first only for sizes beyond both.
        message = f"This image has more than {_mega(max_pixels)} pixels. Send it smaller."
        raise MediaTooLarge(message) from None
    except _BROKEN as error:
        raise InvalidMedia(_diagnosis(still, error)) from error
    finally:
        if still is not None:
            still.close()


class StillImage:
    """An encoded image whose header has been read.

    Of a file of several pictures it is the first of an animation or a document, the primary one of a HEIF, and of a
    TIFF the first page that is no thumbnail.
    """

    def __init__(self, data: bytes) -> None:
        info: dict[str, Any] = {}
        if data.startswith(png.SIGNATURE):
            data, info = png.first_picture(data)
        elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            data = full_page(data)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            data = webp.first_picture(data)
        self._data = data
        self._image = self._open(BytesIO(data))
        self._image.info.update(info)

    @property
    def format(self) -> str:
        """One of ``FORMATS``; an MPO is a JPEG with further pictures after the first."""
        return "JPEG" if self._image.format == "MPO" else str(self._image.format)

    @property
    def quantization(self) -> dict[int, list[int]]:
        """Tables of a JPEG by number, each of 64 steps row by row; empty for other formats."""
        return getattr(self._image, "quantization", {})

    @property
    def orientation(self) -> int:
        """Value of the EXIF tag, 1 for an image that is upright as it is stored."""
        with suppress(*_BROKEN):  # a damaged EXIF block does not make the pixels unreadable
            return int(self._image.getexif().get(ExifTags.Base.Orientation, 1))
        return 1

    def check(self, max_pixels: int) -> None:
        """Raise MediaTooLarge for more pixels than that, InvalidMedia for samples that have no defined white."""
        width, height = self._image.size
        # A tile of a TIFF is decoded whole, so a small image with one huge tile is a bomb as well.
        tile = self._tag(_TILE_WIDTH_TAG) * self._tag(_TILE_HEIGHT_TAG)
        if max(width * height, tile) > max_pixels:
            raise MediaTooLarge(
                f"This is a {self.format} with {width} x {height} pixels; "
                f"the limit is {_mega(max_pixels)} pixels. Send it smaller."
            )
        if self.format == "JPEG":
            check_scans(self._data)
        signed = self._image.mode == "I" and self._tag(_FORMAT_TAG) != _UNSIGNED
        if self._image.mode not in _MODES or signed:
            kind = "signed" if signed else repr(self._image.mode)
            raise InvalidMedia(
                f"This {self.format} has {kind} samples, which have no defined white; "
                "save it with 8 or 16 bits a channel."
            )

    def rgb(self, shrink_to: int | None = None) -> Image.Image:
        """Decode the image, upright and in mode RGB, as a viewer shows it.

        Colours become those of sRGB, by the ICC profile, by the codes of PNG, HEIF and AVIF (HDR is tone-mapped), or
        by the EXIF tags of cameras; those of a picture that says nothing of them stay. CMYK without a profile is
        converted by subtraction. Transparency is composited on white, as transformers 5 does. Samples of 16 and 32 bits
        are scaled from their whole range and rounded; floats from 0 to 1, what lies outside being clipped.
        """
        image = self._image
        _, box, _, layout = image.tile[0] if image.tile else (None, None, 0, None)
        if self.format == "HEIF" and self._codes[0] in PEAK and image.info.get("bit_depth", 8) > 8:
            return self._deep_rgb(_deep_heif(self._data))
        try:
            self._load(image, shrink_to)
        except OSError as error:
            if self.format != "JPEG" or "truncated" not in str(error):
                raise
            image = self._load_cut(shrink_to)
        turn = _UPRIGHT.get(self.orientation)
        deep = self._deep(layout)
        rgb = self._shallow_rgb(image) if deep is None else self._deep_rgb(deep)
        if self.format == "GIF" and box and box != (0, 0, *image.size) and "transparency" not in image.info:
            # Nothing is shown around a first frame that is smaller than the canvas.
            canvas = Image.new("RGB", image.size, "white")
            canvas.paste(rgb.crop(box), box)
            rgb = canvas
        return rgb if turn is None else rgb.transpose(turn)

    def close(self) -> None:
        """Free what the decoder holds."""
        self._image.close()

    def _open(self, source: BytesIO) -> ImageFile.ImageFile:
        return Image.open(source, formats=FORMATS)

    def _tag(self, number: int) -> int:
        """Return the first value of a tag of a TIFF, 1 where it has none."""
        value = getattr(self._image, "tag_v2", {}).get(number, 1)
        return int(value[0] if isinstance(value, tuple) else value)

    def _load(self, image: ImageFile.ImageFile, shrink_to: int | None) -> None:
        if shrink_to is not None and self.format == "JPEG":
            image.draft(None, (2 * shrink_to, 2 * shrink_to))
        image.load()

    def _load_cut(self, shrink_to: int | None) -> ImageFile.ImageFile:
        """Decode a JPEG that has no end mark. Raises InvalidMedia if it lacks more than that."""
        self._image = self._open(JpegSource(self._data))
        self._load(self._image, shrink_to)
        with self._open(JpegSource(self._data, with_noise=True)) as noisy:
            self._load(noisy, shrink_to)
            share = shown_share(np.asarray(self._image), np.asarray(noisy))
        if share < 1:
            # Each scan of a progressive one has all rows.
            where = "too early" if "progressive" in noisy.info else f"after {int(100 * share)} % of its rows"
            raise InvalidMedia(f"This JPEG ends {where}; upload the whole file.")
        return self._image

    def _profile(self) -> bytes | None:
        """Return the ICC profile of the samples, or one made from what the file says of their colours."""
        info = self._image.info
        if info.get("icc_profile"):
            return bytes(info["icc_profile"])
        transfer, primaries = self._codes
        if transfer not in PEAK and not is_srgb(transfer, primaries):
            return matrix_profile(PRIMARIES.get(primaries, PRIMARIES[1]), GAMMAS.get(transfer, SRGB_CURVE))
        return matrix_profile(ADOBE_RGB, ADOBE_GAMMA) if self._is_adobe_rgb() else None

    @cached_property
    def _codes(self) -> tuple[int, int]:
        """Return (transfer, primaries) by H.273, (2, 2) where the file does not say."""
        codes = self._image.info.get("nclx_profile")
        if codes:
            return int(codes["transfer_characteristics"]), int(codes["color_primaries"])
        return (colour_codes(self._data) or (2, 2)) if self.format == "AVIF" else (2, 2)

    def _is_adobe_rgb(self) -> bool:
        raw = self._image.info.get("exif") or b""
        if self.format != "TIFF" and not any(mark in raw for mark in _ADOBE_MARKS):
            return False  # spares ordinary pictures half a millisecond
        with suppress(*_BROKEN):
            exif = self._image.getexif()
            if ExifTags.IFD.Exif in exif:
                space = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
                interop = exif.get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
                return bool(space == _ADOBE_RGB or interop == "R03")
        return False

    def _deep(self, layout: Any) -> NDArray[np.uint16] | None:
        """Return samples of more than 8 bits as uint16 (H, W) or (H, W, C) of full range, None for others."""
        image = self._image
        # 0 is white in some TIFFs, which Pillow minds for 8 bits only.
        negative = self.format == "TIFF" and self._tag(_PHOTOMETRIC_TAG) == 0
        if image.mode == "F":
            return _scaled(np.asarray(image), 1.0, negative=negative)
        if image.mode in _DEEP:
            samples = np.asarray(image).view(np.uint32) if image.mode == "I" else np.asarray(image)
            bits = 16 if self.format == "PNG" else self._tag(_BITS_TAG)
            return _scaled(samples, 2.0**bits - 1, negative=negative)
        return self._both_bytes(layout)

    def _both_bytes(self, layout: Any) -> NDArray[np.uint16] | None:
        """Return RGB and RGBA of 16 bits, of which Pillow reads a byte at a time; ``layout`` names what it has read."""
        other = _LOW_BYTE.get(layout[0] if isinstance(layout, tuple) else layout)
        if other is None:
            return None
        with self._open(BytesIO(self._data)) as low:
            low.tile = [tile._replace(args=_renamed(tile.args, other)) for tile in low.tile]
            low.load()
            samples = np.asarray(self._image).astype(np.uint16)
            np.left_shift(samples, 8, out=samples)
            np.bitwise_or(samples, np.asarray(low), out=samples)
        return samples

    def _deep_rgb(self, samples: NDArray[np.uint16]) -> Image.Image:
        alpha, colours = None, samples
        if samples.ndim == 3:
            colours = np.ascontiguousarray(samples[..., :3])
            alpha = samples[..., 3] if samples.shape[2] == 4 else None
        clear = self._image.info.get("transparency")
        if alpha is None and clear is not None:
            shown = (samples != np.asarray(clear)).reshape(*samples.shape[:2], -1).any(2)
            alpha = np.where(shown, np.uint16(65_535), np.uint16(0))
        rgb = Image.fromarray(self._hdr(colours) if self._codes[0] in PEAK else deep_to_srgb(colours, self._profile()))
        return rgb if alpha is None else _on_white(rgb, Image.fromarray((alpha >> 8).astype(np.uint8)))

    def _shallow_rgb(self, image: Image.Image) -> Image.Image:
        if image.mode == "LAB":
            return lab_to_rgb(image)
        grey = image.mode in ("L", "LA", "La")
        clear = image.info.get("transparency") is not None
        if clear or image.getbands()[-1] in "Aa":
            layered = image.convert("LA" if grey else "RGBA")
            alpha = layered.getchannel("A")
            return _on_white(self._srgb(layered.convert("L" if grey else "RGB")), alpha)
        return self._srgb(image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB"))

    def _srgb(self, image: Image.Image) -> Image.Image:
        if self._codes[0] in PEAK:
            return Image.fromarray(self._hdr(np.asarray(image.convert("RGB"))))
        return to_srgb(image, self._profile())

    def _hdr(self, samples: NDArray[Any]) -> Pixels:
        samples = samples if samples.ndim == 3 else samples[..., None].repeat(3, 2)
        return ColourConverter(*self._codes).pixels(samples)


def _scaled(samples: NDArray[Any], white: float, *, negative: bool) -> NDArray[np.uint16]:
    """Return samples from 0 to ``white`` in 16 bits, what lies outside being clipped; what is no number is black."""
    scaled = np.empty(samples.shape, np.uint16)
    for row, source in zip(scaled, samples, strict=True):  # a row at a time takes little memory
        share = np.clip(np.nan_to_num(source.astype(np.float32) / np.float32(white)), 0, 1)
        row[:] = np.rint(65_535 * (1 - share if negative else share))
    return scaled


def _deep_heif(data: bytes) -> NDArray[np.uint16]:
    """Return the primary picture of a HEIF of more than 8 bits, upright, as (H, W, C) of full range."""
    import pillow_heif

    return np.array(pillow_heif.open_heif(BytesIO(data), convert_hdr_to_8bit=False), np.uint16)


def _renamed(layout: Any, name: str) -> Any:
    return (name, *layout[1:]) if isinstance(layout, tuple) else name


def _on_white(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    rgb.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")


@cache
def _register_heif() -> None:
    from pillow_heif import register_heif_opener  # 50 ms that only a process which decodes should pay

    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def _diagnosis(still: StillImage | None, error: BaseException) -> str:
    if still is None:
        return f"This image cannot be read: it is damaged, cut short or of another format. Send {ACCEPTED}."
    if "truncated" not in str(error):
        return f"This {still.format} is damaged or cut short; upload the original file again."
    with suppress(*_BROKEN):
        # Rows that were never decoded are still zero, so for a picture that is black there the share is too low.
        box, (_, height) = still._image.im.getbbox(), still._image.im.size
        if box is not None:
            share = min(99, 100 * box[3] // height)
            return f"This {still.format} ends after {share} % of its rows; upload the whole file."
    return f"This {still.format} ends too early; upload the whole file."


def _mega(pixels: int) -> str:
    return f"{pixels / 1e6:g} million"
