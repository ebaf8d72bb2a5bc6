"""Clients that send or read slowly, stop, or leave, on real sockets: they hold nothing that others need."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from deployments.serving.handle import AnyHandle
from graphs.web import transfers
from tests.graphs.conftest import MakeSettings, Serve, Service, serving
from tests.graphs.harness import listening, settings_in
from tests.graphs.samples import picture
from tests.graphs.test_connections import BOTH, Client, Reply, connected, form
from tests.waiting import PATIENCE_S, until

FORM = "Content-Type: multipart/form-data; boundary=b"
JSON = "Content-Type: application/json"
LENGTH = "Content-Length: 100000"
OPENING = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n\xff\xd8\xff'
UPLOAD = ("POST /api/v1/upload-media", (FORM, LENGTH), OPENING)
SENDERS = pytest.mark.parametrize(
    ("request_line", "headers", "opening"),
    [
        UPLOAD,
        ("POST /upload-media", (FORM, "Transfer-Encoding: chunked"), b"%x\r\n%b\r\n" % (len(OPENING), OPENING)),
        ("POST /v1/analyze", (JSON, LENGTH), b'{"image": {"data": "'),
        ("POST /v1/cluster", (JSON, "Content-Length: 3000000"), b'{"embeddings": [' + b" " * 2_000_000),
        ("POST /api/v1/extract-features", (JSON, LENGTH), b"{"),
        ("DELETE /api/v1/media/x", (LENGTH,), b"x"),
        ("GET /api/v1/config", (LENGTH,), b""),
    ],
)


@asynccontextmanager
async def lasting(home: Path, analytics: dict[str, AnyHandle], **values: object) -> AsyncIterator[Service]:
    """A service for many tests, whose settings are not theirs."""
    async with AsyncExitStack() as stack:
        with settings_in(home, **values) as config:
            made = await stack.enter_async_context(serving(config, analytics))
        yield made


@pytest.fixture(scope="module")
async def impatient(
    tmp_path_factory: pytest.TempPathFactory, analytics: dict[str, AnyHandle]
) -> AsyncIterator[Service]:
    """A service that waits for a fifth of a second, or as long as a body comes at 1,000 bytes a second."""
    limits = {"body_idle_s": 0.2, "body_min_bytes_per_s": 1000}
    async with lasting(tmp_path_factory.mktemp("impatient"), analytics, **limits) as made:
        yield made


@pytest.fixture(scope="module")
async def patient(tmp_path_factory: pytest.TempPathFactory, analytics: dict[str, AnyHandle]) -> AsyncIterator[Service]:
    """A service that waits for as long as it usually does."""
    async with lasting(tmp_path_factory.mktemp("patient"), analytics) as made:
        yield made


@asynccontextmanager
async def client_of(service: Service, http: str = "httptools") -> AsyncIterator[Client]:
    async with listening(service.app, http) as port, connected(port) as client:
        yield client


@asynccontextmanager
async def senders(port: int, count: int, headers: tuple[str, ...] = UPLOAD[1]) -> AsyncIterator[list[Client]]:
    """Clients that have begun an upload and stopped."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(port)) for _ in range(count)]
        for client in clients:
            client.send(UPLOAD[0], *headers, body=OPENING)
        yield clients


async def upload(port: int, seed: int) -> int:
    kind, body = form(picture(seed))
    async with connected(port) as client:
        return (await client.ask(UPLOAD[0], kind, f"Content-Length: {len(body)}", body=body)).status


@BOTH
@SENDERS
async def test_a_body_that_stops_is_refused_and_its_connection_closed(
    impatient: Service, http: str, request_line: str, headers: tuple[str, ...], opening: bytes
) -> None:
    async with client_of(impatient, http) as client:
        client.send(request_line, *headers, body=opening)
        reply = await client.read()
        assert (reply.status, reply.headers["connection"]) == (408, "close")
        assert b"too slowly" in reply.body
        assert await client.closed()
        assert impatient.spooled == []


@SENDERS
async def test_a_body_of_single_bytes_is_refused(
    impatient: Service, request_line: str, headers: tuple[str, ...], opening: bytes
) -> None:
    async with client_of(impatient) as client, asyncio.TaskGroup() as group:
        client.send(request_line, *headers, body=opening)
        dripping = group.create_task(drip(client, b"1\r\n \r\n" if "chunked" in headers[-1] else b" "))
        assert (await client.read()).status == 408
        dripping.cancel()


async def drip(client: Client, piece: bytes) -> None:
    while True:
        client.writer.write(piece)
        await asyncio.sleep(0.02)


async def test_a_slow_but_steady_body_arrives(settings_for: MakeSettings, serve: Serve) -> None:
    kind, body = form(picture(1, size=(200, 150), noise=0.1))
    async with (
        serve(settings_for(body_idle_s=0.4, body_min_bytes_per_s=20_000)) as service,
        client_of(service) as client,
    ):
        # Four times as long as it may stop, at five times the least rate.
        size = len(body) // 16
        assert size > 2_000
        client.send(UPLOAD[0], kind, f"Content-Length: {len(body)}")
        for start in range(0, len(body), size):
            client.writer.write(body[start : start + size])
            await asyncio.sleep(0.1 if start < 14 * size else 0)
        assert (await client.read()).status == 200
        assert await client.in_step()


async def test_a_line_that_is_interrupted_for_less_than_the_limit_passes(
    settings_for: MakeSettings, serve: Serve
) -> None:
    kind, body = form(picture(1))
    async with serve(settings_for(body_idle_s=3)) as service, client_of(service) as client:
        client.send(UPLOAD[0], kind, f"Content-Length: {len(body)}", body=body[:100])
        await asyncio.sleep(0.3)
        client.writer.write(body[100:])
        assert (await client.read()).status == 200


