"""Keys of the store, tokens of an issuer, signed links: what opens what, and what those without hear."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.responses import PlainTextResponse

from graphs.web import access
from graphs.web.access import ANY_KEY
from graphs.web.api import find_apis, scopes
from graphs.web.auth import KeyCheck
from stores.keys import RateClass, new_key
from stores.open import Stores
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.harness import contracts_of, every_api
from tests.graphs.samples import error_of, picture

DOCS = Path(__file__).parents[2] / "docs" / "access.md"
UPLOAD = "/api/v1/upload-media"


async def make_key(
    service: Service,
    *scopes: str,
    rate: RateClass = "standard",
    labels: tuple[str, ...] = (),
    expires_at: datetime | None = None,
) -> dict[str, str]:
    """Headers with a new key."""
    token, key = new_key("a test", scopes, rate=rate, labels=labels, expires_at=expires_at)
    assert await service.context.stores.keys.insert(key)
    return {"X-API-Key": token}


def key_id(headers: Mapping[str, str]) -> str:
    return headers["X-API-Key"].split("_")[1]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of keys are seen with the next request."""
    monkeypatch.setattr(access, "FRESH_S", 0.0)
    monkeypatch.setattr(access, "RETRY_S", 0.0)


async def upload(service: Service, headers: Mapping[str, str], number: int = 1, **fields: str) -> Any:
    files = {"file": (f"{number}.png", picture(number))}
    return await service.client.post(UPLOAD, headers=dict(headers), files=files, data=fields)


async def test_the_first_key_closes_a_service_and_no_revocation_opens_it_again(
    settings_for: MakeSettings, serve: Serve
) -> None:
    async with serve(settings_for()) as service:
        assert (await service.client.get("/config")).status_code == 200
        headers = await make_key(service, "read")
        error_of(await service.client.get("/config"), 401, "UNAUTHORIZED")
        assert (await service.client.get("/config", headers=headers)).status_code == 200
        document = (await service.client.get("/openapi.json")).json()
        assert document["paths"]["/api/v1/config"]["get"]["security"] == [
            {"key": ["assets:read"]},
            {"bearer": ["assets:read"]},
        ]
        assert await service.context.stores.keys.revoke(key_id(headers), datetime.now(UTC))
        for sent in ({}, headers):
            error_of(await service.client.get("/config", headers=sent), 401, "UNAUTHORIZED")


