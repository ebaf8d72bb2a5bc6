"""GIF, BMP and WEBP: frames by the thousand on canvases of gigapixels, code streams without end, sizes that lie."""

import io
import struct
from collections.abc import Callable, Iterator
from functools import cache

from PIL import Image

from tests.hostile.corpus import HostileFile
from tests.hostile.jpegs import MOST
from tests.hostile.pngs import zeros


def gif(canvas: tuple[int, int], frames: int, frame: tuple[int, int], data: bytes) -> bytes:
    """Return a GIF of equal frames, each of this data."""
    head = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0xF0, 0, 0) + bytes(6)
    one = b"!\xf9\4\4\1\0\0\0" + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + data
    return head + one * frames + b";"


def lzw(codes: bytes, bits: int = 8) -> bytes:
    """Return the data of a frame with these codes."""
    blocks = b"".join(bytes([len(codes[at : at + 255])]) + codes[at : at + 255] for at in range(0, len(codes), 255))
    return bytes([bits]) + blocks + b"\0"


@cache
def black(side: int) -> bytes:
    """Return the data of a frame that is black, as Pillow packs it."""
    file = io.BytesIO()
    Image.new("L", (side, side)).save(file, "GIF")
    data = file.getvalue()
    descriptor = b"," + struct.pack("<HHHH", 0, 0, side, side)
    at = data.index(descriptor) + len(descriptor)
    own = 3 << (data[at] & 7) + 1 if data[at] & 0x80 else 0
    return data[at + 1 + own : -1]


CLEARS = b"\x00\x03\x06\x0c\x18\x30\x60\xc0\x80" * 100
"""Clear codes of nine bits over and over."""


def bmp(width: int, height: int, bits: int, compression: int, data: bytes, colours: int = 0, offset: int = 54) -> bytes:
    """Return a BMP with this header."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, colours, 0)
    palette = bytes(4 * min(colours or (1 << bits if bits <= 8 else 0), 256))
    return (
        b"BM" + struct.pack("<IHHI", 54 + len(palette) + len(data), 0, 0, offset + len(palette)) + info + palette + data
    )


def riff(*chunks: bytes) -> bytes:
    """Return a WEBP of these chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk, padded."""
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


@cache
def webp_still(side: int, *, lossless: bool = True) -> bytes:
    """Return the one chunk of a flat picture."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), (9, 99, 199)).save(file, "WEBP", lossless=lossless, method=0)
    return file.getvalue()[12:]


def _three(number: int) -> bytes:
    return struct.pack("<I", number)[:3]


def webp_animation(frames: int, canvas: int, side: int) -> bytes:
    """Return an animation of equal frames."""
    head = webp_chunk(b"VP8X", bytes([2, 0, 0, 0]) + _three(canvas - 1) * 2)
    still = webp_still(side)
    frame = webp_chunk(b"ANMF", bytes(6) + _three(side - 1) * 2 + _three(10) + b"\0" + still)
    return riff(head, webp_chunk(b"ANIM", bytes(6)), frame * frames)


def webp_with(flags: int, canvas: int, *chunks: bytes, side: int = 64) -> bytes:
    """Return a still picture behind a header that says this."""
    return riff(webp_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + _three(canvas - 1) * 2), *chunks, webp_still(side))


