"""Errors of the media API beside those of stages and assets.

::

    StageError
    ├── NotIndexed        409  the video has no index yet
    ├── TraceNotFound     404  its index has no such trace
    ├── TrackNotFound     404  its index has no such object
    └── NeverTogether     404  two people or objects share no frame
"""

from typing import Final, Literal

from pydantic import BaseModel

from graphs.indexing.jobs import latest_index_job, parts_missing
from graphs.web.context import Context
from graphs.web.schemas import error_responses, example
from vision.errors import ModelNotLoaded, StageError


class NotIndexed(StageError):
    """A video that was not indexed yet."""

    code = "NOT_INDEXED"
    status = 409

    def __init__(self, file_uuid: str, what: str = "") -> None:
        super().__init__(
            f"{file_uuid} is not indexed {what}yet; POST /api/v1/file/{file_uuid}/index does it, and its job says when."
        )


async def not_indexed(context: Context, file_uuid: str) -> StageError:
    """Return why a video has no index, or no people: NotIndexed, or ModelNotLoaded where none could be looked for."""
    missing = parts_missing(await latest_index_job(context, file_uuid))
    return ModelNotLoaded(missing["people"]) if "people" in missing else NotIndexed(file_uuid)


async def objects_missing(context: Context, file_uuid: str) -> StageError:
    """Return why an index has no objects: NotIndexed, or ModelNotLoaded where its job could not look for them."""
    missing = parts_missing(await latest_index_job(context, file_uuid))
    return ModelNotLoaded(missing["objects"]) if "objects" in missing else NotIndexed(file_uuid, "for objects ")


class TraceNotFound(StageError):
    """A trace that the index of the video does not have."""

    code = "TRACE_NOT_FOUND"
    status = 404

    def __init__(self, file_uuid: str, trace_id: int) -> None:
        super().__init__(
            f"{file_uuid} has no trace {trace_id}; GET /api/v1/file/{file_uuid}/traces lists those it has."
        )


class TrackNotFound(StageError):
    """A track of an object that the index of the video does not have."""

    code = "TRACK_NOT_FOUND"
    status = 404

    def __init__(self, file_uuid: str, track_id: int) -> None:
        super().__init__(
            f"{file_uuid} has no object {track_id}; GET /api/v1/file/{file_uuid}/objects lists those it has."
        )


class NeverTogether(StageError):
    """Two people or objects who share no frame of a video."""

    code = "NO_COOCCURRENCE"
    status = 404


class MediaError(BaseModel):
    """Every failure of a route of this API; ``error`` says what was wrong and what to do."""

    model_config = example(
        success=False,
        error="There is no frame 5000; the last frame of this video is 1499.",
        code="FRAME_OUT_OF_RANGE",
    )
    success: Literal[False]
    error: str
    code: str


_WHEN: Final[dict[int | str, str]] = {
    400: "missing or impossible parameters, or a file that is no video",
    404: "unknown file",
    408: "the body came too slowly, or stopped",
    409: "the video is not indexed yet, where a route needs that",
    429: "too many requests, or too many streams being encoded; Retry-After says when to come back",
    500: "the video could not be processed",
    503: "a stage or a store is not ready; Retry-After says when to come back",
    504: "nothing came out in the time that a request has",
    507: "the disk of the service is full; nothing was stored, and deleting works",
    "default": "any other failure",
}
ERRORS: Final = error_responses(_WHEN, MediaError)
