"""Ids of requests on every answer, and the line of the access log that each request ends with."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from graphs.web.access_log import NAME
from graphs.web.requests import REQUEST_ID, RequestIds
from stores.keys import new_key
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.harness import Service as AnyService
from tests.graphs.harness import every_api, listening, settings_in
from tests.graphs.samples import picture
from tests.graphs.test_connections import BOTH, connected
from tests.waiting import PATIENCE_S

MADE = re.compile(r"[0-9a-f]{32}")
UNKNOWN = "0" * 32
SANE = [
    "7",
    "9c5b94b1-35ad-49bb-b118-8e8fc24abf80",
    "Root=1-67891233-abcdef012345678912345678",
    "a" * 128,
    "x/y:z@1.2+3_4",
]
HOSTILE = {
    "10 kB": b"a" * 10_240,
    "one too many": b"a" * 129,
    "ANSI": b"\x1b[2J\x1b[31mgone",
    "C1 in Latin-1": b"\x9b31m",
    "UTF-8": "naïve-☃".encode(),
    "no UTF-8": b"\xff\xfe\xfd",
    "spaces": b"two words",
    "a list": b"a,b",
    "JSON": b'","status":200,"x":"',
    "markup": b"<script>alert(1)</script>",
    "format": b"%s${jndi:ldap}",
    "escaped newline": b"a\\nb",
    "nothing": b"",
}


class Log:
    """The access log of a service, line by line."""

    def __init__(self, service: AnyService) -> None:
        self.path = service.context.settings.logs / NAME

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    async def of(self, request_id: str) -> dict[str, Any]:
        """The one line of a request, which comes when that has ended."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := [line for line in self.lines() if line["request_id"] == request_id]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        [line] = found
        assert line["ms"] >= 0
        return line


async def key_of(service: AnyService, *scopes: str, name: str = "photo studio") -> tuple[dict[str, str], str]:
    """Headers with a new key, and its id."""
    token, key = new_key(name, scopes)
    assert await service.context.stores.keys.insert(key)
    return {"X-API-Key": token}, key.key_id


@pytest.fixture(scope="module")
async def open_service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AnyService]:
    with settings_in(tmp_path_factory.mktemp("ids"), cors_origins="https://app.example") as config:
        async with every_api(config) as made:
            yield made


