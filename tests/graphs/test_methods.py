"""Allow: every route of every API names exactly the methods that its path answers to."""

import re

from fastapi import APIRouter
from fastapi.routing import iter_route_contexts

from graphs.web.connections import Methods
from tests.graphs.conftest import MakeSettings
from tests.graphs.harness import every_api

TRIED = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


async def test_allow_names_exactly_the_methods_of_a_path(settings_for: MakeSettings) -> None:
    async with every_api(settings_for()) as service:
        paths = {re.sub(r"{[^}]*}", "0" * 32, route.path or "") for route in iter_route_contexts(service.app.routes)}
        assert len(paths) > 100
        for path in sorted(paths):
            answers = {method: await service.client.request(method, path) for method in TRIED}
            refused = {method for method, answer in answers.items() if answer.status_code == 405}
            has = sorted(set(TRIED) - refused)
            assert ("OPTIONS" in refused) != path.endswith("/uploads"), path  # tus has it
            for method in refused:
                answer = answers[method]
                assert answer.headers["allow"] == ", ".join(has), (method, path)
                assert answer.headers["content-type"] == "application/json"
                if method != "HEAD":
                    assert f"it has {', '.join(has)}." in answer.text or "detail" in answer.json()


def test_a_path_of_several_routes_has_the_methods_of_all() -> None:
    router = APIRouter()
    for method, path in (("POST", "/people/merge"), ("GET", "/people/{name}"), ("DELETE", "/people/{name}")):
        router.add_api_route(path, lambda: None, methods=[method])
    methods = Methods(iter_route_contexts(router.routes))
    for path, has in (
        ("/people/merge", ["DELETE", "GET", "HEAD", "POST"]),
        ("/people/x", ["DELETE", "GET", "HEAD"]),
        ("/people/", []),
        ("/people/x/y", []),
        ("", []),
    ):
        assert methods.of({"path": path}) == has
        assert methods.of({"path": f"/base{path}", "root_path": "/base"}) == has
