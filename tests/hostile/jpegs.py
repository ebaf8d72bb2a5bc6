"""JPEGs by segments: scans over and over, sizes without data, tables, restarts, EXIF and ICC that lead in circles."""

import io
import struct
from collections.abc import Iterator
from functools import cache, partial
from typing import Final

import numpy as np
from PIL import Image

from tests.hostile.corpus import HostileFile

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
SOF0, SOF2, SOF3, SOF5, SOF9, SOF10 = 0xC0, 0xC2, 0xC3, 0xC5, 0xC9, 0xCA
DHT, DQT, DRI, SOS, DAC, COM, APP0, APP1, APP2, APP13 = 0xC4, 0xDB, 0xDD, 0xDA, 0xCC, 0xFE, 0xE0, 0xE1, 0xE2, 0xED
MOST: Final = 8900
"""Side of a square of 79 million pixels, just under what is accepted."""


def segment(marker: int, body: bytes = b"") -> bytes:
    """Return a marker segment of up to 65,533 bytes."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


@cache
def encoded(width: int, height: int, mode: str = "L", **options: bool | int) -> bytes:
    """Return a flat JPEG of Pillow's."""
    file = io.BytesIO()
    Image.new(mode, (width, height), 128 if mode == "L" else (200, 120, 40)).save(file, "JPEG", **options)
    return file.getvalue()


@cache
def textured(side: int = 64) -> bytes:
    """Return a small ordinary photo."""
    file = io.BytesIO()
    noise = np.random.default_rng(5).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "JPEG")
    return file.getvalue()


def repeated_scans(side: int, repeats: int, mode: str = "L", *, progressive: bool = True) -> bytes:
    """Return a JPEG whose last scan stands there ``repeats`` more times: small, and long to decode."""
    data = encoded(side, side, mode, progressive=progressive, quality=50)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * repeats + EOI


def scans(kind: int, side: int, repeats: int, components: int = 1, data: bytes = b"\0", factors: int = 0x11) -> bytes:
    """Return a JPEG of this frame kind with scans of almost no data, each of which goes over all coefficients."""
    progressive, arithmetic = kind in (SOF2, SOF10), kind in (SOF9, SOF10)
    quantization = segment(DQT, b"\0" + bytes([1]) * 64)
    frame = struct.pack(">BHHB", 8, side, side, components)
    frame += b"".join(bytes([number + 1, factors if number == 0 else 0x11, 0]) for number in range(components))
    tables = segment(DAC, b"\0\x10" + b"\x10\x05") if arithmetic else _huffman()
    spectrum = b"\0\0\0" if progressive else b"\0\x3f\0"
    one = b"".join(segment(SOS, bytes([1, number + 1, 0]) + spectrum) + data for number in range(components))
    refining = segment(SOS, bytes([1, 1, 0, 1, 63, 0])) + data if progressive else b""
    return SOI + quantization + segment(kind, frame) + tables + (one + refining) * repeats + EOI


def _huffman() -> bytes:
    """Return a table of one code for either class: a zero bit is the value 0, which ends a block."""
    one = bytes([1] + [0] * 15) + b"\0"
    return b"".join(segment(DHT, bytes([place]) + one) for place in (0x00, 0x10))


def claimed(width: int, height: int, components: int = 3, kind: int = SOF0, depth: int = 8) -> bytes:
    """Return a header of this size with a few bytes of data behind it."""
    frame = struct.pack(">BHHB", depth, height, width, components)
    frame += b"".join(bytes([number % 256, 0x11, 0]) for number in range(1, components + 1))
    scan = bytes([min(components, 4)]) + b"".join(bytes([n, 0]) for n in range(1, min(components, 4) + 1)) + b"\0\x3f\0"
    return SOI + segment(DQT, b"\0" + bytes([1]) * 64) + segment(kind, frame) + _huffman() + segment(SOS, scan) + b"\0"


def with_segments(*segments: bytes, data: bytes = b"") -> bytes:
    """Return an ordinary photo with these segments at its beginning."""
    whole = data or textured()
    return whole[:2] + b"".join(segments) + whole[2:]


