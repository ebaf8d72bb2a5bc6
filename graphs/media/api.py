"""Mounts the media API, under /api/v1/file."""

from fastapi import APIRouter, FastAPI

from graphs.context import Context
from graphs.media.boxes import Boxes
from graphs.media.clip import clip_router
from graphs.media.clips import CLIPS, Clips
from graphs.media.errors import ERRORS
from graphs.media.overlay import overlay_router
from graphs.media.thumbnail import FRAMES, thumbnail_router
from graphs.media.video import video_router
from graphs.media.videos import Videos

STAGES = (CLIPS, FRAMES)


def mount(app: FastAPI, context: Context) -> None:
    """Add the media routes to the application."""
    videos, clips, boxes = Videos(context), Clips(context), Boxes(context)
    router = APIRouter(prefix="/api/v1", responses=ERRORS)
    for part in (
        video_router(context, videos, clips, boxes),
        clip_router(videos, clips, boxes),
        overlay_router(videos, clips, boxes),
        thumbnail_router(context, videos),
    ):
        router.include_router(part)
    app.include_router(router)
