"""Routes of what indexing found: traces, their boxes, the faces that stand for them."""

from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from graphs.media.errors import NotIndexed, TraceNotFound
from graphs.media.models import BBox, Representative, RepresentativeAnswer, TraceAnswer, TraceBox, TracesAnswer
from graphs.media.models import Trace as TraceModel
from graphs.media.representatives import Box, Chosen, Representatives, whole_box
from graphs.media.spans import FrameNumber
from graphs.web.context import Context
from graphs.web.schemas import AssetId, Responses
from graphs.web.uploads.library import Videos
from stores.people import TraceBoxes, TraceRecord, VideoIndex

TraceId = Annotated[int, Path(ge=0, le=2**31 - 1)]
CACHED: Final = {"cache-control": "private, max-age=86400"}
JPEG: Final[Responses] = {200: {"content": {"image/jpeg": {}}, "description": "the face, 320 x 320"}}


def results_router(context: Context, videos: Videos, representatives: Representatives) -> APIRouter:
    """traces, trace, representative-face, trace thumbnails."""
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
        """Who is seen when: one trace for each uninterrupted stretch of one person."""
        index = await index_of(file_uuid)
        # One more than asked for tells whether there is a next page.
        found = await context.people.list_traces(file_uuid, after=after, limit=limit + 1)
        page = [trace_model(trace) for trace in found[:limit]]
        return TracesAnswer(
            file_uuid=file_uuid,
            traces=page,
            total=index.trace_count,
            next=page[-1].trace_id if len(found) > limit else None,
        )

    @router.get("/file/{file_uuid}/trace/{trace_id}")
    async def trace(
        file_uuid: AssetId,
        trace_id: TraceId,
        start_frame: Annotated[FrameNumber, Query(description="the first frame of interest")] = 0,
        end_frame: Annotated[FrameNumber | None, Query(description="the last one")] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> TraceAnswer:
        """Where one person is, frame by frame."""
        index = await index_of(file_uuid)
        found = await context.people.get_trace(file_uuid, trace_id)
        if found is None:
            raise TraceNotFound(file_uuid, trace_id)
        record, boxes = found
        first = int(np.searchsorted(boxes.frames, start_frame))
        last = len(boxes.frames) if end_frame is None else int(np.searchsorted(boxes.frames, end_frame, "right"))
        shown = range(first, min(last, first + limit))
        return TraceAnswer(
            file_uuid=file_uuid,
            **trace_model(record).model_dump(),
            boxes=[_box(boxes, place, index) for place in shown],
            next_frame=int(boxes.frames[shown.stop]) if shown.stop < last else None,
        )

    @router.get("/file/{file_uuid}/trace/{trace_id}/representative-face")
    async def representative_face(file_uuid: AssetId, trace_id: TraceId) -> RepresentativeAnswer:
        """The best single face of a trace: large and sure, and of those the sharpest."""
        await videos.get(file_uuid)
        record, chosen, _ = await representatives.chosen(file_uuid, trace_id)
        return RepresentativeAnswer(
            file_uuid=file_uuid,
            trace_id=trace_id,
            face_count=record.face_count,
            representative=_representative(chosen),
        )

    @router.head("/file/{file_uuid}/trace/{trace_id}/thumbnail", include_in_schema=False)
    @router.get("/file/{file_uuid}/trace/{trace_id}/thumbnail", response_class=Response, responses=JPEG)
    async def thumbnail(file_uuid: AssetId, trace_id: TraceId) -> Response:
        """The representative face as a JPEG of 320 x 320 pixels."""
        await videos.get(file_uuid)
        _, _, jpeg = await representatives.chosen(file_uuid, trace_id)
        return Response(jpeg, media_type="image/jpeg", headers=CACHED)

    return router


async def indexed(context: Context, file_uuid: str) -> VideoIndex:
    """The index of a video. Raises NotIndexed."""
    index = await context.people.get_index(file_uuid)
    if index is None:
        raise NotIndexed(file_uuid)
    return index


def trace_model(trace: TraceRecord) -> TraceModel:
    """What clients see of a trace."""
    return TraceModel(
        trace_id=trace.trace_id,
        first_frame=trace.first_frame,
        last_frame=trace.last_frame,
        first_time=round(trace.first_time, 6),
        last_time=round(trace.last_time, 6),
        face_count=trace.face_count,
        identity_uuid=trace.identity_uuid,
        thumbnail_url=thumbnail_url(trace.asset_id, trace.trace_id),
    )


def thumbnail_url(file_uuid: str, trace_id: int) -> str:
    """Where the picture of a trace is."""
    return f"/api/v1/file/{file_uuid}/trace/{trace_id}/thumbnail"


def bbox(box: Box) -> BBox:
    """What clients see of a box."""
    x, y, width, height = box
    return BBox(x=x, y=y, width=width, height=height)


def _box(boxes: TraceBoxes, place: int, index: VideoIndex) -> TraceBox:
    return TraceBox(
        frame_number=int(boxes.frames[place]),
        bbox=bbox(whole_box(boxes, place, index)),
        confidence=round(float(boxes.confidences[place]), 4),
        detected=bool(boxes.detected[place]),
    )


def _representative(chosen: Chosen) -> Representative:
    return Representative(
        frame_number=chosen.frame,
        timestamp_secs=round(chosen.time, 6),
        bbox=bbox(chosen.box),
        confidence=round(chosen.confidence, 4),
        quality_score=chosen.score,
        blur_score=None if chosen.blur is None else round(chosen.blur, 4),
    )
