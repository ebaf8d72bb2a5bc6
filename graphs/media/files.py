"""Routes of a video as a whole: what is known of it, and having it indexed."""

from fastapi import APIRouter

from graphs.indexing.jobs import KIND, submit_index
from graphs.jobs import routes as jobs
from graphs.jobs.routes import JobAnswer
from graphs.media.models import FileDetails, IndexAccepted, IndexState
from graphs.web.context import Context
from graphs.web.schemas import AssetId
from graphs.web.uploads.library import Videos
from stores.records import Asset


def files_router(context: Context, videos: Videos) -> APIRouter:
    """index, and the file itself."""
    router = APIRouter(tags=["media: index"])

    @router.post("/file/{file_uuid}/index", status_code=202)
    async def index(file_uuid: AssetId) -> IndexAccepted:
        """Look for people in a video, as a job. Asked again, it is the same job, running or done.

        What failed or was cancelled begins anew.
        """
        job = await submit_index(context, await videos.get(file_uuid))
        return IndexAccepted(
            file_uuid=file_uuid, job_id=job.job_id, status=job.status, status_url=f"{jobs.PREFIX}/{job.job_id}"
        )

    @router.get("/file/{file_uuid}")
    async def details(file_uuid: AssetId) -> FileDetails:
        """Facts of a video and the state of its index."""
        video = await videos.get(file_uuid)
        return FileDetails.model_validate(
            {**_facts(video), "file_uuid": file_uuid, "index": await index_state(context, file_uuid)}
        )

    return router


def _facts(video: Asset) -> dict[str, object]:
    return {name: getattr(video, name) for name in FileDetails.model_fields if hasattr(video, name)}


async def index_state(context: Context, file_uuid: str) -> IndexState:
    """How far the index of a video is."""
    index = await context.people.get_index(file_uuid)
    latest = next(iter(await context.jobs.list(kind=KIND, subject=file_uuid, limit=1)), None)
    job = None if latest is None else JobAnswer.of(latest)
    status = "not_indexed" if index is None else "succeeded"
    if latest is not None and (not latest.finished or (index is None and latest.status == "failed")):
        status = latest.status
    if index is None:
        return IndexState.model_validate({"status": status, "job": job})
    traces = await context.people.list_traces(file_uuid)
    return IndexState.model_validate(
        {
            "status": status,
            "job": job,
            "models": index.models,
            "indexed_at": index.indexed_at,
            "frames_apart": index.step,
            "cuts": index.cuts,
            "trace_count": index.trace_count,
            "identity_count": len({trace.identity_uuid for trace in traces} - {None}),
        }
    )
