"""Posting to real servers on this machine, which the allow-list names, and to where nothing may be posted."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import trustme

from graphs.web.fetch import AllowList, Outcome, Poster, ReceiverRefused

ALLOWED = AllowList(["127.0.0.1", "localhost"])
BODY = b'{"type":"job.succeeded"}'
Respond = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers every request by a function, and keeps what it got."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.port = 0
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0

    def url(self, path: str = "/hook", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests.append((head[0], headers, body))
                await self.respond(writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


def answers(status: str, *headers: str, body: bytes = b"") -> Respond:
    async def respond(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)

    return respond


@asynccontextmanager
async def listening(respond: Respond, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(respond)
    running = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = running.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        running.close()


async def posted(url: str, *, allowed: AllowList = ALLOWED, http: bool = True, timeout_s: float = 5.0) -> Outcome:
    client = Poster(timeout_s=timeout_s, allowed=allowed, http=http)
    try:
        return await client.post(url, BODY, {"content-type": "application/json", "webhook-id": "evt_1"})
    finally:
        await client.close()


async def refusal(url: str, **options: Any) -> str:
    client = Poster(timeout_s=5.0, **options)
    try:
        with pytest.raises(ReceiverRefused) as refused:
            await client.check(url)
        return refused.value.message
    finally:
        await client.close()


async def test_the_body_arrives_as_it_is_with_its_headers() -> None:
    async with listening(answers("204 No Content")) as server:
        outcome = await posted(server.url("/hook?to=a%20b"))
        assert (outcome.status, outcome.error, outcome.is_success, outcome.retry_after_s) == (204, "", True, None)
        ((line, headers, body),) = server.requests
        assert line == "POST /hook?to=a%20b HTTP/1.1"
        assert body == BODY
        assert headers["host"] == f"127.0.0.1:{server.port}"
        assert (headers["content-type"], headers["webhook-id"]) == ("application/json", "evt_1")
        assert headers["user-agent"].startswith("visiongraph/")


@pytest.mark.parametrize(
    ("status", "error"),
    [("400 Bad", "it answered 400"), ("503 No", "it answered 503"), ("410 Gone", "it answered 410")],
)
async def test_another_status_than_2xx_is_a_failure(status: str, error: str) -> None:
    async with listening(answers(status)) as server:
        outcome = await posted(server.url())
        assert (outcome.is_success, outcome.error) == (False, error)


@pytest.mark.parametrize("to", ["http://169.254.169.254/latest/meta-data/", "/elsewhere", "https://example.org/"])
async def test_a_redirect_is_a_failure_and_nothing_is_sent_to_where_it_leads(to: str) -> None:
    async with listening(answers("307 Elsewhere", f"Location: {to}")) as server:
        outcome = await posted(server.url())
        assert (outcome.status, outcome.is_success) == (307, False)
        assert "not followed" in outcome.error
        assert to not in outcome.error
        assert len(server.requests) == 1


async def test_a_huge_answer_costs_nothing_and_its_status_counts() -> None:
    sent = 0

    async def respond(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(15_000):
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    async with listening(respond) as server:
        outcome = await posted(server.url())
        assert outcome.is_success
        assert outcome.seconds < 4
        assert sent < 30_000_000  # what the buffers of the connection hold


async def test_a_receiver_that_never_answers_is_left_after_the_time() -> None:
    async def respond(_: asyncio.StreamWriter) -> None:
        await asyncio.sleep(20)

    async with listening(respond) as server:
        outcome = await posted(server.url(), timeout_s=0.2)
        assert (outcome.status, outcome.error) == (None, "no answer within 0.2 s")
        assert 0.2 <= outcome.seconds < 4


async def test_an_answer_that_drips_ends_with_the_time_and_its_status_counts() -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(400):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with listening(respond) as server:
        outcome = await posted(server.url(), timeout_s=0.3)
        assert outcome.is_success
        assert outcome.seconds < 4


@pytest.mark.parametrize("reply", [b"", b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n", b"\x00" * 70_000])
async def test_what_is_no_answer(reply: bytes) -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        writer.close()

    async with listening(respond) as server:
        outcome = await posted(server.url())
        assert (outcome.status, outcome.error) == (None, "it closed the connection or did not speak HTTP")


async def test_nobody_listens() -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        outcome = await posted(f"http://127.0.0.1:{place.getsockname()[1]}/")
    assert (outcome.status, outcome.error) == (None, "it cannot be reached")


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [("7", 7, 7), (900, 600, 900), (-86_400, 0, 0), ("soon", None, None), ("-5", None, None), ("9" * 20, None, None)],
)
async def test_retry_after(value: str | int, low: float | None, high: float | None) -> None:
    """An int stands for the date that is so many seconds from now."""
    if isinstance(value, int):
        value = format_datetime(datetime.now(UTC) + timedelta(seconds=value), usegmt=True)
    async with listening(answers("429 Slow Down", f"Retry-After: {value}")) as server:
        outcome = await posted(server.url())
        if low is None or high is None:
            assert outcome.retry_after_s is None
        else:
            assert outcome.retry_after_s is not None
            assert low <= outcome.retry_after_s <= high


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "10.1.2.3", "172.16.0.9", "192.168.1.1", "100.64.0.1"),
        *("169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "168.63.129.16"),
        *("2130706433", "0x7f.1", "017700000001", "no-such-name.invalid"),
    ],
)
async def test_no_address_inside_is_taken_or_connected_to(host: str) -> None:
    async with listening(answers("200 OK")) as server:
        url = server.url(host=host, scheme="https")
        assert "No public address" in await refusal(url)
        outcome = await posted(url, allowed=AllowList())
        assert (outcome.status, "No public address" in outcome.error) == (None, True)
        assert server.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "ftp://127.0.0.1/", "file:///etc/passwd", "https://", "127.0.0.1/hook", "https://[::1"),
        *("https://me@127.0.0.1/", "https://127.0.0.1@example.org/", "gopher://127.0.0.1:25/", "javascript:1"),
    ],
)
async def test_what_is_no_https_url(url: str) -> None:
    message = await refusal(url, allowed=ALLOWED)
    assert "https://" in message or "not a valid URL" in message or "user and password" in message


async def test_a_name_that_changes_its_address_is_caught_at_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    answers_of: list[str] = ["93.184.215.14", "127.0.0.1"]

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        address = answers_of.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    async with listening(answers("200 OK")) as server:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        client = Poster(timeout_s=5.0, http=True)
        url = server.url(host="rebind.example")
        assert await client.check(url) == url
        outcome = await client.post(url, BODY, {})
        await client.close()
        assert (outcome.status, "No public address" in outcome.error) == (None, True)
        assert server.connections == 0


async def test_certificates_are_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    async with listening(answers("200 OK"), context) as server:
        url = server.url(host="localhost", scheme="https")
        outcome = await posted(url, http=False)
        assert (outcome.status, outcome.error) == (None, "its certificate cannot be verified")
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert (await posted(url, http=False)).is_success
        outcome = await posted(server.url(host="127.0.0.1", scheme="https"), http=False)
        assert outcome.error == "its certificate cannot be verified"


async def test_connections_are_used_again() -> None:
    async with listening(answers("200 OK", body=b"thanks")) as server:
        client = Poster(timeout_s=5.0, allowed=ALLOWED, http=True)
        for _ in range(3):
            assert (await client.post(server.url(), BODY, {})).is_success
        await client.close()
        assert (len(server.requests), server.connections) == (3, 1)
