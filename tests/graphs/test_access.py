"""Keys: which requests need one, and what those without hear."""

import json

import httpx
import pytest
from starlette.responses import PlainTextResponse

from configs.settings import Settings
from graphs.web.access import Access
from graphs.web.auth import KeyCheck
from stores.open import Stores
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.harness import contracts_of
from tests.graphs.samples import error_of, picture

KEYS = "first-key, second key,"
RIGHT = [
    {"X-Api-Key": "first-key"},
    {"x-api-key": "second key"},
    {"X-API-KEY": " first-key "},
    {"Authorization": "Bearer first-key"},
    {"authorization": "bearer second key"},
    {"Authorization": "Basic abc", "X-API-Key": "first-key"},
    {"Authorization": "Bearer first-key", "X-API-Key": "an old one"},
]
WRONG = [
    {},
    {"X-Api-Key": ""},
    {"X-Api-Key": "third-key"},
    {"X-Api-Key": "first-key, second key"},
    {"X-Api-Key": "first-key2"},
    {"X-Api-Key": "FIRST-KEY"},
    {"Authorization": "first-key"},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": "Basic first-key"},
    {"Cookie": "X-Api-Key=first-key"},
]


async def test_a_key_opens_every_route(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key=KEYS)) as service:
        for headers in RIGHT:
            for path in ("/config", "/api/v1/config"):
                assert (await service.client.get(path, headers=headers)).status_code == 200, headers
        for headers in WRONG:
            for method, path in [("GET", "/config"), ("POST", "/api/v1/upload-media"), ("GET", "/nothing")]:
                answer = await service.client.request(method, path, headers=headers)
                error = error_of(answer, 401, "UNAUTHORIZED")
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "first" not in json.dumps(error)
        upload = {"file": ("a.png", picture(1))}
        answer = await service.client.post("/upload-media?api_key=first-key", files=upload)
        error_of(answer, 401, "UNAUTHORIZED")
        assert await service.context.documents.list_assets() == []


async def test_health_and_documentation_are_open(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key=KEYS)) as service:
        for path in ("/health", "/api/v1/health", "/v1/health", "/livez", "/readyz"):
            assert (await service.client.get(path)).status_code == 200, path
        for path in ("/docs", "/redoc", "/openapi.json"):
            assert (await service.client.get(path)).status_code == 200, path
        for path in ("/model-info", "/health/", "//health", "/HEALTH", "/docs/../config", "/livez/x"):
            assert (await service.client.get(path)).status_code == 401, path


async def test_the_documentation_asks_for_a_key(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key=KEYS)) as service:
        document = (await service.client.get("/openapi.json")).json()
        assert (await service.client.get("/openapi.json")).json() == document
    assert document["components"]["securitySchemes"] == {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    operations = {path: [*methods.values()] for path, methods in document["paths"].items()}
    opened = {path for path, each in operations.items() if not all(operation["security"] for operation in each)}
    assert opened == {"/health", "/livez", "/readyz"}


async def test_without_keys_the_documentation_asks_for_none(refusing: Service) -> None:
    document = (await refusing.client.get("/openapi.json")).json()
    assert "security" not in document
    assert "securitySchemes" not in document["components"]


async def test_without_keys_anyone_may_call(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key="")) as service:
        for headers in (*RIGHT, *WRONG):
            assert (await service.client.get("/config", headers=headers)).status_code == 200


async def test_each_api_refuses_in_its_own_words(settings_for: MakeSettings) -> None:
    config = settings_for(api_key=KEYS)
    stores = Stores.open(config)
    contracts = await contracts_of(config, "photos", "muzzle", "authenticity")
    checked = KeyCheck(PlainTextResponse("ok"), Access(config, stores.keys), contracts)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(checked), base_url="http://test") as client:
        photos, muzzle, authenticity = [
            await client.post(path) for path in ("/v1/analyze", "/predict/file", "/api/v1/analyze/image/")
        ]
        assert (await client.post("/v1/analyze", headers=RIGHT[0])).text == "ok"
    message = photos.json()["message"]
    assert photos.json() == {"error": "unauthorized", "message": message}
    assert muzzle.json() == authenticity.json() == {"detail": message}
    assert {answer.status_code for answer in (photos, muzzle, authenticity)} == {401}
    await stores.close()


@pytest.mark.parametrize("keys", [",", " ", " , ,"])
def test_a_setting_without_a_key_in_it_opens_nothing(settings_for: MakeSettings, keys: str) -> None:
    with pytest.raises(ValueError, match="API_KEY") as caught:
        settings_for(api_key=keys)
    assert "no key in it" in str(caught.value)


def test_keys_are_not_shown(settings_for: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings_for(api_key="s3cret-key")
    assert config.api_keys == ("s3cret-key",)
    assert "s3cret" not in repr(config)
    monkeypatch.setenv("VISION_MAX_IMAGE_BITES", "1")
    with pytest.raises(ValueError, match="VISION_MAX_IMAGE_BITES") as caught:
        Settings()
    assert "s3cret" not in str(caught.value)
