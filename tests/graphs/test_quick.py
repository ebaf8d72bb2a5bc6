"""Routes that are answered past FastAPI: the same answers, for every form of a request."""

import json
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.responses import Response

from graphs.assets.media import AssetRef
from graphs.web.quick import QuickRoutes
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import audio, error_of, picture

JSON = {"content-type": "application/json"}
FORMS: dict[str, dict[str, Any]] = {
    "json": {},
    "a charset": {"headers": {"content-type": "application/json; charset=utf-8"}},
    "a JSON type": {"headers": {"content-type": "application/vnd.api+json"}},
    "more fields": {"more": {"nested": [1, {"a": None}]}},
    "blanks around it": {"before": b" \n", "after": b"\n "},
    "the id in the query as well": {"query": "?asset_id=of-another"},
}


@pytest.fixture
def passed_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were not answered quickly."""
    paths: list[str] = []
    original = QuickRoutes._of

    def of(self: QuickRoutes, scope: Any) -> Any:
        found = original(self, scope)
        if found is None:
            paths.append(scope["path"])
        return found

    monkeypatch.setattr(QuickRoutes, "_of", of)
    return paths


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_every_form_has_the_same_answer(service: Service, passed_by: list[str], form: str, prefix: str) -> None:
    asset_id = await service.upload(picture(1))
    options = FORMS[form]
    body = options.get("before", b"") + json.dumps({"asset_id": asset_id, **options.get("more", {})}).encode()
    passed_by.clear()
    answer = await service.client.post(
        f"{prefix}/extract-features{options.get('query', '')}",
        content=body + options.get("after", b""),
        headers=options.get("headers", JSON),
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert list(answer.json()) == [
        "asset_id",
        "features",
        "features_extracted",
        "features_timestamp",
        "cached",
        "model_version",
        "processing_time",
    ]
    assert len(answer.json()["features"]) == 384
    quick = form in ("json", "more fields", "blanks around it")
    assert passed_by == ([] if quick else [f"{prefix}/extract-features"])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"asset_id": "0123456789abcdef0123456789abcdef"}', 404, "ASSET_NOT_FOUND"),
        (b'{"asset_id": ""}', 422, "VALIDATION_ERROR"),
        (b'{"asset_id": 5}', 422, "VALIDATION_ERROR"),
        (b'{"asset": "a"}', 422, "VALIDATION_ERROR"),
        (b"{", 422, "VALIDATION_ERROR"),
        (b'{"asset_id": "\xff"}', 400, None),
        (b"null", 400, "INVALID_INPUT"),
        (b"", 400, "INVALID_INPUT"),
    ],
)
async def test_what_is_wrong_is_said_as_by_any_route(
    service: Service, body: bytes, status: int, code: str | None
) -> None:
    answer = await service.client.post("/extract-features", content=body, headers=JSON)
    slow = await service.client.post(
        "/extract-features", content=body, headers={"content-type": "application/json; charset=utf-8"}
    )
    for each in (answer, slow):
        assert error_of(each, status, code or each.json()["error"]["code"])
    bare = [{**each.json()["error"], "timestamp": None} for each in (answer, slow)]
    assert bare[0] == bare[1]


async def test_errors_of_stages_are_those_of_the_route(service: Service) -> None:
    sound = await service.upload(audio())
    answer = await service.client.post("/extract-features", json={"asset_id": sound})
    assert "is audio" in error_of(answer, 400, "INVALID_INPUT")["message"]
    gone = await service.upload(picture(7))
    assert (await service.client.delete(f"/media/{gone}")).status_code == 200
    error_of(await service.client.post("/extract-features", json={"asset_id": gone}), 404, "ASSET_NOT_FOUND")


async def test_other_methods_and_keys_are_as_before(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key="s3cret-key")) as service:
        answer = await service.client.post("/extract-features", json={"asset_id": "a"})
        error_of(answer, 401, answer.json()["error"]["code"])
        headers = {"x-api-key": "s3cret-key"}
        answer = await service.client.get("/extract-features", headers=headers)
        error_of(answer, 405, "METHOD_NOT_ALLOWED")


async def test_a_long_body_goes_to_the_route(service: Service) -> None:
    asset_id = await service.upload(picture(1))
    body = json.dumps({"more": "x" * 70_000, "asset_id": asset_id}).encode()
    answer = await service.client.post("/extract-features", content=body, headers=JSON)
    assert answer.json()["asset_id"] == asset_id


def test_only_added_posts_are_taken_over() -> None:
    async def answer(_: AssetRef) -> Response:
        raise NotImplementedError

    app, routes = FastAPI(), QuickRoutes()

    @app.get("/read")
    @app.post("/asked")
    async def added() -> None: ...

    @app.post("/other")
    async def other() -> None: ...

    routes.add(added, AssetRef, answer)
    routes.mount(iter_route_contexts(app.routes))
    scope = {"type": "http", "method": "POST", "query_string": b"", "headers": [(b"content-type", b"application/json")]}
    quick = {path: routes._of({**scope, "path": path}) is not None for path in ("/asked", "/read", "/other")}
    assert quick == {"/asked": True, "/read": False, "/other": False}