async def test_senders_that_stop_hold_no_place(settings_for: MakeSettings, serve: Serve) -> None:
    config = settings_for(max_uploads_at_once=2, max_requests_at_once=2)
    async with serve(config) as service, listening(service.app) as port, senders(port, 12):
        await until(lambda: len(service.spooled) == 12)
        assert [await upload(port, seed) for seed in range(4)] == [200] * 4
        answer = await service.client.get("/api/v1/config")
        assert answer.status_code == 200
    assert service.spooled == []


async def test_the_slowest_sender_makes_room(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings_for(max_transfers_at_once=4)
    async with serve(config) as service, listening(service.app) as port, senders(port, 4) as clients:
        await until(lambda: len(service.spooled) == 4)
        kind, body = form(picture(9))
        async with connected(port) as refused:
            refused.send(UPLOAD[0], kind, f"Content-Length: {len(body)}", body=body)
            reply = await refused.read()
            assert (reply.status, reply.headers["retry-after"], reply.headers["connection"]) == (429, "2", "close")
        monkeypatch.setattr(transfers, "SLOW_S", 0.0)
        clients[2].writer.write(bytes(50_000))
        await asyncio.sleep(0.2)
        assert await upload(port, 1) == 200
        assert await upload(port, 2) == 200
        cut = [client for client in clients if client.reader.at_eof() or client.reader._buffer]  # type: ignore[attr-defined]
        assert len(cut) >= 1
        assert clients[2] not in cut
        assert (await cut[0].read()).status == 408


async def test_the_client_with_most_senders_makes_room(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "SLOW_S", 0.0)
    # The server trusts what this proxy says of its clients.
    config = settings_for(max_transfers_at_once=5, trusted_proxies="127.0.0.1,192.0.2.0/24")
    async with serve(config) as service, listening(service.app) as port, AsyncExitStack() as stack:
        one = await stack.enter_async_context(senders(port, 1, (*UPLOAD[1], "X-Forwarded-For: 198.51.100.1")))
        many = await stack.enter_async_context(senders(port, 4, (*UPLOAD[1], "X-Forwarded-For: 198.51.100.2")))
        for client in many:
            client.writer.write(bytes(20_000))
        await until(lambda: len(service.spooled) == 5)
        await asyncio.sleep(0.1)
        assert await upload(port, 1) == 200
        assert (await next_reply(many)).status == 408
        assert one[0].reader._buffer == b""  # type: ignore[attr-defined]


async def next_reply(clients: list[Client]) -> Reply:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for client in clients:
                if client.reader._buffer:  # type: ignore[attr-defined]
                    return await client.read()
            await asyncio.sleep(0.01)


@BOTH
@pytest.mark.parametrize(
    "request_line", ["POST /nothing", "PUT /api/v1/upload-media", "PATCH /api/v1/identities/upload-media", "PUT /livez"]
)
async def test_what_is_refused_before_its_body_drips_no_longer_than_others(
    impatient: Service, http: str, request_line: str
) -> None:
    async with client_of(impatient, http) as client:
        client.send(request_line, "Content-Length: 400000000", body=b"x")
        assert (await client.read()).status in (404, 405)
        assert await client.closed()


async def test_a_spool_that_is_full_refuses_and_is_free_again(settings_for: MakeSettings, serve: Serve) -> None:
    limits = {"max_video_bytes": 100_000, "max_image_bytes": 100_000, "max_audio_bytes": 100_000}
    config = settings_for(max_spool_bytes=100_000, **limits)
    async with serve(config) as service, listening(service.app) as port, senders(port, 3) as clients:
        for client in clients:
            client.writer.write(bytes(40_000))
            await client.writer.drain()
        reply = await next_reply(clients)
        assert (reply.status, reply.headers["retry-after"]) == (429, "2")
        assert b"unfinished uploads" in reply.body
        for client in clients:
            client.writer.close()
        await until(lambda: service.spooled == [])
        assert await upload(port, 1) == 200


@BOTH
@SENDERS
async def test_who_leaves_in_mid_body_is_one_line_at_debug(
    patient: Service,
    caplog: pytest.LogCaptureFixture,
    http: str,
    request_line: str,
    headers: tuple[str, ...],
    opening: bytes,
) -> None:
    async with listening(patient.app, http) as port:
        with caplog.at_level(logging.DEBUG, "ray.serve"):
            caplog.clear()
            async with connected(port) as client:
                client.send(request_line, *headers, body=opening)
                await client.writer.drain()
                await asyncio.sleep(0.05)
            await until(lambda: any("its client left" in record.message for record in caplog.records))
            await asyncio.sleep(0.05)
        lines = [record for record in caplog.records if record.name in ("ray.serve", "uvicorn.error", "asyncio")]
        assert [(line.levelname, line.exc_info) for line in lines] == [("DEBUG", None)]
        assert patient.spooled == []
        assert await upload(port, 1) == 200


async def test_who_reads_nothing_loses_the_connection(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(reader_idle_s=0.3, max_requests_at_once=2)) as service:
        asset_id = await service.upload(picture(3, size=(1600, 1200), noise=0.3))
        async with listening(service.app) as port, AsyncExitStack() as stack:
            for _ in range(6):
                client = await stack.enter_async_context(connected(port))
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                for _ in range(20):
                    client.send(f"GET /api/v1/media/{asset_id}/content")
            await asyncio.sleep(0.1)
            assert await upload(port, 1) == 200
