"""What a stranger, or a key with too few scopes, tries: spellings of paths, methods, forged tokens, altered links."""

import hashlib
import hmac
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.routing import iter_route_contexts
from jwt.algorithms import RSAAlgorithm
from starlette.routing import Mount

from graphs.web import access, gateway
from graphs.web.access import ADMIN, ANY_KEY, Caller
from graphs.web.api import find_apis
from graphs.web.auth import OPEN_PATHS
from graphs.web.gateway import build_app, open_context
from stores.keys import new_key
from tests.graphs.conftest import MakeSettings, Serve
from tests.graphs.harness import contracts_of, every_api, idle_handles, listening, raw_reply
from tests.graphs.samples import picture
from tests.graphs.test_keys import ISSUER, SECRET, bearer, claims, issuer, key_id, make_key, upload

ENV = {"X-API-Key": "env-key"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of keys are seen with the next request."""
    monkeypatch.setattr(access, "FRESH_S", 0.0)
    monkeypatch.setattr(access, "RETRY_S", 0.0)


def spellings(path: str) -> Iterator[str]:
    """The path in ways that a router, a proxy or a check may take for the same one, or for another one."""
    yield from (path, path + "/", "/" + path, path.replace("/", "//"), path.upper(), path.replace("/", "%2F", 2))
    yield from (f"{path}{end}" for end in ("%0A", "%0D%0A", "%00", "%20", ";x=1", "%3F", "%23", "/.", "/%2e%2e/x"))
    yield from (f"/health/..{path}", f"/health/%2e%2e{path}", f"/docs{path}", f"{path}?path=/health")
    first = path.rpartition("/")[2][:1]
    yield path.removesuffix(path.rpartition("/")[2]) + f"%{ord(first or 'x'):02X}" + path.rpartition("/")[2][1:]


async def test_no_spelling_of_a_path_and_no_method_opens_a_route(settings_for: MakeSettings) -> None:
    async with every_api(settings_for(api_key="env-key")) as service:
        token, key = new_key("a test", ("nothing:read",))
        assert await service.context.stores.keys.insert(key)
        contracts, tried = await contracts_of(service.context.settings), 0
        for route in iter_route_contexts(service.app.routes):
            path = re.sub(r"{[^}]*}", "0" * 32, route.path or "")
            if path in OPEN_PATHS or not route.include_in_schema:  # those are the same routes once more
                continue
            any_key = contracts.at(min(route.methods or ()), route.path or "").scope == ANY_KEY
            for method in sorted({*(route.methods or ()), "HEAD"}):
                for spelling in spellings(path) if method != "HEAD" else (path,):
                    url = f"http://test{spelling}" if spelling.startswith("//") else spelling  # else it names a host
                    stranger = await service.client.request(method, url)
                    assert stranger.status_code == 401, (method, spelling, stranger.text)
                    if not any_key and ("?" in spelling or spelling == path or tried % 3 == 0):
                        held = await service.client.request(method, url, headers={"X-API-Key": token})
                        assert held.status_code in (307, 403, 404, 405), (method, spelling, held.text)
                    tried += 1
        assert tried > 1500


async def test_a_route_is_the_one_that_its_caller_was_judged_for(settings_for: MakeSettings) -> None:
    async with every_api(settings_for(api_key="env-key")) as service:
        photos = await _key(service, "photos:read")
        for path in ("/config", "/api/v1/config", "/api/v1/jobs", "/api/v1/shot-library", "/api/v1/identities"):
            assert (await service.client.get(path, headers=ENV)).status_code == 200
            assert (await service.client.get(path, headers=photos)).status_code == 403
            # Python's $ matches before a line feed at the end, and so does the router.
            for end in ("%0A", "%0a"):
                for headers in (photos, ENV):
                    assert (await service.client.get(path + end, headers=headers)).status_code == 404, path


async def test_headers_and_fields_that_name_another_method_or_path_do_nothing(
    settings_for: MakeSettings, serve: Serve
) -> None:
    async with serve(settings_for(api_key="env-key")) as service:
        asset_id = (await upload(service, ENV)).json()["asset_id"]
        reader = await make_key(service, "assets:read")
        for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            path = f"/media/{asset_id}?_method=DELETE&method=DELETE"
            answer = await service.client.get(path, headers={**reader, name: "DELETE"})
            assert answer.status_code == 200
            assert (await service.client.post(path, headers={**reader, name: "DELETE"})).status_code == 405
        for name in ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Forwarded-Path"):
            assert (await service.client.get("/config", headers={name: "/health"})).status_code == 401
            assert (await service.client.get("/health", headers={name: "/config"})).json().get("status")
        for place in ("api_key", "apikey", "key", "token", "access_token", "X-API-Key", "authorization"):
            sent = {place: "env-key"}
            assert (await service.client.get("/config", params=sent)).status_code == 401
            assert (await service.client.get("/config", headers={"Cookie": f"{place}=env-key"})).status_code == 401
            assert (await service.client.post("/upload-media", data=sent)).status_code == 401
        assert (await service.client.get("/config", auth=("env-key", "env-key"))).status_code == 401
        assert len(await service.context.documents.list_assets()) == 1


async def test_the_first_line_of_a_request_opens_nothing(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key="env-key")) as service, listening(service.app, "httptools") as port:
        for line in (
            *("GET http://test/config HTTP/1.1", "GET //health//../config HTTP/1.1", "GET /health/../config HTTP/1.1"),
            *("GET /config#/health HTTP/1.1", "GET /config?/health HTTP/1.1", "HEAD /config HTTP/1.1"),
            *("OPTIONS * HTTP/1.1", "TRACE /config HTTP/1.1", "get /config HTTP/1.1", "PROPFIND /config HTTP/1.1"),
        ):
            reply = await raw_reply(port, f"{line}\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
            assert reply.split()[1] in (b"400", b"401"), (line, reply[:200])
            assert b"threshold" not in reply


async def test_every_way_of_being_no_key_is_answered_alike(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key="env-key")) as service:
        valid = await make_key(service, "read")
        expired = await make_key(service, "read", expires_at=datetime.now(UTC) - timedelta(seconds=1))
        revoked = await make_key(service, "read")
        assert await service.context.stores.keys.revoke(key_id(revoked), datetime.now(UTC))
        token = valid["X-API-Key"]
        answers = []
        for guess in (
            *(expired["X-API-Key"], revoked["X-API-Key"], token[:-1], token + "A", token.swapcase()),
            *(
                f"vg_{key_id(valid)}_",
                f"vg_{key_id(valid)}",
                "vg__",
                "vg_unknown_secret",
                "env-ke",
                "\xff\xfe",
                "a" * 9000,
            ),
        ):
            answer = await service.client.get("/config", headers={"X-API-Key": guess.encode("latin-1")})
            assert answer.status_code == 401, guess
            answers.append({**answer.json()["error"], "timestamp": ""} | {"headers": len(answer.headers)})
        assert all(each == answers[0] for each in answers)


@pytest.mark.parametrize(
    ("scopes", "scope", "may"),
    [
        (("assets:read",), "assets:read", True),
        (("assets:read",), "assets:write", False),
        (("assets:write",), "assets:read", False),
        (("read",), "jobs:read", True),
        (("read",), ADMIN, False),
        (("read", "write"), ADMIN, False),
        ((ADMIN,), "muzzle:write", True),
        (
            ("ASSETS:READ", "assets:*", "*", "assets", "assets:", ":read", "assets:read assets:write"),
            "assets:read",
            False,
        ),
        (("photos:admin", "admin:read", "administrator"), ADMIN, False),
        (("media:read",), "assets:read", False),
    ],
)
def test_a_scope_is_itself_and_nothing_like_it(scopes: tuple[str, ...], scope: str, may: bool) -> None:
    assert Caller("x", frozenset(scopes)).may(scope) is may


def part(value: Mapping[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forged(header: Mapping[str, Any], secret: bytes | None, **changed: Any) -> str:
    """A token that no library would make."""
    text = f"{part({'typ': 'JWT', **header})}.{part(claims(**changed))}"
    signature = hmac.digest(secret, text.encode(), "sha256") if secret is not None else b""
    return f"{text}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize("shared", ["", SECRET])
async def test_forged_tokens(settings_for: MakeSettings, serve: Serve, shared: str) -> None:
    theirs, own = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    public = json.loads(RSAAlgorithm.to_jwk(theirs.public_key())) | {"kid": "1", "use": "sig"}
    mine = json.loads(RSAAlgorithm.to_jwk(own.public_key())) | {"kid": "1", "use": "sig"}
    secrets = [
        theirs.public_key().public_bytes(encoding, form)
        for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER)
        for form in (serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1)
    ] + [b"", b"\0", json.dumps(public).encode(), public["n"].encode()]
    async with issuer([public]) as (url, asked):
        config = settings_for(jwt_jwks_url=url, jwt_secret=shared, **ISSUER)
        async with serve(config) as service:

            async def status(token: str) -> int:
                return (await service.client.get("/config", headers=bearer(token))).status_code

            assert await status(jwt.encode(claims(), theirs, "RS256", headers={"kid": "1"})) == 200
            for secret in secrets:  # the public key in the place of the shared secret
                assert await status(forged({"alg": "HS256", "kid": "1"}, secret)) == 401
            for algorithm in (
                "none",
                "None",
                "NONE",
                "nOnE",
                "",
                None,
                0,
                ["RS256"],
                "HS384",
                "RS512",
                "ES256",
                "PS256",
            ):
                for secret in (None, SECRET.encode()):
                    if (algorithm, secret) != ("HS256", SECRET.encode()):
                        assert await status(forged({"alg": algorithm, "kid": "1"}, secret)) == 401, algorithm
            for header in (  # a key that the token brings itself
                {"jwk": mine, "kid": "1"},
                {"jku": "http://127.0.0.1:9/keys", "kid": "1"},
                {"x5u": "http://127.0.0.1:9/cert", "kid": "1"},
                {"kid": "../../../../dev/null"},
                {"kid": "1' OR '1'='1"},
                {"kid": "1", "crit": ["exp"]},
                {"kid": "1", "b64": False, "crit": ["b64"]},
            ):
                assert await status(jwt.encode(claims(), own, "RS256", headers=header)) == 401, header
            real = jwt.encode(claims(scope="photos:read"), theirs, "RS256", headers={"kid": "1"})
            head, _, signature = real.split(".")
            for payload in (claims(scope="admin"), claims(scope="photos:read", sub="root")):
                assert await status(f"{head}.{part(payload)}.{signature}") == 401
            for cut in (
                real[:-4],
                f"{head}.{part(claims())}.",
                "..",
                f"{real}.{signature}",
                real.replace(".", "..", 1),
            ):
                assert await status(cut) == 401
            for never in (float("inf"), float("nan"), True, []):
                assert await status(forged({"alg": "HS256"}, SECRET.encode(), exp=never)) == 401, never
            assert asked[0] <= 2


async def test_a_link_opens_what_it_was_signed_for_and_nothing_else(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key="env-key")) as service:
        signer = await make_key(service, "read", "write")
        first, second = [(await upload(service, signer, number)).json() for number in (1, 2)]
        parts = urlsplit(first["public_url"])
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}

        async def status(method: str = "GET", path: str = parts.path, **changed: str) -> int:
            sent = {**query, **changed}
            return (await service.client.request(method, path, params=sent)).status_code

        assert await status() == 200
        expires, signature = query["expires"], query["signature"]
        for number, letter in enumerate(signature):
            assert (
                await status(signature=signature[:number] + ("A" if letter != "A" else "B") + signature[number + 1 :])
                == 401
            )
        for changed in (
            *(
                {"signature": text}
                for text in ("", signature[:-1], signature + "A", signature + "=", signature.lower(), "é")
            ),
            *(
                {"expires": text}
                for text in ("", "0" + expires, "+" + expires, expires + "0", "-1", "1e12", "٣" * 10, expires + "\n")
            ),
            *(
                {"client": text}
                for text in ("", "anyone", key_id(signer).upper(), f"{key_id(signer)}\n{second['asset_id']}")
            ),
        ):
            assert await status(**changed) == 401, changed
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            assert await status(method, f"/media/{first['asset_id']}") == 401, method
        other = second["asset_id"]
        for path in (
            *(
                f"/media/{other}",
                f"/media/{other}/content",
                "/config",
                "/model-info",
                "/extract-features",
                "/v1/analyze",
            ),
            *(f"/media/{first['asset_id']}/../{other}/content", f"/media/{first['asset_id']}%2F..%2F{other}"),
        ):
            assert await status(path=path) in (401, 404), path
        # Twice the same parameter: which of them counts must not depend on who reads it.
        for name in query:
            doubled = f"{parts.path}?{parts.query}&{name}={quote(query[name])}"
            assert (await service.client.get(doubled)).status_code == 401


async def test_a_link_has_no_more_scopes_than_the_key_that_asked_for_it(settings_for: MakeSettings) -> None:
    async with every_api(settings_for(api_key="env-key")) as service:
        made = await service.client.post("/api/v1/upload-media", headers=ENV, files={"file": ("1.png", picture(1))})
        asset_id = made.json()["asset_id"]
        media = await _key(service, "media:read")
        answer = await service.client.post(f"/api/v1/file/{asset_id}/link", headers=media)
        query = urlsplit(answer.json()["url"]).query
        # A picture is no video, which only who was let in hears.
        assert (await service.client.get(f"/api/v1/file/{asset_id}?{query}")).status_code == 400
        for path in (f"/api/v1/media/{asset_id}", f"/api/v1/media/{asset_id}/content"):
            assert (await service.client.get(f"{path}?{query}")).status_code == 403
        elsewhere = await _key(service, "media:read", labels=("another",))
        assert (await service.client.post(f"/api/v1/file/{asset_id}/link", headers=elsewhere)).status_code == 404


async def test_links_of_a_service_without_keys_end_with_its_first_key(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for()) as service:
        asset_id = await service.upload(picture(1))
        link, _ = await service.context.access.signed(f"/media/{asset_id}", asset_id, 3600)
        assert (await service.client.get(link)).status_code == 200
        await make_key(service, "read")
        assert (await service.client.get(link)).status_code == 401


@pytest.mark.parametrize("label", ["../a", "a/b", "a\\b", "a\0", "a\n", "%2e%2e", "é", "a" * 65, "a b", "$ne", "{}"])
async def test_a_label_is_a_name(settings_for: MakeSettings, serve: Serve, label: str) -> None:
    async with serve(settings_for(api_key="env-key")) as service:
        assert (await upload(service, ENV, label=label)).status_code == 400


def test_keys_and_secrets_are_compared_by_digests_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    token, key = new_key("a test", ("read",))
    assert key.opens(token.encode(), datetime.now(UTC))
    assert not key.opens(token[:-1].encode() + b"~", datetime.now(UTC))
    assert {len(text) for pair in compared for text in pair} == {64}
    assert hashlib.sha256(token.encode()).hexdigest() in compared[0]
    assert token.rpartition("_")[2] not in repr(key)


async def test_what_has_no_scope_does_not_start(settings_for: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        raise NotImplementedError

    def route(app: FastAPI) -> None:
        app.add_api_route("/extra", nothing, methods=["GET"])

    def options(app: FastAPI) -> None:
        app.add_api_route("/extra", nothing, methods=["OPTIONS"])

    def router(app: FastAPI) -> None:
        extra = APIRouter()
        extra.add_api_route("/below", nothing, methods=["POST"])
        app.include_router(extra, prefix="/api/v1")

    def mounted(app: FastAPI) -> None:
        app.routes.append(Mount("/extra", app=nothing))

    def websocket(app: FastAPI) -> None:
        async def talk(socket: WebSocket) -> None:
            raise NotImplementedError

        app.add_api_websocket_route("/extra", talk)

    def another_method(app: FastAPI) -> None:
        app.add_api_route("/api/v1/config", nothing, methods=["POST"])

    context = open_context(settings_for(), idle_handles())
    mount = gateway.mount
    try:
        build_app(context, list(find_apis()))
        for add in (route, options, router, mounted, websocket, another_method):

            def with_more(app: FastAPI, *rest: Any, add: Any = add) -> Any:
                contracts = mount(app, *rest)
                add(app)
                return contracts

            monkeypatch.setattr(gateway, "mount", with_more)
            with pytest.raises(ValueError, match="nothing says which scope"):
                build_app(context, list(find_apis()))
            monkeypatch.setattr(gateway, "mount", mount)
    finally:
        await context.close()


async def _key(service: Any, *scopes: str, labels: tuple[str, ...] = ()) -> dict[str, str]:
    token, key = new_key("a test", scopes, labels=labels)
    assert await service.context.stores.keys.insert(key)
    return {"X-API-Key": token}
