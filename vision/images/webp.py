"""Reads the chunks of a WEBP, so that a decoder takes files whose end is missing, and shows frames on a clear canvas.

Chunks: RFC 9649.
"""

import struct
from typing import Final

USUAL_CHUNKS: Final = 20_000
_HEAD: Final = 12
"""Bytes in front of the first chunk: RIFF, size, WEBP."""
_PICTURES: Final = (b"VP8 ", b"VP8L", b"ANMF")
_FLAGS: Final = _HEAD + 8
"""Place of the flags of the chunk VP8X, which is the first where it is there."""
_ANIMATED, _CLEAR = 2, 16


def is_webp(data: bytes) -> bool:
    """Return whether the bytes begin as a WEBP does."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def has_many_chunks(data: bytes) -> bool:
    """Return whether a WEBP has more than ``USUAL_CHUNKS``, which take seconds to read one by one."""
    at = _HEAD
    for _ in range(USUAL_CHUNKS):
        if at + 8 > len(data):
            return False
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return True


def first_picture(data: bytes) -> bytes:
    """Return a WEBP whose first picture is shown as it is meant, the same bytes where the file does that already.

    A last chunk that is cut short is left out if it is no still picture: EXIF and XMP stand at the end, and so do the
    later frames of an animation. An animation is said to have transparency, since a first frame that is smaller than
    the canvas leaves that clear, whatever the file says.
    """
    whole = _whole(data)
    flags = whole[_FLAGS] if whole[_HEAD : _HEAD + 4] == b"VP8X" and len(whole) > _FLAGS else 0
    if flags & _ANIMATED and not flags & _CLEAR:
        return whole[:_FLAGS] + bytes([flags | _CLEAR]) + whole[_FLAGS + 1 :]
    return whole


def _whole(data: bytes) -> bytes:
    at, pictures = _HEAD, 0
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        end = at + 8 + size + size % 2
        if end > len(data):
            break
        pictures += name in _PICTURES
        at = end
    stated = struct.unpack_from("<I", data, 4)[0] + 8 if len(data) >= _HEAD else 0
    if not pictures or stated <= len(data):
        return data
    return data[:4] + struct.pack("<I", at - 8) + data[8:at]
