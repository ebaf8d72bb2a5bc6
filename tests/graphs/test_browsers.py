"""What browsers ask of a service: CORS for pages of other origins, and headers that keep strangers' bytes harmless."""

import pytest

from graphs.web.headers import EXPOSED, SECURITY
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.harness import every_api
from tests.graphs.samples import picture

PAGE, OTHER = "https://app.example", "https://evil.example"
UNKNOWN = "0" * 32
ALLOWED = "access-control-allow-origin"
USUAL = {name.decode(): value.decode() for name, value in SECURITY.items()}


def preflight(method: str = "POST", origin: str = PAGE, **headers: str) -> dict[str, str]:
    return {"origin": origin, "access-control-request-method": method, **headers}


async def test_without_the_setting_no_page_may_call(service: Service) -> None:
    answer = await service.client.get("/config", headers={"origin": PAGE})
    assert (answer.status_code, [name for name in answer.headers if name.startswith("access-control")]) == (200, [])
    refused = await service.client.options("/config", headers=preflight("GET"))
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert ALLOWED not in refused.headers


async def test_a_page_of_an_allowed_origin_may_call_and_read(settings_for: MakeSettings, serve: Serve) -> None:
    config = settings_for(cors_origins=f"{PAGE}, http://localhost:3000", rate_limit_enabled=True)
    async with serve(config) as service:
        for origin in (PAGE, "http://localhost:3000"):
            before = await service.client.options("/api/v1/upload-media", headers=preflight(origin=origin))
            assert (before.status_code, before.content) == (204, b"")
            assert (before.headers[ALLOWED], before.headers["access-control-allow-methods"]) == (origin, "POST")
            sent = {"file": ("a.png", picture(1))}
            answer = await service.client.post("/api/v1/upload-media", files=sent, headers={"origin": origin})
            assert (answer.status_code, answer.headers[ALLOWED]) == (200, origin)
            assert set(EXPOSED) == set(answer.headers["access-control-expose-headers"].split(", "))
            assert {"X-RateLimit-Remaining", "Content-Range", "ETag", "Retry-After"} < set(EXPOSED)
            assert "access-control-allow-credentials" not in answer.headers
            assert "Origin" in answer.headers["vary"]
        own = await service.client.get("/config")
        assert (ALLOWED in own.headers, own.headers["vary"]) == (False, "Origin")


@pytest.mark.parametrize("origin", [OTHER, "null", f"{PAGE}.evil", "http://app.example", f"{PAGE}:8443", "app.example"])
async def test_a_page_of_any_other_origin_may_not(settings_for: MakeSettings, serve: Serve, origin: str) -> None:
    async with serve(settings_for(cors_origins=PAGE)) as service:
        refused = await service.client.options("/config", headers=preflight("GET", origin))
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "CORS_REFUSED")
        assert "VISION_CORS_ORIGINS" in refused.json()["error"]["message"]
        answer = await service.client.get("/config", headers={"origin": origin})
        for each in (refused, answer):
            assert (ALLOWED in each.headers, "Origin" in each.headers["vary"]) == (False, True)


async def test_a_preflight_has_no_key_and_the_request_after_it_has(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(cors_origins=PAGE, api_key="secret")) as service:
        asked = preflight("GET", **{"access-control-request-headers": "x-api-key, range, traceparent"})
        before = await service.client.options("/api/v1/config", headers=asked)
        assert (before.status_code, before.headers[ALLOWED]) == (204, PAGE)
        assert before.headers["access-control-allow-headers"] == "x-api-key, range, traceparent"
        with_key = await service.client.get("/api/v1/config", headers={"origin": PAGE, "x-api-key": "secret"})
        without = await service.client.get("/api/v1/config", headers={"origin": PAGE})
        assert (with_key.status_code, without.status_code) == (200, 401)
        assert with_key.headers[ALLOWED] == without.headers[ALLOWED] == PAGE


