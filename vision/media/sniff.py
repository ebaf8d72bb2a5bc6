"""What a file is by its first bytes, never by its name or its header line, and where in it the media lies."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, Final, Literal

MediaKind = Literal["image", "video", "audio"]

HEAD: Final = 4096  # bytes that are compared with the formats
MAX_TAGS: Final = 32
"""Tags before a sound that are stepped over."""
MAX_PADDING: Final = 256 * 1024
"""Zero bytes that may follow a tag."""
MAX_JUNK: Final = 8 * 1024
"""Bytes before the first frame of an MP3 that was cut out of a stream."""
MAX_LINKS: Final = 10_000
"""Links of a chained Ogg file: a month of radio in songs."""
SUPPORTED: Final = (
    "JPG, PNG, WEBP, GIF, BMP, TIFF, AVIF, HEIC, MP4, MOV, AVI, WebM, MKV, WAV, MP3, M4A, AAC, FLAC or OGG"
)


@dataclass(frozen=True, slots=True)
class Guess:
    """What a file seems to be. ``demuxer`` is FFmpeg's name of the one container to try; empty for a still image.

    The name of a refused file starts with its article.
    """

    kind: Literal["image", "container", "refused"]
    name: str
    demuxer: str = ""


_IMAGES: Final = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF....WEBP",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "AVIF or HEIC": rb"....ftyp(avi[fs]|mif1|msf1|he[iv][cmsx])",
}

# Each demuxer is forced, so no other one ever sees the bytes.
_CONTAINERS: Final = {
    ("MP4", "mov"): rb"....(ftyp|moov|mdat|wide|free|skip|pnot|moof)",
    ("AVI", "avi"): rb"RIFF....AVI[ \x19]",
    ("Matroska file", "matroska"): rb"\x1a\x45\xdf\xa3",
    ("WAV", "wav"): rb"(RIFF|RF64|BW64|RIFX)....WAVE",
    ("WAV", "w64"): rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0",
    ("FLAC", "flac"): rb"fLaC",
    ("OGG", "ogg"): rb"OggS",
    ("MP3", "mp3"): rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][^\xf0-\xff]",
    ("AAC", "aac"): rb"\xff[\xf0\xf1\xf8\xf9]",
}

# Listed only to say what came in. Markup is searched anywhere in the head: comments may stand before it.
_REFUSED: Final = {
    "A PDF": rb"%PDF-",
    "A web page": rb"(\xef\xbb\xbf)?\s*<(.*<)?(?i:!doctype html|html|body)",
    "An SVG": rb"(\xef\xbb\xbf)?\s*<(.*<)?svg[\s>]",
    "A DASH manifest": rb"(\xef\xbb\xbf)?\s*<(.*<)?MPD[\s>]",
    "A PostScript file": rb"%!PS|\xc5\xd0\xd3\xc6",
    "A ZIP archive or Office document": rb"PK(\x03\x04|\x05\x06)",
    "An archive": rb"Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|\x1f\x8b\x08|BZh[1-9]|\xfd7zXZ\0|\x28\xb5\x2f\xfd",
    "A program": rb"MZ|\x7fELF|\xca\xfe\xba\xbe|[\xce\xcf]\xfa\xed\xfe|\0asm|#!",
    "A Photoshop file": rb"8BPS",
    "A JPEG XL image": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "A JPEG 2000 image": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "An icon": rb"\0\0[\x01\x02]\0",
    "A playlist": rb"\s*(#EXTM3U|\[playlist\])",
    "An ffconcat script": rb"\s*ffconcat ",
    "A session description": rb"v=0\r?\n",
    "A Flash video": rb"FLV\x01",
    "A Windows Media file": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    "An MPEG program or transport stream": rb"\0\0\x01[\xb3\xba]|\x47.{187}\x47",
    "An AIFF sound": rb"FORM....AIF[FC]",
    "A Core Audio file": rb"caff\0\x01",
    "An AU sound": rb"\.snd",
    "A WavPack sound": rb"wvpk",
    "A Monkey's Audio file": rb"MAC ",
    "A MIDI file": rb"MThd",
    "A text file": rb"[\t\r\n\x20-\x7e]+\Z",
}

_PATTERNS: Final = [
    *((re.compile(pattern, re.DOTALL), Guess("image", name)) for name, pattern in _IMAGES.items()),
    *((re.compile(p, re.DOTALL), Guess("container", *names)) for names, p in _CONTAINERS.items()),
    *((re.compile(pattern, re.DOTALL), Guess("refused", name)) for name, pattern in _REFUSED.items()),
]
_UNKNOWN: Final = Guess("refused", "A file of this kind")
_MP3: Final = Guess("container", "MP3", "mp3")
_TAGGED: Final = frozenset({"mp3", "flac", "aac"})
"""Demuxers of the formats that people put tags in front of."""


def sniff(file: BinaryIO) -> Guess:
    """Return the format that the first bytes of a file announce; only a decoder can tell what it holds.

    Tags in front of a sound are stepped over, however long they are. ``file`` has to be seekable.
    """
    start = _behind_tags(file)
    file.seek(start)
    head = file.read(HEAD)
    guess = next((guess for pattern, guess in _PATTERNS if pattern.match(head)), _UNKNOWN)
    if start and guess.demuxer not in _TAGGED:
        return _MP3  # nothing else has such a tag; FFmpeg says what is wrong with the rest
    if guess is _UNKNOWN and _has_mp3_frames(head + file.read(2 * MAX_JUNK)):
        return _MP3
    return guess


def is_webm(head: bytes) -> bool:
    """Return whether the DocType of this Matroska file is "webm": all that tells the two apart from outside.

    Beside it the EBML header holds small integers only, so the element's id 42 82 is not there by chance.
    """
    return re.search(rb"\x42\x82.{1,8}?webm", head[:128], re.DOTALL) is not None


def spans(file: BinaryIO, demuxer: str) -> list[tuple[int, int]]:
    """Return first byte and end of the parts that this demuxer of FFmpeg reads one after the other, each by itself.

    Tags in front of a sound and behind it are in none of them; each link of a chained Ogg file is one.
    """
    size = file.seek(0, io.SEEK_END)
    if demuxer in _TAGGED:
        start = _behind_tags(file)
        return [(start, max(_before_tags(file, size), start))]
    starts = [*_ogg_links(file)] if demuxer == "ogg" else []
    return [*pairwise([*(starts or [0]), size])]


def _behind_tags(file: BinaryIO) -> int:
    """Return the place behind the ID3v2 and APEv2 tags at the start of a file, and behind the zeros that pad them."""
    place = 0
    for _ in range(MAX_TAGS):
        file.seek(place)
        length = _tag_length(file.read(32))
        if not length:
            break
        place += length
        file.seek(place)
        padding = file.read(MAX_PADDING)
        place += len(padding) - len(padding.lstrip(b"\0"))
    return place


def _before_tags(file: BinaryIO, size: int) -> int:
    """Return the place before the ID3v1 and APEv2 tags at the end of a file."""
    place = size
    for _ in range(MAX_TAGS):
        file.seek(max(place - 160, 0))
        end = file.read(place - file.tell())
        if len(end) >= 128 and end[-128:].startswith(b"TAG"):
            place -= 128
        elif len(end) >= 32 and end[-32:].startswith(b"APETAGEX"):
            header = 32 if end[-9] & 0x80 else 0
            place = max(place - int.from_bytes(end[-20:-16], "little") - header, 0)
        else:
            break
    return place


def _tag_length(head: bytes) -> int:
    if re.match(rb"ID3[\x02-\x04][^\xff].[\0-\x7f]{4}", head, re.DOTALL):
        size = 0
        for seven_bits in head[6:10]:
            size = size << 7 | seven_bits
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head.startswith(b"APETAGEX"):
        return 32 + int.from_bytes(head[12:16], "little")
    return 0


def _has_mp3_frames(data: bytes) -> bool:
    """Return whether three MP3 frames of one kind follow each other soon, each as long as its header says."""
    headers = re.finditer(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", data[:MAX_JUNK])
    return any(_run_of_frames(data, header.start()) for header in headers)


def _run_of_frames(data: bytes, place: int) -> bool:
    start = data[place : place + 2]
    for _ in range(3):
        header = data[place : place + 4]
        length = _mp3_frame_length(header) if len(header) == 4 and header.startswith(start) else 0
        if not length:
            return False
        place += length
    return True


def _mp3_frame_length(header: bytes) -> int:
    """Return the bytes of the frame of layer III that has this header; 0 for an impossible one."""
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if not 0 < bitrate < 15 or rate == 3:
        return 0
    low = version != 3
    rates = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    if not low:
        rates = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    hertz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return (72 if low else 144) * rates[bitrate - 1] * 1000 // hertz + (header[2] >> 1 & 1)


def _ogg_links(file: BinaryIO) -> Iterator[int]:
    """Yield where the links of a chained Ogg file begin: at a first page of a stream, or at several in a row."""
    file.seek(0)
    place, behind, count, rest = 0, -1, 0, b""
    while True:
        chunk = file.read(2**20)
        data = rest + chunk
        whole = max(len(data) - 282, 0) if chunk else len(data)  # the header of a page takes 282 bytes at most
        for page in re.finditer(rb"OggS\0[\x02\x06].{20}(.)", data, re.DOTALL):
            if page.start() >= whole:
                break
            at, segments = place + page.start(), page[1][0]
            if at != behind:
                count += 1
                if count > MAX_LINKS:
                    return
                yield at
            behind = at + 27 + segments + sum(data[page.end() : page.end() + segments])
        if not chunk:
            return
        place += whole
        rest = data[whole:]
