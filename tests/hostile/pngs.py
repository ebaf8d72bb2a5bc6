"""PNGs by chunks: sizes, deflate, text and profiles that unpack to gigabytes, frames by the thousand."""

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache

from tests.hostile.corpus import HostileFile
from tests.hostile.jpegs import MOST

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, body: bytes = b"") -> bytes:
    """Return a chunk with its right checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def header(width: int, height: int, depth: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    """Return the signature and IHDR."""
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


@cache
def zeros(size: int) -> bytes:
    """Return a deflate stream of ``size`` zeros, a thousandth of that."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(min(1 << 22, size - at))) for at in range(0, size, 1 << 22)]
    return b"".join(parts) + packer.flush()


def flat(width: int, height: int, depth: int = 8, colour: int = 0, *extra: bytes, interlace: int = 0) -> bytes:
    """Return a whole picture of zeros, with extra chunks in front of its data."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    rows = height * (1 + (width * samples * depth + 7) // 8)
    palette = chunk(b"PLTE", bytes(3)) if colour == 3 else b""
    # Adam7 has a filter byte more for each row of each pass.
    data = zeros(rows + 2 * height + 64 if interlace else rows)
    body = b"".join(extra) + palette + chunk(b"IDAT", data)
    return header(width, height, depth, colour, interlace) + body + chunk(b"IEND")


def packed_text(kind: bytes, size: int) -> bytes:
    """Return a chunk whose compressed content has ``size`` bytes."""
    heads = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0", b"iCCP": b"icc\0\0"}
    return chunk(kind, heads[kind] + zeros(size))


def animation(frames: int, canvas: int, frame: int, stated: int | None = None) -> bytes:
    """Return an APNG of so many frames."""
    data = zeros(frame * (frame + 1))
    parts = [header(canvas, canvas), chunk(b"acTL", struct.pack(">II", stated or frames, 0))]
    parts.append(chunk(b"IDAT", zeros(canvas * (canvas + 1))))
    for number in range(frames):
        control = struct.pack(">IIIIIHHBB", 2 * number, frame, frame, 0, 0, 1, 100, 0, 0)
        parts += [chunk(b"fcTL", control), chunk(b"fdAT", struct.pack(">I", 2 * number + 1) + data)]
    return b"".join([*parts, chunk(b"IEND")])


def files() -> Iterator[HostileFile]:
    """Yield the PNGs."""

    def png(name: str, make: Callable[[], bytes], *, quick: bool = False) -> HostileFile:
        return HostileFile(f"png/{name}", make, "picture.png", "image/png", quick=quick)

    yield png("size of 4e18 pixels", lambda: header(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", zeros(9)), quick=True)
    yield png("no size", lambda: flat(1, 1).replace(struct.pack(">II", 1, 1), bytes(8)), quick=True)
    yield png("100 MP", lambda: flat(10_000, 10_000, 1), quick=True)
    yield png("79 MP without data", lambda: header(MOST, MOST) + chunk(b"IEND"))
    yield png("79 MP of one bit", lambda: flat(MOST, MOST, 1))
    yield png("79 MP of 16 bits rgba", lambda: flat(MOST, MOST, 16, 6))
    yield png("79 MP of 16 bits grey", lambda: flat(MOST, MOST, 16, 0))
    yield png("79 MP of a palette", lambda: flat(MOST, MOST, 8, 3))
    yield png("79 MP interlaced", lambda: flat(MOST, MOST, 8, 6, interlace=1))
    yield png("one column of 79 million", lambda: flat(1, 79_000_000, 1))
    yield png("one row of 79 million", lambda: flat(79_000_000, 1))
    yield png(
        "1 GB behind the last row", lambda: header(64, 64) + chunk(b"IDAT", zeros(2**30)) + chunk(b"IEND"), quick=True
    )
    for kind in (b"zTXt", b"iTXt", b"iCCP"):
        yield png(
            f"{kind.decode()} of 1 GB", lambda kind=kind: flat(64, 64, 8, 2, packed_text(kind, 2**30)), quick=True
        )
    yield png("zTXt of 64 MB a hundred times", lambda: flat(64, 64, 8, 0, packed_text(b"zTXt", 2**26) * 100))
    yield png("one million empty chunks", lambda: flat(64, 64, 8, 0, chunk(b"tEXt", b"a\0") * 1_000_000))
    yield png(
        "one million empty IDAT", lambda: header(64, 64) + chunk(b"IDAT") * 1_000_000 + chunk(b"IDAT", zeros(65 * 64))
    )
    yield png(
        "exif in a circle",
        lambda: flat(64, 64, 8, 0, chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0")),
    )
    yield png("chunk of 4 GB", lambda: header(64, 64) + b"\xff\xff\xff\xffIDAT" + zeros(65 * 64), quick=True)
    yield png("20000 frames", lambda: animation(20_000, 64, 64))
    yield png("4 billion frames", lambda: animation(3, 64, 64, 0xFFFFFFFF), quick=True)
    yield png("200 frames of 16 MP", lambda: animation(200, 4000, 4000))
    yield png("suggested palettes", lambda: flat(64, 64, 8, 2, chunk(b"sPLT", b"p\0\x10" + bytes(9_999_990)) * 4))
