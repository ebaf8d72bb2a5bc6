"""Mounts the media API, under /api/v1/file and /api/v1/identities."""

from fastapi import APIRouter, FastAPI

from deployments.analysis.identities import IDENTITIES
from deployments.analysis.tracks import TRACKS
from deployments.embed.clip import CLIP
from deployments.embed.dinov3 import DINOV3
from deployments.media.clips import CLIPS
from deployments.media.frames import FRAMES
from deployments.media.sharpness import SHARPNESS
from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY
from deployments.people.video_faces import VIDEO_FACES
from deployments.shots.camera import CAMERA
from deployments.shots.cuts import CUTS
from graphs.indexing.faces import FaceSource
from graphs.media.errors import ERRORS
from graphs.media.files import files_router
from graphs.media.identities import file_identities_router, identities_router
from graphs.media.representatives import Representatives
from graphs.media.streams import streams_router
from graphs.media.traces import traces_router
from graphs.web.context import Context
from graphs.web.uploads.library import Library, Videos

STAGES = tuple(
    ref.key
    for ref in (
        *(CLIPS, FRAMES, SHARPNESS, VIDEO_FACES, IDENTITY, FACES, TRACKS, IDENTITIES),
        *(CUTS, CAMERA, DINOV3, CLIP),
    )
)


def mount(app: FastAPI, context: Context) -> None:
    """Add the media routes to the application."""
    videos, representatives = Videos(context), Representatives(context)
    router = APIRouter(prefix="/api/v1", responses=ERRORS)
    for part in (
        streams_router(context, videos),
        files_router(context, videos),
        traces_router(context, videos, representatives),
        file_identities_router(context, videos, representatives),
        identities_router(context, FaceSource(context, Library(context))),
    ):
        router.include_router(part)
    app.include_router(router)
