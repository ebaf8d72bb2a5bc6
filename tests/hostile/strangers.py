"""Files of kinds that no route takes, which some decoder of the libraries below would open: all must be refused."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tests.hostile.corpus import HostileFile
from tests.hostile.jpegs import textured
from tests.hostile.pngs import zeros


class _Runs:
    """Unpickles by running a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch /tmp/hostile-pickle-was-run",)


def saved(kind: str, mode: str = "RGB", **options: object) -> bytes:
    """Return a small picture in a format of Pillow's that is not served."""
    file = io.BytesIO()
    Image.new(mode, (64, 48), 1 if mode == "1" else 99).save(file, kind, **options)
    return file.getvalue()


def zipped(*members: tuple[str, bytes]) -> bytes:
    """Return a ZIP."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def tarred(name: str, link: str) -> bytes:
    """Return a TAR with a link that leads outside."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, link
        archive.addfile(member)
    return file.getvalue()


def arrays() -> bytes:
    """Return an NPZ with an array of objects."""
    file = io.BytesIO()
    np.savez(file, a=np.array([_Runs()], dtype=object))
    return file.getvalue()


def claimed_array() -> bytes:
    """Return an NPY that claims a terabyte."""
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 125000), }"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head


def psd(width: int, height: int) -> bytes:
    """Return a PSD of this size with run lengths of nothing."""
    return b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, height, width, 8, 3) + bytes(12) + b"\0\1" + bytes(64)


def svg(body: bytes, declaration: bytes = b"") -> bytes:
    """Return an SVG."""
    head = b'<?xml version="1.0"?>' + declaration
    return (
        head + b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">' + body + b"</svg>"
    )


EXTERNAL = b'<!DOCTYPE svg [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
LAUGHS = b'<!DOCTYPE svg [<!ENTITY a "ha">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
) + b"]>"  # fmt: skip
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999 9999\n(/etc/passwd) (r) file { } loop\n%%EOF\n"
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\n"
    b"trailer<</Root 1 0 R>>\n%%EOF"
)
WMF = b"\xd7\xcd\xc6\x9a" + bytes(2) + struct.pack("<4hH", 0, 0, 30_000, 30_000, 72) + bytes(64)
EMF = struct.pack("<II", 1, 108) + bytes(32) + b" EMF" + bytes(80)
JP2 = b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 " + bytes(64)
J2K = (
    b"\xff\x4f\xff\x51"
    + struct.pack(">HHIIIIIIIIH", 41, 0, 65_000, 65_000, 0, 0, 1, 1, 0, 0, 1)
    + b"\7\1\1"
    + bytes(64)
)
JXL = b"\xff\x0a" + bytes(64)
MAGICK = (
    b"push graphic-context\nviewbox 0 0 640 480\nfill 'url(https://127.0.0.1/x.jpg\"|ls \"-la)'\npop graphic-context"
)


