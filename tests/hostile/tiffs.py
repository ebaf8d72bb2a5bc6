"""TIFFs by directories: strips and tiles that share their bytes, codecs that unpack to gigabytes, pages without end."""

import io
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

from PIL import Image

from tests.hostile import jpegs
from tests.hostile.corpus import HostileFile
from tests.hostile.jpegs import MOST
from tests.hostile.pngs import zeros

SHORT, LONG = 3, 4
NONE, LZW, OLD_JPEG, JPEG, DEFLATE, PACKBITS, FAX4, LZMA, ZSTD = 1, 5, 6, 7, 8, 32773, 4, 34925, 50000
Tags = dict[int, tuple[int, Sequence[int]]]


def tiff(tags: Tags, data: bytes, *, following: int = 0) -> bytes:
    """Return a little-endian TIFF of one directory, behind ``data``, which begins at byte 8.

    ``tags``: type and values by number; values that do not fit into an entry stand behind the directory.
    """
    start = 8 + len(data) + len(data) % 2
    entries, outside, place = [], b"", start + 2 + 12 * len(tags) + 4
    for number, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}{'H' if kind == SHORT else 'I'}", *values)
        if len(packed) > 4:
            entries.append(struct.pack("<HHII", number, kind, len(values), place + len(outside)))
            outside += packed
        else:
            entries.append(struct.pack("<HHI", number, kind, len(values)) + packed.ljust(4, b"\0"))
    directory = struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", following)
    return b"II*\0" + struct.pack("<I", start) + data.ljust(start - 8, b"\0") + directory + outside


def layout(width: int, height: int, compression: int, *, bits: Sequence[int] = (8,), photometric: int = 1) -> Tags:
    """Return the tags that every picture has."""
    return {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, list(bits)),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        277: (SHORT, [len(bits)]),
    }


def strips(
    width: int, height: int, compression: int, data: bytes, *, rows: int = 0, count: int = 1, **more: object
) -> bytes:
    """Return a picture whose ``count`` strips of ``rows`` rows all are the same bytes."""
    tags = layout(width, height, compression, **more)  # type: ignore[arg-type]
    tags |= {273: (LONG, [8] * count), 278: (LONG, [rows or height]), 279: (LONG, [len(data)] * count)}
    return tiff(tags, data)


