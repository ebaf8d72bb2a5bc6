"""Routes of a video as a whole: its facts, its index, and single frames as pictures."""

from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.responses import Response

from deployments.media.frames import FRAMES, FrameRequest
from graphs.indexing.jobs import latest_index_job, parts_missing, submit_again, submit_index
from graphs.indexing.tags import tags_of
from graphs.jobs import api as jobs
from graphs.jobs.schemas import JobAnswer
from graphs.media.schemas import FileDetails, FrameNumber, IndexAccepted, IndexState
from graphs.web.context import Context
from graphs.web.filenames import content_disposition, derived_name
from graphs.web.schemas import BINARY, AssetId, FileUuid, Responses
from graphs.web.uploads.library import Videos
from stores.records import Asset
from vision.errors import InvalidInput

CACHED: Final = {"cache-control": "public, max-age=86400"}
MAX_SIDE: Final = 2**16
JPEG: Final[Responses] = {200: {"content": {"image/jpeg": BINARY}, "description": "the frame, or the part of it"}}

Place = Annotated[int | None, Query(ge=0, le=MAX_SIDE, description="pixels; a crop needs all four", examples=[160])]
Side = Annotated[int | None, Query(ge=1, le=MAX_SIDE, description="pixels; a crop needs all four", examples=[160])]


def files_router(context: Context, videos: Videos) -> APIRouter:
    """Return the routes index, thumbnail, and the file itself."""
    router = APIRouter()

    @router.get("/file/{file_uuid}/thumbnail", tags=["media: pictures"], response_class=Response, responses=JPEG)
    async def thumbnail(
        file_uuid: FileUuid,
        frame: Annotated[FrameNumber, Query(description="zero-based, in order of presentation", examples=[1000])],
        x: Place = None,
        y: Place = None,
        w: Side = None,
        h: Side = None,
    ) -> Response:
        """Return the frame of exactly this number as JPEG, upright; whole, or the part that x, y, w and h give."""
        video = await videos.get(file_uuid)
        request = FrameRequest(video.asset_id, frame, crop=_crop(x=x, y=y, w=w, h=h))
        picture = await context.stage(FRAMES)(request)
        name = content_disposition(derived_name(video.filename, f"frame {frame}", ".jpg"))
        return Response(picture.jpeg, media_type="image/jpeg", headers={**CACHED, "content-disposition": name})

    @router.post("/file/{file_uuid}/index", tags=["media: index"], status_code=202)
    async def index(
        file_uuid: AssetId,
        again: Annotated[bool, Query(description="assign identities anew to the traces that there are")] = False,
    ) -> IndexAccepted:
        """Index the people, objects and shots of a video, as a job. Asked again, it is the same job, running or done.

        After one that failed or was cancelled a new job is started. Where the model for people or that for objects is
        missing, it finds all else, and an index by it is completed later without looking anew for what it has. With
        ``again`` a video that is indexed gets identities anew, as after some were deleted: a new job compares its
        traces with everybody known now, and detects nothing.
        """
        video = await videos.get(file_uuid)
        job = await (submit_again(context, video) if again else submit_index(context, video))
        return IndexAccepted(
            file_uuid=file_uuid,
            job_id=job.job_id,
            status=job.status,
            status_url=f"{jobs.PREFIX}/{job.job_id}",
            unavailable=parts_missing(job),
        )

    @router.get("/file/{file_uuid}", tags=["media: index"])
    async def details(file_uuid: AssetId) -> FileDetails:
        """Return facts of a video and the state of its index."""
        video = await videos.get(file_uuid)
        tags, state = await tags_of(context, [video]), await index_state(context, file_uuid)
        return FileDetails.model_validate(
            {**_facts(video), "file_uuid": file_uuid, "index": state, "tags": tags.get(file_uuid)}
        )

    return router


async def index_state(context: Context, file_uuid: str) -> IndexState:
    """Return how far the index of a video is."""
    index = await context.people.get_index(file_uuid)
    latest = await latest_index_job(context, file_uuid)
    job = None if latest is None else JobAnswer.of(latest)
    status = "not_indexed" if index is None else "succeeded"
    missing = parts_missing(latest)
    if latest is not None and (
        not latest.finished or (index is None and (latest.status == "failed" or "people" in missing))
    ):
        status = latest.status
    if index is None:
        return IndexState.model_validate({"status": status, "job": job, "unavailable": missing})
    found = {"people"} if index.models else set[str]()
    found |= set() if index.objects is None else {"objects"}
    traces = await context.people.list_traces(file_uuid)
    return IndexState.model_validate(
        {
            "status": status,
            "job": job,
            "models": index.models or None,
            "indexed_at": index.indexed_at,
            "frames_apart": index.step,
            "cuts": index.cuts,
            "trace_count": index.trace_count,
            "identity_count": len({trace.identity_uuid for trace in traces} - {None}),
            "object_models": index.objects,
            "object_count": index.object_count,
            "unavailable": {part: why for part, why in missing.items() if part not in found},
        }
    )


def _facts(video: Asset) -> dict[str, object]:
    return {name: getattr(video, name) for name in FileDetails.model_fields if hasattr(video, name)}


def _crop(**given: int | None) -> tuple[int, int, int, int] | None:
    """Raise InvalidInput unless all four are given, or none."""
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return None
    if missing:
        raise InvalidInput(f"A crop needs x, y, w and h; this one has no {', '.join(missing)}.")
    x, y, w, h = (value for value in given.values() if value is not None)
    return x, y, w, h
