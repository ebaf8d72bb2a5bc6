"""Reads the chunks of a PNG, so that a decoder gets what makes its first picture and nothing else.

Generators of pictures write megabytes of compressed text, editors write profiles of megabytes, and both stand in chunks
that a picture can do without. They are left out here, unread, like ancillary chunks whose checksum is wrong; what a
profile unpacks to is bounded. Chunks and their order: W3C Portable Network Graphics (PNG) Specification, third edition.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

from vision.colour import is_srgb
from vision.errors import InvalidMedia
from vision.images.profiles import MAX_PROFILE, SRGB_CURVE, matrix_profile

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
USUAL_CHUNKS: Final = 20_000
_KEPT: Final = {b"PLTE", b"tRNS", b"eXIf"}
_TRANSPARENCY: Final = {0: {2}, 2: {6}, 3: range(1, 257)}
"""Bytes that a tRNS may have, by type of colour."""
_COLOURS: Final = {b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"}
_GAMMA_OF_SRGB: Final = 45_455
_GAMMA_TOLERANCE: Final = 0.05
"""Relative; what libpng counts as the same gamma."""
_GAMMAS: Final = range(10_000, 500_000)
"""Believable ones: of files whose gAMA is not mistaken."""
_SRGB_XY: Final = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_XY_TOLERANCE: Final = 1000

Info = dict[str, Any]


def first_picture(data: bytes) -> tuple[bytes, Info]:
    """Return a PNG of the first picture alone, and its colours as Pillow and pillow_heif name them in ``info``.

    Of an animation whose default image is not part of it, that is the first frame if it fills the canvas. Raises
    InvalidMedia where the checksum of a critical chunk is wrong; a file that ends too early is passed on as it is.
    """
    header, frames, stills = b"", _FirstFrame(), bytearray()
    kept, colours = dict[bytes, bytes](), dict[bytes, bytes]()
    for name, body, intact in _chunks(data):
        if not intact:
            if name[0] & 0x20:  # ancillary
                continue
            raise InvalidMedia("This PNG is damaged: a checksum is wrong. Upload the original file again.")
        if name == b"IHDR" and not header:
            header = bytes(body)
        elif name == b"IDAT":
            stills += body
        elif name in _KEPT:
            kept.setdefault(name, bytes(body))
        elif name in _COLOURS and not stills:
            colours.setdefault(name, bytes(body))
        elif name in (b"acTL", b"fcTL", b"fdAT"):
            frames.add(name, body, hidden=not stills)
    pictures = frames.pictures if frames.size == header[:8] else stills
    parts: list[bytes | bytearray] = [SIGNATURE, *_written(b"IHDR", header)]
    if len(kept.get(b"tRNS", b"")) not in _TRANSPARENCY.get(header[9] if len(header) > 9 else -1, ()):
        kept.pop(b"tRNS", None)
    for name, content in kept.items():
        parts += _written(name, content)
    if pictures:
        # In one chunk, as a file may have millions of empty ones.
        parts += _written(b"IDAT", pictures)
    return b"".join([*parts, *_written(b"IEND", b"")]), _colours(colours, header)


def has_many_chunks(data: bytes) -> bool:
    """Return whether a PNG has more than ``USUAL_CHUNKS``, which take seconds to read one by one."""
    at = len(SIGNATURE)
    for _ in range(USUAL_CHUNKS):
        if at + 8 > len(data):
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return True


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Yield name, body and whether the checksum is right, up to the end; a last chunk that is cut has no checksum."""
    view, at = memoryview(data), len(SIGNATURE)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body, end = view[at + 8 : at + 8 + length], at + 12 + length
        if name == b"IEND" or not name.isalpha():
            return
        checksum = struct.unpack_from(">I", data, end - 4)[0] if end <= len(data) else None
        if checksum is None and name != b"IDAT":
            return
        yield name, body, checksum is None or checksum == zlib.crc32(body, zlib.crc32(name))
        at = end


def _written(name: bytes, body: bytes | bytearray) -> tuple[Any, ...]:
    return struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


class _FirstFrame:
    """The data of an animation's first frame where that is not the default image."""

    def __init__(self) -> None:
        self.size, self.pictures = b"", bytearray()
        self._animated = self._over = False

    def add(self, name: bytes, body: memoryview, *, hidden: bool) -> None:
        """Take a chunk of the animation; ``hidden``: no picture came before it."""
        if name == b"acTL":
            self._animated = hidden
        elif name == b"fdAT" and self.size and not self._over:
            self.pictures += body[4:]
        elif name == b"fcTL":
            # A frame that is controlled before the default image is that image.
            self._over = self._over or hidden or bool(self.pictures) or not self._animated
            if not self._over and body[12:20] == bytes(8):
                self.size = bytes(body[4:12])


def _colours(chunks: dict[bytes, bytes], header: bytes) -> Info:
    """Return what the pictures colours are by the first chunk that counts: cICP, iCCP, sRGB, then gAMA with cHRM."""
    code = chunks.get(b"cICP", b"")
    if len(code) == 4 and code[2:] == b"\0\1":  # RGB of full range, as all of a PNG is
        primaries, transfer = code[:2]
        srgb = is_srgb(transfer, primaries)
        return {} if srgb else {"nclx_profile": {"color_primaries": primaries, "transfer_characteristics": transfer}}
    profile = _profile(chunks.get(b"iCCP", b""))
    if profile:
        return {"icc_profile": profile}
    if b"sRGB" in chunks or len(chunks.get(b"gAMA", b"")) != 4:
        return {}
    (gamma,) = struct.unpack(">I", chunks[b"gAMA"])
    points = struct.unpack(">8I", chunks[b"cHRM"]) if len(chunks.get(b"cHRM", b"")) == 32 else _SRGB_XY
    ordinary = abs(gamma / _GAMMA_OF_SRGB - 1) < _GAMMA_TOLERANCE
    usual = all(abs(point - srgb) <= _XY_TOLERANCE for point, srgb in zip(points, _SRGB_XY, strict=True))
    if (ordinary and usual) or gamma not in _GAMMAS:
        return {}
    white, *primaries_xy = ((points[i] / 1e5, points[i + 1] / 1e5) for i in range(0, 8, 2))
    grey = len(header) > 9 and header[9] in (0, 4)
    curve = SRGB_CURVE if ordinary else 1e5 / gamma
    red, green, blue = primaries_xy
    made = matrix_profile(None if grey else (red, green, blue, white), curve)
    return {"icc_profile": made} if made else {}


def _profile(body: bytes) -> bytes:
    """Return the profile of an iCCP chunk, empty if it is broken or larger than ``MAX_PROFILE``."""
    name_end = body.find(b"\0")
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(body[name_end + 2 :], MAX_PROFILE + 1) if name_end >= 0 else b""
    except zlib.error:
        return b""
    return profile if len(profile) <= MAX_PROFILE else b""
