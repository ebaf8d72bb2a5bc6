"""How much work one packet may be, by its syntax alone: what a decoder was given it does to the end.

A decoder cannot be stopped in the middle of a packet. In many codecs a few bytes stand for a walk over the whole
picture, or for a block of sound, and a packet may have any number of them, where real ones have one, or one for each
row of blocks. So they are counted before a packet is decoded, and a packet of too many counts as damaged.
"""

from collections.abc import Callable
from typing import Any, Final

from configs.settings import settings
from vision.images.jpeg import MOST_VISITS, read_scans

MOST_PIXELS: Final = 10_000_000_000
"""Pixels that the slices of one packet may walk over, if each walks to the end of the picture: some five seconds."""
MOST_FRAMES: Final = 40
MOST_SHOWN: Final = 8
"""Frames of one packet of AV1, and how many of them are shown: one, or one for each layer."""
MOST_SLOW_BYTES: Final = 5_000_000
"""Bytes of a packet in which a single bit may leave out a block; no encoder makes pictures of so many."""
MOST_SOUND_BYTES: Final = 64 * 1024
MOST_PLAIN_BYTES: Final = 16 * 2**20
"""Bytes of a packet of compressed sound, and of one of samples as they are."""

_FLAC_SYNC: Final = (b"\xff\xf8", b"\xff\xf9")
_SPS: Final = {"h264": 7, "hevc": 33}


def is_excessive(packet: Any) -> bool:
    """Return whether decoding a PyAV packet could take longer, or more memory, than that of any real film or sound."""
    context = packet.stream.codec_context
    if context is None or not packet.size:
        return False
    count = _COUNTERS.get(context.codec.canonical_name)
    if count is not None:
        return bool(count(packet, context))
    if packet.stream.type == "audio":
        plain = context.name.startswith(("pcm_", "adpcm_", "flac", "alac"))
        return bool(packet.size > (MOST_PLAIN_BYTES if plain else MOST_SOUND_BYTES))
    return False


def _by_slices(packet: Any, context: Any) -> bool:
    """H.264 and HEVC: each slice may skip to the end of the picture, in a dozen bytes."""
    most = settings().max_image_pixels
    if packet.size // 5 * most <= MOST_PIXELS:
        return False
    data = bytes(packet)
    name = context.codec.canonical_name
    units = _nal_types(data, context.extradata or b"", name, MOST_PIXELS // most)
    if len(units) * most <= MOST_PIXELS:
        return False
    units = _nal_types(data, context.extradata or b"", name, len(data))
    pixels = most if _SPS[name] in units else max(context.width * context.height, 1)
    return bool(len(units) * pixels > MOST_PIXELS)


def _nal_types(data: bytes, header: bytes, codec: str, enough: int) -> list[int]:
    """Return the types of the NAL units of a packet, stopping behind ``enough``; by start codes or by sizes."""
    shift, mask = (0, 31) if codec == "h264" else (1, 63)
    types: list[int] = []
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3 and len(types) <= enough:
        types.append(data[at + 3] >> shift & mask)
        at = data.find(b"\0\0\1", at + 3)
    place = {"h264": 4, "hevc": 21}[codec]
    if len(header) <= place or header[0] != 1:
        return types
    width, at, sized = (header[place] & 3) + 1, 0, list[int]()
    while at + width < len(data) and len(sized) <= enough:
        sized.append(data[at + width] >> shift & mask)
        at += width + int.from_bytes(data[at : at + width])
    return max(types, sized, key=len)


def _by_scans(packet: Any, context: Any) -> bool:
    """JPEG: each scan may walk over all blocks."""
    data = bytes(packet)
    # Within a scan these two bytes never stand beside each other; up to eight scans walk over no picture too often.
    return data.count(b"\xff\xda") > 8 and read_scans(data, past_end=True).visits > MOST_VISITS


def _by_frames(packet: Any, context: Any) -> bool:
    """AV1: a packet may hold any number of frames, each of which takes a few bytes."""
    if packet.size < MOST_SHOWN * 3:
        return False
    data, at, frames, shown = bytes(packet), 0, 0, 0
    while at < len(data) and frames <= MOST_FRAMES and shown <= MOST_SHOWN:
        head = data[at]
        kind, at = head >> 3 & 15, at + (2 if head & 4 else 1)
        size, shift = (0, 0) if head & 2 else (len(data) - at, 56)
        while shift < 56 and at < len(data):
            size |= (data[at] & 127) << shift
            shift, at = (shift + 7 if data[at] & 128 else 56), at + 1
        if kind in (3, 6) and at < len(data):  # a header of a frame, alone or with the frame
            frames += 1
            shown += data[at] & 0x80 != 0 or data[at] & 0x10 != 0
        at += size
    return frames > MOST_FRAMES or shown > MOST_SHOWN


def _by_trailers(packet: Any, context: Any) -> bool:
    """FFV1: slices may overlap; their sizes stand behind them."""
    data = bytes(packet)
    slices = max(_trailers(data, 3), _trailers(data, 8))
    return bool(4 * slices * context.width * context.height > MOST_PIXELS)


def _trailers(data: bytes, length: int) -> int:
    count, end = 0, len(data)
    while end >= length:
        end -= length + int.from_bytes(data[end - length : end - length + 3])
        count += end >= 0
    return count


def _by_bytes(packet: Any, context: Any) -> bool:
    return bool(packet.size > MOST_SLOW_BYTES)


def _by_channels(packet: Any, context: Any) -> bool:
    """AAC: a packet may hold any number of blocks, which have 768 bytes a channel at most."""
    return bool(packet.size > 8192 + 1536 * max(context.channels, 1))


def _by_syncs(packet: Any, context: Any) -> bool:
    """FLAC: a packet may hold any number of blocks, of 65,535 samples in a dozen bytes."""
    if packet.size > MOST_PLAIN_BYTES:
        return True
    if packet.size < 512:
        return False
    data = bytes(packet)
    # By chance there is one in 32 KB.
    return sum(map(data.count, _FLAC_SYNC)) > 16 + len(data) // 8192


_COUNTERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "h264": _by_slices,
    "hevc": _by_slices,
    "mjpeg": _by_scans,
    "av1": _by_frames,
    "ffv1": _by_trailers,
    **dict.fromkeys(("mpeg4", "msmpeg4v2", "msmpeg4v3", "h263", "mpeg1video", "mpeg2video"), _by_bytes),
    "aac": _by_channels,
    "flac": _by_syncs,
}
"""By codec, in FFmpeg's canonical names."""
