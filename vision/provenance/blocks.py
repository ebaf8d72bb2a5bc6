"""The metadata blocks of a JPEG, PNG or WebP, found without decoding a picture, in bounded steps and bytes.

ITU-T T.81 and T.86 with Exif 3.0, Adobe's XMP Specification Part 3 and IPTC IIM 4.2; PNG third edition; RFC 9649.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from vision.images import png, webp

Table = tuple[int, ...]

MOST_SEGMENTS: Final = 4_000
LARGEST_BLOCK: Final = 2**20
LARGEST_TEXT: Final = 64 * 1024
"""Of a longer text only its beginning is read."""
MOST_TEXTS: Final = 64
"""Each of which may take a megabyte to unpack."""
_EXIF, _XMP, _PHOTOSHOP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0"
_IPTC_RESOURCE: Final = 0x0404
_ZIGZAG: Final = (
    *(0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14),
    *(21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60),
    *(61, 54, 47, 55, 62, 63),
)
_FRAMES: Final = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_MARKER: Final = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""Of a segment that has a length."""
_RAW_PROFILE: Final = re.compile(r"Raw profile type (exif|APP1|xmp|iptc)", re.IGNORECASE)


@dataclass(slots=True)
class Blocks:
    """Metadata of a picture as it stands in the file.

    ``exif``: TIFF bytes; ``xmp``: a packet; ``iptc``: IIM datasets. ``texts``: (name, text) of PNG's text chunks and
    JPEG's comments. ``size``: (width, height) as stored. ``table``: of the luminance of a JPEG, 64 steps row by row.
    ``marks``: segments that only one maker of software writes.
    """

    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    texts: list[tuple[str, str]] = field(default_factory=list)
    size: tuple[int, int] | None = None
    table: Table | None = None
    marks: list[str] = field(default_factory=list)


def read_blocks(data: memoryview) -> Blocks:
    """Return the metadata blocks of a picture; empty for other files and for what is damaged."""
    head = bytes(data[:12])
    blocks = Blocks()
    if head.startswith(b"\xff\xd8"):
        _jpeg(data, blocks)
    elif head.startswith(png.SIGNATURE):
        _png(data, blocks)
    elif webp.is_webp(head):
        _webp(data, blocks)
    return blocks


def _jpeg(data: memoryview, blocks: Blocks) -> None:
    at = 2
    for _ in range(MOST_SEGMENTS):
        match = _MARKER.search(data, at)  # decoders step over what stands between segments
        if match is None or match.end() + 2 > len(data):
            return
        marker, at = data[match.end() - 1], match.end()
        if marker in (0xDA, 0xD9):
            return
        (length,) = struct.unpack_from(">H", data, at)
        _segment(marker, bytes(data[at + 2 : at + length]), blocks)
        at += max(length, 2)


def _segment(marker: int, body: bytes, blocks: Blocks) -> None:
    if marker == 0xE1 and body.startswith(_EXIF):
        blocks.exif = blocks.exif or body[len(_EXIF) :]
    elif marker == 0xE1 and body.startswith(_XMP):
        blocks.xmp = blocks.xmp or body[len(_XMP) :]
    elif marker == 0xED and body.startswith(_PHOTOSHOP):
        blocks.marks.append("Photoshop resources")
        if len(blocks.iptc) < LARGEST_BLOCK:
            blocks.iptc += b"".join(_resources(body[len(_PHOTOSHOP) :]))
    elif marker == 0xEC and body.startswith(b"Ducky"):
        blocks.marks.append("Photoshop, Save for Web")
    elif marker == 0xFE:
        _add_text(blocks, "comment", body)
    elif marker == 0xDB and blocks.table is None:
        blocks.table = _table(body)
    elif marker in _FRAMES and len(body) >= 5:
        height, width = struct.unpack_from(">HH", body, 1)
        blocks.size = width, height


def _table(body: bytes) -> Table | None:
    """Return the first quantisation table of a segment, row by row."""
    wide = bool(body) and body[0] >> 4 == 1
    form = struct.Struct(">64H" if wide else "64B")
    if len(body) <= form.size or body[0] & 15:
        return None
    steps = form.unpack_from(body, 1)
    rows = [0] * 64
    for place, step in zip(_ZIGZAG, steps, strict=True):
        rows[place] = step
    return tuple(rows)