async def test_the_first_requests_may_come_at_once(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for()) as service:
        answers = await asyncio.gather(*(service.client.get("/config") for _ in range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20


async def test_a_key_does_what_its_scopes_say_and_hears_which_one_is_missing(
    settings_for: MakeSettings, serve: Serve
) -> None:
    async with serve(settings_for(api_key="env-key")) as service:
        read, write = await make_key(service, "assets:read"), await make_key(service, "assets:write")
        everything, other = await make_key(service, "read", "write"), await make_key(service, "photos:read")
        admin = await make_key(service, "admin")
        stored = await upload(service, write)
        assert stored.status_code == 200
        asset_id = stored.json()["asset_id"]
        for headers, status in ((read, 200), (write, 403), (everything, 200), (other, 403), (admin, 200)):
            assert (await service.client.get(f"/media/{asset_id}", headers=headers)).status_code == status
        refused = await upload(service, read, 2)
        error = error_of(refused, 403, "FORBIDDEN")
        assert error["message"] == "Your key lacks the scope assets:write."
        assert refused.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="assets:write"'
        # Asking with POST for what is stored is reading.
        found = await service.client.post("/find-best-match", headers=read, json={})
        assert found.status_code == 422
        for headers, status in ((everything, 403), (admin, 200), ({"X-API-Key": "env-key"}, 200)):
            body = {"threshold": 80}
            answer = await service.client.put("/config/similarity-threshold", headers=headers, json=body)
            assert answer.status_code == status, answer.text
        expired = await make_key(service, "read", expires_at=datetime.now(UTC) - timedelta(seconds=1))
        error_of(await service.client.get("/config", headers=expired), 401, "UNAUTHORIZED")


async def test_a_key_held_to_labels_sees_no_other_file(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key="env-key")) as service:
        env, held = {"X-API-Key": "env-key"}, await make_key(service, "read", "write", labels=("shoot-7",))
        own = await upload(service, held, 1)
        assert own.status_code == 200
        mine, theirs = own.json()["asset_id"], (await upload(service, env, 2)).json()["asset_id"]
        shared = (await upload(service, env, 3, label="shoot-7")).json()["asset_id"]
        for each, status in ((mine, 200), (theirs, 404), (shared, 200)):
            assert (await service.client.get(f"/media/{each}", headers=held)).status_code == status
        error = error_of(await upload(service, held, 4, label="shoot-8"), 400, "INVALID_INPUT")
        assert "shoot-7" in error["message"]
        error_of(await upload(service, env, 4, label="a b"), 400, "INVALID_INPUT")
        error = error_of(await service.client.get("/config", headers=held), 403, "FORBIDDEN")
        assert "held to single files" in error["message"]
        # Bytes that are there already are labelled by sending them again.
        assert (await upload(service, held, 2)).status_code == 200
        assert (await service.client.get(f"/media/{theirs}", headers=held)).status_code == 200


async def test_a_link_opens_one_file_for_reading_until_it_expires_or_its_key_does(
    settings_for: MakeSettings, serve: Serve
) -> None:
    async with serve(settings_for(api_key="env-key")) as service:
        headers = await make_key(service, "read", "write")
        first, second = [(await upload(service, headers, number)).json() for number in (1, 2)]
        url = first["public_url"]
        assert set(parse_qs(urlsplit(url).query)) == {"expires", "client", "signature"}
        assert headers["X-API-Key"] not in url
        content = await service.client.get(url)
        assert (content.status_code, content.content) == (200, picture(1))
        assert (await service.client.head(url)).status_code == 200
        facts = await service.client.get(url.replace("/content", ""))
        assert facts.json()["asset_id"] == first["asset_id"]
        for tampered in (
            url.replace(first["asset_id"], second["asset_id"]),
            url[:-2] + ("AA" if not url.endswith("AA") else "BB"),
            url.replace("expires=", "expires=9"),
            url + "&expires=99999999999",
            f"/api/v1/config?{urlsplit(url).query}",
        ):
            error_of(await service.client.get(tampered), 401, "UNAUTHORIZED")
        error_of(await service.client.delete(url.replace("/content", "")), 401, "UNAUTHORIZED")
        past = int(time.time()) - 1
        signature = service.context.access._signature(key_id(headers), first["asset_id"], str(past))
        old = f"/media/{first['asset_id']}?expires={past}&client={key_id(headers)}&signature={signature}"
        error_of(await service.client.get(old), 401, "UNAUTHORIZED")
        await service.context.stores.keys.revoke(key_id(headers), datetime.now(UTC))
        error_of(await service.client.get(url), 401, "UNAUTHORIZED")


async def test_links_are_made_for_whatever_lies_below_a_file(settings_for: MakeSettings) -> None:
    async with every_api(settings_for(api_key="env-key")) as service:
        env = {"X-API-Key": "env-key"}
        files = {"file": ("1.png", picture(1))}
        asset_id = (await service.client.post(UPLOAD, headers=env, files=files)).json()["asset_id"]
        route = f"/api/v1/file/{asset_id}/link"
        answer = (await service.client.post(route, headers=env, json={"path": "thumbnail?frame=3"})).json()
        assert answer["url"].startswith(f"http://test/api/v1/file/{asset_id}/thumbnail?frame=3&expires=")
        # A picture is no video, which only who was let in hears.
        assert (await service.client.get(answer["url"])).status_code == 400
        left = datetime.fromisoformat(answer["expires_at"]) - datetime.now(UTC)
        assert timedelta(minutes=59) < left <= timedelta(hours=1)
        for body in ({"path": "http://evil/"}, {"path": "a b"}, {"expires_in_s": 0}, {"expires_in_s": 10**7}):
            assert (await service.client.post(route, headers=env, json=body)).status_code == 400, body
        assert (await service.client.post(f"/api/v1/file/{'f' * 32}/link", headers=env)).status_code == 404
        assert (await service.client.post(route)).status_code == 401


async def test_no_cache_gives_the_answer_to_one_key_to_anybody_else(settings_for: MakeSettings) -> None:
    async def kept(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("x", headers={"cache-control": "public, max-age=9"})(scope, receive, send)

    seen = []
    for api_key in ("", "env-key"):
        config = settings_for(api_key=api_key)
        stores = Stores.open(config)
        app = KeyCheck(kept, access.Access(config, stores.keys), await contracts_of(config))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answer = await client.get("/config", headers={"x-api-key": "env-key"})
        seen.append(answer.headers["cache-control"])
        await stores.close()
    assert seen == ["public, max-age=9", "private, max-age=9"]


async def test_rate_classes(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key="env-key", rate_limit_enabled=True)) as service:
        usual, high = await make_key(service, "read"), await make_key(service, "read", rate="high")
        unlimited = await make_key(service, "read", rate="unlimited")
        limits = [
            (await service.client.get("/config", headers=headers)).headers.get("x-ratelimit-limit")
            for headers in (usual, high, unlimited)
        ]
        assert limits == ["100", "1000", None]


async def test_a_service_that_others_reach_answers_nobody_without_keys(
    settings_for: MakeSettings, serve: Serve
) -> None:
    async with serve(settings_for()) as service:
        service.context.access.refuses_everyone = True
        error = error_of(await service.client.get("/config"), 401, "UNAUTHORIZED")
        assert "visiongraph keys create" in error["message"]
        assert (await service.client.get("/livez")).status_code == 200
        headers = await make_key(service, "read")
        assert (await service.client.get("/config", headers=headers)).status_code == 200


ISSUER = {"jwt_audience": "visiongraph", "jwt_issuer": "https://login.example"}
SECRET = "a secret of at least 32 characters"


def claims(**changed: Any) -> dict[str, Any]:
    usual = {"sub": "ann", "aud": "visiongraph", "iss": "https://login.example", "exp": time.time() + 60}
    return {name: value for name, value in (usual | {"scope": "assets:read"} | changed).items() if value is not None}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_tokens_with_a_shared_secret(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(jwt_secret=SECRET, **ISSUER)) as service:

        async def status(key: Any = SECRET, algorithm: str = "HS256", **changed: Any) -> int:
            token = jwt.encode(claims(**changed), key, algorithm=algorithm)
            return (await service.client.get("/config", headers=bearer(token))).status_code

        assert await status() == 200
        assert await status(scope="photos:read assets:read openid") == 200
        assert await status(scope=None, scp=["read"]) == 200
        assert [await status(scope=scope) for scope in ("assets:write", "", None, 7)] == [403] * 4
        for changed in (
            *({"exp": time.time() - 60}, {"exp": None}, {"aud": "another"}, {"iss": "https://evil"}, {"sub": None}),
            *({"nbf": time.time() + 60}, {"aud": None}),
        ):
            assert await status(**changed) == 401, changed
        assert await status(key="another secret of 32 characters!!") == 401
        assert await status(key=2 * SECRET, algorithm="HS512") == 401
        unsigned = jwt.encode(claims(), None, algorithm="none")
        assert (await service.client.get("/config", headers=bearer(unsigned))).status_code == 401
        rsa_key = rsa.generate_private_key(65537, 2048)
        assert await status(rsa_key, "RS256") == 401  # no public keys are known
        assert (await service.client.get("/config", headers=bearer("a.b.c"))).status_code == 401
        assert (await service.client.get("/config")).status_code == 401


@asynccontextmanager
async def issuer(keys: list[dict[str, Any]]) -> AsyncIterator[tuple[str, list[int]]]:
    """URL of a server with these public keys, and how often it was asked."""
    asked = [0]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked[0] += 1
        body = json.dumps({"keys": keys}).encode()
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys", asked


async def test_tokens_of_an_issuer_that_publishes_keys(settings_for: MakeSettings, serve: Serve) -> None:
    first, second = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    published = [json.loads(RSAAlgorithm.to_jwk(first.public_key())) | {"kid": "1", "use": "sig"}]
    async with issuer(published) as (url, asked), serve(settings_for(jwt_jwks_url=url, **ISSUER)) as service:

        async def status(key: rsa.RSAPrivateKey, kid: str) -> int:
            token = jwt.encode(claims(), key, algorithm="RS256", headers={"kid": kid})
            return (await service.client.get("/config", headers=bearer(token))).status_code

        assert [await status(first, "1"), await status(first, "1"), await status(second, "1")] == [200, 200, 401]
        assert asked == [1]
        published.append(json.loads(RSAAlgorithm.to_jwk(second.public_key())) | {"kid": "2"})
        assert await status(second, "2") == 200  # asked again for a key that it did not know
        assert [await status(second, "3") for _ in range(5)] == [401] * 5
        assert asked == [2]
        # A public key is no shared secret (the attack on verifiers that believe the header).
        pem = jwt.encode(claims(), "x" * 32, algorithm="HS256", headers={"kid": "1"})
        assert (await service.client.get("/config", headers=bearer(pem))).status_code == 401


async def test_an_issuer_that_does_not_answer_is_no_fault_of_the_token(
    settings_for: MakeSettings, serve: Serve
) -> None:
    key = rsa.generate_private_key(65537, 2048)
    nowhere = "http://127.0.0.1:9/keys"
    async with serve(settings_for(jwt_jwks_url=nowhere, api_key="env-key", **ISSUER)) as service:
        token = jwt.encode(claims(), key, algorithm="RS256", headers={"kid": "1"})
        answer = await service.client.get("/config", headers=bearer(token))
        error_of(answer, 503, "AUTHENTICATION_UNAVAILABLE")
        assert (await service.client.get("/config", headers={"X-API-Key": "env-key"})).status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        {"jwt_audience": "a"},
        {"jwt_secret": SECRET},
        {"jwt_audience": "a", "jwt_issuer": "b"},
        {**ISSUER, "jwt_secret": "short"},
        {**ISSUER, "jwt_jwks_url": "http://login.example/keys"},
        {**ISSUER, "jwt_jwks_url": "file:///etc/passwd"},
    ],
)
def test_half_an_issuer_is_refused(settings_for: MakeSettings, given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"JWT_|tokens need"):
        settings_for(**given)


