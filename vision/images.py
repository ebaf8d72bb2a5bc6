"""Decodes still images to RGB pixels: the one place that opens a still image.

The pixel limit is checked on the header, before any pixel is decoded, and whatever a decoder raises on
damaged bytes becomes ``InvalidMedia``. Never set ``ImageFile.LOAD_TRUNCATED_IMAGES`` in a process
that uses this module: half an image would pass for a whole one.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from vision.errors import InvalidMedia, MediaTooLarge

Pixels = NDArray[np.uint8]

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
ACCEPTED: Final = "JPG, PNG, WEBP, GIF, BMP, TIFF, AVIF or HEIC"

# Samples of 8 bits or fewer, and unsigned 16. Signed, 32-bit and float samples have no agreed white.
_MODES: Final = {
    *("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"),
    *("I;16", "I;16L", "I;16B"),
}

# What Pillow's plugins raise on damaged bytes.
_BROKEN: Final = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError),
    *(AttributeError, AssertionError, RuntimeError, MemoryError, struct.error, zlib.error),
)

_ORIENTATION_TAG: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, *, max_pixels: int, shrink_to: int | None = None) -> Pixels:
    """Return the first frame of an encoded image, upright, as RGB: uint8 (H, W, 3), contiguous, read-only.

    ``shrink_to`` is the shortest side, in pixels, that the caller will resize to. A JPEG is then decoded at
    1/2, 1/4 or 1/8 of its size as long as its shortest side stays at least twice that, which leaves the later
    resize enough to filter; anything else comes in full size. Raises ``InvalidMedia`` and ``MediaTooLarge``.
    """
    with opened(data, max_pixels) as image:
        if shrink_to is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, (2 * shrink_to, 2 * shrink_to))
        return np.asarray(upright_rgb(image))


@contextmanager
def opened(data: bytes, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """Open an image: its header is read and its limits are checked, no pixel is decoded.

    Do nothing but Pillow calls in the body: a decoder's exception becomes ``InvalidMedia`` there too.
    """
    _register_heif()
    image: ImageFile.ImageFile | None = None
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check(image, max_pixels)
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        # Pillow's own limit (179 MP) is far above ours; it raises first only for sizes beyond both.
        message = f"This image has more than {_mega(max_pixels)} pixels. Send it smaller."
        raise MediaTooLarge(message) from None
    except _BROKEN as error:
        raise InvalidMedia(_diagnosis(image, error)) from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """Decode an image, turn it upright by EXIF and convert it to mode RGB.

    Transparency is composited on white, as transformers 5 does; 16-bit grey keeps its high byte; CMYK is converted
    without its ICC profile, like every other mode.
    """
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.getbands()[-1] in "Aa" or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


@cache
def _register_heif() -> None:
    from pillow_heif import register_heif_opener  # 50 ms that only a process which decodes should pay

    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def _check(image: ImageFile.ImageFile, max_pixels: int) -> None:
    width, height = image.size
    # A tile of a TIFF is decoded whole, so a small image with one huge tile is a bomb as well.
    tags = getattr(image, "tag_v2", {})
    tile = int(tags.get(322, 1)) * int(tags.get(323, 1))
    if max(width * height, tile) > max_pixels:
        raise MediaTooLarge(
            f"This is a {name_of(image)} with {width} x {height} pixels; "
            f"the limit is {_mega(max_pixels)} pixels. Send it smaller."
        )
    if image.mode not in _MODES:
        raise InvalidMedia(
            f"This {name_of(image)} has {image.mode!r} samples, which have no defined white; "
            "save it with 8 or 16 bits a channel."
        )


def name_of(image: ImageFile.ImageFile) -> str:
    """Return the format as one of ``FORMATS``; an MPO is a JPEG with further pictures after the first."""
    return "JPEG" if image.format == "MPO" else str(image.format)


def _orientation(image: Image.Image) -> int:
    with suppress(*_BROKEN):  # a damaged EXIF block does not make the pixels unreadable
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    return 1


def _diagnosis(image: ImageFile.ImageFile | None, error: BaseException) -> str:
    if image is None:
        return f"This image cannot be read: it is damaged, cut short or of another format. Send {ACCEPTED}."
    if "truncated" not in str(error):
        return f"This {name_of(image)} is damaged or cut short; upload the original file again."
    with suppress(*_BROKEN):
        # Rows that were never decoded are still zero, so for a picture that is black there the share is too low.
        box, (_, height) = image.im.getbbox(), image.im.size
        if box is not None:
            share = min(99, 100 * box[3] // height)
            return f"This {name_of(image)} ends after {share} % of its rows; upload the whole file."
    return f"This {name_of(image)} ends too early; upload the whole file."


def _mega(pixels: int) -> str:
    return f"{pixels / 1e6:g} million"