def _resources(body: bytes) -> Iterator[bytes]:
    """Yield the IPTC data among Photoshop's image resources."""
    at = 0
    for _ in range(MOST_SEGMENTS):
        if body[at : at + 4] != b"8BIM" or at + 7 > len(body):
            return
        kind = int.from_bytes(body[at + 4 : at + 6], "big")
        at += 7 + body[at + 6] + (body[at + 6] + 1) % 2
        size = int.from_bytes(body[at : at + 4], "big")
        if kind == _IPTC_RESOURCE:
            yield body[at + 4 : at + 4 + size]
        at += 4 + size + size % 2


def _png(data: memoryview, blocks: Blocks) -> None:
    at, texts = len(png.SIGNATURE), 0
    for _ in range(png.USUAL_CHUNKS):
        if at + 8 > len(data):
            return
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if name == b"IHDR" and len(body) >= 8:
            width, height = struct.unpack_from(">II", body)
            blocks.size = width, height
        elif name == b"eXIf" and length <= LARGEST_BLOCK:
            blocks.exif = blocks.exif or bytes(body).removeprefix(_EXIF)
        elif name in (b"tEXt", b"zTXt", b"iTXt") and texts < MOST_TEXTS:
            texts += 1
            _png_text(name, bytes(body[: 4 * LARGEST_BLOCK]), blocks)
        elif name == b"IEND":
            return
        at += 12 + length


def _png_text(name: bytes, body: bytes, blocks: Blocks) -> None:
    key, _, rest = body.partition(b"\0")
    if name == b"zTXt":
        value = _inflated(rest[1:])
    elif name == b"iTXt":
        packed = rest[:1] == b"\1"
        value = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        value = _inflated(value) if packed else value
    else:
        value = rest
    title = key[:79].decode("latin-1")
    if title == "XML:com.adobe.xmp":
        blocks.xmp = blocks.xmp or value[:LARGEST_BLOCK]
    elif kind := _RAW_PROFILE.fullmatch(title):
        _raw_profile(kind[1].lower(), value, blocks)
    else:
        _add_text(blocks, title, value, "utf-8" if name == b"iTXt" else "latin-1")


def _inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, LARGEST_BLOCK)
    except zlib.error:
        return b""


def _raw_profile(kind: str, value: bytes, blocks: Blocks) -> None:
    """Take a profile as ImageMagick writes it: name, length and hexadecimal lines."""
    parts = value.split(None, 2)
    try:
        body = bytes.fromhex(parts[2].decode("ascii")) if len(parts) == 3 else b""
    except ValueError:
        return
    if kind == "iptc":
        blocks.iptc = blocks.iptc or b"".join(_resources(body)) or body
    elif kind == "xmp" or body.startswith(_XMP):
        blocks.xmp = blocks.xmp or body.removeprefix(_XMP)
    else:
        blocks.exif = blocks.exif or body.removeprefix(_EXIF)


def _webp(data: memoryview, blocks: Blocks) -> None:
    at = 12
    for _ in range(webp.USUAL_CHUNKS):
        if at + 8 > len(data):
            return
        name, size = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + size]
        if name == b"VP8X" and len(body) >= 10:
            width, height = (int.from_bytes(body[place : place + 3], "little") + 1 for place in (4, 7))
            blocks.size = width, height
        elif name == b"EXIF" and size <= LARGEST_BLOCK:
            blocks.exif = blocks.exif or bytes(body).removeprefix(_EXIF)
        elif name == b"XMP " and size <= LARGEST_BLOCK:
            blocks.xmp = blocks.xmp or bytes(body)
        at += 8 + size + size % 2


def _add_text(blocks: Blocks, name: str, value: bytes, encoding: str = "utf-8") -> None:
    if len(blocks.texts) < MOST_TEXTS:
        blocks.texts.append((name, value[:LARGEST_TEXT].decode(encoding, "replace")))
