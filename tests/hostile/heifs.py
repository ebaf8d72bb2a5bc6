"""HEIC and AVIF by boxes: grids and overlays of one tile, derivations in circles, items and extents by the thousand."""

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

from PIL import Image

from tests.hostile import jpegs
from tests.hostile.corpus import HostileFile


def box(name: bytes, *parts: bytes) -> bytes:
    """Return a box."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body


def full(name: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """Return a box with a version and flags."""
    return box(name, struct.pack(">I", version << 24 | flags), *parts)


@dataclass(frozen=True)
class Item:
    """One item: its type, its bytes, the properties that it has by number from 1, and what it is made of."""

    kind: bytes
    data: bytes = b""
    properties: Sequence[int] = ()
    made_of: Sequence[int] = ()


def heif(
    items: Sequence[Item], properties: Sequence[bytes], *, brand: bytes = b"heic", primary: int = 1, extents: int = 1
) -> bytes:
    """Return a file of items, numbered from 1, each of whose bytes stand in ``extents`` equal extents."""
    infos = b"".join(
        full(
            b"infe", 2, 0, struct.pack(">HH4s", number, 0, item.kind), b"\0", b"a/b\0" if item.kind == b"mime" else b""
        )
        for number, item in enumerate(items, 1)
    )
    references = b"".join(
        box(b"dimg", struct.pack(f">HH{len(item.made_of)}H", number, len(item.made_of), *item.made_of))
        for number, item in enumerate(items, 1)
        if item.made_of
    )
    associations = b"".join(
        struct.pack(">HB", number, len(item.properties)) + bytes(0x80 | p for p in item.properties)
        for number, item in enumerate(items, 1)
    )
    associated = full(b"ipma", 0, 0, struct.pack(">I", len(items)), associations)

    def meta(start: int) -> bytes:
        places, at = b"", start
        for number, item in enumerate(items, 1):
            count = extents if item.data else 1
            places += struct.pack(">HHHH", number, 0, 0, count)
            places += struct.pack(">II", at, len(item.data)) * count
            at += len(item.data)
        return full(
            b"meta",
            0,
            0,
            full(b"hdlr", 0, 0, bytes(4) + b"pict" + bytes(13)),
            full(b"pitm", 0, 0, struct.pack(">H", primary)),
            full(b"iloc", 1, 0, b"\x44\0", struct.pack(">H", len(items)), places),
            full(b"iinf", 0, 0, struct.pack(">H", len(items)), infos),
            full(b"iref", 0, 0, references) if references else b"",
            box(b"iprp", box(b"ipco", *properties), associated),
        )

    head = box(b"ftyp", brand, bytes(4), b"mif1", brand)
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", *(item.data for item in items))


def size(width: int, height: int) -> bytes:
    """Return an ispe."""
    return full(b"ispe", 0, 0, struct.pack(">II", width, height))


@cache
def tile(brand: bytes, side: int = 64) -> tuple[bytes, bytes]:
    """Return the configuration box and the coded bytes of a small flat picture."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    file = io.BytesIO()
    Image.new("RGB", (side, side), (200, 30, 90)).save(file, "HEIF" if brand == b"heic" else "AVIF", quality=30)
    whole = file.getvalue()
    name = b"hvcC" if brand == b"heic" else b"av1C"
    at = whole.index(name) - 4
    configuration = whole[at : at + struct.unpack_from(">I", whole, at)[0]]
    start = whole.index(b"mdat") + 4
    return configuration, whole[start:]


CODED = {b"heic": b"hvc1", b"avif": b"av01"}


def grid(rows: int, columns: int, side: int = 64, *, brand: bytes = b"heic", stated: int = 0) -> bytes:
    """Return a grid all of whose places are one tile."""
    configuration, data = tile(brand, side)
    width, height = columns * side, rows * side
    layout = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, stated or width, stated or height)
    items = [Item(b"grid", layout, (2,), [2] * (rows * columns)), Item(CODED[brand], data, (1, 3))]
    return heif(items, [configuration, size(stated or width, stated or height), size(side, side)], brand=brand)


def grids(depth: int, *, brand: bytes = b"heic") -> bytes:
    """Return a grid of 2 × 2 grids of 2 × 2 grids ... all of one tile."""
    configuration, data = tile(brand)
    items, properties = [Item(CODED[brand], data, (1, 2))], [configuration, size(64, 64)]
    for level in range(1, depth + 1):
        side = 64 << level
        properties.append(size(side, side))
        layout = struct.pack(">BBBBII", 0, 1, 1, 1, side, side)
        items.append(Item(b"grid", layout, (len(properties),), [level] * 4))
    return heif(items, properties, brand=brand, primary=len(items))


def overlay(layers: int, canvas: int, *, brand: bytes = b"heic") -> bytes:
    """Return one tile laid upon a canvas many times."""
    configuration, data = tile(brand)
    layout = struct.pack(">BBHHHHII", 0, 1, 0, 0, 0, 0xFFFF, canvas, canvas) + bytes(8 * layers)
    items = [Item(b"iovl", layout, (2,), [2] * layers), Item(CODED[brand], data, (1, 3))]
    return heif(items, [configuration, size(canvas, canvas), size(64, 64)], brand=brand)


def identities(count: int, *, circle: bool = False, brand: bytes = b"heic") -> bytes:
    """Return a chain of items each of which is the next one, the last a tile, or the first again."""
    configuration, data = tile(brand)
    items = [Item(b"iden", b"", (2,), [number + 1]) for number in range(1, count)]
    items.append(Item(b"iden", b"", (2,), [1]) if circle else Item(CODED[brand], data, (1, 2)))
    return heif(items, [configuration, size(64, 64)], brand=brand)