async def test_every_failure_can_be_read_by_the_page(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings_for(cors_origins=PAGE, max_body_bytes=100)
    async with serve(config) as service:

        async def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(service.context.documents, "get_asset", broken, raising=False)
        headers = {"origin": PAGE}
        answers = {
            404: await service.client.get("/nothing", headers=headers),
            405: await service.client.put("/config", headers=headers),
            413: await service.client.post("/batch-similarity", content=b"x" * 200, headers=headers),
            422: await service.client.post("/batch-similarity", json={}, headers=headers),
            400: await service.client.get("/config", headers={**headers, "host": "a b"}),
        }
        monkeypatch.setattr(type(service.context.states), "stages", broken)
        answers[500] = await service.client.get("/api/v1/model-info", headers=headers)
        for status, answer in answers.items():
            assert (answer.status_code, answer.headers[ALLOWED]) == (status, PAGE)
            assert answer.headers["content-type"] == "application/json"
            assert USUAL.items() <= dict(answer.headers).items()


async def test_too_many_requests_of_a_page(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(cors_origins=PAGE, rate_limit_enabled=True, rate_limit_burst=1)) as service:
        answers = [await service.client.post("/v1/analyze", json={}, headers={"origin": PAGE}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [422, 429]
        for answer in answers:
            assert (answer.headers[ALLOWED], answer.headers["x-ratelimit-limit"]) == (PAGE, "60")
        assert {"retry-after", *USUAL} <= set(answers[1].headers)
        # Preflights are not counted: they were not sent by whoever wrote the page.
        for _ in range(5):
            assert (await service.client.options("/v1/analyze", headers=preflight())).status_code == 204


async def test_every_origin_may_call_but_never_with_credentials(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(cors_origins="*")) as service:
        for answer in (
            await service.client.options("/config", headers=preflight("GET", OTHER)),
            await service.client.get("/config", headers={"origin": OTHER, "cookie": "a=b"}),
        ):
            assert (answer.headers[ALLOWED], "access-control-allow-credentials" in answer.headers) == ("*", False)


async def test_the_browser_client_of_the_authenticity_contract(settings_for: MakeSettings) -> None:
    """``fetch(`${API_BASE}/analyze/image/`, {method: "POST", body: formData})`` needs no preflight, and can be read."""
    async with every_api(settings_for(cors_origins=PAGE)) as service:
        sent = {"file": ("a.txt", b"no picture")}
        answer = await service.client.post("/api/v1/analyze/image/", files=sent, headers={"origin": PAGE})
        assert (answer.status_code, answer.headers[ALLOWED]) == (400, PAGE)
        assert "Unsupported file type" in answer.json()["detail"]
        before = await service.client.options("/api/v1/analyze/image/", headers=preflight())
        assert (before.status_code, before.headers["access-control-allow-methods"]) == (204, "POST")
        unknown = await service.client.options("/api/v1/analyze/nothing", headers=preflight(origin=OTHER))
        assert unknown.json() == {"detail": unknown.json()["detail"]}  # in the words of its API


async def test_every_kind_of_answer_has_the_headers(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key="secret", max_body_bytes=100)) as service:
        key = {"x-api-key": "secret"}
        sent = {"file": ("a.png", picture(1))}
        upload = await service.client.post("/upload-media", files=sent, headers=key)
        content = f"/media/{upload.json()['asset_id']}/content"
        answers = [
            upload,
            await service.client.get("/livez"),
            await service.client.get("/openapi.json"),
            await service.client.get("/docs/", headers=key),
            await service.client.get("/config"),
            await service.client.get("/config", headers=key),
            await service.client.head("/config", headers=key),
            await service.client.get("/nothing", headers=key),
            await service.client.options("/config", headers=key),
            await service.client.post("/batch-similarity", content=b"x" * 200, headers=key),
            await service.client.get(f"/media/{UNKNOWN}", headers=key),
        ]
        assert [each.status_code for each in answers] == [200, 200, 200, 307, 401, 200, 200, 404, 405, 413, 404]
        for answer in answers:
            assert USUAL.items() <= dict(answer.headers).items(), answer.request
            assert "server" not in answer.headers
        for headers in ({}, {"range": "bytes=0-9"}, {"range": "bytes=99999999-"}, {"if-none-match": "*"}):
            file = await service.client.get(content, headers={**key, **headers})
            assert "default-src 'none'" in file.headers["content-security-policy"]
            assert {**USUAL, "content-security-policy": ""}.keys() <= file.headers.keys()
            assert len(file.headers.get_list("x-content-type-options")) == 1
            if file.status_code in (200, 206):
                assert "sandbox" in file.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_documentation_may_load_what_it_shows_and_no_more(refusing: Service, path: str) -> None:
    page = await refusing.client.get(path)
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    for source in (part.split('"')[0] for part in page.text.split('src="')[1:]):
        assert source.startswith("https://cdn.jsdelivr.net/")
    assert "https://cdn.jsdelivr.net" in policy["script-src"]
    assert "*" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"


async def test_a_bug_is_answered_once_in_json_and_not_raised_into_the_server(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(type(service.context.states), "stages", broken)
    # The transport would raise what the application raises.
    service.client._transport.raise_app_exceptions = True  # type: ignore[attr-defined]
    answer = await service.client.get("/api/v1/model-info")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "PROCESSING_FAILED")
    assert USUAL.items() <= dict(answer.headers).items()
