"""Where links lead: to a configured or allowed host, never where a request's own headers say."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from graphs.web.hosts import REMEMBERED
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.harness import every_api, listening, raw_reply
from tests.graphs.samples import picture

PUBLIC = "https://vision.example/base"
MALFORMED = [
    "",
    "a b",
    "user@localhost",
    "user:secret@127.0.0.1:8000",
    "localhost:99999",
    "localhost:0",
    "localhost:80:80",
    "localhost, evil.example",
    "localhost/../evil",
    "[::1",
    "[::1%25lo]",
    "evil.example@localhost",
    "\xff.example",
    "x" * 5000,
]
FORGED = ["evil.example", "169.254.169.254", "10.0.0.1:8000", "localhost.evil.example", "[fd00::1]", "0.0.0.0:8000"]


async def _link(service: Service, asset_id: str, headers: Sequence[tuple[str, str]] = ()) -> str:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    answer = await service.client.get(f"/api/v1/media/{asset_id}", headers=raw)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["public_url"])


def _path(asset_id: str) -> str:
    return f"/media/{asset_id}/content"


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("localhost", "http://localhost"),
        ("LOCALHOST:8000", "http://localhost:8000"),
        ("localhost.:8000", "http://localhost:8000"),
        ("127.0.0.1:80", "http://127.0.0.1"),
        ("[0:0::1]:9", "http://[::1]:9"),
        ("app.localhost", "http://app.localhost"),
        *((host, "") for host in FORGED),
    ],
)
async def test_a_link_follows_loopback_names_and_no_other(
    settings_for: MakeSettings, serve: Serve, host: str, base: str
) -> None:
    async with serve(settings_for(allowed_hosts="")) as service:
        asset_id = await service.upload(picture(1))
        link = await _link(service, asset_id, [("host", host)])
        assert link.removesuffix(_path(asset_id)).removesuffix("/api/v1") == base
        content = await service.client.get(link)
        assert content.content == picture(1)
        # What a client gets as a link it can also send as one.
        body = {"image_url": link}
        review = await service.client.post("/v1/analyze/llm", json=body, headers={"host": host})
        assert review.status_code == 200, review.text


async def test_the_log_says_once_what_to_set(
    settings_for: MakeSettings, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(settings_for(allowed_hosts="")) as service:
        caplog.clear()
        for number in range(50):
            for _ in range(2):
                await service.client.get("/config", headers={"host": f"{number}.example"})
    told = [record.getMessage() for record in caplog.records if "VISION_PUBLIC_URL" in record.getMessage()]
    assert set(told) == {message for message in told if told.count(message) == told.count(told[0])}
    assert len(set(told)) == REMEMBERED
    assert any("requests for 0.example have no host" in message for message in told)


@pytest.mark.parametrize("values", [{"allowed_hosts": ""}, {}, {"public_url": PUBLIC}])
async def test_a_malformed_host_is_refused(settings_for: MakeSettings, serve: Serve, values: dict[str, str]) -> None:
    async with serve(settings_for(**values)) as service:
        for host in MALFORMED:
            headers = [(b"host", host.encode("latin-1"))]
            for path in ("/api/v1/config", "/docs/", "/nothing"):
                answer = await service.client.get(path, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_HOST"), host
                for secret in ("127.0.0.1", "evil", "secret", "location"):
                    assert secret not in answer.text + str(answer.headers).lower()
            assert (await service.client.get("/health", headers=headers)).status_code == 200


async def test_a_request_has_one_host(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(allowed_hosts="")) as service:
        several = [(b"host", b"test"), (b"host", b"test")]
        assert (await service.client.get("/config", headers=several)).status_code == 400
        # RFC 9112, section 3.2: HTTP/1.1 needs one, HTTP/1.0 does not.
        async with listening(service.app, "httptools") as port:
            for version, status in ((b"1.1", b"400"), (b"1.0", b"200")):
                reply = await raw_reply(port, b"GET /config HTTP/" + version + b"\r\nConnection: close\r\n\r\n")
                assert reply.split()[1] == status
            for parser_line in (b"GET http://evil.example/docs/ HTTP/1.1", b"GET //evil.example/docs/ HTTP/1.1"):
                reply = await raw_reply(port, parser_line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert b"evil" not in reply.lower().partition(b"location:")[2].partition(b"\r\n")[0]


async def test_where_hosts_are_named_others_are_refused(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(allowed_hosts="vision.example, *.internal")) as service:
        for host in (*FORGED, "vision.example.evil", "evilvision.example", "internal"):
            answer = await service.client.get("/config", headers={"host": host})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_HOST")
            assert "VISION_ALLOWED_HOSTS" in answer.json()["error"]["message"]
            assert host not in answer.text
            assert (await service.client.get("/livez", headers={"host": host})).status_code == 200
        for allowed in ("vision.example", "VISION.example.:8000", "a.b.internal", "localhost:8000", "127.0.0.1"):
            assert (await service.client.get("/config", headers={"host": allowed})).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "evil.example", "10.0.0.1:8000"])
async def test_a_public_url_is_the_base_of_every_link(settings_for: MakeSettings, serve: Serve, host: str) -> None:
    async with serve(settings_for(public_url=f"{PUBLIC}/", allowed_hosts="")) as service:
        asset_id = await service.upload(picture(1))
        link = await _link(service, asset_id, [("host", host)])
        assert link == f"{PUBLIC}/api/v1{_path(asset_id)}"
        moved = await service.client.get("/docs/?a=b", headers={"host": host})
        assert (moved.status_code, moved.headers["location"]) == (307, f"{PUBLIC}/docs?a=b")
        page = await service.client.get("/docs", headers={"host": host})
        assert "url: '/base/openapi.json'" in page.text
        missing = await service.client.get("/nothing", headers={"host": host})
        assert "There is no route GET /nothing;" in missing.json()["error"]["message"]
        wrong = await service.client.put("/media/x", headers={"host": host})
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "DELETE, GET, HEAD")
        for sent in (link, urlsplit(link).path, urlsplit(link).path.removeprefix("/base")):
            review = await service.client.post("/v1/analyze/llm", json={"image_url": sent}, headers={"host": host})
            assert review.status_code == 200, (sent, review.text)


FORWARDED = [("x-forwarded-host", "vision.example"), ("x-forwarded-proto", "https")]


@pytest.mark.parametrize(
    ("proxies", "headers", "base"),
    [
        ("", FORWARDED, "http://test"),
        ("10.0.0.0/8", FORWARDED, "http://test"),
        ("127.0.0.1", FORWARDED, "https://vision.example"),
        ("127.0.0.1", [("x-forwarded-host", "test, vision.example:8443")], "http://vision.example:8443"),
        ("127.0.0.1", [("x-forwarded-proto", "http, https")], "https://test"),
        ("127.0.0.1", [("x-forwarded-proto", "javascript")], "http://test"),
        ("127.0.0.1", [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")], "http://test"),
    ],
)
async def test_what_is_forwarded_is_believed_from_trusted_proxies(
    settings_for: MakeSettings, serve: Serve, proxies: str, headers: list[tuple[str, str]], base: str
) -> None:
    config = settings_for(trusted_proxies=proxies, allowed_hosts="test, vision.example")
    async with serve(config) as service:
        asset_id = await service.upload(picture(1))
        link = await _link(service, asset_id, [("host", "test"), *headers])
        assert link == f"{base}/api/v1{_path(asset_id)}"


async def test_a_forwarded_host_has_to_be_allowed(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(trusted_proxies="127.0.0.1")) as service:
        for host in ("evil.example", "a b", "test, evil.example"):
            answer = await service.client.get("/config", headers={"x-forwarded-host": host})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_HOST")


@pytest.mark.parametrize("forwarded", ["https", "wss", "ws"])
async def test_a_scheme_that_a_stranger_forwards_is_not_that_of_links(
    settings_for: MakeSettings, serve: Serve, forwarded: str
) -> None:
    async with serve(settings_for()) as service:
        asset_id = await service.upload(picture(1))
        async with (
            listening(service.app) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            # uvicorn believes loopback, where Serve's own proxy is.
            answer = await client.get(f"/media/{asset_id}", headers={"x-forwarded-proto": forwarded})
            assert answer.json()["public_url"].startswith(f"http://127.0.0.1:{port}/")


async def test_a_query_of_any_bytes_gets_an_answer(settings_for: MakeSettings) -> None:
    async with every_api(settings_for()) as service:
        for path, status in (("/nothing", 404), ("/docs/", 307), ("/api/v1/shot-library", 200)):
            answer = await _asked(service, path, b"a=\xff\xfe b&\xc3")
            assert (answer["status"], b"text/plain" in dict(answer["headers"]).values()) == (status, False)


async def _asked(service: Any, path: str, query: bytes) -> dict[str, Any]:
    """The start of a response to a request that no client library sends."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [(b"host", b"test")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await service.app(scope, receive, send)
    return sent[0]
