"""Hosts, origins and base URLs: what is read, and what is none."""

import pytest

from configs.addresses import Authority, base_url, host_pattern, origin


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost", "localhost", None),
        ("LocalHost:8000", "localhost", 8000),
        ("vision.example.", "vision.example", None),
        ("vision.example.:443", "vision.example", 443),
        ("vision.example:", "vision.example", None),
        ("a_b-c.example", "a_b-c.example", None),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
        ("10.0.0.7:1", "10.0.0.7", 1),
        ("[::1]", "[::1]", None),
        ("[0:0:0:0:0:0:0:1]:65535", "[::1]", 65535),
        ("[2001:DB8::1]", "[2001:db8::1]", None),
    ],
)
def test_a_host_and_its_port(text: str, host: str, port: int | None) -> None:
    assert Authority.parse(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".",
        ":80",
        "a b",
        "a\tb",
        "a\0b",
        "user@localhost",
        "user:secret@localhost",
        "localhost:0",
        "localhost:65536",
        "localhost:99999999999",
        "localhost:80:80",
        "localhost:８０",
        "localhost:-1",
        "localhost/x",
        "localhost?x",
        "localhost#x",
        "localhost\\x",
        "http://localhost",
        "localhost, evil.example",
        "-a.example",
        "a..example",
        "bücher.example",
        "ſ.example",
        "::1",
        "[::1",
        "[::1]x",
        "[::1%25eth0]",
        "[1.2.3.4]",
        "[]",
        "x" * 64,
        ".".join(["x" * 60] * 5),
        "x." * 5000,
    ],
)
def test_what_is_no_host(text: str) -> None:
    assert Authority.parse(text) is None


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("localhost", True),
        ("app.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("notlocalhost", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("[::]", False),
    ],
)
def test_what_is_of_this_machine_alone(text: str, loopback: bool) -> None:
    authority = Authority.parse(text)
    assert authority is not None
    assert authority.is_loopback is loopback


@pytest.mark.parametrize(
    ("host", "pattern", "matches"),
    [
        ("a.example", "A.Example", True),
        ("a.example", "*.example", True),
        ("a.b.example", "*.example", True),
        ("example", "*.example", False),
        ("evilexample", "*.example", False),
        ("a.example.org", "*.example", False),
        ("[::2]", "0::2", True),
        ("[::2]", "[::2]", True),
        ("anything", "*", True),
    ],
)
def test_patterns_of_hosts(host: str, pattern: str, matches: bool) -> None:
    authority = Authority.parse(host)
    assert authority is not None
    assert authority.matches(host_pattern(pattern)) is matches


@pytest.mark.parametrize("text", ["http://a.example", "a.example:80", "*a.example", "a.*", "**", "a/b", "*.", "a b"])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match="without scheme and port"):
        host_pattern(text)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("https://App.Example", "https://app.example"),
        ("https://app.example:443/", "https://app.example"),
        ("http://app.example:8080", "http://app.example:8080"),
        ("http://[::1]:80", "http://[::1]"),
        ("*", "*"),
    ],
)
def test_origins_are_as_browsers_send_them(text: str, read: str) -> None:
    assert origin(text) == read


@pytest.mark.parametrize(
    "text", ["null", "app.example", "ftp://app.example", "https://app.example/x", "https://*.example", "https://a@b"]
)
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError, match="scheme://host"):
        origin(text)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("https://Vision.Example", "https://vision.example"),
        ("http://vision.example:80/", "http://vision.example"),
        ("https://vision.example:8443/a/b/", "https://vision.example:8443/a/b"),
        ("http://[2001:DB8::1]:8000", "http://[2001:db8::1]:8000"),
    ],
)
def test_base_urls(text: str, read: str) -> None:
    assert base_url(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "vision.example",
        "//vision.example",
        "ftp://vision.example",
        "javascript:alert(1)",
        "https://",
        "https://user@vision.example",
        "https://vision.example/?a=b",
        "https://vision.example/#a",
        "https://vision.example//a",
        "https://vision.example/a b",
        "https://vision.example:0",
        "https://vision.example:65536",
    ],
)
def test_what_is_no_base_url(text: str) -> None:
    with pytest.raises(ValueError, match="http"):
        base_url(text)
