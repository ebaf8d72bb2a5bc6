"""The few tags of EXIF that say where a picture comes from; Exif 3.0 (CIPA DC-008) in TIFF 6.0.

Pillow reads every tag there is into memory, and tags may share their bytes, so a small block may be read a thousand
times over. Here only listed tags are, each once.
"""

import struct
from typing import Final

MOST_ENTRIES: Final = 1024
LARGEST_VALUE: Final = 64 * 1024
SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 13: 4, 129: 1}
"""Bytes of a value by its type; those that no listed tag has are left out."""
_NAMES: Final[dict[str, dict[int, str]]] = {
    "image": {
        0x010E: "ImageDescription",
        0x010F: "Make",
        0x0110: "Model",
        0x0112: "Orientation",
        0x0131: "Software",
        0x0132: "DateTime",
        0x013B: "Artist",
        0x8769: "exif",
        0x8825: "gps",
    },
    "exif": {
        0x9003: "DateTimeOriginal",
        0x9004: "DateTimeDigitized",
        0x9010: "OffsetTime",
        0x9011: "OffsetTimeOriginal",
        0x9286: "UserComment",
        0xA002: "PixelXDimension",
        0xA003: "PixelYDimension",
        0xA436: "ImageTitle",
        0xA437: "Photographer",
        0xA43B: "CameraFirmware",
        0xA43D: "ImageEditingSoftware",
    },
    "gps": {0x0007: "GPSTimeStamp", 0x001D: "GPSDateStamp"},
    "thumbnail": {0x0201: "ThumbnailOffset", 0x0202: "ThumbnailLength"},
}
_COMMENT_CODES: Final = {b"ASCII\0\0\0": "latin-1", b"UNICODE\0": "utf-16", b"\0\0\0\0\0\0\0\0": "utf-8"}

Tags = dict[str, str | int]


def read_exif(data: bytes) -> tuple[Tags, bytes]:
    """Return the listed tags by name, and the JPEG of the thumbnail, empty without one; damaged ones are left out."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return {}, b""
    tags: Tags = {}
    first = struct.unpack_from(f"{order}I", data, 4)[0]
    following = _read_ifd(data, order, first, "image", tags)
    for name in ("exif", "gps"):
        place = tags.pop(name, None)
        if isinstance(place, int):
            _read_ifd(data, order, place, name, tags)
    if following:
        _read_ifd(data, order, following, "thumbnail", tags)
    offset, length = tags.pop("ThumbnailOffset", 0), tags.pop("ThumbnailLength", 0)
    thumbnail = data[offset : offset + length] if isinstance(offset, int) and isinstance(length, int) else b""
    return tags, thumbnail if thumbnail.startswith(b"\xff\xd8") else b""


def _read_ifd(data: bytes, order: str, at: int, kind: str, tags: Tags) -> int:
    """Read a directory of tags and return where the next one stands, 0 without one."""
    if not 8 <= at <= len(data) - 2:
        return 0
    count = min(struct.unpack_from(f"{order}H", data, at)[0], MOST_ENTRIES)
    for place in range(at + 2, at + 2 + 12 * count, 12):
        if place + 12 > len(data):
            return 0
        tag, form, number = struct.unpack_from(f"{order}HHI", data, place)
        name, size = _NAMES[kind].get(tag), SIZES.get(form, 0) * number
        if name is None or not 0 < size <= LARGEST_VALUE or name in tags:
            continue
        start = place + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, place + 8)[0]
        value = _value(data[start : start + size], order, form, name)
        if value is not None:
            tags[name] = value
    behind = at + 2 + 12 * count
    return int(struct.unpack_from(f"{order}I", data, behind)[0]) if behind + 4 <= len(data) else 0


def _value(body: bytes, order: str, form: int, name: str) -> str | int | None:
    if form in (3, 4, 13):
        whole = len(body) >= SIZES[form]
        return int(struct.unpack_from(f"{order}{'H' if form == 3 else 'I'}", body)[0]) if whole else None
    if form == 5:  # the time of GPS: hours, minutes and seconds
        parts = [part for (part,) in struct.iter_unpack(f"{order}I", body[: len(body) // 4 * 4])]
        pairs = list(zip(parts[::2], parts[1::2], strict=False))
        if len(pairs) != 3 or not all(below for _, below in pairs):
            return None
        hours, minutes, seconds = (above // below for above, below in pairs)
        return f"{hours:02}:{minutes:02}:{seconds:02}"
    if name == "UserComment":
        code = _COMMENT_CODES.get(body[:8])
        if code is None:
            return body.decode("utf-8", "replace").strip("\0 ") or None
        if code == "utf-16" and body[8:10] not in (b"\xff\xfe", b"\xfe\xff"):
            code = "utf-16-be" if body[8:9] == b"\0" or (order == ">" and body[9:10] != b"\0") else "utf-16-le"
        return body[8:].decode(code, "replace").strip("\0 ") or None
    return body.partition(b"\0")[0].decode("utf-8", "replace").strip() or None