ANSWERS: Mapping[str, tuple[str, str, dict[str, Any], int]] = {
    "200": ("GET", "/livez", {}, 200),
    "a preflight": (
        "OPTIONS",
        "/v1/analyze",
        {"headers": {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}},
        204,
    ),
    "a refused preflight": (
        "OPTIONS",
        "/v1/analyze",
        {"headers": {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}},
        400,
    ),
    "400": ("GET", "/api/v1/config", {"headers": {"Host": "evil.example"}}, 400),
    "404, no route": ("GET", "/nothing", {}, 404),
    "404, no asset": ("GET", f"/api/v1/media/{UNKNOWN}", {}, 404),
    "405": ("PUT", "/livez", {}, 405),
    "413": ("POST", "/api/v1/extract-features", {"content": b"x" * 2_000_000}, 413),
    "422": ("POST", "/api/v1/extract-features", {"json": {}}, 422),
    "422 of another API": ("POST", "/predict", {"json": {}}, 422),
    "HEAD": ("HEAD", "/openapi.json", {}, 200),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_every_answer_has_the_id_of_its_request_once(open_service: AnyService, case: str) -> None:
    method, path, given, status = ANSWERS[case]
    headers = {"X-Request-Id": f"id-of-{case.replace(', ', '.').replace(' ', '-')}", **given.pop("headers", {})}
    answer = await open_service.client.request(method, path, headers=headers, **given)
    assert answer.status_code == status
    assert answer.headers.get_list("x-request-id") == [headers["X-Request-Id"]]
    assert (await Log(open_service).of(headers["X-Request-Id"]))["status"] == status


async def test_pages_of_other_origins_may_read_it(open_service: AnyService) -> None:
    answer = await open_service.client.get("/livez", headers={"Origin": "https://app.example"})
    assert "X-Request-Id" in answer.headers["access-control-expose-headers"].split(", ")


async def test_refusals_have_it_too(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(rate_limit_enabled=True, rate_limit_per_minute=1, rate_limit_burst=1)) as service:
        headers, key_id = await key_of(service, "assets:read", "photos:read")
        asked = [
            ("401", service.client.get("/api/v1/config", headers={"X-Request-Id": "401"})),
            ("403", service.client.post("/upload-media", headers={"X-Request-Id": "403", **headers})),
            ("422", service.client.post("/v1/cluster", headers={"X-Request-Id": "422", **headers}, json={})),
            ("429", service.client.post("/v1/cluster", headers={"X-Request-Id": "429", **headers}, json={})),
        ]
        for status, request in asked:
            answer = await request
            assert (answer.status_code, answer.headers["x-request-id"]) == (int(status), status)
        lines = {line["request_id"]: line for line in Log(service).lines()}
        assert [lines[status]["key"] for status, _ in asked] == [None, key_id, key_id, key_id]
        assert [lines[status]["key_name"] for status, _ in asked] == [None, *["photo studio"] * 3]
        assert [lines[status]["api"] for status, _ in asked] == ["assets", "assets", "photos", "photos"]
        assert headers["X-API-Key"] not in Log(service).path.read_text()


@pytest.mark.parametrize("given", SANE)
async def test_a_sane_id_is_taken_over(open_service: AnyService, given: str) -> None:
    answer = await open_service.client.get("/livez", headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"] == given
    assert (await Log(open_service).of(given))["route"] == "/livez"


@BOTH
@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_id_is_replaced_and_reaches_neither_answer_nor_log(
    open_service: AnyService, kind: str, http: str
) -> None:
    async with listening(open_service.app, http) as port, connected(port) as client:
        head = b"GET /livez HTTP/1.1\r\nHost: test\r\nX-Request-Id: %b\r\n\r\n" % HOSTILE[kind]
        before = Log(open_service).path.read_bytes() if Log(open_service).path.exists() else b""
        client.writer.write(head)
        reply = await client.read()
    if reply.status == 400 and any(byte < 32 or byte > 126 for byte in HOSTILE[kind]):
        return  # the parser takes no such header
    assert reply.status == 200
    assert MADE.fullmatch(reply.headers["x-request-id"])
    assert (await Log(open_service).of(reply.headers["x-request-id"]))["status"] == 200
    written = Log(open_service).path.read_bytes()[len(before) :]
    assert written.count(b"\n") == 1
    assert all(32 <= byte < 127 for byte in written[:-1])
    assert not HOSTILE[kind] or HOSTILE[kind] not in written


async def test_of_several_ids_none_is_taken_and_routes_see_one(open_service: AnyService) -> None:
    ids = [("X-Request-Id", "a"), ("X-Request-Id", "b")]
    answer = await open_service.client.get("/livez", headers=ids)
    assert MADE.fullmatch(answer.headers["x-request-id"])
    seen: dict[str, Any] = {}

    async def app(scope: Any, *_: Any) -> None:
        seen.update(scope)

    async def nothing(*_: Any) -> Any: ...

    headers = [(b"x-request-id", b"a"), (b"host", b"x"), (b"x-request-id", b"\xff")]
    # As in Serve, where the server of a replica has it around everything, and the gateway once more.
    await RequestIds(RequestIds(app))({"type": "http", "headers": headers}, nothing, nothing)
    assert seen["headers"] == [(b"host", b"x"), (b"x-request-id", seen[REQUEST_ID].encode())]
    assert MADE.fullmatch(seen[REQUEST_ID])


async def test_two_requests_at_once_have_ids_of_their_own(open_service: AnyService) -> None:
    answers = await asyncio.gather(*(open_service.client.get("/livez") for _ in range(20)))
    assert len({answer.headers["x-request-id"] for answer in answers}) == 20


async def test_a_line_has_the_template_of_the_route_and_no_query(service: Service) -> None:
    asset_id = await service.upload(picture(1))
    query = {"signature": "SECRET-1", "api_key": "SECRET-2"}
    headers = {"X-Request-Id": "one", "User-Agent": "SECRET-3", "Referer": "SECRET-4", "Cookie": "SECRET-5"}
    await service.client.get(f"/api/v1/media/{asset_id}", params=query, headers=headers)
    await service.client.get(f"/v1/{asset_id}/SECRET-6", headers={"X-Request-Id": "two"})
    await service.client.request("BREW", "/api/v1/config", headers={"X-Request-Id": "three"})
    log = Log(service)
    one, two, three = [await log.of(each) for each in ("one", "two", "three")]
    assert (one["api"], one["route"], one["method"], one["status"]) == (
        "assets",
        "/api/v1/media/{asset_id}",
        "GET",
        200,
    )
    assert (two["api"], two["route"], two["status"]) == ("photos", None, 404)
    assert (three["method"], three["status"]) == ("OTHER", 405)
    text = log.path.read_text()
    assert asset_id not in text
    assert "SECRET" not in text


async def test_bytes_are_those_of_the_bodies(service: Service) -> None:
    data = picture(2)
    request = service.client.build_request(
        "POST", "/api/v1/upload-media", files={"file": ("a.png", data)}, headers={"X-Request-Id": "up"}
    )
    sent = await request.aread()
    answer = await service.client.send(request)
    asset_id = answer.json()["asset_id"]
    url = f"/api/v1/media/{asset_id}/content"
    await service.client.get(url, headers={"X-Request-Id": "whole"})
    await service.client.get(url, headers={"X-Request-Id": "part", "Range": "bytes=10-109"})
    await service.client.head(url, headers={"X-Request-Id": "head"})
    log = Log(service)
    up = await log.of("up")
    assert (up["bytes_in"], up["bytes_out"]) == (len(sent), len(answer.content))
    got = {each: await log.of(each) for each in ("whole", "part", "head")}
    assert {each: (line["status"], line["bytes_out"]) for each, line in got.items()} == {
        "whole": (200, len(data)),
        "part": (206, 100),
        "head": (200, 0),
    }
    assert {line["outcome"] for line in log.lines()} == {"sent"}


@BOTH
async def test_a_stream_is_logged_when_it_ends_with_what_its_client_took(service: Service, http: str) -> None:
    data = picture(3) + bytes(20_000_000)
    size = len(data)
    asset_id = await service.upload(data)
    log = Log(service)
    async with listening(service.app, http) as port:
        async with connected(port) as client:
            client.send(f"GET /api/v1/media/{asset_id}/content", "X-Request-Id: left")
            await client.reader.readexactly(100_000)
            assert all(line["request_id"] != "left" for line in log.lines())
        left = await log.of("left")
        async with connected(port) as client:
            reply = await client.ask(f"GET /api/v1/media/{asset_id}/content", "X-Request-Id: stayed")
            stayed = await log.of("stayed")
    assert len(reply.body) == size
    assert (stayed["status"], stayed["outcome"], stayed["bytes_out"]) == (200, "sent", size)
    assert (left["status"], left["outcome"]) == (200, "left")
    assert 100_000 <= left["bytes_out"] < size


async def test_a_client_that_leaves_in_its_body_is_499(service: Service) -> None:
    log = Log(service)
    await service.get("config")  # so that the keys, of which there are none, are known
    async with listening(service.app) as port, connected(port) as client, connected(port) as another:
        client.send("POST /api/v1/extract-features", "Content-Length: 1000", "X-Request-Id: body", body=b"x" * 100)
        await client.writer.drain()
        for _ in range(3):
            await another.ask("GET /livez")
    line = await log.of("body")
    assert (line["status"], line["outcome"], line["bytes_in"], line["bytes_out"]) == (499, "left", 100, 0)


async def test_an_error_in_the_middle_of_an_answer_breaks_it(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    asset_id = await service.upload(picture(4))

    async def broken(*_: Any, **__: Any) -> AsyncIterator[bytes]:
        yield b"x" * 50
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(service.context.objects, "stream", broken)
    async with listening(service.app) as port, httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{port}/api/v1/media/{asset_id}/content"
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(url, headers={"X-Request-Id": "broken", "Host": "test"})
    line = await Log(service).of("broken")
    assert (line["status"], line["outcome"], line["bytes_out"]) == (200, "broken", 50)


async def test_no_log_where_none_is_wanted(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(access_log="off")) as service:
        answer = await service.client.get("/livez")
        assert MADE.fullmatch(answer.headers["x-request-id"])
        assert not service.context.settings.logs.exists()