def claimed(side: int, *, brand: bytes = b"heic") -> bytes:
    """Return a small picture that says that it is large."""
    configuration, data = tile(brand)
    return heif([Item(CODED[brand], data, (1, 2))], [configuration, size(side, side)], brand=brand)


def many_items(count: int, *, brand: bytes = b"heic") -> bytes:
    """Return a picture with thousands of further ones."""
    configuration, data = tile(brand)
    first = Item(CODED[brand], data, (1, 2))
    return heif([first, *[Item(CODED[brand], b"", (1, 2))] * (count - 1)], [configuration, size(64, 64)], brand=brand)


def extents(count: int, *, brand: bytes = b"heic") -> bytes:
    """Return a picture whose one item is made of the same bytes over and over."""
    configuration, data = tile(brand)
    return heif([Item(CODED[brand], data, (1, 2))], [configuration, size(64, 64)], brand=brand, extents=count)


def jpeg_inside(data: bytes, side: int) -> bytes:
    """Return a HEIF whose picture is a JPEG."""
    return heif([Item(b"jpeg", data, (1,))], [size(side, side)], brand=b"mif1")


def nested(depth: int) -> bytes:
    """Return a file of boxes in boxes."""
    inner = b""
    for _ in range(depth):
        inner = box(b"meta", bytes(4), inner)
    return box(b"ftyp", b"heic", bytes(4), b"mif1heic") + inner


def referring(kind: bytes, address: bytes) -> bytes:
    """Return a file whose picture stands at another address."""
    configuration, data = tile(b"heic")
    whole = heif([Item(kind, data, (1, 2))], [configuration, size(64, 64)])
    reference = full(b"dref", 0, 0, struct.pack(">I", 1), full(b"url ", 0, 0, address + b"\0"))
    return whole + box(b"meta", bytes(4), box(b"dinf", reference))


def sequence(frames: int) -> bytes:
    """Return an AVIF sequence of so many frames."""
    file = io.BytesIO()
    pictures = [Image.new("RGB", (16, 16), (n % 256, 0, 0)) for n in range(frames)]
    pictures[0].save(file, "AVIF", save_all=True, append_images=pictures[1:], speed=10)
    return file.getvalue()


def solid(side: int, kind: str) -> bytes:
    """Return a flat picture of this side."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    file = io.BytesIO()
    options = {"speed": 10} if kind == "AVIF" else {}
    Image.new("RGB", (side, side), (9, 9, 9)).save(file, kind, quality=5, **options)
    return file.getvalue()


def files() -> Iterator[HostileFile]:
    """Yield the HEICs and AVIFs."""

    def one(
        name: str,
        make: Callable[..., bytes],
        *arguments: object,
        quick: bool = False,
        brand: bytes = b"heic",
        **more: object,
    ) -> HostileFile:
        kind = brand.decode()
        options = {"brand": brand, **more} if make in BRANDED else more
        return HostileFile(
            f"{kind}/{name}", partial(make, *arguments, **options), f"picture.{kind}", f"image/{kind}", quick=quick
        )

    for brand in (b"heic", b"avif"):
        yield one("grid of 256 x 255 that is one tile", grid, 256, 255, brand=brand)
        yield one("grid of 135 x 135 of one tile", grid, 135, 135, brand=brand)
        yield one("grid of another size", grid, 2, 2, 64, stated=60_000, brand=brand, quick=True)
        yield one("grids of grids of grids", grids, 7, brand=brand)
        yield one("grids of grids", grids, 2, brand=brand, quick=True)
        yield one("grids of grids, 20 deep", grids, 20, brand=brand)
        yield one("overlay of 60000 layers", overlay, 60_000, 4000, brand=brand)
        yield one("overlay on 4 GP", overlay, 3, 65_000, brand=brand, quick=True)
        yield one("overlay of 500 layers on 79 MP", overlay, 500, jpegs.MOST, brand=brand)
        yield one("identities, 5000 deep", identities, 5000, brand=brand)
        yield one("identities in a circle", identities, 3, circle=True, brand=brand, quick=True)
        yield one("size of 4 GP", claimed, 65_000, brand=brand, quick=True)
        yield one("size of 79 MP", claimed, jpegs.MOST, brand=brand)
        yield one("60000 items", many_items, 60_000, brand=brand)
        yield one("60000 extents", extents, 60_000, brand=brand, quick=brand == b"avif")
    yield one(
        "jpeg of repeated scans", lambda: jpeg_inside(jpegs.repeated_scans(jpegs.MOST, 3000), jpegs.MOST), quick=True
    )
    yield one("jpeg of empty scans", lambda: jpeg_inside(jpegs.scans(jpegs.SOF2, 4000, 20_000), 4000))
    yield one("jpeg larger than it says", lambda: jpeg_inside(jpegs.claimed(65_000, 65_000), 64), quick=True)
    yield one("boxes 20000 deep", nested, 20_000)
    yield one("boxes 3000 deep", nested, 3000, quick=True)
    yield one("address of a file", referring, b"uri ", b"file:///etc/passwd", quick=True)
    yield one("address on loopback", referring, b"hvc1", b"http://127.0.0.1:8000/livez")
    yield one("sequence of 1000 frames", sequence, 1000, brand=b"avif")
    yield one("79 MP", solid, jpegs.MOST, "AVIF", brand=b"avif")
    yield one("36 MP", solid, 6000, "HEIF")


BRANDED = {grid, grids, overlay, identities, claimed, many_items, extents}
