"""Routes of objects: what is seen when, where, and a picture of it."""

from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from deployments.media.frames import FRAMES, FrameRequest
from graphs.indexing.classes import MOST_TEXT, classes_of
from graphs.media.errors import TrackNotFound, objects_missing
from graphs.media.representatives import Box, candidates, whole_box
from graphs.media.schemas import FileObjectsAnswer, FrameNumber, ObjectTrack, ObjectTrackAnswer
from graphs.media.traces import CACHED, box_of, indexed
from graphs.web.context import Context
from graphs.web.filenames import content_disposition, derived_name
from graphs.web.schemas import BINARY, AssetId, Responses
from graphs.web.uploads.library import Videos
from stores.people import ObjectRecord, TraceBoxes, VideoIndex

SIDE: Final = 320
"""Pixels of the longer side of a thumbnail."""
MARGIN: Final = 0.1
"""Of the box, on each side."""
JPEG: Final[Responses] = {200: {"content": {"image/jpeg": BINARY}, "description": "the object, its longer side 320"}}

TrackId = Annotated[int, Path(ge=0, le=2**31 - 1)]


def objects_router(context: Context, videos: Videos) -> APIRouter:
    """Return the routes objects, object and object thumbnails."""
    router = APIRouter(tags=["media: objects"])

    async def index_of(file_uuid: str) -> VideoIndex:
        await videos.get(file_uuid)
        index = await indexed(context, file_uuid, people=False)
        if index.objects is None:
            raise await objects_missing(context, file_uuid)
        return index

    async def stored_object(file_uuid: str, track_id: int) -> tuple[ObjectRecord, TraceBoxes]:
        stored = await context.people.get_object(file_uuid, track_id)
        if stored is None:
            raise TrackNotFound(file_uuid, track_id)
        return stored

    @router.get("/file/{file_uuid}/objects")
    async def objects(
        file_uuid: AssetId,
        classes: Annotated[
            str | None,
            Query(max_length=MOST_TEXT, description="only these classes, separated by commas", examples=["dog,car"]),
        ] = None,
        min_confidence: Annotated[float, Query(ge=0, le=1, description="least mean confidence of a track")] = 0.0,
        after: Annotated[int, Query(ge=-1, description="``next`` of the page before")] = -1,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> FileObjectsAnswer:
        """List what is seen when: one track for each uninterrupted stretch of one object."""
        index = await index_of(file_uuid)
        # One more than asked for tells whether there is a next page.
        records = await context.people.list_objects(
            file_uuid, after=after, limit=limit + 1, labels=classes_of(classes) or (), least=min_confidence
        )
        page = [track_of(record) for record in records[:limit]]
        return FileObjectsAnswer(
            file_uuid=file_uuid,
            objects=page,
            counts=await context.people.count_objects(file_uuid),
            total=index.object_count,
            object_models=index.objects or "",
            next=page[-1].track_id if len(records) > limit else None,
        )

    @router.get("/file/{file_uuid}/object/{track_id}")
    async def object_track(
        file_uuid: AssetId,
        track_id: TrackId,
        start_frame: Annotated[FrameNumber, Query(description="the first frame of interest")] = 0,
        end_frame: Annotated[FrameNumber | None, Query(description="the last one")] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> ObjectTrackAnswer:
        """Return where one object is, frame by frame."""
        index = await index_of(file_uuid)
        record, boxes = await stored_object(file_uuid, track_id)
        first = int(np.searchsorted(boxes.frames, start_frame))
        last = len(boxes.frames) if end_frame is None else int(np.searchsorted(boxes.frames, end_frame, "right"))
        shown = range(first, min(last, first + limit))
        return ObjectTrackAnswer(
            file_uuid=file_uuid,
            **track_of(record).model_dump(),
            boxes=[box_of(boxes, place, index) for place in shown],
            next_frame=int(boxes.frames[shown.stop]) if shown.stop < last else None,
        )

    @router.get("/file/{file_uuid}/object/{track_id}/thumbnail", response_class=Response, responses=JPEG)
    async def object_thumbnail(file_uuid: AssetId, track_id: TrackId) -> Response:
        """Return the object as a JPEG, from the frame in which it is large and sure."""
        video, index = await videos.get(file_uuid), await index_of(file_uuid)
        _, boxes = await stored_object(file_uuid, track_id)
        place = candidates(boxes, 1)[0]
        crop = around(whole_box(boxes, place, index), index)
        scale = SIDE / max(crop[2:])
        size = max(1, round(crop[2] * scale)), max(1, round(crop[3] * scale))
        picture = await context.stage(FRAMES)(FrameRequest(file_uuid, int(boxes.frames[place]), crop=crop, size=size))
        name = content_disposition(derived_name(video.filename, f"object {track_id}", ".jpg"))
        return Response(picture.jpeg, media_type="image/jpeg", headers={**CACHED, "content-disposition": name})

    return router


def track_of(record: ObjectRecord) -> ObjectTrack:
    """Return what clients see of the track of an object."""
    return ObjectTrack(
        track_id=record.track_id,
        label=record.label,
        first_frame=record.first_frame,
        last_frame=record.last_frame,
        first_time=round(record.first_time, 6),
        last_time=round(record.last_time, 6),
        sightings=record.sightings,
        confidence=round(record.confidence, 4),
        screen_time=round(record.screen_time, 6),
        trace_id=record.trace_id,
        thumbnail_url=f"/api/v1/file/{record.asset_id}/object/{record.track_id}/thumbnail",
    )


def around(box: Box, index: VideoIndex) -> Box:
    """Return a box with its margin, inside the frame."""
    x, y, width, height = box
    across, down = round(width * MARGIN), round(height * MARGIN)
    left, top = max(0, x - across), max(0, y - down)
    return left, top, min(index.width, x + width + across) - left, min(index.height, y + height + down) - top
