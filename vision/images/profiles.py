"""Converts pictures of any ICC profile to sRGB, by littleCMS.

The intent is relative colorimetric with black point compensation, the usual one for photographs. A profile that is
broken, larger than ``MAX_PROFILE``, or made for other channels than the picture has is ignored, and one that is sRGB
leaves every pixel as it is: also one with the primaries of sRGB and a gamma of 2.2, by which software means its curve.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from vision.colour import D50, Point, colorants

Pixels = NDArray[np.uint8]
PrimaryColours = tuple[Point, Point, Point, Point]
"""Red, green, blue and white in CIE xy."""

MAX_PROFILE: Final = 8 * 2**20  # bytes; those of presses have up to 3 MB
ADOBE_RGB: Final[PrimaryColours] = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290))
ADOBE_GAMMA: Final = 563 / 256
SRGB_CURVE: Final = "srgb"

_SPACES: Final = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_SAME: Final = 2
"""Grey levels, to which the sRGB profiles of different makers agree."""
_SAME_CURVE: Final = 10
"""Grey levels in the darkest tones, by which a gamma of 2.2 differs; it does by less than ``_SAME`` on average."""
_ROWS: Final = 2**20
"""Pixels that are converted at a time from 16 bits."""

Conversion = Callable[[Image.Image], Image.Image]


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an image of mode L, RGB or CMYK in RGB, converted by its profile if that can be used, else itself."""
    convert = _conversion(profile, image.mode) if profile else None
    if convert is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    return convert(image)


def deep_to_srgb(samples: NDArray[np.uint16], profile: bytes | None) -> Pixels:
    """Return samples of 16 bits, (H, W) grey or (H, W, 3) RGB, as RGB: uint8 (H, W, 3), rounded.

    littleCMS is asked for the colours of 8 bits around each sample, between which the result lies in a straight line:
    shadows of linear light keep steps that 8 bits do not have.
    """
    mode = "L" if samples.ndim == 2 else "RGB"
    convert = _conversion(profile, mode) if profile else None
    pixels = np.empty((*samples.shape[:2], 3), np.uint8)
    rows = max(1, _ROWS // samples.shape[1])
    for top in range(0, len(samples), rows):
        part = samples[top : top + rows]
        if convert is None:
            rounded = ((part.astype(np.uint32) * 255 + 32_895) >> 16).astype(np.uint8)
            pixels[top : top + rows] = rounded if part.ndim == 3 else rounded[..., None]
        else:
            pixels[top : top + rows] = _between(convert, mode, part)
    return pixels


def lab_to_rgb(image: Image.Image) -> Image.Image:
    """Return an image of mode LAB, D50, in sRGB."""
    return _lab()(image)


@lru_cache(maxsize=1)
def _lab() -> Conversion:
    return _applying(ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), "LAB", "RGB"))


def _between(convert: Conversion, mode: str, samples: NDArray[np.uint16]) -> Pixels:
    scaled = samples.astype(np.float32) / 257
    low = np.minimum(scaled.astype(np.uint8), 254)
    share = scaled - low

    def converted(levels: Pixels) -> NDArray[np.float32]:
        return np.asarray(convert(Image.fromarray(levels)), np.float32)

    start = converted(low)
    if mode == "L":
        result = start + share[..., None] * (converted(low + 1) - start)
    else:
        result = start.copy()
        for channel in range(3):
            higher = low.copy()
            higher[..., channel] += 1
            result += share[..., channel, None] * (converted(higher) - start)
    return np.rint(np.clip(result, 0, 255)).astype(np.uint8)


def _applying(transform: ImageCms.ImageCmsTransform) -> Conversion:
    def converted(image: Image.Image) -> Image.Image:
        result = ImageCms.applyTransform(image, transform)
        assert result is not None
        return result

    return converted


def _by_tables(exact: Conversion) -> Conversion:
    """Return a conversion of grey, whose 256 levels are converted once."""
    levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    tables = [list(channel.tobytes()) for channel in exact(levels).split()]
    return lambda image: Image.merge("RGB", [image.point(table) for table in tables])


@lru_cache(maxsize=8)
def _conversion(profile: bytes, mode: str) -> Conversion | None:
    """Return the conversion to sRGB, None where pixels stay as they are."""
    if len(profile) > MAX_PROFILE:
        return None
    # Without this littleCMS takes short cuts that are ten levels off for grey of linear light.
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION | (ImageCms.Flags.NOOPTIMIZE if mode == "L" else 0)
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACES.get(mode):
            return None
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        convert = _applying(ImageCms.buildTransform(source, _srgb(), mode, "RGB", intent, flags))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "L":
        convert = _by_tables(convert)
    return None if _changes_nothing(convert, mode) else convert


@lru_cache(maxsize=1)
def _srgb() -> Any:
    return ImageCms.createProfile("sRGB")


def _changes_nothing(convert: Conversion, mode: str) -> bool:
    if mode == "CMYK":
        return False
    if mode == "RGB":
        levels = np.linspace(0, 255, 17).astype(np.uint8)
        image = Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(17, -1, 3))
    else:
        image = Image.linear_gradient("L")
    before, after = (np.asarray(i, np.int16) for i in (image.convert("RGB"), convert(image)))
    change = np.abs(before - after)
    return bool(change.max() <= _SAME or (mode == "RGB" and change.max() <= _SAME_CURVE and change.mean() <= _SAME))


@lru_cache(maxsize=16)
def matrix_profile(colours: PrimaryColours | None, curve: float | str) -> bytes | None:
    """Return an ICC profile, version 4, of these primaries, of grey for None; ``curve`` is a gamma or ``SRGB_CURVE``.

    Return None for primaries that no colour can be made of.
    """
    if isinstance(curve, float):
        points = b"para\0\0\0\0" + struct.pack(">Hxxi", 0, _fixed(curve))
    else:
        numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        points = b"para\0\0\0\0" + struct.pack(">Hxx5i", 3, *map(_fixed, numbers))
    if colours is None:
        tags = [(b"kTRC", points), (b"wtpt", _xyz(D50))]
    else:
        try:
            columns = colorants(colours).T
        except (np.linalg.LinAlgError, ZeroDivisionError):
            return None
        if not (np.abs(columns) < 4).all():
            return None
        tags = [(name + b"XYZ", _xyz(column)) for name, column in zip((b"r", b"g", b"b"), columns, strict=True)]
        tags += [(name + b"TRC", points) for name in (b"r", b"g", b"b")] + [(b"wtpt", _xyz(D50))]
    table, body = struct.pack(">I", len(tags)), b""
    for tag, value in tags:
        table += struct.pack(">4sII", tag, 132 + 12 * len(tags) + len(body), len(value))
        body += value
    space, size = b"GRAY" if colours is None else b"RGB ", 128 + len(table) + len(body)
    head = struct.pack(">I4xI4s4s4s12x4s28x", size, 0x04300000, b"mntr", space, b"XYZ ", b"acsp")
    return (head + _xyz(D50)[8:]).ljust(128, b"\0") + table + body


def _fixed(number: float) -> int:
    return round(float(number) * 65_536)


def _xyz(values: Any) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *map(_fixed, values))
