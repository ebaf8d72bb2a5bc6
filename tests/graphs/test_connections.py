"""What HTTP/1.1 asks of connections, seen from a socket: HEAD, responses without bodies, bodies that nobody read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.harness import listening
from tests.graphs.samples import picture, video
from tests.waiting import PATIENCE_S

BOTH = pytest.mark.parametrize("http", ["h11", "httptools"])
UNKNOWN = "0" * 32


@dataclass(frozen=True)
class Reply:
    """A response as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """Writes requests byte by byte as told, and reads responses strictly by their framing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, request: str, *headers: str, body: bytes = b"") -> None:
        lines = [f"{request} HTTP/1.1", "Host: test", *headers]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def read(self, *, head: bool = False) -> Reply:
        async with asyncio.timeout(PATIENCE_S):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            status = int(lines[0].split(" ")[1])
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
            if head or status in (100, 204, 304):
                return Reply(status, headers, b"")
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(await self.reader.readline(), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readline()
            else:
                body = await self.reader.readexactly(int(headers["content-length"]))
            return Reply(status, headers, body)

    async def ask(self, request: str, *headers: str, body: bytes = b"") -> Reply:
        self.send(request, *headers, body=body)
        return await self.read(head=request.startswith("HEAD"))

    async def in_step(self) -> bool:
        """Whether the next request is understood, and answered by nothing else than its own response."""
        return (await self.ask("GET /livez")).status == 200 and (await self.ask("GET /nothing")).status == 404

    async def closed(self) -> bool:
        """Whether the server closes the connection without another byte."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def client_of(service: Service, http: str) -> AsyncIterator[Client]:
    async with listening(service.app, http) as port, connected(port) as client:
        yield client


def form(data: bytes, name: str = "a.png") -> tuple[str, bytes]:
    """Content type and body of an upload."""
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return "Content-Type: multipart/form-data; boundary=b", head.encode() + data + b"\r\n--b--\r\n"


async def test_every_get_route_answers_head_alike(service: Service) -> None:
    clip = await service.upload(video(1))
    paths = (await service.client.get("/openapi.json")).json()["paths"]
    routes = [path for path, methods in paths.items() if "get" in methods]
    assert "/api/v1/media/{asset_id}/content" in routes
    for route in [*routes, "/docs", "/openapi.json", "/api/v1/media/{asset_id}/poster"]:
        for asset_id in (clip, UNKNOWN):
            url = route.format(asset_id=asset_id, upload_id=UNKNOWN, name="focus")
            get, head = await service.client.get(url), await service.client.head(url)
            assert (head.status_code, head.content) == (get.status_code, b""), url
            assert set(head.headers) == set(get.headers), url
            assert head.headers["content-type"] == get.headers["content-type"]
            if route == "/health":
                continue  # what it says of stages may change in between
            # The seconds that a request took have more or fewer digits.
            length, other = int(head.headers["content-length"]), int(get.headers["content-length"])
            assert abs(length - other) < (8 if "json" in get.headers["content-type"] else 1), url


async def test_a_method_that_a_path_has_not_names_those_it_has(service: Service) -> None:
    for url, allowed in (
        (f"/api/v1/media/{UNKNOWN}", "DELETE, GET, HEAD"),
        ("/api/v1/upload-media", "POST"),
        (f"/api/v1/media/{UNKNOWN}/content", "GET, HEAD"),
    ):
        for method in ("PUT", "OPTIONS", "PATCH"):
            answer = await service.client.request(method, url)
            assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    head = await service.client.head("/api/v1/upload-media")
    assert (head.status_code, head.headers["allow"]) == (405, "POST")