def restarts(side: int) -> bytes:
    """Return a JPEG with a restart mark behind each block and no data between them."""
    head = claimed(side, side, 1)
    at = head.rindex(b"\xff\xda")
    marks = b"".join(bytes([0xFF, 0xD0 + number % 8]) for number in range((side // 8) ** 2))
    return head[:at] + segment(DRI, struct.pack(">H", 1)) + head[at:-1] + marks + EOI


def exif(body: bytes) -> bytes:
    """Return an APP1 segment with a TIFF header and these bytes behind it."""
    return segment(APP1, b"Exif\0\0II*\0\x08\0\0\0" + body)


def ifd(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """Return a little-endian directory of (tag, type, count, value or offset)."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


def _maker_note_loop() -> bytes:
    # Exif, its MakerNote and the Interoperability directory all are the one at offset 8.
    return ifd((0x8769, 4, 1, 8), (0x927C, 7, 4096, 8), (0xA005, 4, 1, 8), (0x8825, 4, 1, 8), following=8)


def icc_chunks(count: int, stated: int, size: int = 60_000) -> bytes:
    """Return a photo with an ICC profile in ``count`` chunks of which the file says that there are ``stated``."""
    chunks = (
        segment(APP2, b"ICC_PROFILE\0" + bytes([number % 255 + 1, stated]) + bytes(size)) for number in range(count)
    )
    return with_segments(*chunks)


def icc_profile(tags: int, count: int, kind: bytes = b"curv", space: bytes = b"RGB ") -> bytes:
    """Return a profile with ``tags`` tags that all are one element, which claims ``count`` entries."""
    names = (b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"rTRC", b"gTRC", b"bTRC", b"A2B0", b"B2A0", b"desc", b"cprt")
    element = kind + bytes(4) + struct.pack(">I", count) + bytes(64)
    start = 132 + 12 * tags
    table = b"".join(struct.pack(">4sII", names[n % len(names)], start, len(element)) for n in range(tags))
    size = start + len(element)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x04200000, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    head = head.ljust(128, b"\0")
    return head + struct.pack(">I", tags) + table + element


def with_profile(profile: bytes) -> bytes:
    """Return a photo with this ICC profile."""
    return with_segments(segment(APP2, b"ICC_PROFILE\0\1\1" + profile))


def lut_profile(grid: int, channels: int = 4) -> bytes:
    """Return a profile whose table of ``channels`` inputs claims ``grid`` points along each."""
    table = b"mft1" + bytes(4) + bytes([channels, 3, grid, 0]) + bytes(36) + bytes(256 * channels) + bytes(40_000)
    space = {3: b"RGB ", 4: b"CMYK"}[channels]
    head = (bytes(4) + b"lcms" + struct.pack(">I", 0x02400000) + b"prtr" + space + b"Lab " + bytes(12) + b"acsp").ljust(
        128, b"\0"
    )
    body = head + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table
    return struct.pack(">I", len(body)) + body[4:]


def multi_picture(pictures: int, offset: int) -> bytes:
    """Return an MPO whose index has so many pictures, all at one offset."""
    entries = struct.pack("<IIIHH", 0x030000, 1 << 20, offset, 0, 0) * min(pictures, 3000)
    index = ifd((0xB000, 7, 4, 0x30303130), (0xB001, 4, 1, pictures), (0xB002, 7, 16 * pictures, 50), following=8)
    return with_segments(segment(APP2, b"MPF\0II*\0\x08\0\0\0" + index + entries)) + textured()


def mpo_of_scans(repeats: int) -> bytes:
    """Return an MPO of two pictures, each with repeated scans."""
    one = repeated_scans(4000, repeats)
    size = len(one) + 86
    entries = struct.pack("<IIIHH", 0x030000, size, 0, 0, 0) + struct.pack("<IIIHH", 0, len(one), size - 8, 0, 0)
    index = ifd((0xB000, 7, 4, 0x30303130), (0xB001, 4, 1, 2), (0xB002, 7, 32, 50))
    return with_segments(segment(APP2, b"MPF\0II*\0\x08\0\0\0" + index + entries), data=one) + one


def iptc(depth: int) -> bytes:
    """Return a Photoshop resource with IPTC datasets of extended sizes."""
    return segment(
        APP13, b"Photoshop 3.0\x008BIM\x04\x04\0\0\xff\xff\xff\xff" + b"\x1c\x02\x78\x80\x04\x7f\xff\xff\xff" * depth
    )


def files() -> Iterator[HostileFile]:
    """Yield the JPEGs."""

    def jpeg(name: str, make: object, *arguments: object, quick: bool = False, **options: object) -> HostileFile:
        made = partial(make, *arguments, **options)  # type: ignore[operator]
        return HostileFile(f"jpeg/{name}", made, "photo.jpg", "image/jpeg", quick=quick)

    yield jpeg("progressive scans 79 MP x 3000", repeated_scans, MOST, 3000, quick=True)
    yield jpeg("progressive scans in colour 9 MP x 2000", repeated_scans, 3000, 2000, "RGB")
    yield jpeg("progressive scans 0.3 MP x 60000", repeated_scans, 512, 60_000, quick=True)
    yield jpeg("baseline scans 16 MP x 200", repeated_scans, 4000, 200, progressive=False)
    yield jpeg("empty baseline scans of 3 components x 5000", scans, SOF0, MOST, 5000, 3)
    yield jpeg("empty progressive scans x 20000", scans, SOF2, MOST, 20_000, quick=True)
    yield jpeg("empty arithmetic scans x 20000", scans, SOF9, MOST, 20_000, quick=True)
    yield jpeg("empty progressive arithmetic scans x 20000", scans, SOF10, MOST, 20_000)
    yield jpeg("empty scans of 4:1:1 x 20000", scans, SOF2, 8000, 20_000, 3, factors=0x44)
    yield jpeg("scans without a byte x 60000", scans, SOF2, 4000, 60_000, data=b"")
    yield jpeg("lossless", claimed, 4000, 4000, 1, SOF3)
    yield jpeg("hierarchical", claimed, 4000, 4000, 1, SOF5)
    yield jpeg("size of 4 GP", claimed, 65_535, 65_535, quick=True)
    yield jpeg("size of 79 MP without data", claimed, MOST, MOST)
    yield jpeg("no height", claimed, 640, 0, quick=True)
    yield jpeg("one column", claimed, 1, 65_535)
    yield jpeg("255 components", claimed, 64, 64, 255)
    yield jpeg("12 bits", claimed, 640, 480, 3, SOF0, 12)
    yield jpeg("restart marks 16 MP", restarts, 4000)
    yield jpeg("60000 comments", lambda: with_segments(segment(COM, b"x" * 100) * 60_000))
    yield jpeg("300 comments of 64 kB", lambda: with_segments(segment(COM, b"x" * 65_000) * 300))
    yield jpeg("100000 tables", lambda: with_segments(_huffman() * 50_000))
    yield jpeg("100000 quantization tables", lambda: with_segments(segment(DQT, b"\0" + b"\1" * 64) * 100_000))
    yield jpeg("fill bytes", lambda: textured()[:2] + b"\xff" * 20_000_000 + textured()[2:])
    yield jpeg("two frames", lambda: with_segments(segment(SOF0, struct.pack(">BHHB", 8, 9999, 9999, 1) + b"\1\x11\0")))
    yield jpeg("2000 pictures in a row", lambda: textured() * 2000)
    yield jpeg(
        "exif directory in a circle", lambda: with_segments(exif(ifd((0x112, 3, 1, 6), following=8))), quick=True
    )
    yield jpeg("exif maker note in a circle", lambda: with_segments(exif(_maker_note_loop())), quick=True)
    yield jpeg(
        "exif of 4 billion values", lambda: with_segments(exif(ifd((0x112, 3, 0xFFFFFFFF, 8), (0x8769, 4, 1, 8))))
    )
    yield jpeg("exif of 5000 entries", lambda: with_segments(exif(ifd(*[(0x112, 5, 5000, 8)] * 5000))))
    yield jpeg("exif of 300 segments", lambda: with_segments(exif(bytes(65_000)) * 300))
    yield jpeg(
        "xmp of 20 MB", lambda: with_segments(segment(APP1, b"http://ns.adobe.com/xap/1.0/\0" + b"<a>" * 21_000) * 300)
    )
    entity = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + b"".join(
        b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
    )
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + entity + b"]><x:xmpmeta>&j;</x:xmpmeta>"
    yield jpeg("xmp of entities", lambda: with_segments(segment(APP1, xmp)), quick=True)
    yield jpeg("iptc of extended sizes", lambda: with_segments(iptc(2000)))
    yield jpeg("icc in 250 chunks", icc_chunks, 250, 250)
    yield jpeg("icc in chunks out of order", icc_chunks, 100, 3, quick=True)
    yield jpeg("icc of 4 billion entries", lambda: with_profile(icc_profile(11, 0xFFFFFFFF)), quick=True)
    yield jpeg("icc of 4000 tags", lambda: with_profile(icc_profile(4000, 1024)))
    yield jpeg("icc of a named colours", lambda: with_profile(icc_profile(9, 0x7FFFFFFF, b"ncl2")))
    yield jpeg("icc table of 255 points", lambda: with_profile(lut_profile(255)), quick=True)
    yield jpeg("icc table of 33 points in rgb", lambda: with_profile(lut_profile(255, 3)))
    yield jpeg("mpo of 4 billion", multi_picture, 0x0FFFFFFF, 0)
    yield jpeg("mpo in a circle", multi_picture, 3000, 0)
    yield jpeg("mpo of scans", mpo_of_scans, 3000)
    yield jpeg(
        "jfif thumbnail that is not there", lambda: with_segments(segment(APP0, b"JFIF\0\1\1\0\0\1\0\1\xff\xff"))
    )
    yield jpeg("cmyk 79 MP", lambda: _flat(MOST, "CMYK"))


def _flat(side: int, mode: str) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, "JPEG", quality=10)
    return file.getvalue()
