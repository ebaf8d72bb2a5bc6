"""Decodes still images to RGB pixels: the one place that opens a still image.

Limits are checked on the header, before any pixel is decoded, and whatever a decoder raises on damaged bytes becomes
``InvalidMedia``. Ordinary JPEG, PNG and WEBP are decoded in this process, as their header bounds the work; all else
in a child that can be killed (vision/child.py). Either waits for its share of memory first (vision/memory.py).

Never set ``ImageFile.LOAD_TRUNCATED_IMAGES`` in a process that uses this module: half an image would pass for a whole
one.
"""

import pickle
import struct
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from io import BytesIO
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from vision import child
from vision.child import Allowance, Child
from vision.colour import GAMMAS, PEAK, PRIMARIES, ColourConverter, is_srgb
from vision.errors import InvalidMedia, MediaTooLarge
from vision.images import jpeg, png, webp
from vision.images.codes import colour_codes
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
from vision.images.truncation import JPEG_END, JpegSource, shown_share
from vision.memory import reserved

T = TypeVar("T")

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
MOST_SIDE: Final = 65_535
"""Pixels of a side, as in a JPEG. Libraries pad rows, so a column of millions would take gigabytes."""
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
_LYING: Final = {5, 6, 7, 8}
"""Values of the EXIF tag Orientation for pictures that are stored on their side."""
_FROM_BELOW: Final = {3, 4, 6, 7}
"""Those whose first stored row is the last row or column that is shown."""
_ADOBE_RGB: Final = 2
"""Value of the EXIF tag ColorSpace that cameras write, though no standard has it; others say R03 by DCF."""
_ADOBE_MARKS: Final = (b"R03\0", struct.pack(">HHIH", 0xA001, 3, 1, 2), struct.pack("<HHIH", 0xA001, 3, 1, 2))
"""Bytes of EXIF without which it does not say so."""

_STRIP: Final = 2**18
"""Pixels that are converted at a time."""
_STRIPS: Final = 32 * 2**20
"""Bytes that converting a strip takes, and small things."""
_DECODER_BYTES: Final = {"WEBP": 13, "AVIF": 9, "HEIF": 9, "TIFF": 4}
"""Bytes a pixel of what a decoder holds beside its result."""
_SHORT_VISITS: Final = 16_000_000
_SHORT_SAMPLES: Final = 64_000_000
"""Blocks of a JPEG and bytes of samples of others that are decoded in about half a second."""
_CPU_S, _PIXEL_S, _DEEP_PIXEL_S = 2.0, 0.2e-6, 0.5e-6
"""Seconds for any picture and for each pixel, ten times and more what ordinary ones take."""
_SPARE: Final = 512 * 2**20
_OPENING: Final = Allowance(cpu_s=5.0, memory=_SPARE)

_open_session: Generator[Any, Any, None]
"""Of the image that is open, in a child between its two calls."""

_BITS_TAG, _PHOTOMETRIC_TAG, _TILE_WIDTH_TAG, _TILE_HEIGHT_TAG, _FORMAT_TAG = 258, 262, 322, 323, 339


@dataclass(frozen=True, slots=True)
class Facts:
    """What a picture is: one of ``FORMATS``, and its size in pixels as it is shown, upright."""

    format: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Effort:
    """What decoding a picture takes by its header: bytes, seconds at most, and whether it is ordinarily short."""

    memory: int
    cpu_s: float
    short: bool


def decode(data: bytes, *, max_pixels: int, shrink_to: int | None = None) -> Pixels:
    """Return an encoded image as RGB in the colours of sRGB: uint8 (H, W, 3), contiguous, read-only.

    ``shrink_to`` is the shortest side, in pixels, that the caller will resize to. A JPEG is then decoded at
    1/2, 1/4 or 1/8 of its size as long as its shortest side stays at least twice that, which leaves the later
    resize enough to filter; anything else comes in full size. Raises as ``examine``.
    """
    pixels = _done(_pixels, data, max_pixels, shrink_to)
    pixels.setflags(write=False)
    return pixels


def examine(data: bytes, max_pixels: int) -> Facts:
    """Return what an encoded image is, once all of its pixels have been decoded.

    Raises ``InvalidMedia`` and ``MediaTooLarge``, also for one that takes too long to decode; ``StageOverloaded`` and
    ``DeadlineExceeded`` where the request ended before, and ``StageUnavailable``.
    """
    return _done(_facts, data, max_pixels, None)


