"""The muzzle API: verification and identification of cattle; at the root."""

from typing import Any, Final

from fastapi import APIRouter, Security

from configs.settings import Settings
from deployments.muzzle.ensemble import ENSEMBLE
from deployments.muzzle.gallery import GALLERY
from deployments.muzzle.print import PRINT
from graphs.muzzle.animals import add_animal_routes
from graphs.muzzle.texts import KEY
from graphs.muzzle.verification import add_domain_check_routes, add_encode_routes, add_predict_routes
from graphs.web.api import Api, RateLimit, RouteLimits, StageInfos
from graphs.web.bodies import large_body_route
from graphs.web.context import Context
from graphs.web.errors import ErrorStyle

RATE: Final = RateLimit("muzzle", 30)
_FRAME: Final = 64 * 1024
_PHOTOS: Final = 4
"""Photos of the greatest size in one request; more are of less bytes each."""


def _files(photos: int, rate: RateLimit | None = RATE) -> RouteLimits:
    return RouteLimits(rate, max_body=lambda settings: photos * settings.max_muzzle_photo_bytes + _FRAME)


def _texts(photos: int, rate: RateLimit | None = RATE) -> RouteLimits:
    def max_body(settings: Settings) -> int:
        return photos * -(-settings.max_muzzle_photo_bytes // 3) * 4 + _FRAME

    return RouteLimits(rate, max_body)


def _router(context: Context) -> APIRouter:
    router = APIRouter(route_class=large_body_route(), dependencies=[Security(KEY)])
    add_predict_routes(router, context)
    add_encode_routes(router, context)
    add_domain_check_routes(router, context)
    add_animal_routes(router, context)
    return router


def _health(infos: StageInfos) -> dict[str, Any]:
    info = infos.get(ENSEMBLE.key, {})
    return {"muzzle_models": info.get("models_loaded", []), "missing_models": info.get("missing")}


API: Final = Api(
    title="Muzzle: verification and identification of cattle",
    router=_router,
    stages=(ENSEMBLE, GALLERY, PRINT),
    ready_stages=(ENSEMBLE,),
    # The contract's table of errors has no other statuses for a request that cannot be used, or not in time.
    errors=ErrorStyle(
        lambda failure: {"detail": failure.message},
        {code: (422, code) for code in ("INVALID_INPUT", "INVALID_FILE_FORMAT", "FILE_TOO_LARGE", "HTTP_ERROR")}
        | {"DEADLINE_EXCEEDED": (503, "DEADLINE_EXCEEDED")},
    ),
    rate=lambda _: RateLimit("muzzle-animals", 60),
    routes={
        "predict_endpoint": _texts(_PHOTOS),
        "predict_file_endpoint": _files(_PHOTOS),
        "encode_endpoint": _texts(_PHOTOS),
        "encode_file_endpoint": _files(_PHOTOS),
        "domain_check_endpoint": _texts(1),
        "domain_check_file_endpoint": _files(1),
        "enrol_animal": _texts(_PHOTOS, rate=None),
        "identify_animal": _texts(1, rate=None),
    },
    reading=frozenset(
        [
            *("predict_endpoint", "predict_file_endpoint", "encode_endpoint", "encode_file_endpoint"),
            *("domain_check_endpoint", "domain_check_file_endpoint", "identify_animal"),
        ]
    ),
    health=_health,
)
