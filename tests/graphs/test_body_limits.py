"""The cap of a body is that of the route that the router finds, for every route, method and way to write a path."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from configs.settings import Settings
from graphs.web import transfers
from graphs.web.api import find_apis
from graphs.web.gateway import build_app, open_context
from tests.graphs.harness import contracts_of, idle_handles, settings_in

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
CHUNK: Final = 64 * 1024
SMALL: Final[dict[str, int]] = {
    **dict.fromkeys(("max_image_bytes", "max_video_bytes", "max_audio_bytes", "max_analysis_bytes"), 300_000),
    **dict.fromkeys(("max_image_size_bytes", "max_muzzle_photo_bytes"), 100_000),
    "max_body_bytes": 200_000,
}


class Gateway:
    """An application with every API, and its routes in the order in which the router tries them."""

    def __init__(self, app: FastAPI, config: Settings) -> None:
        self.app, self.config = app, config
        self.routes = [
            (re.compile(route.path_regex.pattern), route.methods or set(), route.name or "", route.path or "")
            for route in iter_route_contexts(app.routes)
        ]

    def route(self, method: str, path: str) -> str | None:
        """The name of the route that takes a request."""
        wanted = "GET" if method == "HEAD" else method
        names = (name for regex, methods, name, _ in self.routes if regex.match(path) and wanted in methods)
        return next(names, None)

    def caps(self, name: str) -> set[int]:
        """The caps of the routes of this name."""
        apis = [api for api in find_apis().values() if name in api.routes]
        limits = [limit for api in apis if (limit := api.routes[name].max_body)]
        return {limit(self.config) for limit in limits} or {self.config.max_body_bytes}


@pytest.fixture(scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    with settings_in(tmp_path_factory.mktemp("limits"), **SMALL) as config:
        context = open_context(config, idle_handles())
        yield Gateway(build_app(context, list(find_apis())), config)
        await context.close()


def spellings(path: str) -> Iterator[str]:
    """Ways to write a path, and paths that only look like it."""
    for value in ("x", "upload-media", "video", "..", "a%2Fb", "%2e", ""):
        yield re.sub(r"\{[^}]*\}", value, path)
    plain = re.sub(r"\{[^}]*\}", "x", path)
    yield from (f"{plain}/", f"/{plain}", plain.replace("/", "//"), f"{plain}%2F", f"{plain}%00", f"{plain}%0A")
    yield from (
        f"/x{plain}",
        f"/api/v1{plain}",
        plain.upper(),
        f"{plain}/upload-media",
        f"{plain};a=b",
        f"{plain}.json",
    )
    yield f"/api/v1/identities{plain}"


async def test_the_contract_is_that_of_the_route_that_the_router_finds(gateway: Gateway) -> None:
    contracts = await contracts_of(gateway.config)
    checked = 0
    own = {"openapi", "swagger_ui_html", "swagger_ui_redirect", "redoc_html"}
    own |= {"health", "api_health", "livez", "readyz"}
    for written in dict.fromkeys(spelling for *_, path in gateway.routes for spelling in spellings(path)):
        path = unquote(written)
        for method in METHODS:
            name = gateway.route(method, path)
            contract = contracts.of({"type": "http", "method": method, "path": path})
            if name is None or name in own:
                assert (contract.is_route, contract.max_body) == (False, 0), (method, written)
            elif not path.endswith("\n"):  # which the router overlooks; such a body is not read
                assert contract.is_route, (method, written)
                assert contract.max_body in gateway.caps(name), (method, written, name)
            checked += 1
    assert checked > 10_000


async def read(app: FastAPI, method: str, path: str, head: list[tuple[bytes, bytes]]) -> tuple[int, int]:
    """The status, and how many bytes of an endless body were read for it."""
    status, size = 0, 0

    async def receive() -> dict[str, Any]:
        nonlocal size
        if status:
            return {"type": "http.disconnect"}
        size += CHUNK
        return {"type": "http.request", "body": bytes(CHUNK), "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("192.0.2.1", 1),
        "headers": head,
    }
    await app(scope, receive, send)  # type: ignore[arg-type]
    return status, size


@pytest.mark.parametrize("kind", [b"application/json", b"multipart/form-data; boundary=b", b"application/octet-stream"])
async def test_no_route_reads_more_than_its_cap(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, kind: bytes) -> None:
    monkeypatch.setattr(transfers, "MOST_DRAINED", 0)
    head = [(b"transfer-encoding", b"chunked"), (b"content-type", kind), (b"host", b"test")]
    for _, methods, name, route in gateway.routes:
        path = re.sub(r"\{[^}]*\}", "upload-media", route)
        caps = gateway.caps(name)
        for method in {*methods, "PATCH", "BREW"}:
            status, size = await read(gateway.app, method, path, head)
            if gateway.route(method, path) is None:
                assert (status in (404, 405), size) == (True, 0), (method, path)
            else:
                assert status >= 400 or name in ("livez", "docs") or size == 0, (method, path, status)
                assert size <= max(caps) + 2 * CHUNK, (method, path)


async def test_a_body_that_is_announced_as_too_long_is_not_read(gateway: Gateway) -> None:
    for _, methods, name, route in gateway.routes:
        path = re.sub(r"\{[^}]*\}", "x", route)
        if path in ("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc") or "health" in name or path[-1] == "z":
            continue
        for method in methods:
            length = str(max(gateway.caps(name)) + 1).encode()
            head = [(b"content-length", length), (b"content-type", b"application/json"), (b"host", b"test")]
            status, size = await read(gateway.app, method, path, head)
            assert (status in (413, 422), size) == (True, 0), (method, path, status)


async def test_the_patch_of_an_identity_called_upload_media_is_a_small_request(gateway: Gateway) -> None:
    contracts = await contracts_of(gateway.config)
    scope = {"type": "http", "method": "PATCH", "path": "/api/v1/identities/upload-media"}
    assert (contracts.of(scope).max_body, contracts.of(scope).reads) == (gateway.config.max_body_bytes, False)


@pytest.mark.parametrize("root", ["/vision", "/a/b"])
async def test_an_application_below_a_prefix_has_the_same_caps(gateway: Gateway, root: str) -> None:
    contracts = await contracts_of(gateway.config)
    for path in ("/api/v1/upload-media", "/v1/cluster", "/api/v1/identities/upload-media"):
        for method in ("POST", "PATCH"):
            below = {"type": "http", "method": method, "path": root + path, "root_path": root}
            assert contracts.of(below) == contracts.of({"type": "http", "method": method, "path": path})


async def test_other_scopes_than_requests_read_nothing(gateway: Gateway) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "websocket", "path": "/api/v1/upload-media", "headers": [], "query_string": b"", "root_path": ""}
    await gateway.app(scope, receive, send)  # type: ignore[arg-type]
    assert sent == ["websocket.close"]
