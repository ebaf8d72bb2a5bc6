"""Mounts the shot routes, a part of the asset API: under /api/v1 and without that prefix."""

from fastapi import APIRouter, FastAPI

from deployments.embed.clip import CLIP
from deployments.embed.dinov3 import DINOV3
from deployments.embed.sentence import SENTENCE
from deployments.media.frames import FRAMES
from deployments.people.faces import FACES
from deployments.shots.cuts import CUTS
from graphs.shots.analysis import analysis_router
from graphs.shots.library import library_router
from graphs.shots.ranking import CatalogueCache
from graphs.shots.sheets import sheets_router
from graphs.shots.suggestions import suggestions_router
from graphs.shots.texts import TextEncoders
from graphs.shots.thumbnails import thumbnails_router
from graphs.web.context import Context
from graphs.web.schemas import ErrorBody
from graphs.web.uploads.library import Videos

STAGES = tuple(ref.key for ref in (SENTENCE, CLIP, FRAMES, CUTS, DINOV3, FACES))
ERRORS = {
    400: "the request is not what the route takes, or the asset is no video",
    404: "unknown asset or shot id",
    409: "the shots are not known yet, or their analysis was cancelled",
    413: "body over the limits",
    422: "malformed request",
    429: "too many requests; Retry-After says when to come back",
    503: "a model or a store is not ready",
}


def mount(app: FastAPI, context: Context) -> None:
    """Add the shot routes to the application."""
    videos, encoders = Videos(context), TextEncoders(context)
    router = APIRouter(responses={status: {"model": ErrorBody, "description": text} for status, text in ERRORS.items()})
    for part in (
        analysis_router(context, videos),
        sheets_router(context, videos),
        library_router(context, videos, encoders),
        suggestions_router(context, encoders, CatalogueCache(context)),
        thumbnails_router(context, videos),
    ):
        router.include_router(part)
    app.include_router(router, prefix="/api/v1")
    # The same routes where older clients look for them; documented once.
    app.include_router(router, include_in_schema=False)
