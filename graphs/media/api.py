"""Mounts the media API, under /api/v1/file and /api/v1/identities."""

from fastapi import APIRouter, FastAPI

from graphs.assets.measures import FACES as PHOTO_FACES
from graphs.indexing.assigning import IDENTITIES
from graphs.indexing.faces import FaceSource
from graphs.indexing.models import CAMERA, CLIP, CUTS, EMBED
from graphs.indexing.people import TRACKS
from graphs.indexing.representatives import SHARPNESS, Representatives
from graphs.indexing.serving import FACES, IDENTITY
from graphs.media.boxes import Boxes
from graphs.media.clip import clip_router
from graphs.media.clips import CLIPS, Clips
from graphs.media.cooccurrence import cooccurrence_router
from graphs.media.errors import ERRORS
from graphs.media.files import files_router
from graphs.media.identities import identities_router
from graphs.media.overlay import overlay_router
from graphs.media.results import results_router
from graphs.media.thumbnail import FRAMES, thumbnail_router
from graphs.media.video import video_router
from graphs.web.context import Context
from graphs.web.uploads.library import Library, Videos

STAGES = (
    *(CLIPS, FRAMES, SHARPNESS, FACES, IDENTITY, PHOTO_FACES, TRACKS, IDENTITIES),
    *(CUTS, CAMERA, EMBED, CLIP),
)


def mount(app: FastAPI, context: Context) -> None:
    """Add the media routes to the application."""
    videos, clips, boxes = Videos(context), Clips(context), Boxes(context)
    representatives = Representatives(context)
    router = APIRouter(prefix="/api/v1", responses=ERRORS)
    for part in (
        video_router(context, videos, clips, boxes),
        clip_router(videos, clips, boxes),
        overlay_router(videos, clips, boxes),
        thumbnail_router(context, videos),
        files_router(context, videos),
        results_router(context, videos, representatives),
        cooccurrence_router(context, videos, representatives),
        identities_router(context, FaceSource(context, Library(context))),
    ):
        router.include_router(part)
    app.include_router(router)
