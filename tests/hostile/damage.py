"""Files of two kinds at once, under a wrong name or type, cut short, with more behind their end, or full of tags."""

from collections.abc import Callable, Iterator
from functools import cache

from tests.cases.fuzz import whole_files
from tests.hostile.corpus import HostileFile
from tests.hostile.jpegs import COM, segment, textured, with_segments
from tests.hostile.pngs import chunk, flat
from tests.hostile.references import m3u8
from tests.hostile.strangers import PDF, svg, zipped

SCRIPT = b"<script>alert(document.domain)</script>"
TYPES = {
    **{"JPG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif", "BMP": "image/bmp"},
    **{"TIFF": "image/tiff", "AVIF": "image/avif", "HEIC": "image/heic", "MP4": "video/mp4", "MOV": "video/quicktime"},
    **{"AVI": "video/x-msvideo", "WebM": "video/webm", "MKV": "video/x-matroska", "WAV": "audio/wav"},
    **{"MP3": "audio/mpeg", "M4A": "audio/mp4", "FLAC": "audio/flac", "OGG": "audio/ogg"},
}


@cache
def whole() -> dict[str, bytes]:
    """Return one whole file of each kind or more by name."""
    return whole_files()


def cut(name: str, share: float) -> bytes:
    """Return the first part of a whole file."""
    return whole()[name][: int(len(whole()[name]) * share)]


def comment_in_gif() -> bytes:
    """Return a GIF that is JavaScript too: its size is the beginning of a comment."""
    data = whole()["GIF"]
    return b"GIF89a/*" + data[8:-1] + b"*/=1;alert(1)//;"


def html_in_mp4() -> bytes:
    """Return a film that a browser which guesses takes for a page."""
    return whole()["MP4"] + SCRIPT


def boxed_html() -> bytes:
    """Return a film whose first box is a page."""
    return b"\0\0\0\x2efree" + SCRIPT.ljust(38, b" ") + whole()["MP4"]


POLYGLOTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "gif and javascript": (comment_in_gif, "gif"),
    "jpeg and zip": (lambda: textured() + zipped(("x.html", SCRIPT)), "jpg"),
    "jpeg and html": (lambda: with_segments(segment(COM, SCRIPT)), "html"),
    "jpeg and svg": (lambda: with_segments(segment(COM, svg(SCRIPT))), "svg"),
    "jpeg and php": (lambda: with_segments(segment(COM, b"<?php system($_GET['c']); ?>")), "php"),
    "pdf and jpeg": (lambda: PDF + textured(), "pdf"),
    "jpeg and pdf": (lambda: textured() + PDF, "jpg"),
    "png and html": (lambda: flat(64, 64, 8, 2, chunk(b"tEXt", b"Comment\0" + SCRIPT)), "png"),
    "png and playlist": (lambda: flat(64, 64, 8, 2) + m3u8("file:///etc/passwd"), "png"),
    "html and png": (lambda: SCRIPT + flat(64, 64, 8, 2), "png"),
    "bmp and script": (lambda: b"BM" + SCRIPT + whole()["BMP"][2:], "bmp"),
    "mp4 and html": (html_in_mp4, "mp4"),
    "html box and mp4": (boxed_html, "mp4"),
    "mp3 and jpeg": (lambda: textured() + whole()["MP3"], "mp3"),
    "wav and zip": (lambda: whole()["WAV"] + zipped(("x", b"x")), "wav"),
    "webp and wav": (lambda: whole()["WEBP"][:8] + b"WAVE" + whole()["WEBP"][12:], "webp"),
    "playlist and mp4": (lambda: m3u8("file:///etc/passwd") + whole()["MP4"], "mp4"),
    "photo and 20 MB behind it": (lambda: textured() + bytes(20_000_000), "jpg"),
    "20 MB before a photo": (lambda: bytes(20_000_000) + textured(), "jpg"),
    "film and a film behind it": (lambda: whole()["MP4"] * 50, "mp4"),
    "wav twice": (lambda: whole()["WAV"] * 2, "wav"),
}

ENDINGS = ("exe", "html", "svg", "mp4", "jpg", "php", "", "JPEG", "tiff;.png", "png%00.html")


def files() -> Iterator[HostileFile]:
    """Yield the files."""
    for number, (name, (make, ending)) in enumerate(POLYGLOTS.items()):
        yield HostileFile(f"polyglot/{name}", make, f"file.{ending}", quick=number in (0, 1, 2, 11))
    for name in whole():
        kind = TYPES[name.split()[0].rstrip(",")]
        for share in (0.03, 0.5, 0.98):
            yield HostileFile(
                f"cut/{name} after {share:.0%}",
                lambda name=name, share=share: cut(name, share),
                f"file.{name.split()[0].lower()}",
                kind,
                quick=name in ("JPG", "TIFF", "MP4") and share == 0.5,
            )
    for number, kind in enumerate(("JPG", "PNG", "GIF", "HEIC", "MP4", "WAV", "FLAC", "WebM")):
        ending = ENDINGS[number]
        lie = list(TYPES.values())[(number + 7) % len(TYPES)]
        yield HostileFile(
            f"misnamed/{kind} as .{ending}, {lie}",
            lambda kind=kind: whole()[kind],
            f"file.{ending}",
            lie,
            quick=number < 3,
        )
    for number, lie in enumerate(
        ("text/html", "application/x-httpd-php", "image/svg+xml", "", "image/*", "a" * 3000, "x/y;\x0bz")
    ):
        yield HostileFile(
            f"misnamed/JPG with type {number}", textured, f"photo.{ENDINGS[number]}", lie, quick=number < 2
        )
