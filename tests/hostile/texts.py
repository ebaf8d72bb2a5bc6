"""JSON and what stands in it: nesting and numbers without end, base64 that is none, addresses that lead inwards."""

import base64
import gzip
import json
from collections.abc import Callable, Iterator

from tests.hostile.forms import HostileRequest
from tests.hostile.jpegs import textured
from tests.hostile.pngs import zeros
from tests.hostile.routes import Body, Route, as_json


def takes_json(route: Route) -> bool:
    """Whether a route takes JSON."""
    return route.takes_json


def raw(data: bytes, content_type: str = "application/json", **headers: str) -> Callable[[Route], Body]:
    """Return a maker of this body."""
    return lambda _: Body(data, content_type, {name.replace("_", "-"): value for name, value in headers.items()})


def _all_strings(route: Route, text: str) -> Body:
    """Return the example with this text in place of every string, and 1e308 of every number."""

    def put(value: object) -> object:
        if isinstance(value, dict):
            return {name: put(of) for name, of in value.items()}
        if isinstance(value, list):
            return [put(of) for of in value]
        return text if isinstance(value, str) else value

    return as_json(put(route.example or {"a": "b"}))


def _all_numbers(route: Route, number: str) -> Body:
    mark = "\u0001"

    def put(value: object) -> object:
        if isinstance(value, dict):
            return {name: put(of) for name, of in value.items()}
        if isinstance(value, list):
            return [put(of) for of in value]
        return value if isinstance(value, (str, bool)) else mark

    text = json.dumps(put(route.example or {"a": 1}), ensure_ascii=False)
    return Body(text.replace(f'"{mark}"', number).encode(), "application/json")


BODIES: dict[str, bytes] = {
    "lists 100000 deep": b"[" * 100_000 + b"]" * 100_000,
    "lists 400000 deep, not closed": b"[" * 400_000,
    "objects 100000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a number of 900000 digits": b'{"asset_id":' + b"9" * 900_000 + b"}",
    "an exponent of 900000 digits": b'{"asset_id": 1e' + b"9" * 900_000 + b"}",
    "NaN": b'{"asset_id": NaN, "threshold": NaN, "embeddings": [[NaN]]}',
    "Infinity": b'{"threshold": Infinity, "top_k": -Infinity}',
    "one key 100000 times": b"{" + b'"asset_id":"a",' * 60_000 + b'"asset_id":"b"}',
    "100000 keys": b"{" + b",".join(b'"k%d":1' % number for number in range(90_000)) + b"}",
    "keys of one hash": b"{" + b",".join(b'"%d":1' % (number * (2**61 - 1)) for number in range(30_000)) + b"}",
    "500000 values": b"[" + b"0," * 499_999 + b"0]",
    "a string of 1 MB": b'"' + b"a" * 1_000_000 + b'"',
    "a string of escapes": b'{"asset_id": "' + b"\\u0000" * 100_000 + b'"}',
    "a surrogate": b'{"asset_id": "\\ud800", "image": {"data": "\\udfff"}}',
    "a prototype": b'{"__proto__": {"a": 1}, "constructor": {"prototype": {}}, "__class__": "x"}',
    "a byte order mark": b'\xef\xbb\xbf{"asset_id": "a"}',
    "UTF-16": '{"asset_id": "a"}'.encode("utf-16"),
    "UTF-32": '{"asset_id": "a"}'.encode("utf-32"),
    "no UTF-8": b'{"asset_id": "\xff\xfe"}',
    "an overlong NUL": b'{"asset_id": "\xc0\x80"}',
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a string": b'"a"',
    "true": b"true",
    "a comment": b'{/* a */"asset_id": "a"}',
    "two objects": b'{"asset_id": "a"}{"asset_id": "b"}',
    "white space of 1 MB": b" " * 1_000_000 + b"{}",
    "a body of 40 MB": b'{"asset_id": "' + b"a" * 40_000_000 + b'"}',
    "8 million values": b"[" + b"[]," * 4_000_000 + b"[]]",
    "xml": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>',
    "yaml": b"!!python/object/apply:os.system ['id']",
}
QUICK_BODIES = (
    "lists 100000 deep",
    "a number of 900000 digits",
    "NaN",
    "a surrogate",
    "no UTF-8",
    "nothing",
    "a list",
    "100000 keys",
)

TEXTS: dict[str, str] = {
    "a NUL": "\0",
    "a path": "../../../../etc/passwd",
    "a query": "' OR 1=1; DROP TABLE assets; --",
    "an operator": '{"$ne": null}',
    "a template": "{{7*7}}${jndi:ldap://127.0.0.1/a}",
    "markup": "<script>alert(1)</script>",
    "line ends": "a\r\nSet-Cookie: a=b",
    "surrogates": "\ud83d",
    "10000 signs": "\U0001f600" * 10_000,
    "the longest that is allowed": "a" * 128,
    "nothing": "",
    "white space": " \t\u2003",
    "a pattern": "(a+)+$" * 30,
    "a format": "%s%n{0.__class__}",
}
NUMBERS = (
    "-1",
    "0",
    "1e308",
    "-1e308",
    "1e-300",
    "2147483648",
    "9223372036854775808",
    "1" * 400,
    "0.1e-9999",
    "NaN",
    "-0.0",
)