@BOTH
async def test_one_connection_carries_every_kind_of_response(service: Service, http: str) -> None:
    data = picture(1)
    asset_id = await service.upload(data)
    content = f"/api/v1/media/{asset_id}/content"
    expected = [
        (f"HEAD {content}", [], 200, b""),
        (f"GET {content}", [], 200, data),
        (f"GET {content}", ["Range: bytes=0-1"], 206, data[:2]),
        (f"GET {content}", [f'If-None-Match: "{asset_id}"'], 304, b""),
        (f"HEAD {content}", [f'If-None-Match: "{asset_id}"'], 304, b""),
        (f"GET {content}", ['If-Match: "x"'], 412, b""),
        (f"GET {content}", ["Range: bytes=999999-"], 416, None),
        (f"GET /api/v1/media/{UNKNOWN}/content", [], 404, None),
        (f"HEAD /api/v1/media/{UNKNOWN}/content", [], 404, b""),
        ("HEAD /nothing", [], 404, b""),
        ("OPTIONS /api/v1/upload-media", [], 405, None),
        ("HEAD /health", [], 200, b""),
        ("GET /livez", [], 200, None),
    ]
    async with client_of(service, http) as client:
        for request, headers, status, body in expected:
            reply = await client.ask(request, *headers)
            assert (reply.status, "connection" in reply.headers) == (status, False), request
            assert body is None or reply.body == body, request
        head, get = await client.ask(f"HEAD {content}"), await client.ask(f"GET {content}")
        own = {"date": "", "x-request-id": ""}
        assert {**head.headers, **own} == {**get.headers, **own}
        assert head.headers["content-length"] == str(len(data))
        for request, headers, _, _ in expected:
            client.send(request, *headers)
        for request, _, status, body in expected:
            reply = await client.read(head=request.startswith("HEAD"))
            assert reply.status == status, request
            assert body is None or reply.body == body, request
        assert await client.in_step()


@BOTH
@pytest.mark.parametrize(
    ("request_line", "status"),
    [("POST /nothing", 404), ("PUT /api/v1/upload-media", 405), ("POST /api/v1/config", 405)],
)
async def test_a_body_that_nobody_read_is_no_request(
    service: Service, http: str, request_line: str, status: int
) -> None:
    body = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n" * 20_000
    async with client_of(service, http) as client:
        for sent_first in (0, 1000, len(body)):
            client.send(request_line, f"Content-Length: {len(body)}", body=body[:sent_first])
            reply = await client.read()
            assert (reply.status, "connection" in reply.headers) == (status, False)
            client.writer.write(body[sent_first:])
            assert await client.in_step()
        client.send(request_line, f"Content-Length: {len(body)}", body=body)
        client.send("GET /livez")
        assert [(await client.read()).status for _ in range(2)] == [status, 200]


@BOTH
async def test_a_body_that_is_too_large_is_dropped(service: Service, http: str) -> None:
    size = 2 * service.context.settings.max_body_bytes
    async with client_of(service, http) as client:
        client.send("POST /api/v1/extract-features", f"Content-Length: {size}", "Content-Type: application/json")
        reply = await client.read()
        assert (reply.status, "connection" in reply.headers) == (413, False)
        client.writer.write(b" " * size)
        assert await client.in_step()


@BOTH
async def test_who_sends_on_still_reads_the_refusal(service: Service, http: str) -> None:
    async with client_of(service, http) as client:
        client.send("POST /api/v1/extract-features", "Transfer-Encoding: chunked", "Content-Type: application/json")
        for _ in range(40):
            client.writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            await client.writer.drain()
        client.writer.write(b"0\r\n\r\n")
        assert (await client.read()).status == 413
        assert await client.in_step()


@BOTH
async def test_a_client_that_waits_to_be_asked(service: Service, http: str) -> None:
    kind, body = form(picture(1))
    expect = ["Expect: 100-continue", f"Content-Length: {len(body)}", kind]
    async with client_of(service, http) as client:
        client.send("POST /api/v1/upload-media", *expect)
        assert (await client.read()).status == 100
        client.writer.write(body)
        reply = await client.read()
        assert (reply.status, "connection" in reply.headers) == (200, False)
        assert await client.in_step()
        client.send("POST /nothing", *expect)
        reply = await client.read()
        assert (reply.status, reply.headers["connection"]) == (404, "close")
        assert await client.closed()


@BOTH
async def test_who_has_no_key_is_refused_before_the_body(settings_for: MakeSettings, serve: Serve, http: str) -> None:
    kind, body = form(picture(2))
    upload = [kind, f"Content-Length: {len(body)}"]
    async with serve(settings_for(api_key="key")) as service, client_of(service, http) as client:
        client.send("POST /api/v1/upload-media", *upload)
        assert (await client.read()).status == 401
        client.writer.write(body)
        assert (await client.ask("GET /config")).status == 401
        assert (await client.ask("GET /config", "X-Api-Key: key")).status == 200
        assert (await client.ask("POST /api/v1/upload-media", "X-Api-Key: key", *upload, body=body)).status == 200
