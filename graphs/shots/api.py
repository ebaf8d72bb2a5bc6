"""The shot routes, a part of the asset API: under /api/v1 and without that prefix."""

from typing import Final

from fastapi import APIRouter

from deployments.embed.clip import CLIP
from deployments.embed.dinov3 import DINOV3
from deployments.embed.sentence import SENTENCE
from deployments.media.frames import FRAMES
from deployments.people.faces import FACES
from deployments.shots.cuts import CUTS
from graphs.shots.analysis import analysis_router
from graphs.shots.library import MAX_BODY, library_router
from graphs.shots.ranking import CatalogueCache
from graphs.shots.sheets import sheets_router
from graphs.shots.suggestions import suggestions_router
from graphs.shots.texts import TextEncoders
from graphs.shots.thumbnails import thumbnails_router
from graphs.web.api import Api, RateLimit, RouteLimits
from graphs.web.context import Context
from graphs.web.schemas import error_responses
from graphs.web.uploads.library import Videos

ERRORS: Final = {
    400: "the request is not what the route takes, or the asset is no video",
    404: "unknown asset or shot id",
    408: "the body came too slowly, or stopped",
    409: "the shots are not known yet, or their analysis was cancelled",
    413: "body over the limits",
    422: "malformed request",
    429: "too many requests; Retry-After says when to come back",
    503: "a model or a store is not ready",
    504: "the time of the request ran out; Retry-After says when to come back",
    507: "the disk of the service is full; nothing was stored, and deleting works",
}


def _router(context: Context) -> APIRouter:
    videos, encoders = Videos(context), TextEncoders(context)
    router = APIRouter(responses=error_responses(ERRORS))
    for part in (
        analysis_router(context, videos),
        sheets_router(context, videos),
        library_router(context, videos, encoders),
        suggestions_router(context, encoders, CatalogueCache(context)),
        thumbnails_router(context, videos),
    ):
        router.include_router(part)
    return router


API: Final = Api(
    title="Shots: storing, suggesting and browsing shots of videos",
    router=_router,
    # As the asset API has them.
    prefixes=("/api/v1", ""),
    stages=(SENTENCE, CLIP, FRAMES, CUTS, DINOV3, FACES),
    ready_stages=(FRAMES,),
    routes={
        "shot_thumbnail": RouteLimits(RateLimit("shots-thumbnails", 600)),  # a page of the library shows many
        "store_shot_data": RouteLimits(max_body=lambda _: MAX_BODY),
    },
    reading=frozenset({"suggest_shots"}),
)
