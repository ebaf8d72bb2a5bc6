"""Mounts the photo API, under /v1."""

from fastapi import APIRouter, FastAPI

from configs.settings import Settings
from deployments.analysis.clusters import CLUSTERS
from deployments.embed.clip import CLIP
from deployments.language.describe import DESCRIBE
from deployments.people.emotion import EMOTION
from deployments.people.faces import FACES
from deployments.quality.blur import BLUR
from deployments.quality.brisque import BRISQUE
from deployments.quality.nima import NIMA
from graphs.photos.analysis import add_analyze_routes
from graphs.photos.cluster import add_cluster_route
from graphs.photos.describe import add_describe_route
from graphs.photos.schemas import PhotoError
from graphs.web.bodies import large_body_route
from graphs.web.context import Context

PREFIX = "/v1"
STAGES = tuple(ref.key for ref in (BLUR, BRISQUE, NIMA, FACES, EMOTION, CLIP, CLUSTERS, DESCRIBE))
ERRORS = {
    401: "wrong or missing API key: unauthorized",
    404: "unknown asset: asset_not_found",
    413: "picture or request over the limits: image_too_large",
    422: "image_fetch_error, image_decode_error, batch_too_large, clustering_error, or validation_error",
    429: "too many requests; Retry-After says when to come back",
    500: "internal_error",
    502: "the provider of a language model refused: provider_rejected or provider_answer_unusable",
    503: "a model, a provider or a store is not ready: model_not_ready; Retry-After says when to come back",
    504: "deadline_exceeded",
}
_FRAME = 64 * 1024
_BATCH_FILES = 4
_CLUSTER_BYTES = 64 * 2**20


def body_limits(settings: Settings) -> dict[str, int]:
    """Bytes that the body of a route may have, where that is more than of any route.

    A picture comes as base64. A batch may hold as much as four of the largest pictures, or twenty telephone photos;
    5,000 embeddings of 512 numbers are 50 MB of text.
    """
    picture = -(-settings.max_image_size_bytes // 3) * 4
    return {
        f"{PREFIX}/analyze": picture + _FRAME,
        f"{PREFIX}/analyze/batch": _BATCH_FILES * picture + _FRAME,
        f"{PREFIX}/cluster": _CLUSTER_BYTES,
    }


def mount(app: FastAPI, context: Context) -> None:
    """Add the photo routes to the application."""
    router = APIRouter(
        prefix=PREFIX,
        tags=["photos"],
        route_class=large_body_route(),
        responses={status: {"model": PhotoError, "description": text} for status, text in ERRORS.items()},
    )
    add_analyze_routes(router, context)
    add_cluster_route(router, context)
    add_describe_route(router, context)
    app.include_router(router)