def tiles(width: int, height: int, side: int, compression: int, data: bytes, **more: object) -> bytes:
    """Return a picture whose tiles all are the same bytes."""
    count = -(-width // side) * -(-height // side)
    tags = layout(width, height, compression, **more)  # type: ignore[arg-type]
    tags |= {322: (LONG, [side]), 323: (LONG, [side]), 324: (LONG, [8] * count), 325: (LONG, [len(data)] * count)}
    return tiff(tags, data)


@cache
def packed(compression: int, size: int) -> bytes:
    """Return ``size`` zeros, or somewhat more, in this codec."""
    if compression == DEFLATE:
        return zeros(size)
    if compression == LZMA:
        return lzma.compress(bytes(size), format=lzma.FORMAT_XZ)
    if compression == PACKBITS:
        return b"\x81\0" * (size // 128 + 1)
    file, side = io.BytesIO(), 4096
    name = {LZW: "tiff_lzw", ZSTD: "zstd", FAX4: "group4"}[compression]
    mode = "1" if compression == FAX4 else "L"
    height = -(-size // side)
    Image.new(mode, (side, height), 1 if mode == "1" else 0).save(
        file, "TIFF", compression=name, tiffinfo={278: height}
    )
    with Image.open(io.BytesIO(file.getvalue())) as image:
        offset, length = image.tag_v2[273][0], image.tag_v2[279][0]  # type: ignore[attr-defined]
    return file.getvalue()[offset : offset + length]


def pages(count: int, *, last: int = 0) -> bytes:
    """Return a TIFF with so many pages of one pixel, the last of which leads to ``last``."""
    entries = struct.pack("<HHII", 256, SHORT, 1, 1) + struct.pack("<HHII", 257, SHORT, 1, 1)
    entries += struct.pack("<HHII", 273, LONG, 1, 4) + struct.pack("<HHII", 279, LONG, 1, 1)
    size = 2 + len(entries) + 4
    bodies = [
        struct.pack("<H", 4) + entries + struct.pack("<I", 8 + size * (number + 1) if number + 1 < count else last)
        for number in range(count)
    ]
    return b"II*\0\x08\0\0\0" + b"".join(bodies)


def directories_below(count: int, depth: int) -> bytes:
    """Return a TIFF whose directory has ``count`` SubIFDs, each of which has the same ones again, or itself."""
    tags = layout(64, 64, NONE) | {273: (LONG, [8]), 278: (LONG, [64]), 279: (LONG, [4096])}
    whole = tiff(tags | {330: (LONG, [0] * count)}, bytes(4096))
    own = struct.unpack_from("<I", whole, 4)[0]
    return tiff(tags | {330: (LONG, [own] * count)}, bytes(4096), following=own if depth else 0)


def jpeg_inside(data: bytes, side: int, *, rows: int = 0, compression: int = JPEG) -> bytes:
    """Return a TIFF with a JPEG as each of its strips."""
    count = -(-side // rows) if rows else 1
    return strips(side, side, compression, data, rows=rows, count=count, photometric=1)


def big(count: int, kind: int) -> bytes:
    """Return a BigTIFF one of whose tags claims so many values."""
    entries = b"".join(
        struct.pack("<HHQQ", tag, what, many, value)
        for tag, what, many, value in [
            (256, LONG, 1, 64),
            (257, LONG, 1, 64),
            (259, SHORT, 1, 1),
            (262, SHORT, 1, 1),
            (273, kind, count, 16),
            (279, kind, count, 16),
        ]
    )
    return b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + struct.pack("<Q", 6) + entries + bytes(8)


def with_profile(profile: bytes) -> bytes:
    """Return a small picture with an ICC profile."""
    tags = layout(64, 64, NONE, bits=(8, 8, 8), photometric=2)
    tags |= {273: (LONG, [8]), 278: (LONG, [64]), 279: (LONG, [64 * 64 * 3])}
    whole = tiff(tags, bytes(64 * 64 * 3) + profile)
    place = 8 + 64 * 64 * 3
    tags[34675] = (7, [])  # type: ignore[assignment]
    start = struct.unpack_from("<I", whole, 4)[0]
    directory = bytearray(whole[start : start + 2 + 12 * 9])
    directory[:2] = struct.pack("<H", 10)
    entry = struct.pack("<HHII", 34675, 7, len(profile), place)
    # What stands behind the directory moves by one entry, and so do the offsets of values that do not fit in.
    values = whole[start + 2 + 12 * 9 + 4 :]
    patched = bytearray(directory)
    for at in range(2, len(patched), 12):
        _, kind, count, value = struct.unpack_from("<HHII", patched, at)
        if count * (2 if kind == SHORT else 4) > 4:
            struct.pack_into("<I", patched, at + 8, value + 12)
    return whole[:start] + bytes(patched) + entry + bytes(4) + values


def files() -> Iterator[HostileFile]:
    """Yield the TIFFs."""

    def one(
        name: str, make: Callable[..., bytes], *arguments: object, quick: bool = False, **more: object
    ) -> HostileFile:
        return HostileFile(f"tiff/{name}", partial(make, *arguments, **more), "scan.tiff", "image/tiff", quick=quick)

    def codec(name: str, compression: int, quick: bool = False) -> HostileFile:
        bits = (1,) if compression == FAX4 else (8,)
        return one(
            f"79 MP of {name}, one strip",
            lambda: strips(MOST, MOST, compression, packed(compression, MOST * MOST), bits=bits),
            quick=quick,
        )

    for name, compression in {
        "deflate": DEFLATE, "lzw": LZW, "packbits": PACKBITS, "fax": FAX4, "lzma": LZMA, "zstd": ZSTD,
    }.items():  # fmt: skip
        yield codec(name, compression)
    yield one(
        "deflate of 1 GB in a strip of one row",
        lambda: strips(64, 64, DEFLATE, zeros(2**30), rows=1, count=64),
        quick=True,
    )
    yield one("lzma dictionary of 1.5 GB", lambda: strips(64, 64, LZMA, lzma_dictionary(), rows=64))
    yield one(
        "8900 strips of one row that are one",
        lambda: strips(MOST, MOST, DEFLATE, zeros(MOST), rows=1, count=MOST),
    )
    yield one("8900 strips of 1 GB that are one", lambda: strips(MOST, MOST, DEFLATE, zeros(2**30), rows=1, count=MOST))
    yield one(
        "8900 strips of zstd of 100 MB", lambda: strips(MOST, MOST, ZSTD, packed(ZSTD, 10**8), rows=1, count=MOST)
    )
    yield one("310000 tiles that are one", lambda: tiles(MOST, MOST, 16, DEFLATE, zeros(256)))
    yield one("310000 tiles of 16 MB", lambda: tiles(MOST, MOST, 16, DEFLATE, zeros(2**24)))
    yield one("a tile of 4 GP", lambda: tiles(64, 64, 65_536, DEFLATE, zeros(2**20)), quick=True)
    yield one("tiles of one pixel", lambda: tiles(2000, 2000, 1, NONE, b"\0"))
    yield one("size of 18 EP", lambda: strips(2**32 - 1, 2**32 - 1, NONE, bytes(64)), quick=True)
    yield one("79 MP without data", lambda: strips(MOST, MOST, NONE, b""), quick=True)
    yield one("79 MP of 32 bits", lambda: strips(MOST, MOST, DEFLATE, zeros(4 * MOST * MOST), bits=(32,)))
    yield one(
        "79 MP of 16 bits rgba",
        lambda: strips(MOST, MOST, DEFLATE, zeros(8 * MOST * MOST), bits=(16,) * 4, photometric=2),
    )
    yield one("64000 samples a pixel", lambda: strips(64, 64, NONE, bytes(2**20), bits=(8,) * 64_000), quick=True)
    yield one(
        "no rows in a strip",
        lambda: tiff(layout(64, 64, NONE) | {273: (LONG, [8]), 278: (LONG, [0]), 279: (LONG, [4096])}, bytes(4096)),
    )
    yield one("4 billion rows in a strip", lambda: strips(64, 64, NONE, bytes(4096), rows=2**32 - 1), quick=True)
    yield one(
        "strips outside of the file",
        lambda: tiff(
            layout(4000, 4000, NONE) | {273: (LONG, [2**31] * 4000), 278: (LONG, [1]), 279: (LONG, [2**31] * 4000)}, b""
        ),
    )
    yield one("60000 pages", pages, 60_000)
    yield one("pages in a circle", pages, 3, last=8, quick=True)
    yield one("directories below each other in a circle", directories_below, 64, 1, quick=True)
    yield one("60000 directories below", directories_below, 60_000, 0)
    yield one("big, 2e18 values", big, 2**61, 16, quick=True)
    yield one("big, 100 million values", big, 10**8, LONG)
    yield one("65535 entries", lambda: b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 270, 2, 2**31, 8) * 65_535)
    yield one("description of 2 GB", lambda: _description(2**31))
    yield one("jpeg of repeated scans", lambda: jpeg_inside(jpegs.repeated_scans(MOST, 3000), MOST))
    yield one(
        "jpeg scans in each of 125 strips", lambda: jpeg_inside(jpegs.scans(jpegs.SOF2, 64, 20_000), 8000, rows=64)
    )
    yield one(
        "old jpeg of repeated scans", lambda: jpeg_inside(jpegs.repeated_scans(4000, 3000), 4000, compression=OLD_JPEG)
    )
    yield one("jpeg larger than its strip", lambda: jpeg_inside(jpegs.encoded(MOST, MOST), 64), quick=True)
    yield one("profile of 4 billion entries", lambda: with_profile(jpegs.icc_profile(11, 0xFFFFFFFF)))
    yield one("profile of 30 MB", lambda: with_profile(jpegs.icc_profile(2, 100) + bytes(30_000_000)))


def lzma_dictionary() -> bytes:
    """Return an LZMA stream that asks for the largest dictionary that xz writes."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 << 20}]
    whole = bytearray(lzma.compress(bytes(4096), format=lzma.FORMAT_XZ, filters=filters))
    # The header of the block: size, flags, id and size of the properties, then the dictionary by an exponent.
    whole[16] = 40
    whole[12 + 8 : 12 + 12] = struct.pack("<I", zlib.crc32(bytes(whole[12 : 12 + 8])))
    return bytes(whole)


def _description(stated: int) -> bytes:
    whole = bytearray(strips(64, 64, NONE, bytes(4096)))
    start = struct.unpack_from("<I", whole, 4)[0]
    whole[start + 2 + 12 * 3 : start + 2 + 12 * 4] = struct.pack("<HHII", 270, 2, stated, 8)
    return bytes(whole)
