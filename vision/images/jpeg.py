"""Reads the markers of a JPEG, so that what decoding it takes is known before: ITU-T T.81.

A scan of few bytes may walk over all blocks of a picture, and a file may have any number of scans, so neither its bytes
nor its pixels bound the work.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final

from vision.errors import InvalidMedia, MediaTooLarge

MOST_VISITS: Final = 64_000_000
"""Visits of blocks of one picture, 21 ns each: 50 scans over 80 million grey pixels, where encoders write 6 to 12."""
MOST_SEGMENTS: Final = 20_000
_SCAN: Final = 500
"""What a scan takes beside its blocks, in visits."""
_ARITHMETIC: Final = 8
"""How many times more a visit takes, as an arithmetic decoder makes many coefficients of few bytes."""
_MARKER: Final = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""A marker that has a segment, and the end; what lies between them is skipped, as decoders do."""
_SOF: Final = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_LOSSLESS: Final = {0xC3, 0xC7, 0xCB, 0xCF}
_LEAST_BITS: Final = {0xC0: 2, 0xC1: 2, 0xC2: 1}
"""Of a block, by kind of frame with Huffman codes."""
_EOI, _SOS = 0xD9, 0xDA


@dataclass(slots=True)
class Scans:
    """What the markers of a JPEG say. ``visits``: how often a decoder visits a block of 8 x 8 samples, in all scans.

    ``coded``: bytes of Huffman codes, and ``least``: how many the blocks have at least, as each has a code of one bit,
    and one more for its end where all of it stands in one scan; 0 for arithmetic coding, which has no such bound.
    """

    visits: int = 0
    coded: int = 0
    least: int = 0

    def check(self) -> None:
        """Raise MediaTooLarge for more than ``MOST_VISITS``, InvalidMedia for too few bytes: decoders make up grey."""
        if self.visits > MOST_VISITS:
            raise MediaTooLarge(
                "This JPEG takes too long to decode: it has more scans than a picture of its size needs. "
                "Save it again, as a baseline JPEG or a PNG."
            )
        if self.coded < self.least:
            raise InvalidMedia(
                f"This JPEG ends too early: its picture data has {self.coded:,} of at least {self.least:,} bytes; "
                "upload the whole file."
            )


def read_scans(data: bytes | memoryview, *, past_end: bool = False) -> Scans:
    """Read the markers of a JPEG; what is none has neither visits nor bytes.

    It stops at the end mark, as decoders of pictures do, unless ``past_end``: a packet of video may have two fields.
    Raises MediaTooLarge for more than ``MOST_SEGMENTS`` segments.
    """
    scans, at, weight, segments, in_scan = Scans(), 0, 1, 0, False
    blocks = dict[int, int]()
    while match := _MARKER.search(data, at):
        scans.coded += (match.start() - at) * in_scan
        at, in_scan = match.end(), False
        marker = data[at - 1]
        if marker == _EOI:
            if past_end:
                continue
            return scans
        segments += 1
        if segments > MOST_SEGMENTS:
            raise MediaTooLarge(f"This JPEG has more than {MOST_SEGMENTS:,} segments. Save it again.")
        if at + 2 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, at)
        body = bytes(data[at + 2 : at + max(length, 2)])
        if marker in _SOF:
            blocks, least = _blocks(body, marker in _LOSSLESS)
            weight, scans.least = _ARITHMETIC if marker > 0xC8 else 1, least * _LEAST_BITS.get(marker, 0) // 8
        elif marker == _SOS and body:
            names = set(body[1 : 1 + 2 * body[0] : 2])
            scans.visits += weight * sum(count for name, count in blocks.items() if name in names) + _SCAN
            in_scan = True
        at += max(length, 2)
    scans.coded += max(len(data) - at, 0) * in_scan
    return scans


def _blocks(frame: bytes, lossless: bool) -> tuple[dict[int, int], int]:
    """Return blocks of each component by its name, from the header of a frame, and how many hold a part of the picture.

    8 samples without loss count as one block.
    """
    if len(frame) < 6:
        return {}, 0
    height, width, count = struct.unpack_from(">HHB", frame, 1)
    components = [frame[at : at + 3] for at in range(6, 6 + 3 * count, 3)]
    sampling = [(body[0], body[1] >> 4, body[1] & 15) for body in components if len(body) == 3]
    if not sampling or not all(0 < h <= 4 and 0 < v <= 4 for _, h, v in sampling):
        return {}, 0  # no decoder takes it
    across, down = max(h for _, h, _ in sampling), max(v for _, _, v in sampling)
    unit, share = (1, 8) if lossless else (8, 1)
    units = -(-width // (unit * across)) * -(-height // (unit * down))
    shown = sum(-(-width * h // (8 * across)) * -(-height * v // (8 * down)) for _, h, v in sampling)
    return {name: units * h * v // share for name, h, v in sampling}, shown
