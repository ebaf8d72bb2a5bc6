"""The authenticity API: deepfake analysis of image, video and audio; under /api/v1."""

from typing import Any, Final

from fastapi import APIRouter

from configs.settings import Settings
from deployments.forensics.generated import GENERATED
from deployments.forensics.provenance import PROVENANCE
from deployments.forensics.signal import SIGNAL
from deployments.forensics.speech import SPEECH
from deployments.forensics.temporal import TEMPORAL
from deployments.forensics.visual import VISUAL
from deployments.forensics.voice import VOICE
from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY
from deployments.people.video_faces import VIDEO_FACES
from deployments.serving.stage import StageRef
from graphs.authenticity.analyze import analyze_router
from graphs.authenticity.results import Results, results_router
from graphs.authenticity.schemas import Detail
from graphs.authenticity.uploads import MOST_IN_BATCH
from graphs.web.api import Api, RateLimit, RouteLimits, StageInfos
from graphs.web.context import Context
from graphs.web.errors import ErrorStyle, Failure
from graphs.web.schemas import error_responses
from graphs.web.states import usable

ERRORS: Final = {
    400: "not a file of the kind that the route takes, or no form with a file",
    401: "wrong or missing API key",
    404: "no such analysis, or it has expired",
    408: "the body came too slowly, or stopped",
    413: "file or picture over the limits",
    422: "a file that cannot be decoded, or a parameter out of its range",
    429: "too many requests, or too many files of this kind waiting; Retry-After says when to come back",
    500: "the analysis failed",
    503: "no model that could judge is loaded, or a store is away",
    504: "the time ran out",
    507: "the disk of the service is full; nothing was stored, and deleting works",
}
_FRAME: Final = 64 * 1024


def _file_bytes(settings: Settings) -> int:
    return settings.max_analysis_bytes + _FRAME


def _batch_bytes(settings: Settings) -> int:
    return MOST_IN_BATCH * _file_bytes(settings)


def _detail(failure: Failure) -> Any:
    return {"detail": f"Analysis failed: {failure.message}" if failure.status == 500 else failure.message}


def _router(context: Context) -> APIRouter:
    router = APIRouter(tags=["authenticity"], responses=error_responses(ERRORS, Detail))
    results = Results(context)
    router.include_router(analyze_router(context, results))
    router.include_router(results_router(results))
    return router


def _health(infos: StageInfos) -> dict[str, Any]:
    def ready(*stages: StageRef[Any, Any]) -> bool:
        return all(usable(infos.get(stage.key, {})) for stage in stages)

    detectors = {
        "visual_detector": ready(VISUAL),
        "forensic_analyzer": ready(SIGNAL),
        "audio_detector": ready(SPEECH, VOICE),
    }
    return {"detectors": detectors}


API: Final = Api(
    title="Authenticity: deepfake analysis of image, video and audio",
    router=_router,
    prefixes=("/api/v1",),
    stages=(FACES, VIDEO_FACES, IDENTITY, VISUAL, GENERATED, SIGNAL, TEMPORAL, SPEECH, VOICE, PROVENANCE),
    ready_stages=(SIGNAL,),
    errors=ErrorStyle(_detail),
    rate=lambda _: RateLimit("authenticity", 100),
    routes={
        "analyze_image": RouteLimits(RateLimit("authenticity-image", 100), max_body=_file_bytes, reads=True),
        "analyze_images": RouteLimits(RateLimit("authenticity-batch", 10), max_body=_batch_bytes, reads=True),
        "analyze_video": RouteLimits(RateLimit("authenticity-video", 10), max_body=_file_bytes, reads=True),
        "analyze_audio": RouteLimits(RateLimit("authenticity-audio", 50), max_body=_file_bytes, reads=True),
    },
    health=_health,
)
