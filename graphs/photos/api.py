"""The photo API: quality, emotion, embedding, clusters, reviews; under /v1."""

from typing import Final

from fastapi import APIRouter

from configs.settings import Settings
from deployments.analysis.clusters import CLUSTERS
from deployments.embed.clip import CLIP
from deployments.language.describe import DESCRIBE
from deployments.people.emotion import EMOTION
from deployments.people.faces import FACES
from deployments.quality.blur import BLUR
from deployments.quality.brisque import BRISQUE
from deployments.quality.exposure import EXPOSURE
from deployments.quality.nima import NIMA
from graphs.photos.analysis import add_analyze_routes
from graphs.photos.cluster import add_cluster_route
from graphs.photos.describe import add_describe_route
from graphs.photos.errors import STYLE
from graphs.photos.schemas import PhotoError
from graphs.web.api import Api, RateLimit, RouteLimits
from graphs.web.bodies import large_body_route
from graphs.web.context import Context
from graphs.web.schemas import error_responses

ERRORS: Final = {
    401: "wrong or missing API key: unauthorized",
    404: "unknown asset: asset_not_found",
    408: "the body came too slowly, or stopped: request_timeout",
    413: "picture or request over the limits: image_too_large",
    422: "image_fetch_error, image_decode_error, batch_too_large, clustering_error, or validation_error",
    429: "too many requests; Retry-After says when to come back",
    500: "internal_error",
    502: "the provider of a language model refused: provider_rejected or provider_answer_unusable",
    503: "a model, a provider or a store is not ready: model_not_ready; Retry-After says when to come back",
    504: "deadline_exceeded",
    507: "the disk of the service is full: storage_full",
}
_FRAME: Final = 64 * 1024
_BATCH_FILES: Final = 4
"""A batch may hold as much as four of the largest pictures, or twenty telephone photos."""
_CLUSTER_BYTES: Final = 64 * 2**20
"""5,000 embeddings of 512 numbers are 50 MB of text."""


def _base64_bytes(settings: Settings) -> int:
    return -(-settings.max_image_size_bytes // 3) * 4


def _router(context: Context) -> APIRouter:
    router = APIRouter(
        prefix="/v1",
        tags=["photos"],
        route_class=large_body_route(),
        responses=error_responses(ERRORS, PhotoError),
    )
    add_analyze_routes(router, context)
    add_cluster_route(router, context)
    add_describe_route(router, context)
    return router


API: Final = Api(
    title="Photos: quality, emotion, embedding, clusters, reviews",
    router=_router,
    stages=(BLUR, BRISQUE, NIMA, EXPOSURE, FACES, EMOTION, CLIP, CLUSTERS, DESCRIBE),
    ready_stages=(BLUR,),
    errors=STYLE,
    rate=lambda settings: RateLimit("photos", settings.rate_limit_per_minute, settings.rate_limit_burst),
    routes={
        "analyze": RouteLimits(max_body=lambda settings: _base64_bytes(settings) + _FRAME),
        "analyze_batch": RouteLimits(max_body=lambda settings: _BATCH_FILES * _base64_bytes(settings) + _FRAME),
        "cluster": RouteLimits(max_body=lambda _: _CLUSTER_BYTES),
    },
    reading=frozenset({"analyze", "analyze_batch", "analyze_llm", "cluster"}),
)