async def test_every_route_has_a_scope_and_the_page_says_which(settings_for: MakeSettings) -> None:
    contracts = await contracts_of(settings_for())
    document = json.loads((Path(__file__).parents[1] / "contract" / "openapi.json").read_text())
    rows = []
    for path, operations in document["paths"].items():
        for method in operations:
            contract = contracts.at(method.upper(), path)
            if contract.scope:
                rows.append((contract.scope, f"`{method.upper()} {path}`"))
            else:
                assert path in ("/health", "/livez", "/readyz"), path
    assert {scope for scope, _ in rows} <= {*scopes(), ANY_KEY}
    scoped = {name for name, api in find_apis().items() if api.scoped}
    assert {scope.partition(":")[0] for scope, _ in rows} == scoped | {"admin", ANY_KEY}
    by_scope = {scope: [route for other, route in rows if other == scope] for scope in sorted({s for s, _ in rows})}
    table = "\n".join(f"| `{scope}` | {', '.join(routes)} |" for scope, routes in by_scope.items())
    assert table in DOCS.read_text(), table


async def test_the_console_opens_without_a_key_and_shows_nothing_of_anybody(
    settings_for: MakeSettings, serve: Serve
) -> None:
    async with every_api(settings_for(api_key="env-key")) as service:
        for path in ("/console", "/console/main.js", "/console/console.css"):
            answer = await service.client.get(path)
            assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
            policy = answer.headers["content-security-policy"]
            assert "unsafe" not in policy
            assert "http" not in policy
            again = await service.client.get(path, headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        assert (await service.client.get("/", follow_redirects=False)).headers["location"] == "/console"
        assert (await service.client.get("/console/api.py")).status_code == 404
        assert (await service.client.get("/console/..%2fapi.py")).status_code in (401, 404)
        assert (await service.client.get("/api/v1/assets")).status_code == 401
