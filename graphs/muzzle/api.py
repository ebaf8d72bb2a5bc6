"""Mounts the muzzle API, at the root."""

from fastapi import APIRouter, FastAPI, Security

from configs.settings import Settings
from deployments.muzzle.ensemble import ENSEMBLE
from deployments.muzzle.gallery import GALLERY
from graphs.muzzle.animals import add_animal_routes
from graphs.muzzle.texts import KEY
from graphs.muzzle.verification import add_domain_check_routes, add_encode_routes, add_predict_routes
from graphs.web.bodies import large_body_route
from graphs.web.context import Context

STAGES = (ENSEMBLE.key, GALLERY.key)
_FRAME = 64 * 1024
_MOST = 4
"""Photos of the greatest size in one request; more are of less bytes each."""


def body_limits(settings: Settings) -> dict[str, int]:
    """Bytes that the body of a route may have, where that is more than of any route."""
    photo = settings.max_muzzle_photo_bytes
    text = -(-photo // 3) * 4
    return {
        "/predict": _MOST * text + _FRAME,
        "/predict/file": _MOST * photo + _FRAME,
        "/encode": _MOST * text + _FRAME,
        "/encode/file": _MOST * photo + _FRAME,
        "/domain-check": text + _FRAME,
        "/domain-check/file": photo + _FRAME,
        "/animals": _MOST * text + _FRAME,
        "/identify": text + _FRAME,
    }


def mount(app: FastAPI, context: Context) -> None:
    """Add the muzzle routes to the application."""
    router = APIRouter(route_class=large_body_route(), dependencies=[Security(KEY)])
    add_predict_routes(router, context)
    add_encode_routes(router, context)
    add_domain_check_routes(router, context)
    add_animal_routes(router, context)
    app.include_router(router)
