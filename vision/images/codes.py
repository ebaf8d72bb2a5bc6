"""Reads the colour codes (nclx) of the primary picture of a HEIF or AVIF file: ISO/IEC 23008-12, 14496-12.

Pillow's AVIF reader does not expose them.
"""

import struct
from collections.abc import Iterator
from typing import Final

_MOST_BOXES: Final = 4096
_FULL_BOXES: Final = {b"meta": 4}
"""Bytes of version and flags in front of a container's boxes."""


def colour_codes(data: bytes) -> tuple[int, int] | None:
    """Return (transfer, primaries) by ITU-T H.273 of the primary picture, None where the file does not say."""
    view = memoryview(data)
    meta = _inside(view, b"meta")
    properties = _inside(meta, b"iprp")
    items = _inside(properties, b"ipco")
    primary, shared = _first(meta, b"pitm"), _first(properties, b"ipma")
    try:
        own = _properties_of(_item_of(primary), shared)
        for number, (name, body) in enumerate(_boxes(items), 1):
            if name == b"colr" and number in own and bytes(body[:4]) == b"nclx":
                primaries, transfer = struct.unpack_from(">HH", body, 4)
                return int(transfer), int(primaries)
    except struct.error:
        return None
    return None


def _boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = 0
    for _ in range(_MOST_BOXES):
        if at + 8 > len(view):
            return
        size, name = struct.unpack_from(">I4s", view, at)
        head = 8
        if size == 1 and at + 16 <= len(view):
            size, head = struct.unpack_from(">Q", view, at + 8)[0], 16
        end = len(view) if size == 0 else at + size
        if end < at + head or end > len(view):
            return
        yield name, view[at + head : end]
        at = end


def _first(view: memoryview, name: bytes) -> memoryview:
    return next((body for kind, body in _boxes(view) if kind == name), memoryview(b""))


def _inside(view: memoryview, name: bytes) -> memoryview:
    return _first(view, name)[_FULL_BOXES.get(name, 0) :]


def _item_of(pitm: memoryview) -> int:
    return int(struct.unpack_from(">I" if pitm[0] else ">H", pitm, 4)[0]) if len(pitm) > 4 else 0


def _properties_of(item: int, ipma: memoryview) -> set[int]:
    """Return the numbers, from 1, of the properties that belong to an item."""
    if len(ipma) < 8:
        return set()
    item_format, wide = (">I" if ipma[0] else ">H"), ipma[3] & 1
    (entries,) = struct.unpack_from(">I", ipma, 4)
    at = 8
    for _ in range(min(entries, _MOST_BOXES)):
        (number,) = struct.unpack_from(item_format, ipma, at)
        at += struct.calcsize(item_format)
        (count,) = struct.unpack_from("B", ipma, at)
        numbers = struct.unpack_from(f">{count}{'H' if wide else 'B'}", ipma, at + 1)
        at += 1 + count * (2 if wide else 1)
        if number == item:
            return {value & (0x7FFF if wide else 0x7F) for value in numbers}
    return set()
