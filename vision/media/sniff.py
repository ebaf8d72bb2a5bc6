"""What a file is by its first bytes; never by its name or its header line."""

import re
from dataclasses import dataclass
from typing import Final, Literal

MediaKind = Literal["image", "video", "audio"]

HEAD: Final = 4096  # bytes of a file that ``sniff`` needs
SUPPORTED: Final = "JPG, PNG, WEBP, GIF, BMP, TIFF, AVIF, HEIC, MP4, MOV, AVI, WebM, MKV, WAV, MP3, M4A, FLAC or OGG"


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
    ("WAV", "wav"): rb"(RIFF|RF64|RIFX)....WAVE",
    ("FLAC", "flac"): rb"fLaC",
    ("OGG", "ogg"): rb"OggS",
    ("MP3", "mp3"): rb"ID3[\x02-\x04]|\xff[\xe2\xe3\xf2\xf3\xfa\xfb][^\xf0-\xff]",
}

# Listed only to say what came in. Markup is searched anywhere in the head: comments may stand before it.
_REFUSED: Final = {
    "A PDF": rb"%PDF-",
    "A web page": rb"(\xef\xbb\xbf)?\s*<(.*<)?(?i:!doctype html|html|body)",
    "An SVG": rb"(\xef\xbb\xbf)?\s*<(.*<)?svg[\s>]",
    "A DASH manifest": rb"(\xef\xbb\xbf)?\s*<(.*<)?MPD[\s>]",
    "A PostScript file": rb"%!PS|\xc5\xd0\xd3\xc6",
    "A ZIP archive or Office document": rb"PK(\x03\x04|\x05\x06)",
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
    "A raw AAC stream": rb"\xff[\xf0\xf1\xf8\xf9]",
    "A text file": rb"[\t\r\n\x20-\x7e]+\Z",
}

_PATTERNS: Final = [
    *((re.compile(pattern, re.DOTALL), Guess("image", name)) for name, pattern in _IMAGES.items()),
    *((re.compile(p, re.DOTALL), Guess("container", *names)) for names, p in _CONTAINERS.items()),
    *((re.compile(pattern, re.DOTALL), Guess("refused", name)) for name, pattern in _REFUSED.items()),
]


def sniff(head: bytes) -> Guess:
    """Return the format that the first ``HEAD`` bytes of a file announce; only a decoder can tell what it holds."""
    matches = (guess for pattern, guess in _PATTERNS if pattern.match(head))
    return next(matches, Guess("refused", "A file of this kind"))


def is_webm(head: bytes) -> bool:
    """Return whether the DocType of this Matroska file is "webm": all that tells the two apart from outside.

    Beside it the EBML header holds small integers only, so the element's id 42 82 is not there by chance.
    """
    return re.search(rb"\x42\x82.{1,8}?webm", head[:128], re.DOTALL) is not None
