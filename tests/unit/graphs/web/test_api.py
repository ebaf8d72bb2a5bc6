"""Which API a path belongs to, and what an API object must have right."""

from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.routing import iter_route_contexts

import graphs
from configs.settings import Settings
from deployments.embed.dinov3 import DINOV3
from deployments.quality.blur import BLUR
from graphs.web.api import Api, Contracts, RateLimit, RouteLimits, find_apis
from graphs.web.errors import CODED
from tests.graphs.harness import contracts_of, settings_in

USUAL_RATE = {
    "assets": "assets",
    "photos": "photos",
    "muzzle": "muzzle-animals",
    "authenticity": "authenticity",
    "media": "media",
    "shots": "assets",
    "jobs": "jobs",
}


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("", "assets"),
        ("*", "assets"),
        ("/", "assets"),
        ("/api/v1/analyze-quality", "assets"),
        ("/analyze/image/", "assets"),
        ("/predictions", "assets"),
        ("/api/v1/files", "assets"),
        ("/v1", "assets"),
        ("/v1/analyze", "photos"),
        ("/v1/", "photos"),
        ("/v1/health", "photos"),
        ("/predict", "muzzle"),
        ("/predict/", "muzzle"),
        ("/encode/file", "muzzle"),
        ("/domain-check", "muzzle"),
        ("/animals/abc/no/route", "muzzle"),
        ("/api/v1/analyze/image/", "authenticity"),
        ("/api/v1/analyze", "assets"),
        ("/api/v1/results/abc", "authenticity"),
        ("/api/v1/file/abc/video", "media"),
        ("/api/v1/file", "assets"),
        ("/api/v1/identities", "media"),
        ("/api/v1/suggest-shots", "shots"),
        ("/store-shot-data", "shots"),
        ("/api/v1/shot-library", "shots"),
        ("/shots/abc/thumbnail", "shots"),
        ("/api/v1/shot-library-of-others", "assets"),
        ("/api/v1/shots", "assets"),
        ("/api/v1/jobs", "jobs"),
        ("/api/v1/jobs/abc/def", "jobs"),
    ],
)
async def test_whose_path_it_is(tmp_path: Path, path: str, api: str) -> None:
    with settings_in(tmp_path) as config:
        contracts = await contracts_of(config)
    # No route has this method, so this is the contract of the whole API.
    contract = contracts.of({"method": "TRACE", "path": path})
    assert (contract.errors, contract.rate.name) == (find_apis()[api].errors, USUAL_RATE[api])
    assert (contract.max_body, contract.is_route) == (0, False)


@pytest.mark.parametrize("served", [["photos"], ["media"]])
async def test_an_api_that_is_not_served_has_no_paths(tmp_path: Path, served: list[str]) -> None:
    with settings_in(tmp_path) as config:
        contracts = await contracts_of(config, *served)
    for path in ("/predict", "/api/v1/results/abc", "/api/v1/nothing"):
        assert contracts.of({"method": "GET", "path": path}).errors is CODED


async def test_an_upload_is_read_by_its_route_and_may_be_large(tmp_path: Path) -> None:
    with settings_in(tmp_path) as config:
        contracts = await contracts_of(config)
    for prefix in ("", "/api/v1"):
        upload = contracts.of({"method": "POST", "path": f"{prefix}/upload-media"})
        assert upload.reads
        assert upload.max_body > config.max_video_bytes


@pytest.mark.parametrize(
    ("method", "path", "api", "route"),
    [
        ("GET", "/api/v1/file/abc/trace/7/thumbnail", "media", "/api/v1/file/{file_uuid}/trace/{trace_id}/thumbnail"),
        ("HEAD", "/api/v1/media/abc/content", "assets", "/api/v1/media/{asset_id}/content"),
        ("POST", "/animals", "muzzle", "/animals"),
        ("PUT", "/animals", "muzzle", ""),
        ("GET", "/v1/secret/of/somebody", "photos", ""),
        ("GET", "/wp-login.php", "", ""),
    ],
)
async def test_a_route_is_named_by_its_template(tmp_path: Path, method: str, path: str, api: str, route: str) -> None:
    with settings_in(tmp_path) as config:
        contract = (await contracts_of(config)).of({"type": "http", "method": method, "path": path})
    assert (contract.api, contract.route) == (api, route)


def test_a_contract_is_found_once_for_a_request() -> None:
    contracts = Contracts(Settings())
    scope = {"method": "GET", "path": "/config"}
    contract = contracts.of(scope)
    assert contracts.of({**scope, "path": "/another"}) is contract


def test_every_package_with_an_api_is_found() -> None:
    packages = {path.parent.name for path in Path(graphs.__file__).parent.glob("*/api.py")}
    assert set(find_apis()) == packages - {"web"}


def _router(_: object) -> APIRouter:
    router = APIRouter()

    @router.get("/thing")
    async def thing() -> None: ...

    return router


def test_limits_of_a_route_that_does_not_exist_are_refused() -> None:
    api = Api(title="Things", router=_router, routes={"think": RouteLimits(RateLimit("things", 1))})
    with pytest.raises(ValueError, match="Things: limits of routes that do not exist: think"):
        Contracts(Settings()).add(api, "", iter_route_contexts(_router(None).routes))


def test_paths_of_two_apis_that_begin_alike_are_refused() -> None:
    contracts = Contracts(Settings())
    contracts.add(Api(title="Things", router=_router), "", iter_route_contexts(_router(None).routes))
    other = Api(title="Others", router=_router, rate=lambda _: RateLimit("others", 1))
    with pytest.raises(ValueError, match="Others: another API has paths that begin as /thing"):
        contracts.add(other, "", iter_route_contexts(_router(None).routes))


def test_a_gateway_waits_only_for_stages_that_it_calls() -> None:
    with pytest.raises(ValueError, match="ready_stages"):
        Api(title="Things", router=_router, stages=(BLUR,), ready_stages=(DINOV3,))
