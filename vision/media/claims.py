"""What an MP4 file claims to hold, before FFmpeg believes it: a table of 20 bytes may state billions of samples.

FFmpeg takes some 40 bytes of memory for each sample of each track when it opens a file. So the samples that the header
and the fragments state are added up first, by the boxes alone; ISO/IEC 14496-12 describes them.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

from vision.errors import InvalidMedia

MOST_SAMPLES: Final = 12_000_000
"""Of all tracks together: a day of 60 pictures a second, with its sound."""
MOST_EDITS: Final = 10_000
MOST_BOXES: Final = 1_000_000
"""Boxes side by side: two days in fragments of half a second."""
MOST_DEPTH_BYTES: Final = 256 * 2**20
"""Bytes of a header; one that is compressed may grow to a quarter of it."""
_EDITS_FREE: Final = 4
"""Edits of a track that FFmpeg is taken to have samples for once only."""
_BLOCK: Final = 64 * 1024
_SKIPPED: Final = {b"mdat", b"free", b"skip", b"wide", b"uuid"}
"""Boxes that FFmpeg does not look into."""
_SOUND_BLOCK: Final = 1024
"""Samples of plain sound that FFmpeg counts as one."""


def top_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, and begin and end of the body, of the boxes of an MP4 file, however large they are.

    One that ends before it begins is the last: it goes on to the end of the file, or is no box at all.
    """
    place, begin, block = 0, 0, b""
    while True:
        if not begin <= place <= begin + len(block) - 16:
            file.seek(place)
            begin, block = place, file.read(_BLOCK)
        head = block[place - begin : place - begin + 16]
        if len(head) < 8:
            return
        length, kind, body = int.from_bytes(head[:4]), head[4:8], 8
        if length == 1:
            length, body = int.from_bytes(head[8:]), 16
        yield kind, place + body, place + length
        if length < body:
            return
        place += length


def check_claims(file: BinaryIO, size: int) -> None:
    """Raise InvalidMedia for an MP4 of ``size`` bytes whose tables state more than any film has.

    The position of the file object stays as it is.
    """
    place, samples, edits = file.tell(), 0, 0
    try:
        for number, (kind, start, end) in enumerate(top_boxes(file)):
            if number >= MOST_BOXES:
                raise _overdone("parts")
            if kind in _SKIPPED:
                continue
            behind = min(end, size) if end >= start else size
            if behind - start > MOST_DEPTH_BYTES:
                raise _overdone("tables")
            file.seek(start)
            more = _claimed(file.read(behind - start))
            samples, edits = samples + more[0], edits + more[1]
            if samples > MOST_SAMPLES:
                raise _overdone("samples")
            if edits > MOST_EDITS:
                raise _overdone("edits")
    finally:
        file.seek(place)


def _overdone(what: str) -> InvalidMedia:
    return InvalidMedia(f"The header of this file states more {what} than a film of a day has; export it again.")


def _claimed(data: bytes) -> tuple[int, int]:
    """Return how many samples and edits the tables in a box state, wherever in it they are."""
    samples, edits = 0, 0
    for track in re.split(rb"(?=trak)", data):
        claims = _fields(track, rb"stsz", 8) + _fields(track, rb"stz2", 8)
        chunks = sum(_fields(track, rb"stco", 4) + _fields(track, rb"co64", 4))
        if b"soun" in track and re.search(rb"stts.{4}\x00\x00\x00\x01.{4}\x00\x00\x00\x01", track, re.DOTALL):
            most = max((max(_runs(track, at)) for at in _places(track, rb"stsc")), default=0)
            claims = [chunks * -(-most // _SOUND_BLOCK)]
        cuts = sum(_fields(track, rb"elst", 4))
        samples += (sum(claims) + chunks) * max(1, cuts // _EDITS_FREE)
        edits += cuts
    samples += sum(_fields(data, rb"trun", 4))
    for at in _places(data, rb"cmvd"):
        inside = zlib.decompressobj()
        try:
            header = inside.decompress(data[at + 4 :], MOST_DEPTH_BYTES // 4)
        except zlib.error:
            continue
        if inside.unconsumed_tail:
            raise _overdone("tables")
        if b"cmvd" not in header:
            more = _claimed(header)
            samples, edits = samples + more[0], edits + more[1]
    return samples, edits


def _places(data: bytes, name: bytes) -> list[int]:
    """Return where the bodies of the boxes of this name begin."""
    return [match.end() for match in re.finditer(name, data)]


def _fields(data: bytes, name: bytes, at: int) -> list[int]:
    """Return the number of 32 bits at this place of the body of each box of a name."""
    places = (place + at for place in _places(data, name))
    return [struct.unpack_from(">I", data, place)[0] for place in places if place + 4 <= len(data)]


def _runs(data: bytes, at: int) -> list[int]:
    """Return the samples of a chunk in each row of a table ``stsc`` whose body begins here."""
    rows = (len(data) - at - 8) // 12
    count = min(int.from_bytes(data[at + 4 : at + 8]), max(rows, 0))
    return [0, *(int.from_bytes(data[at + 12 + 12 * row : at + 16 + 12 * row]) for row in range(count))]
