"""Fetching from real servers on this machine, which the allow-list names, and from where nothing may be fetched."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from graphs.web.fetch import AllowList, Fetcher, ImageFetchError
from vision.errors import MediaTooLarge

PICTURE = bytes(range(256)) * 64
ALLOWED = AllowList(["127.0.0.1", "localhost"])
LIMIT = 2**20 // 10
Respond = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> Respond:
    """A response with a Content-Length, the true one unless another is given."""

    async def respond(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)

    return respond


def redirect(to: str | bytes, status: str = "302 Found") -> Respond:
    """A redirect; text is sent as raw UTF-8."""
    location = to if isinstance(to, bytes) else to.encode()

    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nLocation: ".encode() + location + b"\r\n\r\n")

    return respond


class Server:
    """Answers by path, and keeps what it was asked."""

    def __init__(self, routes: dict[str, Respond]) -> None:
        self.routes = routes
        self.port = 0
        self.requests: list[tuple[str, dict[str, str]]] = []

    def url(self, path: str = "/a.jpg", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            path = head[0].split(" ")[1]
            self.requests.append((path, dict(line.lower().split(": ", 1) for line in head[1:] if line)))
            await self.routes[path](writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(routes: dict[str, Respond] | Respond, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(routes if isinstance(routes, dict) else {"/a.jpg": routes})
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


@asynccontextmanager
async def fetcher(*servers: Server, **options: Any) -> AsyncIterator[Fetcher]:
    ports = [server.port for server in servers] or [80, 443]
    made = Fetcher(**{"allowed": ALLOWED, "ports": ports, **options})
    try:
        yield made
    finally:
        await made.close()


async def refusal(url: str, *servers: Server, **options: Any) -> str:
    """The message of an ImageFetchError that this must raise."""
    async with fetcher(*servers, **options) as client:
        with pytest.raises(ImageFetchError) as caught:
            await client.fetch(url)
    return caught.value.message


async def chunked(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(PICTURE), 1000):
        part = PICTURE[start : start + 1000]
        writer.write(b"%x\r\n%s\r\n" % (len(part), part))
    writer.write(b"0\r\n\r\n")


async def until_closed(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + PICTURE)


@pytest.mark.parametrize("respond", [answer(PICTURE), chunked, until_closed])
async def test_the_bytes_come_as_they_are(respond: Respond) -> None:
    async with running(respond) as server, fetcher(server) as client:
        assert await client.fetch(server.url()) == PICTURE
        ((path, headers),) = server.requests
    assert (path, headers["host"]) == ("/a.jpg", f"127.0.0.1:{server.port}")
    assert headers["user-agent"].startswith("visiongraph/")
    assert headers["accept-encoding"] == "identity"


async def test_host_names_and_queries_are_sent_on() -> None:
    path = "/%C3%A4/a%20b?x=1&y=%2F"
    async with running({path: answer(PICTURE)}) as server, fetcher(server) as client:
        assert await client.fetch(server.url("/ä/a b?x=1&y=%2F#top", host="LocalHost")) == PICTURE
    assert server.requests[0][1]["host"] == f"localhost:{server.port}"


INWARD = [
    *("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "017700000001", "0", "0.0.0.0"),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]"),
    *("[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]", "[fec0::1]", "[fd00:ec2::254]", "[ff02::1]"),
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "192.0.0.192", "168.63.129.16"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "203.0.113.1", "name.invalid", "no..dots"),
]


@pytest.mark.parametrize("host", INWARD)
async def test_no_inward_address_is_connected_to(host: str) -> None:
    async with running(answer(PICTURE)) as server:
        message = await refusal(server.url(host=host), server, allowed=AllowList())
    assert message == f"No public address was found for {host.strip('[]')}."
    assert server.requests == []


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_followed(status: str) -> None:
    routes = {"/a.jpg": redirect("/b.jpg", status), "/b.jpg": answer(PICTURE)}
    async with running(routes) as server, fetcher(server) as client:
        assert await client.fetch(server.url()) == PICTURE
    assert [path for path, _ in server.requests] == ["/a.jpg", "/b.jpg"]


async def test_a_redirect_is_checked_like_a_url() -> None:
    allowed = AllowList(["localhost"])  # by name: not by the address that it has
    for target, complaint in [
        ("http://127.0.0.1:{port}/b.jpg", "No public address was found for 127.0.0.1."),
        ("//[::1]:{port}/b.jpg", "No public address was found for ::1."),
        ("http://10.0.0.1:{port}/", "No public address was found for 10.0.0.1."),
        ("http://localhost:22/", "Pictures are not fetched from port 22."),
        ("https://localhost/", "Pictures are not fetched from port 443."),
        ("http://me:secret@localhost:{port}/", "Leave the user and password out of the URL; they are not sent."),
        ("file:///etc/passwd", "Pictures are fetched from http:// and https:// URLs only."),
        ("gopher://localhost:{port}/", "Pictures are fetched from http:// and https:// URLs only."),
        ("http://[::1", "This is not a valid URL."),
    ]:
        async with running({}) as server:
            server.routes["/a.jpg"] = redirect(target.format(port=server.port))
            assert await refusal(server.url(host="localhost"), server, allowed=allowed) == complaint
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("/café.png", "/caf%C3%A9.png"),
        ("/caf%C3%A9.png", "/caf%C3%A9.png"),
        ("/caf%c3%a9 é.png", "/caf%c3%a9%20%C3%A9.png"),
        ("/cafe\u0301.png", "/cafe%CC%81.png"),
        ("/100%.png", "/100%.png"),
        ("/a%2Fb%20c.png?q=%E4", "/a%2Fb%20c.png?q=%E4"),
        (
            "/写真/一 二.png?név=ő é&x=1#rész",
            "/%E5%86%99%E7%9C%9F/%E4%B8%80%20%E4%BA%8C.png?n%C3%A9v=%C5%91%20%C3%A9&x=1",
        ),
        ("ü.png", "/dir/%C3%BC.png"),
        ("../👩\u200d👧.png", "/%F0%9F%91%A9%E2%80%8D%F0%9F%91%A7.png"),
        ("?ö", "/dir/a.jpg?%C3%B6"),
        (b"/caf\xe9.png", "/caf%E9.png"),
        (b"/a%20b\xff?\xe4=%FC", "/a%20b%FF?%E4=%FC"),
        ("/x?next=//Ünï/", "/x?next=//%C3%9Cn%C3%AF/"),
    ],
)
async def test_redirects_to_what_is_no_ascii(location: str | bytes, asked: str) -> None:
    routes = {"/dir/a.jpg": redirect(location), asked: answer(PICTURE)}
    async with running(routes) as server, fetcher(server) as client:
        assert await client.fetch(server.url("/dir/a.jpg")) == PICTURE
    assert [path for path, _ in server.requests] == ["/dir/a.jpg", asked]


@pytest.mark.parametrize(
    "host", ["bücher.test", "bu\u0308cher.test", "BÜCHER.test", "ｂücher。test", "xn--bcher-kva.test"]
)
async def test_hosts_of_any_script(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def getaddrinfo(name: str, port: int, **_: Any) -> list[Any]:
        asked.append(name)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with running({"/a.jpg": answer(PICTURE)}) as server:
        server.routes["/to"] = redirect(f"//{host}:{server.port}/a.jpg")
        async with fetcher(server, allowed=AllowList(["127.0.0.0/8"])) as client:
            assert await client.fetch(server.url("/a.jpg", host)) == PICTURE
            assert await client.fetch(server.url("/to")) == PICTURE
    assert asked[0] == asked[-1] == "xn--bcher-kva.test"
    hosts = [headers["host"].removesuffix(f":{server.port}") for _, headers in server.requests]
    assert hosts == ["xn--bcher-kva.test", "127.0.0.1", "xn--bcher-kva.test"]


async def test_three_redirects_are_enough() -> None:
    routes = {f"/{n}": redirect(f"/{n + 1}") for n in range(9)}
    routes["/9"] = answer(PICTURE)
    async with running(routes) as server:
        async with fetcher(server) as client:
            assert await client.fetch(server.url("/6")) == PICTURE
        assert "redirects too often" in await refusal(server.url("/5"), server)
    assert [path for path, _ in server.requests[4:]] == ["/5", "/6", "/7", "/8"]


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://example.com/a.jpg", "http:// and https:// URLs only"),
        ("file:///etc/passwd", "http:// and https:// URLs only"),
        ("data:image/png;base64,AAAA", "http:// and https:// URLs only"),
        ("http:///a.jpg", "http:// and https:// URLs only"),
        ("a.jpg", "http:// and https:// URLs only"),
        ("", "http:// and https:// URLs only"),
        ("http://example.com:8080/a.jpg", "not fetched from port 8080"),
        ("http://user@example.com/", "the user and password"),
        ("http://example.com\n.invalid/", "not a valid URL"),
        ("http://[::1/", "not a valid URL"),
        ("http://example.com:port/", "not a valid URL"),
        ("http://xn--/", "not a valid URL"),
        ("http://xn--99999999999/a.jpg", "not a valid URL"),
    ],
)
async def test_urls_that_are_not_fetched_from(url: str, complaint: str) -> None:
    assert complaint in await refusal(url)


async def test_a_status_that_is_no_success_is_reported() -> None:
    async with running(answer(b"gone", "404 Not Found")) as server:
        assert await refusal(server.url(), server) == "127.0.0.1 answered 404 Not Found."
    async with running(answer(PICTURE, "206 Partial Content")) as server:
        assert "206 Partial Content" in await refusal(server.url(), server)
    async with running(answer(b"", "799 Whatever")) as server:
        assert await refusal(server.url(), server) == "127.0.0.1 answered 799."
    async with running(answer(b"")) as server:
        assert "empty response" in await refusal(server.url(), server)


async def test_too_many_bytes_are_not_read_to_their_end() -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while sent < 10**9:
            writer.write(bytes(10_000))
            await writer.drain()
            sent += 10_000

    for respond in (endless, answer(bytes(LIMIT + 1)), answer(b"", length=10**12), answer(PICTURE, length=LIMIT + 1)):
        async with running(respond) as server, fetcher(server, max_bytes=LIMIT) as client:
            with pytest.raises(MediaTooLarge, match=r"127\.0\.0\.1 is larger than the limit of 0\.1 MB"):
                await client.fetch(server.url())
    assert sent < 10**8
    async with running(answer(bytes(LIMIT))) as server, fetcher(server, max_bytes=LIMIT) as client:
        assert len(await client.fetch(server.url())) == LIMIT


async def test_what_comes_compressed_is_refused() -> None:
    bomb = gzip.compress(bytes(10**7))
    async with running(answer(bomb, "200 OK", "Content-Encoding: gzip")) as server:
        message = await refusal(server.url(), server)
    assert message == "127.0.0.1 sent a compressed response (gzip), though asked not to."
    async with running(answer(PICTURE, "200 OK", "Content-Encoding: identity")) as server, fetcher(server) as client:
        assert await client.fetch(server.url()) == PICTURE


async def silent(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def drops(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(600):
        await asyncio.sleep(0.1)
        writer.write(b"x")
        await writer.drain()


@pytest.mark.parametrize("respond", [silent, drops])
async def test_a_slow_host_is_left(respond: Respond) -> None:
    async with running(respond) as server:
        assert (
            await refusal(server.url(), server, timeout_s=0.3)
            == "127.0.0.1 did not send the image within 0.3 s; try again."
        )


async def test_redirects_share_one_time() -> None:
    async def late(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.4)
        await redirect("/a.jpg")(writer)

    async with running(late) as server:
        assert "within 1 s" in await refusal(server.url(), server, timeout_s=1.0)


async def garbage(writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


@pytest.mark.parametrize("respond", [garbage, answer(PICTURE, length=len(PICTURE) + 1), answer(b"", "x" * 200_000)])
async def test_a_host_that_breaks_off_or_speaks_otherwise(respond: Respond) -> None:
    async with running(respond) as server:
        assert "closed the connection or did not speak HTTP" in await refusal(server.url(), server)


async def test_a_port_that_nobody_listens_on() -> None:
    async with running({}) as server:
        pass
    assert await refusal(server.url(), server) == "127.0.0.1 cannot be reached; try again."


def tls_for(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_a_certificate_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    async with running(answer(PICTURE), tls_for(authority, "localhost")) as server:
        message = await refusal(server.url(host="localhost", scheme="https"), server)
        assert message == "The certificate of localhost cannot be verified, so nothing is fetched from it."
        assert server.requests == []

        with authority.cert_pem.tempfile() as known:
            monkeypatch.setenv("SSL_CERT_FILE", known)
            async with fetcher(server) as client:
                assert await client.fetch(server.url(host="localhost", scheme="https")) == PICTURE
            # The same host by another name, which its certificate does not have.
            message = await refusal(server.url(host="127.0.0.1", scheme="https"), server)
            assert message == "The certificate of 127.0.0.1 cannot be verified, so nothing is fetched from it."
    assert len(server.requests) == 1


async def test_proxies_of_the_environment_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running({}) as proxy, running(answer(PICTURE)) as server, fetcher(server) as client:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert await client.fetch(server.url()) == PICTURE
    assert proxy.requests == []


async def test_a_name_is_resolved_once_and_every_address_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    public, inward, resolved = "1.1.1.1", "127.0.0.1", 0

    def resolve(*addresses: str) -> Callable[..., list[Any]]:
        def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
            nonlocal resolved
            resolved += 1
            return [(2, 1, 6, "", (address, port)) for address in addresses]

        return getaddrinfo

    async with running(answer(PICTURE)) as server:
        monkeypatch.setattr("graphs.web.fetch.network.socket.getaddrinfo", resolve(public, inward))
        message = await refusal(server.url(host="two.example"), server, allowed=AllowList())
        assert (message, resolved) == ("No public address was found for two.example.", 1)

        # The name changes its address after it was resolved: it is not resolved again.
        monkeypatch.setattr("graphs.web.fetch.network.socket.getaddrinfo", resolve(inward))
        async with fetcher(server, allowed=AllowList(["two.example"])) as client:
            assert await client.fetch(server.url(host="two.example")) == PICTURE
        assert resolved == 2
    assert server.requests[0][1]["host"] == f"two.example:{server.port}"


@pytest.mark.parametrize(
    ("entries", "host", "address", "permitted"),
    [
        ([], "example.com", "93.184.215.14", True),
        ([], "example.com", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ([], "example.com", "64:ff9b::5db8:d70e", True),  # the first one, seen from a network without IPv4
        ([], "example.com", "64:ff9b::a00:1", False),
        ([], "example.com", "::ffff:93.184.215.14", True),
        (["10.1.0.0/16"], "a", "10.1.2.3", True),
        (["10.1.0.0/16"], "a", "::ffff:10.1.2.3", True),
        (["10.1.0.0/16"], "a", "10.2.0.1", False),
        (["10.1.2.3"], "a", "10.1.2.3", True),
        (["fd00::/8"], "a", "fd12::1", True),
        (["Files.Local."], "files.local", "10.1.2.3", True),
        (["files.local"], "FILES.local.", "10.1.2.3", True),
        (["files.local"], "x.files.local", "10.1.2.3", False),
    ],
)
def test_who_is_permitted(entries: list[str], host: str, address: str, permitted: bool) -> None:
    assert AllowList(entries).permits(host, address) is permitted


@pytest.mark.parametrize("entry", ["10.0.0.0/40", "10.0.0.1/8", "http://files.local", "files.local:80", "", "."])
def test_an_allow_list_is_names_and_networks(entry: str) -> None:
    with pytest.raises(ValueError, match="neither a host name nor a network"):
        AllowList([entry])


async def test_many_at_once_share_connections() -> None:
    async with running(chunked) as server, fetcher(server) as client:
        assert await asyncio.gather(*(client.fetch(server.url()) for _ in range(100))) == [PICTURE] * 100