def _done(job: Callable[["StillImage", int | None], T], data: bytes, max_pixels: int, shrink_to: int | None) -> T:
    """Do a job on an image where that is safe: here, or in a child."""
    if _opens_here(data):
        with opened(data, max_pixels) as still:
            effort = still.effort(shrink_to)
            if effort.short:
                with reserved(effort.memory):
                    return job(still, shrink_to)
    else:
        with child.leased() as process:
            effort = _opened_by(process, data, max_pixels, shrink_to)
            with reserved(effort.memory, wait=False) as held:
                if held:
                    return _done_by(process, effort, job)
    # Who waits for memory leaves the child to others.
    with reserved(effort.memory), child.leased() as process:
        _opened_by(process, data, max_pixels, shrink_to)
        return _done_by(process, effort, job)


def _opened_by(process: Child, data: bytes, max_pixels: int, shrink_to: int | None) -> Effort:
    return process.call(_OPENING, _open_in_child, pickle.PickleBuffer(data), max_pixels, shrink_to)


def _done_by(process: Child, effort: Effort, job: Callable[["StillImage", int | None], T]) -> T:
    result: T = process.call(Allowance(effort.cpu_s, effort.memory + _SPARE), _do_in_child, job)
    return result


def _opens_here(data: bytes) -> bool:
    """Return whether it is a format whose header is read safely, in few steps."""
    if data.startswith(b"\xff\xd8"):
        return True
    if data.startswith(png.SIGNATURE):
        return not png.has_many_chunks(data)
    return webp.is_webp(data) and not webp.has_many_chunks(data)


def _session(data: bytes, max_pixels: int, shrink_to: int | None) -> Generator[Any, Any, None]:
    """Yield the effort of an image, then the result of the job that is sent."""
    with opened(data, max_pixels) as still:
        job = yield still.effort(shrink_to)
        yield job(still, shrink_to)


def _open_in_child(data: memoryview, max_pixels: int, shrink_to: int | None) -> Effort:
    global _open_session
    _open_session = _session(bytes(data), max_pixels, shrink_to)
    effort: Effort = next(_open_session)
    return effort


def _do_in_child(job: Callable[["StillImage", int | None], T]) -> T:
    with closing(_open_session) as session:
        result: T = session.send(job)
    return result


def _pixels(still: "StillImage", shrink_to: int | None) -> Pixels:
    return still.pixels(shrink_to)


def _facts(still: "StillImage", _: int | None) -> Facts:
    return still.facts()


