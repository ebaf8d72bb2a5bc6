"""Mounts the authenticity API, under /api/v1."""

from fastapi import APIRouter, FastAPI

from configs.settings import Settings
from deployments.forensics.signal import SIGNAL
from deployments.forensics.speech import SPEECH
from deployments.forensics.temporal import TEMPORAL
from deployments.forensics.visual import VISUAL
from deployments.forensics.voice import VOICE
from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY
from deployments.people.video_faces import VIDEO_FACES
from graphs.authenticity.analyze import analyze_router
from graphs.authenticity.results import Results, results_router
from graphs.authenticity.schemas import Detail
from graphs.authenticity.uploads import MOST_IN_BATCH
from graphs.web.context import Context

PREFIX = "/api/v1"
STAGES = tuple(ref.key for ref in (FACES, VIDEO_FACES, IDENTITY, VISUAL, SIGNAL, TEMPORAL, SPEECH, VOICE))
ERRORS = {
    400: "not a file of the kind that the route takes, or no form with a file",
    401: "wrong or missing API key",
    404: "no such analysis, or it has expired",
    413: "file or picture over the limits",
    422: "a file that cannot be decoded, or a parameter out of its range",
    429: "too many requests, or too many files of this kind waiting; Retry-After says when to come back",
    500: "the analysis failed",
    503: "no model that could judge is loaded, or a store is away",
    504: "the time ran out",
}
_FRAME = 64 * 1024


def body_limits(settings: Settings) -> dict[str, int]:
    """Return body limits that override max_body_bytes, in bytes by path."""
    one = settings.max_analysis_bytes + _FRAME
    sizes = {"image": one, "image/batch": MOST_IN_BATCH * one, "video": one, "audio": one}
    return {f"{PREFIX}/analyze/{name}{end}": size for name, size in sizes.items() for end in ("", "/")}


def mount(app: FastAPI, context: Context) -> None:
    """Add the authenticity routes to the application."""
    router = APIRouter(
        prefix=PREFIX,
        tags=["authenticity"],
        responses={status: {"model": Detail, "description": text} for status, text in ERRORS.items()},
    )
    results = Results(context)
    router.include_router(analyze_router(context, results))
    router.include_router(results_router(results))
    app.include_router(router)