def files() -> Iterator[HostileFile]:
    """Yield the pictures."""

    def one(kind: str, name: str, make: Callable[[], bytes], *, quick: bool = False) -> HostileFile:
        return HostileFile(f"{kind}/{name}", make, f"picture.{kind}", f"image/{kind}", quick=quick)

    yield one("gif", "canvas of 4 GP", lambda: gif((65_535, 65_535), 1, (1, 1), black(1)), quick=True)
    yield one("gif", "frame larger than its canvas", lambda: gif((16, 16), 1, (65_535, 65_535), black(64)), quick=True)
    yield one("gif", "79 MP", lambda: gif((MOST, MOST), 1, (MOST, MOST), black(MOST)))
    yield one("gif", "79 MP without codes", lambda: gif((MOST, MOST), 1, (MOST, MOST), lzw(b"")))
    yield one("gif", "2000 frames of 16 MP", lambda: gif((4000, 4000), 2000, (4000, 4000), black(64)))
    yield one("gif", "300000 frames", lambda: gif((64, 64), 300_000, (1, 1), black(1)))
    yield one("gif", "clear codes", lambda: gif((4000, 4000), 1, (4000, 4000), lzw(CLEARS * 2_000)))
    yield one("gif", "codes of 12 bits", lambda: gif((640, 480), 1, (640, 480), lzw(b"\xff" * 100_000, 12)))
    yield one("gif", "no end", lambda: gif((64, 64), 1, (64, 64), black(64))[:-2] + b"\xff" * 5_000_000)
    yield one(
        "gif",
        "comments of 40 MB",
        lambda: gif((64, 64), 1, (64, 64), black(64))[:-1] + b"!\xfe" + (b"\xff" + b"a" * 255) * 150_000,
    )

    yield one("bmp", "size of 4e18 pixels", lambda: bmp(2**31 - 1, 2**31 - 1, 24, 0, b""), quick=True)
    yield one("bmp", "least height", lambda: bmp(64, -(2**31), 24, 0, bytes(100)), quick=True)
    yield one("bmp", "79 MP without data", lambda: bmp(MOST, MOST, 32, 0, b""), quick=True)
    yield one("bmp", "79 MP of one bit", lambda: bmp(MOST, MOST, 1, 0, bytes(1113 * MOST)))
    yield one("bmp", "run lengths of 79 MP", lambda: bmp(MOST, MOST, 8, 1, b"\xff\1" * (MOST * MOST // 255)))
    yield one("bmp", "run lengths of nothing", lambda: bmp(4000, 4000, 8, 1, b"\0\2\0\0" * 1_000_000), quick=True)
    yield one("bmp", "run lengths of line ends", lambda: bmp(MOST, MOST, 8, 1, b"\0\0" * 2_000_000))
    yield one("bmp", "run lengths of four bits", lambda: bmp(MOST, MOST, 4, 2, b"\2\1" * 10_000_000))
    yield one("bmp", "run lengths of jumps", lambda: bmp(MOST, MOST, 8, 1, b"\0\2\xff\xff" * 100_000))
    yield one("bmp", "palette of 4 billion", lambda: bmp(64, 64, 8, 0, bytes(4096), 0xFFFFFFFF), quick=True)
    yield one("bmp", "64 bits", lambda: bmp(64, 64, 64, 0, bytes(64 * 64 * 8)), quick=True)
    yield one("bmp", "data before its header", lambda: bmp(64, 64, 24, 0, bytes(64 * 64 * 3), offset=0), quick=True)
    yield one("bmp", "jpeg inside", lambda: bmp(640, 480, 0, 4, b"\xff\xd8\xff\xd9"), quick=True)

    yield one("webp", "canvas of 281 TP", lambda: webp_with(0, 2**24), quick=True)
    yield one("webp", "canvas of another size", lambda: webp_with(0, MOST), quick=True)
    yield one("webp", "268 MP", lambda: riff(webp_chunk(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(60))), quick=True)
    yield one("webp", "79 MP lossless", lambda: riff(webp_still(MOST)))
    yield one("webp", "79 MP lossy", lambda: riff(webp_still(MOST, lossless=False)))
    yield one("webp", "5000 frames of 16 MP", lambda: webp_animation(5000, 4000, 4000))
    yield one("webp", "200000 frames", lambda: webp_animation(200_000, 16, 16))
    yield one("webp", "frames on 268 MP", lambda: webp_animation(3, 16_384, 16), quick=True)
    yield one("webp", "profile of 40 MB", lambda: webp_with(32, 64, webp_chunk(b"ICCP", bytes(40_000_000))))
    yield one("webp", "200000 unknown chunks", lambda: webp_with(0, 64, webp_chunk(b"JUNK", b"") * 200_000))
    yield one("webp", "packed exif", lambda: webp_with(8, 64, webp_chunk(b"EXIF", zeros(2**24))))
    yield one("webp", "riff of 4 GB", lambda: b"RIFF\xff\xff\xff\xffWEBP" + webp_still(64), quick=True)
    yield one("webp", "frames inside of frames", _nested, quick=True)


def _nested() -> bytes:
    inner = webp_still(16)
    for _ in range(60):
        inner = webp_chunk(b"ANMF", bytes(6) + _three(15) * 2 + _three(10) + b"\0" + inner)
    return riff(webp_chunk(b"VP8X", bytes([2, 0, 0, 0]) + _three(15) * 2), webp_chunk(b"ANIM", bytes(6)), inner)
