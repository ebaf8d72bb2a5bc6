"""Forms: file names that lead elsewhere, parts by the thousand, boundaries that are not there, packed bodies."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from tests.hostile.jpegs import textured
from tests.hostile.pngs import zeros
from tests.hostile.routes import BOUNDARY, Body, Route, disposition, part


@dataclass(frozen=True, slots=True)
class HostileRequest:
    """A request that is not a file alone: what is sent to each route that ``suits``."""

    name: str
    suits: Callable[[Route], bool]
    make: Callable[[Route], Body]
    quick: bool = False


NAMES: dict[str, bytes] = {
    "that leads up": b"../../../../etc/passwd",
    "that leads up on Windows": rb"..\\..\\..\\windows\\win.ini",
    "that is a path": b"/etc/passwd",
    "that is a drive": b"C:\\\\boot.ini",
    "with a NUL": b"photo.jpg\0.html",
    "that turns right to left": "photo\u202egpj.exe".encode(),
    "of 5000 characters": b"a" * 5000 + b".jpg",
    "of 5000 signs": "\U0001f469\u200d\U0001f467".encode() * 1700 + b".jpg",
    "of 200 kB": b"a" * 200_000,
    "that is a device": b"CON.jpg",
    "that is another device": b"lpt1",
    "of dots": b"..",
    "of one dot": b".",
    "of spaces": b"   ",
    "that is none": b"",
    "with a line end": b"photo.jpg\r\nX-Injected: 1",
    "with a line feed": b"photo.jpg\nSet-Cookie: a=b",
    "with percents": b"%2e%2e%2f%2e%2e%2fetc%2fpasswd%00.jpg",
    "with a quote": b'pho"to.jpg',
    "with markup": b'"><img src=x onerror=alert(1)>.jpg',
    "with a template": b"{{7*7}}${7*7}.jpg",
    "with a command": b"$(touch /tmp/hostile).jpg",
    "with a query": b"a' OR '1'='1.jpg",
    "that is no UTF-8": b"caf\xe9\xff\xfe.jpg",
    "of surrogates": b"\xed\xa0\x80\xed\xb0\x80.jpg",
    "of overlong dots": b"\xc0\xae\xc0\xae\xc0\xaf.jpg",
    "of marks": ("a" + "\u0301" * 3000).encode(),
    "of controls": bytes(range(1, 10)) + b"\x0b\x1b[31m\x7f.jpg",
    "that begins with a dash": b"-rf",
    "that is hidden": b".htaccess",
    "with a stream": b"photo.jpg::$DATA",
    "with separators of other scripts": "a\u2215b\u29f5c\uff0fd.jpg".encode(),
}
END = b"--" + BOUNDARY.encode() + b"--\r\n"
QUICK_NAMES = (
    "that leads up",
    "of 5000 characters",
    "with a line end",
    "that is no UTF-8",
    "with a NUL",
    "with markup",
)


def _named(value: bytes) -> Callable[[Route], Body]:
    """Return a form with this file name, every quote of which is as a browser sends it."""

    def make(route: Route) -> Body:
        escaped = value.replace(b'"', b"%22").replace(b"\r", b"\r").replace(b"\n", b"\n")
        return form(
            *(
                part(field, textured(), b'form-data; name="%s"; filename="%s"' % (field.encode(), escaped))
                for field in route.file_fields
            )
        )

    return make


def _extended(value: str) -> Callable[[Route], Body]:
    """Return a form whose file is named by ``filename*``."""

    def make(route: Route) -> Body:
        return form(
            *(
                part(field, textured(), f'form-data; name="{field}"; filename="photo.jpg"; filename*={value}'.encode())
                for field in route.file_fields
            )
        )

    return make


def form(*parts: bytes, ending: bytes = END, content_type: str = "") -> Body:
    """Return a form of these parts."""
    return Body(b"".join(parts) + ending, content_type or f"multipart/form-data; boundary={BOUNDARY}")


def _photo(field: str) -> bytes:
    return part(field, textured(), disposition(field, "photo.jpg"), "image/jpeg")


def _photos(route: Route) -> list[bytes]:
    return [_photo(field) for field in route.file_fields]


def _fields(count: int, size: int = 1) -> bytes:
    return b"".join(
        part(f"f{number}", b"x" * size, f'form-data; name="f{number}"'.encode(), "") for number in range(count)
    )


def _head(*lines: bytes, data: bytes = b"") -> bytes:
    return b"--" + BOUNDARY.encode() + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + (data or textured()) + b"\r\n"


def _first(route: Route) -> bytes:
    return route.file_fields[0].encode()


def _of_file(field: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="%s"; filename="a.jpg"' % field


def _nested(depth: int, route: Route) -> Body:
    inner = textured()
    for level in range(depth):
        mark = b"b%d" % level
        inner = b"--%s\r\nContent-Disposition: file; filename=a\r\n\r\n%s\r\n--%s--\r\n" % (mark, inner, mark)
    kind = f"multipart/mixed; boundary=b{depth - 1}"
    return form(part(route.file_fields[0], inner, disposition(route.file_fields[0], "a.jpg"), kind))


FORMS: dict[str, Callable[[Route], Body]] = {
    "of 10000 parts": lambda route: form(_fields(10_000), *_photos(route)),
    "of 10000 files": lambda route: form(*[_photo(route.file_fields[0])] * 10_000),
    "of 30 fields of 1 MB": lambda route: form(_fields(30, 2**20), *_photos(route)),
    "of two files": lambda route: form(*_photos(route), *_photos(route)),
    "of a field in place of a file": lambda route: form(
        *(part(field, b"text", f'form-data; name="{field}"'.encode(), "") for field in route.file_fields)
    ),
    "without parts": lambda _: form(),
    "without a byte": lambda _: form(ending=b""),
    "without its field": lambda _: form(_photo("other")),
    "without its boundary": lambda route: form(*_photos(route), content_type="multipart/form-data"),
    "with another boundary": lambda route: form(*_photos(route), content_type="multipart/form-data; boundary=other"),
    "with an empty boundary": lambda route: form(*_photos(route), content_type='multipart/form-data; boundary=""'),
    "with a boundary of 5000": lambda route: form(
        *_photos(route), content_type="multipart/form-data; boundary=" + "b" * 5000
    ),
    "with a boundary of line ends": lambda route: form(
        *_photos(route), content_type='multipart/form-data; boundary="a%0d%0ab"'
    ),
    "without an end": lambda route: form(*_photos(route), ending=b""),
    "cut in a head": lambda route: form(b"--" + BOUNDARY.encode() + b"\r\nContent-Dispo", ending=b""),
    "with more behind its end": lambda route: form(*_photos(route), ending=END + b"x" * 10**6),
    "with 10 MB before its begin": lambda route: form(b"x" * 10**7 + b"\r\n", *_photos(route)),
    "with a head of 2 MB": lambda route: form(_head(_of_file(_first(route)), b"X-Long: " + b"a" * 2_000_000)),
    "with 20000 lines of head": lambda route: form(_head(_of_file(_first(route)), *[b"X-A: b"] * 20_000)),
    "with a head of no name": lambda _: form(_head(b"Content-Type: image/jpeg")),
    "with a folded head": lambda route: form(
        _head(b"Content-Disposition: form-data;\r\n name=%s;\r\n filename=a" % _first(route))
    ),
    "with two dispositions": lambda route: form(_head(_of_file(_first(route)), _of_file(b"other"))),
    "with two names": lambda route: form(
        _head(b'Content-Disposition: form-data; name="%s"; name="x"; filename="a"; filename="b"' % _first(route))
    ),
    "with a coded part": lambda route: form(
        _head(_of_file(_first(route)), b"Content-Transfer-Encoding: base64", data=b"/9j/4AAQSkZJRg==")
    ),
    "with a packed part": lambda route: form(
        _head(_of_file(_first(route)), b"Content-Encoding: gzip", data=gzip.compress(textured()))
    ),
    "in another charset": lambda route: form(
        *_photos(route), content_type=f"multipart/form-data; charset=utf-7; boundary={BOUNDARY}"
    ),
    "nested 50 times": lambda route: _nested(50, route),
    "by line feeds alone": lambda route: Body(
        b"".join(_photos(route)).replace(b"\r\n", b"\n"), f"multipart/form-data; boundary={BOUNDARY}"
    ),
    "as mixed": lambda route: form(*_photos(route), content_type=f"multipart/mixed; boundary={BOUNDARY}"),
    "as a url-encoded one": lambda route: Body(
        f"{route.file_fields[0]}={quote('x' * 1000)}".encode(), "application/x-www-form-urlencoded"
    ),
    "as json": lambda route: Body(b'{"file": "x"}', "application/json"),
    "as a picture alone": lambda _: Body(textured(), "image/jpeg"),
    "packed by gzip": lambda route: _packed(form(*_photos(route)), "gzip", gzip.compress),
    "packed by deflate": lambda route: _packed(form(*_photos(route)), "deflate", zlib.compress),
    "packed to 1 GB": lambda route: Body(
        zeros(2**30), f"multipart/form-data; boundary={BOUNDARY}", {"content-encoding": "deflate"}
    ),
    "packed by what nobody knows": lambda route: _packed(form(*_photos(route)), "br, zstd, x", bytes),
}
QUICK_FORMS = (
    "of 10000 parts",
    "of two files",
    "without its boundary",
    "without an end",
    "with a head of 2 MB",
    "packed to 1 GB",
)


def _packed(body: Body, name: str, pack: Callable[[bytes], bytes]) -> Body:
    return Body(pack(body.data), body.content_type, {"content-encoding": name})


def requests() -> Iterator[HostileRequest]:
    """Yield the requests."""

    def takes_files(route: Route) -> bool:
        return bool(route.file_fields)

    for name, value in NAMES.items():
        yield HostileRequest(f"name/{name}", takes_files, _named(value), name in QUICK_NAMES)
    for value in (
        "UTF-8''%2e%2e%2fetc%2fpasswd",
        "UTF-8''%00%0d%0a",
        "utf-7''+AC8-",
        "'",
        "UTF-8''" + "%F0%9F%98%80" * 2000,
        "x-none''a",
    ):
        yield HostileRequest(f"name/by filename* {value[:24]}", takes_files, _extended(value), "etc" in value)
    for name, make in FORMS.items():
        yield HostileRequest(f"form/{name}", takes_files, make, name in QUICK_FORMS)