@contextmanager
def opened(data: bytes, max_pixels: int) -> Iterator["StillImage"]:
    """Open an image in this process: its header is read and its limits are checked, no pixel is decoded.

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
        self._scans = jpeg.read_scans(data if data.startswith(b"\xff\xd8") else b"")
        if data.startswith(png.SIGNATURE):
            data, info = png.first_picture(data)
        elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            data = full_page(data)
        elif webp.is_webp(data):
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
        """Raise MediaTooLarge for more pixels or longer sides than may be, InvalidMedia for samples without a white."""
        width, height = self._image.size
        # A tile of a TIFF is decoded whole, so a small image with one huge tile is a bomb as well.
        tile = self._tag(_TILE_WIDTH_TAG) * self._tag(_TILE_HEIGHT_TAG)
        if max(width * height, tile) > max_pixels:
            raise MediaTooLarge(
                f"This is a {self.format} with {width} x {height} pixels; "
                f"the limit is {_mega(max_pixels)} pixels. Send it smaller."
            )
        if max(width, height) > MOST_SIDE:
            raise MediaTooLarge(
                f"This is a {self.format} with {width} x {height} pixels; no side may have more than {MOST_SIDE:,}. "
                "Send a part of it."
            )
        self._scans.check()
        signed = self._image.mode == "I" and self._tag(_FORMAT_TAG) != _UNSIGNED
        if self._image.mode not in _MODES or signed:
            kind = "signed" if signed else repr(self._image.mode)
            raise InvalidMedia(
                f"This {self.format} has {kind} samples, which have no defined white; "
                "save it with 8 or 16 bits a channel."
            )

    def effort(self, shrink_to: int | None = None) -> Effort:
        """Return what decoding it takes."""
        image, name = self._image, self.format
        whole_size = image.width * image.height
        if shrink_to is not None and name == "JPEG":
            image.draft(None, (2 * shrink_to, 2 * shrink_to))
        pixels = image.width * image.height
        layout = image.tile[0][3] if image.tile else None
        deep = image.mode in _DEEP or _low_layout(layout) is not None
        loaded = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}.get(image.mode, 4)
        if name in _DECODER_BYTES:
            each = _DECODER_BYTES[name] + loaded
        elif _low_layout(layout) is not None:
            each = 2 * loaded
        else:
            each = loaded
        if name == "JPEG":
            coefficients = 2 * whole_size * len(image.getbands()) if "progressive" in image.info else 0
            whole = self._data.rfind(JPEG_END) > self._data.rfind(b"\xff\xda")
            memory = each * pixels * (1 if whole else 2) + max(3 * pixels, coefficients)
        else:
            memory = (each + 3) * pixels
        memory += 2 * len(self._data) + _STRIPS
        samples = pixels * len(image.getbands()) * (2 if deep else 1)
        short = {"JPEG": self._scans.visits <= _SHORT_VISITS, "PNG": samples <= _SHORT_SAMPLES}.get(
            name, name == "WEBP" and samples <= _SHORT_SAMPLES
        )
        return Effort(memory, _CPU_S + pixels * (_DEEP_PIXEL_S if deep else _PIXEL_S), short)

    def facts(self) -> Facts:
        """Decode the image and return what it is."""
        width, height = self._image.size
        self._read()
        return Facts(self.format, *((height, width) if self.orientation in _LYING else (width, height)))

    def pixels(self, shrink_to: int | None = None) -> Pixels:
        """Decode the image to RGB, uint8 (H, W, 3), upright, as a viewer shows it.

        Colours become those of sRGB, by the ICC profile, by the codes of PNG, HEIF and AVIF (HDR is tone-mapped), or
        by the EXIF tags of cameras; those of a picture that says nothing of them stay. CMYK without a profile is
        converted by subtraction. Transparency is composited on white, as transformers 5 does. Samples of 16 and 32 bits
        are scaled from their whole range and rounded; floats from 0 to 1, what lies outside being clipped.
        """
        strip = self._strips(shrink_to)
        width, height = self._image.size
        lying = self.orientation in _LYING
        turn = _UPRIGHT.get(self.orientation)
        if turn is None and width * height <= 8 * _STRIP:
            return np.asarray(strip(0, height))
        pixels = np.empty((width, height, 3) if lying else (height, width, 3), np.uint8)
        rows = max(1, _STRIP // width)
        for top in range(0, height, rows):  # a part that fits into the cache takes little time and memory
            bottom = min(top + rows, height)
            rgb = strip(top, bottom)
            part = np.asarray(rgb if turn is None else rgb.transpose(turn))
            span = slice(height - bottom, height - top) if self.orientation in _FROM_BELOW else slice(top, bottom)
            if lying:
                pixels[:, span] = part
            else:
                pixels[span] = part
        return pixels

    def close(self) -> None:
        """Free what the decoder holds."""
        self._image.close()

    def _open(self, source: BytesIO) -> ImageFile.ImageFile:
        return Image.open(source, formats=FORMATS)

    def _tag(self, number: int) -> int:
        """Return the first value of a tag of a TIFF, 1 where it has none."""
        value = getattr(self._image, "tag_v2", {}).get(number, 1)
        return int(value[0] if isinstance(value, tuple) else value)

    def _read(self) -> None:
        """Read all samples of the image, whatever becomes of them. Raises as ``_load``.

        At an eighth of its size every code of a JPEG is read as well, in two thirds of the time. What fails there is
        decoded whole, which says what is wrong with it.
        """
        if self.format == "JPEG":
            self._image.draft(None, (1, 1))
            try:
                self._image.load()
            except _BROKEN:
                self._image.close()
                self._image = self._open(BytesIO(self._data))
            else:
                return
        self._load(None)

    def _load(self, shrink_to: int | None) -> None:
        """Decode the samples. Raises InvalidMedia for a JPEG that lacks more than its end mark."""
        try:
            self._decode(self._image, shrink_to)
        except OSError as error:
            if self.format != "JPEG" or "truncated" not in str(error):
                raise
        else:
            return
        self._image.close()
        self._image = self._open(JpegSource(self._data))
        self._decode(self._image, shrink_to)
        with self._open(JpegSource(self._data, with_noise=True)) as noisy:
            self._decode(noisy, shrink_to)
            share = shown_share(self._image, noisy)
        if share < 1:
            # Each scan of a progressive one has all rows.
            where = "too early" if "progressive" in noisy.info else f"after {int(100 * share)} % of its rows"
            raise InvalidMedia(f"This JPEG ends {where}; upload the whole file.")

    def _decode(self, image: ImageFile.ImageFile, shrink_to: int | None) -> None:
        if shrink_to is not None and self.format == "JPEG":
            image.draft(None, (2 * shrink_to, 2 * shrink_to))
        image.load()

    def _strips(self, shrink_to: int | None) -> Callable[[int, int], Image.Image]:
        """Decode the samples, and return what makes RGB of the rows from one to before another."""
        if self.format == "HEIF" and self._codes[0] in PEAK and self._image.info.get("bit_depth", 8) > 8:
            samples = _deep_heif(self._data)
            return lambda top, bottom: self._deep_rgb(samples[top:bottom])
        box, layout = self._image.tile[0][1::2] if self._image.tile else (None, None)
        self._load(shrink_to)
        image, low = self._image, self._low_bytes(layout)
        if self.format != "GIF" or box == (0, 0, *image.size) or "transparency" in image.info:
            box = None

        def strip(top: int, bottom: int) -> Image.Image:
            rows = (0, top, image.width, bottom)
            part = image if rows == (0, 0, *image.size) else image.crop(rows)
            deep = self._deep(part, None if low is None else low.crop(rows))
            rgb = self._shallow_rgb(part) if deep is None else self._deep_rgb(deep)
            return rgb if box is None else _framed(rgb, box, top)

        return strip

    @cached_property
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

    def _deep(self, image: Image.Image, low: Image.Image | None) -> NDArray[np.uint16] | None:
        """Return samples of more than 8 bits as uint16 (H, W) or (H, W, C) of full range, None for others."""
        if low is not None:
            samples = np.asarray(image).astype(np.uint16)
            np.left_shift(samples, 8, out=samples)
            np.bitwise_or(samples, np.asarray(low), out=samples)
            return samples
        # 0 is white in some TIFFs, which Pillow minds for 8 bits only.
        negative = self.format == "TIFF" and self._tag(_PHOTOMETRIC_TAG) == 0
        if image.mode == "F":
            return _scaled(np.asarray(image), 1.0, negative=negative)
        if image.mode in _DEEP:
            samples = np.asarray(image).view(np.uint32) if image.mode == "I" else np.asarray(image)
            bits = 16 if self.format == "PNG" else self._tag(_BITS_TAG)
            return _scaled(samples, 2.0**bits - 1, negative=negative)
        return None

    def _low_bytes(self, layout: Any) -> Image.Image | None:
        """Decode the low bytes of RGB and RGBA of 16 bits, of which Pillow reads a byte at a time, None for others.

        ``layout`` names what it has read.
        """
        other = _low_layout(layout)
        if other is None:
            return None
        with self._open(BytesIO(self._data)) as low:
            low.tile = [tile._replace(args=_renamed(tile.args, other)) for tile in low.tile]
            return low.copy()

    def _deep_rgb(self, samples: NDArray[np.uint16]) -> Image.Image:
        alpha, colours = None, samples
        if samples.ndim == 3:
            colours = np.ascontiguousarray(samples[..., :3])
            alpha = samples[..., 3] if samples.shape[2] == 4 else None
        clear = self._image.info.get("transparency")
        if alpha is None and clear is not None:
            shown = (samples != np.asarray(clear)).reshape(*samples.shape[:2], -1).any(2)
            alpha = np.where(shown, np.uint16(65_535), np.uint16(0))
        rgb = Image.fromarray(self._hdr(colours) if self._codes[0] in PEAK else deep_to_srgb(colours, self._profile))
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
        return to_srgb(image, self._profile)

    def _hdr(self, samples: NDArray[Any]) -> Pixels:
        samples = samples if samples.ndim == 3 else samples[..., None].repeat(3, 2)
        pixels: Pixels = self._converter.pixels(samples)
        return pixels

    @cached_property
    def _converter(self) -> ColourConverter:
        return ColourConverter(*self._codes)


def _scaled(samples: NDArray[Any], white: float, *, negative: bool) -> NDArray[np.uint16]:
    """Return samples from 0 to ``white`` in 16 bits, what lies outside being clipped; what is no number is black."""
    share = np.clip(np.nan_to_num(samples.astype(np.float32) / np.float32(white)), 0, 1)
    scaled: NDArray[np.uint16] = np.rint(65_535 * (1 - share if negative else share)).astype(np.uint16)
    return scaled


def _deep_heif(data: bytes) -> NDArray[np.uint16]:
    """Return the primary picture of a HEIF of more than 8 bits, upright, as (H, W, C) of full range."""
    import pillow_heif

    return np.array(pillow_heif.open_heif(BytesIO(data), convert_hdr_to_8bit=False), np.uint16)


def _low_layout(layout: Any) -> str | None:
    return _LOW_BYTE.get(layout[0] if isinstance(layout, tuple) else layout)


def _renamed(layout: Any, name: str) -> Any:
    return (name, *layout[1:]) if isinstance(layout, tuple) else name


def _framed(rgb: Image.Image, box: tuple[int, int, int, int], top: int) -> Image.Image:
    """Return rows of a picture from ``top`` on with white around a first frame that is smaller than the canvas."""
    canvas = Image.new("RGB", rgb.size, "white")
    left, upper, right, lower = box[0], max(0, box[1] - top), box[2], min(rgb.height, box[3] - top)
    if upper < lower:
        canvas.paste(rgb.crop((left, upper, right, lower)), (left, upper))
    return canvas


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
