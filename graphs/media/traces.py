"""Routes of traces: who is seen when, their boxes, and their representative faces."""

from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from graphs.media.errors import TraceNotFound, not_indexed
from graphs.media.representatives import Box, ChosenFace, Representatives, whole_box
from graphs.media.schemas import (
    BBox,
    FrameNumber,
    Representative,
    RepresentativeAnswer,
    Trace,
    TraceAnswer,
    TraceBox,
    TracesAnswer,
)
from graphs.web.context import Context
from graphs.web.filenames import derived_name
from graphs.web.files import StoredFile, send_file
from graphs.web.schemas import BINARY, RANGES, AssetId, Responses
from graphs.web.uploads.library import Videos
from stores.people import TraceBoxes, TraceRecord, VideoIndex

TraceId = Annotated[int, Path(ge=0, le=2**31 - 1)]
CACHE: Final = "public, max-age=86400"
JPEG: Final[Responses] = {
    200: {"content": {"image/jpeg": BINARY}, "description": "the face, 320 x 320"},
    **RANGES,
}


def traces_router(context: Context, videos: Videos, representatives: Representatives) -> APIRouter:
    """Return the routes traces, trace, representative-face and trace thumbnails."""
    router = APIRouter(tags=["media: people"])

    async def index_of(file_uuid: str) -> VideoIndex:
        await videos.get(file_uuid)
        return await indexed(context, file_uuid)

    @router.get("/file/{file_uuid}/traces")
    async def traces(
        file_uuid: AssetId,
        after: Annotated[int, Query(ge=-1, description="``next`` of the page before")] = -1,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> TracesAnswer:
        """List who is seen when: one trace for each uninterrupted stretch of one person."""
        index = await index_of(file_uuid)
        # One more than asked for tells whether there is a next page.
        records = await context.people.list_traces(file_uuid, after=after, limit=limit + 1)
        page = [trace_of(record) for record in records[:limit]]
        return TracesAnswer(
            file_uuid=file_uuid,
            traces=page,
            total=index.trace_count,
            next=page[-1].trace_id if len(records) > limit else None,
        )

    @router.get("/file/{file_uuid}/trace/{trace_id}")
    async def trace(
        file_uuid: AssetId,
        trace_id: TraceId,
        start_frame: Annotated[FrameNumber, Query(description="the first frame of interest")] = 0,
        end_frame: Annotated[FrameNumber | None, Query(description="the last one")] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> TraceAnswer:
        """Return where one person is, frame by frame."""
        index = await index_of(file_uuid)
        stored = await context.people.get_trace(file_uuid, trace_id)
        if stored is None:
            raise TraceNotFound(file_uuid, trace_id)
        record, boxes = stored
        shown, next_frame = boxes_between(boxes, index, start_frame, end_frame, limit)
        return TraceAnswer(file_uuid=file_uuid, **trace_of(record).model_dump(), boxes=shown, next_frame=next_frame)

    @router.get("/file/{file_uuid}/trace/{trace_id}/representative-face")
    async def representative_face(file_uuid: AssetId, trace_id: TraceId) -> RepresentativeAnswer:
        """Return the best single face of a trace: large and sure, and of those the sharpest."""
        await videos.get(file_uuid)
        record, face = await representatives.of(file_uuid, trace_id)
        return RepresentativeAnswer(
            file_uuid=file_uuid,
            trace_id=trace_id,
            face_count=record.face_count,
            representative=_representative(face),
        )

    @router.get("/file/{file_uuid}/trace/{trace_id}/thumbnail", response_class=Response, responses=JPEG)
    async def thumbnail(file_uuid: AssetId, trace_id: TraceId, request: Request) -> Response:
        """Return the representative face as a JPEG of 320 x 320 pixels; it is made when first asked for, and kept."""
        video = await videos.get(file_uuid)
        info = await representatives.picture(file_uuid, trace_id)
        file = StoredFile.derived(video, info, derived_name(video.filename, f"trace {trace_id}", ".jpg"))
        return await send_file(context.objects, request, file, CACHE)

    return router


async def indexed(context: Context, file_uuid: str, *, people: bool = True) -> VideoIndex:
    """Return the index of a video, with ``people`` one for which they were looked for.

    Raises NotIndexed, and ModelNotLoaded where they could not be looked for.
    """
    index = await context.people.get_index(file_uuid)
    if index is None or (people and not index.models):
        raise await not_indexed(context, file_uuid)
    return index


def trace_of(record: TraceRecord) -> Trace:
    """Return what clients see of a trace."""
    return Trace(
        trace_id=record.trace_id,
        first_frame=record.first_frame,
        last_frame=record.last_frame,
        first_time=round(record.first_time, 6),
        last_time=round(record.last_time, 6),
        face_count=record.face_count,
        identity_uuid=record.identity_uuid,
        thumbnail_url=thumbnail_url(record.asset_id, record.trace_id),
    )


def thumbnail_url(file_uuid: str, trace_id: int) -> str:
    """Return the URL of the picture of a trace."""
    return f"/api/v1/file/{file_uuid}/trace/{trace_id}/thumbnail"


def bbox(box: Box) -> BBox:
    """Return what clients see of a box."""
    x, y, width, height = box
    return BBox(x=x, y=y, width=width, height=height)


def boxes_between(
    boxes: TraceBoxes, index: VideoIndex, start_frame: int, end_frame: int | None, limit: int
) -> tuple[list[TraceBox], int | None]:
    """Return what clients see of the boxes between two frames, ``limit`` at most, and the frame of the next one."""
    first = int(np.searchsorted(boxes.frames, start_frame))
    last = len(boxes.frames) if end_frame is None else int(np.searchsorted(boxes.frames, end_frame, "right"))
    shown = range(first, min(last, first + limit))
    following = int(boxes.frames[shown.stop]) if shown.stop < last else None
    return [_box(boxes, place, index) for place in shown], following


def _box(boxes: TraceBoxes, place: int, index: VideoIndex) -> TraceBox:
    return TraceBox(
        frame_number=int(boxes.frames[place]),
        bbox=bbox(whole_box(boxes, place, index)),
        confidence=round(float(boxes.confidences[place]), 4),
        detected=bool(boxes.detected[place]),
    )


def _representative(face: ChosenFace) -> Representative:
    return Representative(
        frame_number=face.frame,
        timestamp_secs=round(face.time, 6),
        bbox=bbox(face.box),
        confidence=round(face.confidence, 4),
        quality_score=face.score,
        blur_score=None if face.blur is None else round(face.blur, 4),
    )