def files() -> Iterator[HostileFile]:
    """Yield the files."""

    def one(
        name: str, make: Callable[[], bytes] | bytes, ending: str, kind: str = "image/jpeg", *, quick: bool = False
    ) -> HostileFile:
        made = make if callable(make) else lambda: make
        return HostileFile(f"stranger/{name}", made, f"file.{ending}", kind, refused=True, quick=quick)

    for kind, ending in (
        *(("ICO", "ico"), ("ICNS", "icns"), ("PPM", "ppm"), ("TGA", "tga"), ("PCX", "pcx"), ("SGI", "sgi")),
        *(
            ("DDS", "dds"),
            ("XBM", "xbm"),
            ("IM", "im"),
            ("MSP", "msp"),
            ("SPIDER", "spi"),
            ("EPS", "eps"),
            ("PDF", "pdf"),
        ),
        *(("JPEG2000", "jp2"), ("BLP", "blp"), ("DIB", "dib")),
    ):
        mode = {"XBM": "1", "MSP": "1", "SPIDER": "F", "EPS": "RGB", "BLP": "P"}.get(kind, "RGB")
        yield one(
            f"Pillow's {kind}", lambda kind=kind, mode=mode: saved(kind, mode), ending, quick=kind in ("ICO", "PPM")
        )
    yield one("psd of 9 GP", lambda: psd(300_000, 30_000), "psd", "image/vnd.adobe.photoshop", quick=True)
    yield one("svg", svg(b"<script>alert(1)</script>"), "svg", "image/svg+xml", quick=True)
    yield one("svg of an external entity", svg(b"<text>&e;</text>", EXTERNAL), "svg", "image/svg+xml")
    yield one("svg of entities", svg(b"<text>&j;</text>", LAUGHS), "svg", "image/svg+xml")
    yield one("svg of a file", svg(b'<image xlink:href="file:///etc/passwd"/>'), "svg", "image/svg+xml")
    yield one("svgz", gzip.compress(svg(b"")), "svgz", "image/svg+xml")
    yield one("postscript", POSTSCRIPT, "eps", "application/postscript", quick=True)
    yield one("pdf with a script", PDF, "pdf", "application/pdf", quick=True)
    yield one("wmf", WMF, "wmf", "image/wmf")
    yield one("emf", EMF, "emf", "image/emf")
    yield one("jp2", JP2, "jp2", "image/jp2")
    yield one("j2k of 4 GP", J2K, "j2k", "image/jp2")
    yield one("jxl", JXL, "jxl", "image/jxl")
    yield one("fits", b"SIMPLE  =                    T".ljust(2880), "fits")
    yield one("fli", struct.pack("<IHHHH", 9999, 0xAF12, 9999, 60_000, 60_000) + bytes(120), "fli")
    yield one("xpm", b'/* XPM */\nstatic char *x[] = {"60000 60000 1 1",\n"a c #000000",\n', "xpm")
    yield one("pnm of 4 GP", b"P6\n65535 65535\n255\n" + bytes(64), "ppm", "image/x-portable-pixmap", quick=True)
    yield one("qoi", b"qoif" + struct.pack(">IIBB", 60_000, 60_000, 4, 0) + bytes(20), "qoi")
    yield one("magick script", MAGICK, "mvg", "image/jpeg", quick=True)
    yield one("zip", lambda: zipped(("a.jpg", textured())), "zip", "application/zip", quick=True)
    yield one("zip of 1 GB", lambda: zipped(("a.jpg", bytes(2**30))), "zip", "image/jpeg")
    yield one("zip that leads outside", lambda: zipped(("../../../../tmp/x", b"x")), "zip")
    yield one("tar with a link", lambda: tarred("a.jpg", "/etc/passwd"), "tar.gz")
    yield one("gzip of a photo", lambda: gzip.compress(textured()), "jpg.gz")
    yield one("gzip of 1 GB", lambda: b"\x1f\x8b\x08\0\0\0\0\0\2\xff" + zeros(2**30)[2:-4] + bytes(8), "gz")
    yield one("deflate", lambda: zlib.compress(textured()), "jpg")
    yield one("pickle", lambda: pickle.dumps(_Runs()), "pkl", quick=True)
    yield one("npz of objects", arrays, "npz", quick=True)
    yield one("npy of a terabyte", claimed_array, "npy")
    yield one("safetensors of a terabyte", struct.pack("<Q", 2**40) + b"{}", "safetensors")
    yield one("elf", b"\x7fELF\2\1\1" + bytes(200), "jpg")
    yield one("windows program", b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(100), "exe", quick=True)
    yield one("html", b"<!DOCTYPE html><script>alert(document.cookie)</script>", "jpg", "image/jpeg", quick=True)
    yield one("html called a page", b"<html><body onload=alert(1)>", "html", "text/html")
    yield one("script", b"#!/bin/sh\ncurl http://127.0.0.1/ | sh\n", "sh", "text/x-sh")
    yield one("sqlite", b"SQLite format 3\0" + bytes(100), "db")
    yield one("no bytes", b"", "jpg", quick=True)
    yield one("one byte", b"\xff", "jpg", quick=True)
    yield one("zeros", lambda: bytes(1_000_000), "jpg", quick=True)
    yield one("text", b"This is not a picture.", "jpg", quick=True)
    yield one("utf-16", "\ufeffpicture".encode("utf-16"), "jpg")
    yield one("random", lambda: np.random.default_rng(1).bytes(1_000_000), "jpg")