def coded() -> dict[str, str]:
    """Return texts in place of base64."""
    good = base64.b64encode(textured()).decode()
    return {
        "with line ends": "\r\n".join(good[at : at + 76] for at in range(0, len(good), 76)),
        "for addresses": base64.urlsafe_b64encode(textured() + b"\xff\xff").decode(),
        "without padding": good.rstrip("="),
        "with too much padding": good + "=" * 1000,
        "with a NUL": good[:40] + "\0" + good[40:],
        "with signs between": " ".join(good[:3000]),
        "of padding alone": "=" * 100_000,
        "twice": base64.b64encode(good.encode()).decode(),
        "of nothing": "",
        "of one sign": "A",
        "with a prefix": "data:image/jpeg;base64," + good,
        "with a prefix of 5000": "data:" + "a" * 5000 + ";base64," + good,
        "with a prefix of html": "data:text/html;base64," + base64.b64encode(b"<script>").decode(),
        "in other digits": good.translate({ord("A"): "\uff21"}),
        "of base32": base64.b32encode(textured()).decode(),
        "of 60 MB of zeros": base64.b64encode(bytes(45_000_000)).decode(),
    }


ADDRESSES: tuple[str, ...] = (
    *(
        "http://127.0.0.1:{port}/livez",
        "http://localhost:{port}/livez",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
    ),
    *(
        "http://0/",
        "http://127.1/",
        "http://[::]/",
        "http://[::1]:{port}/livez",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
    ),
    *(
        "http://[0:0:0:0:0:ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1%25eth0]/",
    ),
    *(
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://metadata.google.internal/",
        "http://10.0.0.1/",
    ),
    *(
        "http://192.168.0.1/",
        "http://172.16.0.1/",
        "http://100.64.0.1/",
        "http://198.18.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
    ),
    *(
        "http://localtest.me/",
        "http://127.0.0.1.nip.io/",
        "http://①②⑦.⓪.⓪.①/",
        "http://127。0。0。1/",
        "http://127.0.0.1%00.example.com/",
    ),
    *(
        "http://example.com@127.0.0.1/",
        "http://127.0.0.1#@example.com/",
        "http://127.0.0.1\\@example.com/",
        "http://example.com:80@127.0.0.1:{port}/",
    ),
    *(
        "http:127.0.0.1/",
        "http:/127.0.0.1/",
        "http:///127.0.0.1/",
        "//127.0.0.1/",
        "http://127.0.0.1:{port}?@example.com/",
        "http://user:pass@127.0.0.1/",
    ),
    *(
        "http://127.0.0.1:6379/",
        "http://127.0.0.1:22/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:-1/",
        "http://127.0.0.1:/",
        "http://127.0.0.1: 80/",
    ),
    *(
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "gopher://127.0.0.1:6379/_INFO",
        "dict://127.0.0.1/",
        "ftp://127.0.0.1/",
        "ldap://127.0.0.1/",
    ),
    *(
        "data:image/png;base64,iVBORw0KGgo=",
        "jar:http://127.0.0.1!/",
        "javascript:alert(1)",
        "s3://bucket/key",
        "unix:///var/run/docker.sock",
    ),
    *(
        "http://",
        "http://.",
        "http://..",
        "http://a..b/",
        "http://-a/",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 2000 + "com/",
    ),
    *(
        "http://xn--a/",
        "http://example.com\r\nHost: 127.0.0.1/",
        "http://exa mple.com/",
        "http://[::1",
        "http://]/",
        "http://%31%32%37.0.0.1/",
    ),
    *(
        "http://0x7f000001:{port}/livez",
        "http://017700000001/",
        "http://127.0.0.1.:{port}/livez",
        "http://LOCALHOST:{port}/livez",
        "https://127.0.0.1:{port}/",
    ),
    *(
        "http://0.0.0.0:{port}/livez",
        "http://127.127.127.127/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[2001:0:7f00:1::]/",
        "http://ip6-localhost/",
    ),
)


def requests(port: int) -> Iterator[HostileRequest]:
    """Yield the requests; ``port``: of the service itself, to which addresses lead."""
    for name, data in BODIES.items():
        yield HostileRequest(f"json/{name}", takes_json, raw(data), name in QUICK_BODIES)
    yield HostileRequest(
        "json/packed to 1 GB",
        takes_json,
        lambda _: Body(zeros(2**30), "application/json", {"content-encoding": "deflate"}),
    )
    yield HostileRequest("json/packed by gzip", takes_json, raw(gzip.compress(b"{}"), content_encoding="gzip"))
    for kind in (
        "text/plain",
        "application/xml",
        "application/json; charset=utf-7",
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ):
        yield HostileRequest(
            f"json/called {kind or 'nothing'}", takes_json, raw(b'{"asset_id": "a"}', kind), kind == ""
        )
    for name, text in TEXTS.items():
        yield HostileRequest(
            f"text/{name}",
            takes_json,
            lambda route, text=text: _all_strings(route, text),
            name in ("a NUL", "surrogates"),
        )
    for number in NUMBERS:
        yield HostileRequest(
            f"number/{number[:20]}",
            takes_json,
            lambda route, number=number: _all_numbers(route, number),
            number == "1e308",
        )
    for name, text in coded().items():
        yield HostileRequest(
            f"base64/{name}",
            lambda route: route.takes_base64,
            lambda route, text=text: as_json(route.with_text(text)),
            name in ("with line ends", "of padding alone", "of nothing"),
        )
    for place, address in enumerate(ADDRESSES):
        yield HostileRequest(
            f"address/{address[:50]}",
            lambda route: route.takes_address,
            lambda route, address=address: route.address(address.replace("{port}", str(port))),
            place % 12 == 0,
        )
