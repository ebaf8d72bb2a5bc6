"""Files by their first bytes, past tags and junk, and the spans of them that hold media."""

import io
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vision.media.sniff import MAX_TAGS, sniff, spans

FLAC, ADTS, OGG = b"fLaC" + bytes(40), b"\xff\xf1\x50\x80" + bytes(40), b"OggS" + bytes(40)
FRAME = b"\xff\xfb\x90\x00" + bytes(413)
"""An MP3 frame of 128 kbit/s at 44.1 kHz."""
LOW_FRAME = b"\xff\xf3\x40\x00" + bytes(140)
"""One of 32 kbit/s at 22.05 kHz, which 104.5 bytes would do: so no frame follows where the header says."""
JUNK = np.random.default_rng(0).integers(1, 128, 900, np.uint8).tobytes() + b"\xff"


def id3(size: int, *, footer: bool = False) -> bytes:
    head = bytes([4, 0, 0x10 if footer else 0, *(size >> shift & 127 for shift in (21, 14, 7, 0))])
    return b"ID3" + head + b"x" * size + (b"3DI" + head if footer else b"")


def ape(size: int) -> bytes:
    """Return an APEv2 tag with header and footer."""
    ends = [b"APETAGEX" + struct.pack("<4I8x", 2000, size + 32, 1, flags) for flags in (0xA0000000, 0x80000000)]
    return ends[0] + b"y" * size + ends[1]


def guess(data: bytes) -> tuple[str, str]:
    found = sniff(io.BytesIO(data))
    return found.name, found.demuxer


@pytest.mark.parametrize(
    ("data", "name", "demuxer"),
    [
        (id3(9000) + FLAC, "FLAC", "flac"),
        (id3(300_000) + id3(10) + bytes(3000) + FLAC, "FLAC", "flac"),
        (id3(20, footer=True) + ape(500) + FLAC, "FLAC", "flac"),
        (id3(128) + ADTS, "AAC", "aac"),
        (ADTS, "AAC", "aac"),
        (id3(5000) + 4 * FRAME, "MP3", "mp3"),
        (JUNK + 4 * FRAME, "MP3", "mp3"),
        (bytes(3000) + 4 * FRAME, "MP3", "mp3"),
        (b"BW64\xff\xff\xff\xffWAVEds64", "WAV", "wav"),
        (b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0" + bytes(8), "WAV", "w64"),
    ],
)
def test_sounds_are_found_behind_what_stands_before_them(data: bytes, name: str, demuxer: str) -> None:
    assert guess(data) == (name, demuxer)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (JUNK + LOW_FRAME * 4, "A file of this kind"),
        (JUNK + 2 * FRAME + JUNK, "A file of this kind"),
        (b"MZ" + bytes(100) + 4 * FRAME, "A program"),
        (b"#!/bin/sh\n\0" + 4 * FRAME, "A program"),
        (b"PK\x03\x04" + 4 * FRAME, "A ZIP archive or Office document"),
        (b"%PDF-1.7" + 4 * FRAME, "A PDF"),
        (b"<html><body>" + 4 * FRAME, "A web page"),
        (b"FORM\0\0\0\0AIFFCOMM", "An AIFF sound"),
        (b"caff\0\x01\0\0desc", "A Core Audio file"),
        (b"Rar!\x1a\x07\x01\0", "An archive"),
    ],
)
def test_what_only_holds_frames_somewhere_stays_refused(data: bytes, name: str) -> None:
    assert guess(data) == (name, "")


@pytest.mark.parametrize("rest", [b"\xff\xd8\xff\xe0", b"PK\x03\x04", b"<html>", OGG, b"\0\0\0\x18ftypisom", b""])
def test_only_sounds_have_a_tag_in_front(rest: bytes) -> None:
    assert guess(id3(50) + rest) == ("MP3", "mp3")  # FFmpeg says what is wrong with it


def test_steps_over_tags_are_bounded() -> None:
    assert guess(id3(0) * MAX_TAGS + FLAC) == ("FLAC", "flac")
    assert guess(id3(0) * (MAX_TAGS + 1) + FLAC) == ("MP3", "mp3")
    assert spans(io.BytesIO(b"ID3\x04\0\0\x40\0\0\0" + FLAC), "flac") == [(2**27 + 10, 2**27 + 10)]


def test_tags_are_in_no_span() -> None:
    data = id3(5000) + 9 * FRAME + ape(700) + b"TAG" + bytes(125)
    assert spans(io.BytesIO(data), "mp3") == [(5010, 5010 + 9 * len(FRAME))]
    assert spans(io.BytesIO(data), "mov") == [(0, len(data))]


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**32 - 1])
def test_a_tag_behind_may_claim_any_size(size: int, tmp_path: Path) -> None:
    footer = b"APETAGEX" + struct.pack("<4I8x", 2000, size, 0, 0xA0000000)
    for data in (FRAME + footer * 2, FRAME + footer, footer, FRAME[:10] + footer[:8], footer[-8:]):
        (path := tmp_path / "sound").write_bytes(data)
        with path.open("rb") as file:  # unlike one in memory it refuses to read less than nothing
            ((begin, end),) = spans(file, "mp3")
        assert 0 <= begin <= end


def page(*, first: bool = False, body: int = 100) -> bytes:
    return b"OggS\0" + bytes([2 * first]) + bytes(20) + b"\x01" + bytes([body]) + b"z" * body


def test_links_begin_with_the_first_pages_of_their_streams() -> None:
    one, two = page(first=True) + 3 * page(), page(first=True, body=20) + page(first=True, body=9) + 20_000 * page()
    assert spans(io.BytesIO(one), "ogg") == [(0, len(one))]
    data = one + two + one
    starts = [0, len(one), len(one) + len(two), len(data)]
    assert spans(io.BytesIO(data), "ogg") == [*pairwise(starts)]


@pytest.mark.parametrize("shift", [1, 20, 27, 28, 40, 281, 283])
def test_a_link_at_the_edge_of_what_is_read_at_once(shift: int) -> None:
    one = page(first=True)
    one += b"\0" * (2**20 - shift - len(one))
    data = one + page(first=True) + page(first=True) + page()
    assert spans(io.BytesIO(data), "ogg") == [(0, len(one)), (len(one), len(data))]
