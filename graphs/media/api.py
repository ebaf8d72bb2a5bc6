"""The media API: video streams, clips, frames, face traces, identities; under /api/v1/file and /api/v1/identities."""

from typing import Any, Final

from fastapi import APIRouter

from deployments.analysis.identities import IDENTITIES
from deployments.analysis.tracks import TRACKS
from deployments.embed.clip import CLIP
from deployments.embed.dinov3 import DINOV3
from deployments.media.clips import CLIPS
from deployments.media.frames import FRAMES
from deployments.media.sharpness import SHARPNESS
from deployments.objects.detector import OBJECTS
from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY
from deployments.people.video_faces import VIDEO_FACES
from deployments.shots.camera import CAMERA
from deployments.shots.cuts import CUTS
from graphs.indexing.faces import FaceSource
from graphs.media.cooccurrence import cooccurrence_router
from graphs.media.errors import ERRORS
from graphs.media.files import files_router
from graphs.media.hls import hls_router
from graphs.media.identities import file_identities_router, identities_router
from graphs.media.links import links_router
from graphs.media.objects import objects_router
from graphs.media.representatives import Representatives
from graphs.media.sprites import sprites_router
from graphs.media.streams import streams_router
from graphs.media.traces import traces_router
from graphs.web.api import Api, RateLimit
from graphs.web.context import Context
from graphs.web.errors import ErrorStyle, Failure
from graphs.web.uploads.library import Library, Videos


def _body(failure: Failure) -> Any:
    return {"success": False, "error": failure.message, "code": failure.code}


def _router(context: Context) -> APIRouter:
    videos, representatives = Videos(context), Representatives(context)
    router = APIRouter(responses=ERRORS)
    for part in (
        streams_router(context, videos),
        hls_router(context, videos),
        files_router(context, videos),
        sprites_router(context, videos),
        links_router(context, Library(context)),
        traces_router(context, videos, representatives),
        objects_router(context, videos),
        file_identities_router(context, videos),
        cooccurrence_router(context, videos, representatives),
        identities_router(context, FaceSource(context, Library(context))),
    ):
        router.include_router(part)
    return router


API: Final = Api(
    title="Media: video streams, clips, frames, face traces",
    router=_router,
    prefixes=("/api/v1",),
    stages=(
        *(CLIPS, FRAMES, SHARPNESS, VIDEO_FACES, IDENTITY, FACES, TRACKS, IDENTITIES),
        *(CUTS, CAMERA, DINOV3, CLIP, OBJECTS),
    ),
    ready_stages=(CLIPS, FRAMES),
    errors=ErrorStyle(_body, {"VALIDATION_ERROR": (400, "INVALID_INPUT")}),
    rate=lambda _: RateLimit("media", 600),  # a player asks for many ranges
    reading=frozenset({"link_to_file"}),
)
