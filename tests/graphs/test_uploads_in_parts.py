"""Uploads in parts by the tus protocol: what arrives stays, wherever the next bytes arrive, and nobody else sees it."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.types import Message

from graphs.web import access
from graphs.web.connections import keep_what_came
from graphs.web.uploads import resumable
from stores.errors import StoreFull
from stores.partial_uploads import PREFIX
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.harness import listening
from tests.graphs.samples import error_of, picture, video
from tests.graphs.test_keys import make_key

UPLOADS = "/api/v1/uploads"
TUS = {"Tus-Resumable": "1.0.0"}
OCTETS = {**TUS, "Content-Type": "application/offset+octet-stream"}


def metadata(**values: str | bytes) -> dict[str, str]:
    pairs = [f"{k} {b64encode(v if isinstance(v, bytes) else v.encode()).decode()}" for k, v in values.items()]
    return {"Upload-Metadata": ",".join(pairs)}


async def create(client: httpx.AsyncClient, length: int, **headers: str) -> str:
    answer = await client.post(UPLOADS, headers={**TUS, "Upload-Length": str(length), **headers})
    assert answer.status_code == 201, answer.text
    return answer.headers["location"]


async def patch(client: httpx.AsyncClient, url: str, offset: int, data: Any, **headers: str) -> httpx.Response:
    return await client.patch(url, content=data, headers={**OCTETS, "Upload-Offset": str(offset), **headers})


async def offset_of(client: httpx.AsyncClient, url: str, **headers: str) -> int:
    answer = await client.head(url, headers={**TUS, **headers})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


async def part_keys(service: Service) -> list[str]:
    return [info.key async for info in service.context.objects.list(PREFIX)]


async def test_a_file_in_three_parts_is_one_asset(service: Service) -> None:
    data = picture(1)
    said = await service.client.options(UPLOADS)
    assert said.status_code == 204
    assert said.headers["tus-version"] == said.headers["tus-resumable"] == "1.0.0"
    assert said.headers["tus-extension"] == "creation,checksum,expiration,termination"
    assert int(said.headers["tus-max-size"]) == 4 * 2**30
    url = await create(service.client, len(data), **metadata(filename="été/../é.png"))
    for start, end in ((0, 10), (10, 1000), (1000, len(data))):
        assert await offset_of(service.client, url) == start
        answer = await patch(service.client, url, start, data[start:end])
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(end)), answer.text
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert "upload-expires" in answer.headers
    asset_id = hashlib.sha256(data).hexdigest()[:32]
    assert answer.headers["upload-asset-id"] == asset_id
    stored = await service.get(f"media/{asset_id}")
    assert (stored["filename"], stored["file_size"]) == ("é.png", len(data))
    assert (await service.client.get(f"/api/v1/media/{asset_id}/content")).content == data
    state = (await service.client.get(url, headers=TUS)).json()
    assert (state["status"], state["asset_id"], state["offset"]) == ("stored", asset_id, len(data))
    # The answer to the last bytes may have been lost: the same request again has it.
    again = await patch(service.client, url, len(data), b"")
    assert (again.status_code, again.headers["upload-asset-id"]) == (204, asset_id)
    assert await part_keys(service) == []
    assert service.spooled == []


async def test_another_gateway_goes_on_with_it(settings_for: MakeSettings, serve: Serve) -> None:
    config, data = settings_for(), video(1)
    async with serve(config) as first:
        url = await create(first.client, len(data))
        assert (await patch(first.client, url, 0, data[:1000])).status_code == 204
    async with serve(config) as second:
        assert await offset_of(second.client, url) == 1000
        answer = await patch(second.client, url, 1000, data[1000:])
        assert answer.headers["upload-asset-id"] == hashlib.sha256(data).hexdigest()[:32]


async def test_bytes_that_came_before_a_connection_broke_are_kept(service: Service) -> None:
    keep_what_came()
    data = picture(2)
    cut = len(data) * 6 // 10
    async with listening(service.app) as port:
        url = f"http://127.0.0.1:{port}" + (await create(service.client, len(data))).removeprefix("http://test")
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"PATCH {httpx.URL(url).path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpload-Offset: 0\r\n"
        head += f"Content-Length: {len(data)}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in OCTETS.items()) + "\r\n"
        writer.write(head.encode() + data[:cut])
        await writer.drain()
        writer.close()
        async with httpx.AsyncClient() as client:
            # The server may take the new connection before it has looked at the old one.
            for _ in range(100):
                if await offset_of(client, url) == cut:
                    break
                await asyncio.sleep(0.02)
            answer = await patch(client, url, cut, data[cut:])
        assert answer.headers["upload-asset-id"] == hashlib.sha256(data).hexdigest()[:32]
    assert service.spooled == []


async def test_what_serve_has_read_of_a_cancelled_request_is_kept(service: Service) -> None:
    """Serve reads a body into a queue, and cancels the request when its client leaves, whatever is in the queue."""
    data = picture(2)
    url = await create(service.client, len(data))
    pieces = [data[start : start + 500] for start in range(0, 2500, 500)]
    taken, left = asyncio.Event(), asyncio.Event()
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]

    async def receive() -> Message:
        if len(messages) == 3:
            taken.set()
            await left.wait()
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        raise AssertionError("there is nobody to answer")

    headers = {**OCTETS, "Upload-Offset": "0", "Content-Length": str(len(data)), "Host": "test"}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "PATCH",
        "scheme": "http",
        "path": httpx.URL(url).path,
        "raw_path": httpx.URL(url).raw_path,
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    request = asyncio.create_task(service.app(scope, receive, send))
    await taken.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    left.set()
    assert await offset_of(service.client, url) == 2500
    assert (await patch(service.client, url, 2500, data[2500:])).headers["upload-asset-id"]
    assert service.spooled == []


async def test_long_requests_are_recorded_on_the_way(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "PART_BYTES", 1000)
    monkeypatch.setattr(resumable, "IDLE_S", 0.05)
    monkeypatch.setattr(resumable, "IDLE_BYTES", 1)
    data, url = picture(3), await create(service.client, len(picture(3)))
    going_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield data[:1500]
        yield data[1500:1700]
        await going_on.wait()
        yield data[1700:]

    sending = asyncio.create_task(patch(service.client, url, 0, slowly(), **{"Content-Length": str(len(data))}))
    state = service.context.stores.partial_uploads
    upload_id = url.rpartition("/")[2]
    for _ in range(100):
        upload = await state.get(upload_id)
        assert upload is not None
        if upload.offset == 1700:
            break
        await asyncio.sleep(0.02)
    assert upload.offset == 1700
    going_on.set()
    assert (await sending).status_code == 204
    assert (await service.client.get(url, headers=TUS)).json()["status"] == "stored"


@pytest.mark.parametrize("offset", [0, 99, 101, 5000])
async def test_bytes_for_another_place_are_refused(service: Service, offset: int) -> None:
    data = picture(4)
    url = await create(service.client, len(data))
    assert (await patch(service.client, url, 0, data[:100])).status_code == 204
    answer = await patch(service.client, url, offset, data[100:200])
    assert "100 bytes are here" in error_of(answer, 409, "OFFSET_MISMATCH")["message"]
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert await offset_of(service.client, url) == 100


async def test_of_two_requests_at_once_one_has_its_bytes_in_the_file(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "WAIT_S", 0.2)
    data = picture(5)
    url = await create(service.client, len(data))
    hung = asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield b"x" * 500
        await hung.wait()

    first = asyncio.create_task(patch(service.client, url, 0, hanging()))
    await asyncio.sleep(0.05)
    answers = await asyncio.gather(*(patch(service.client, url, 0, data[:1000]) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [204, 409, 409, 409]
    hung.set()
    assert (await first).status_code == 409
    assert await offset_of(service.client, url) == 1000
    assert (await patch(service.client, url, 1000, data[1000:])).headers["upload-asset-id"]
    assert await part_keys(service) == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_more_bytes_than_announced_are_refused_and_not_kept(service: Service, chunked: bool) -> None:
    url = await create(service.client, 1000)

    async def body() -> AsyncIterator[bytes]:
        yield b"a" * 600
        yield b"b" * 600

    answer = await patch(service.client, url, 0, body() if chunked else b"a" * 1200)
    assert "1,000 that were announced" in error_of(answer, 413, "FILE_TOO_LARGE")["message"]
    assert await offset_of(service.client, url) == 0
    assert service.spooled == []


async def test_less_bytes_than_announced_stay_an_unfinished_upload(service: Service) -> None:
    data = picture(6)
    url = await create(service.client, len(data) + 1)
    answer = await patch(service.client, url, 0, data)
    assert answer.status_code == 204
    assert "upload-asset-id" not in answer.headers


async def test_a_checksum_decides_whether_bytes_are_kept(service: Service) -> None:
    data, url = picture(7), await create(service.client, len(picture(7)))

    def checksum(name: str, of: bytes) -> dict[str, str]:
        return {"Upload-Checksum": f"{name} {b64encode(hashlib.new(name, of).digest()).decode()}"}

    for name in ("sha1", "sha256"):
        wrong = await patch(service.client, url, 0, data[:100], **checksum(name, data[:99]))
        assert wrong.status_code == 460
        assert wrong.json()["error"]["code"] == "CHECKSUM_MISMATCH"
        assert await offset_of(service.client, url) == 0
    for given in ("md5 abc=", "sha1 !", "sha1"):
        answer = await patch(service.client, url, 0, data[:100], **{"Upload-Checksum": given})
        assert answer.status_code in (400, 460), given
    assert (await patch(service.client, url, 0, data[:100], **checksum("sha1", data[:100]))).status_code == 204
    assert (await patch(service.client, url, 100, data[100:], **checksum("sha256", data[100:]))).status_code == 204
    assert service.spooled == []


async def test_a_file_that_has_another_hash_or_is_no_media_leaves_nothing(service: Service) -> None:
    data = picture(8)
    for body, said, status, code in (
        (data, {"sha256": "0" * 64}, 460, "CHECKSUM_MISMATCH"),
        (b"no picture", {"filename": "a.png"}, 400, "INVALID_FILE_FORMAT"),
    ):
        url = await create(service.client, len(body), **metadata(**said))
        answer = await patch(service.client, url, 0, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        error_of(await service.client.get(url, headers=TUS), 404, "UPLOAD_NOT_FOUND")
    assert await part_keys(service) == []


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (metadata(filename="../../etc/passwd"), "passwd"),
        (metadata(filename="a\r\nX-Evil: 1.png"), "aX-Evil: 1.png"),
        (metadata(filename="‮gnp.exe"), "gnp.exe"),
        (metadata(filename="<img src=x onerror=alert(1)>.png"), "<img src=x onerror=alert(1)>.png"),
        (metadata(filename=b"\xff\xfe.png"), "��.png"),
        (metadata(filename="\0"), "unnamed"),
        (metadata(filename=""), "unnamed"),
        (metadata(filename="n" * 3000 + ".png"), "n" * 251 + ".png"),
        ({}, "unnamed"),
    ],
)
async def test_hostile_names_are_kept_as_those_of_forms_are(
    service: Service, header: dict[str, str], name: str
) -> None:
    data = picture(9)
    url = await create(service.client, len(data), **header)
    answer = await service.client.head(url, headers=TUS)
    assert answer.headers.get("upload-metadata") == header.get("Upload-Metadata")
    stored = (await patch(service.client, url, 0, data)).headers["upload-asset-id"]
    assert (await service.get(f"media/{stored}"))["filename"] == name


@pytest.mark.parametrize(
    "header",
    [
        "filename ###",
        "filename YQ==,filename Yg==",
        "filename YQ== YQ==",
        "sha256 YWJj",
        "na\tme YQ==",
        f"a {'A' * 9000}",
    ],
)
async def test_malformed_metadata_is_refused(service: Service, header: str) -> None:
    answer = await service.client.post(UPLOADS, headers={**TUS, "Upload-Length": "9", "Upload-Metadata": header})
    error_of(answer, 400, "INVALID_INPUT")


async def test_what_is_no_tus_request_hears_what_it_lacks(service: Service) -> None:
    client = service.client
    answer = await client.post(UPLOADS, headers={"Upload-Length": "9"})
    assert (answer.status_code, answer.headers["tus-version"]) == (412, "1.0.0")
    for length, status in (("0", 422), ("-1", 422), ("9e9", 422), ("9" * 5000, 422), (str(2**40), 413)):
        answer = await client.post(UPLOADS, headers={**TUS, "Upload-Length": length})
        assert answer.status_code == status, (length, answer.text)
    answer = await client.post(UPLOADS, headers={**TUS, "Upload-Defer-Length": "1", "Upload-Length": "9"})
    error_of(answer, 400, "INVALID_INPUT")
    url = await create(client, 9)
    answer = await client.patch(url, content=b"a", headers={**TUS, "Upload-Offset": "0"})
    error_of(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
    error_of(await client.get(f"{UPLOADS}/{'0' * 32}", headers=TUS), 404, "UPLOAD_NOT_FOUND")
    override = {**OCTETS, "X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0"}
    assert (await client.post(url, headers=override, content=b"abc")).headers["upload-offset"] == "3"
    answer = await client.post(url, headers={**TUS, "X-HTTP-Method-Override": "DELETE"})
    assert answer.status_code == 204
    error_of(await client.get(url, headers=TUS), 404, "UPLOAD_NOT_FOUND")
    assert await part_keys(service) == []


async def test_a_client_has_so_many_unfinished_uploads(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(max_open_uploads=2, max_open_upload_bytes=10_000)) as service:
        urls = [await create(service.client, 4000) for _ in range(2)]
        for length, words in ((1, "2 unfinished uploads"), (9_000, "come to")):
            answer = await service.client.post(UPLOADS, headers={**TUS, "Upload-Length": str(length)})
            assert words in error_of(answer, 429, "TOO_MANY_UPLOADS")["message"]
            if len(urls) == 2:
                assert (await service.client.delete(urls.pop(), headers=TUS)).status_code == 204
        assert await create(service.client, 6000)


async def test_expired_uploads_are_gone_and_removed(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "SWEEP_S", 0.0)
    async with serve(settings_for(upload_keep_s=1)) as service:
        url = await create(service.client, 1000)
        assert (await patch(service.client, url, 0, b"a" * 100)).status_code == 204
        assert len(await part_keys(service)) == 1
        await asyncio.sleep(1.1)
        error_of(await service.client.get(url, headers=TUS), 404, "UPLOAD_NOT_FOUND")
        await create(service.client, 1000)
        assert await part_keys(service) == []


@asynccontextmanager
async def keyed(settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setattr(access, "FRESH_S", 0.0)
    monkeypatch.setattr(access, "RETRY_S", 0.0)
    async with serve(settings_for(api_key="env-key")) as service:
        yield service


async def test_the_hash_first_sends_nothing_where_the_client_may_read_the_file(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keyed(settings_for, serve, monkeypatch) as service:
        data = picture(1)
        digest = hashlib.sha256(data).hexdigest()
        both, other = await make_key(service, "read", "write"), await make_key(service, "read", "write")
        blind = await make_key(service, "assets:write")
        held = await make_key(service, "read", "write", labels=("studio",))
        said = metadata(sha256=digest, filename="mine.png")

        async def offered(headers: dict[str, str], length: int = len(data)) -> httpx.Response:
            sent = {**TUS, "Upload-Length": str(length), **said, **headers}
            return await service.client.post(UPLOADS, headers=sent)

        for headers in (both, blind, held):
            assert (await offered(headers)).headers["upload-offset"] == "0"
        url = (await offered(both)).headers["location"]
        answer = await patch(service.client, url, 0, data, **both)
        assert answer.headers["upload-asset-id"] == digest[:32]
        for headers, here in ((both, True), (other, True), (blind, False), (held, False)):
            answer = await offered(headers)
            assert (answer.status_code, answer.headers["upload-offset"]) == (201, str(len(data) if here else 0))
            assert ("upload-asset-id" in answer.headers) == here
            if here:
                assert await offset_of(service.client, answer.headers["location"], **headers) == len(data)
        assert (await offered(other, len(data) + 1)).headers["upload-offset"] == "0"
        # What was offered is an upload of each: the file stays until both have deleted theirs.
        for headers, everything in ((both, False), (other, True)):
            gone = await service.client.delete(f"/api/v1/media/{digest[:32]}", headers=headers)
            assert gone.json()["storage_deleted"] == everything
            # And who has deleted its own does not have it again by its hash.
            assert (await offered(headers)).headers["upload-offset"] == "0"


async def test_an_upload_is_of_the_key_that_began_it(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keyed(settings_for, serve, monkeypatch) as service:
        data = picture(2)
        writer, other = await make_key(service, "assets:write"), await make_key(service, "admin")
        reader = await make_key(service, "assets:read")
        url = await create(service.client, len(data), **writer)
        for headers, status in ((other, 404), (reader, 403), ({}, 401)):
            assert (await service.client.get(url, headers={**TUS, **headers})).status_code == status
            assert (await patch(service.client, url, 0, data, **headers)).status_code == status
            assert (await service.client.delete(url, headers={**TUS, **headers})).status_code == status
        assert await offset_of(service.client, url, **writer) == 0
        assert (await patch(service.client, url, 0, data, **writer)).headers["upload-asset-id"]


async def test_a_key_held_to_a_label_gives_it_to_what_it_uploads(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keyed(settings_for, serve, monkeypatch) as service:
        data = picture(3)
        held = await make_key(service, "read", "write", labels=("studio",))
        answer = await service.client.post(
            UPLOADS, headers={**TUS, "Upload-Length": "9", **metadata(label="another"), **held}
        )
        assert "studio" in error_of(answer, 400, "INVALID_INPUT")["message"]
        url = await create(service.client, len(data), **held)
        asset_id = (await patch(service.client, url, 0, data, **held)).headers["upload-asset-id"]
        assert (await service.client.get(f"/api/v1/media/{asset_id}", headers=held)).status_code == 200


async def test_a_full_store_keeps_what_it_has_and_the_upload_ends_later(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, url = picture(4), await create(service.client, len(picture(4)))
    assert (await patch(service.client, url, 0, data[:500])).status_code == 204
    put, full = service.context.objects.put_file, True

    async def refuse(key: str, *rest: Any) -> None:
        if full:
            raise StoreFull("the disk is full")
        await put(key, *rest)

    monkeypatch.setattr(service.context.objects, "put_file", refuse)
    assert (await patch(service.client, url, 500, data[500:])).status_code == 507
    assert await offset_of(service.client, url) == 500
    full = False
    assert (await patch(service.client, url, 500, data[500:])).headers["upload-asset-id"]
    assert service.spooled == []
