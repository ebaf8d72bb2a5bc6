"""Routes of objects: what is seen when, where, and a picture of it."""

import hashlib
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from deployments.media.frames import FRAMES, FrameRequest
from graphs.indexing.classes import MOST_TEXT, check_classes, classes_of
from graphs.indexing.objects import objects_folder
from graphs.media.errors import TrackNotFound, objects_missing
from graphs.media.representatives import Box, candidates, whole_box
from graphs.media.schemas import FileObjectsAnswer, FrameNumber, ObjectTrack, ObjectTrackAnswer
from graphs.media.traces import CACHE, boxes_between, indexed
from graphs.web.context import Context
from graphs.web.errors import AssetNotFound
from graphs.web.filenames import derived_name
from graphs.web.files import StoredFile, send_file
from graphs.web.per_asset import SingleFlight
from graphs.web.schemas import BINARY, RANGES, AssetId, Responses
from graphs.web.uploads.library import Videos
from stores import derived
from stores.people import ObjectRecord, TraceBoxes, VideoIndex
from stores.records import to_micros
from vision.errors import InvalidMedia

SIDE: Final = 320
"""Pixels of the longer side of a thumbnail."""
MARGIN: Final = 0.1
"""Of the box, on each side."""
CANDIDATES: Final = 5
"""Frames that are tried where the first ones are damaged."""
JPEG: Final[Responses] = {
    200: {"content": {"image/jpeg": BINARY}, "description": "the object, its longer side 320"},
    **RANGES,
}

TrackId = Annotated[int, Path(ge=0, le=2**31 - 1)]


def objects_router(context: Context, videos: Videos) -> APIRouter:
    """Return the routes objects, object and object thumbnails."""
    router = APIRouter(tags=["media: objects"])
    making = SingleFlight[None]()

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
        """List what is seen when: one track for each uninterrupted stretch of one object.

        A class that the detector does not know is refused, and the error names those that it does.
        """
        index = await index_of(file_uuid)
        wanted, counts = classes_of(classes) or (), await context.people.count_objects(file_uuid)
        await check_classes(context, wanted, counts)
        # One more than asked for tells whether there is a next page.
        records = await context.people.list_objects(
            file_uuid, after=after, limit=limit + 1, labels=wanted, least=min_confidence
        )
        page = [track_of(record) for record in records[:limit]]
        return FileObjectsAnswer(
            file_uuid=file_uuid,
            objects=page,
            counts=counts,
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
        shown, next_frame = boxes_between(boxes, index, start_frame, end_frame, limit)
        return ObjectTrackAnswer(
            file_uuid=file_uuid, **track_of(record).model_dump(), boxes=shown, next_frame=next_frame
        )

    @router.get("/file/{file_uuid}/object/{track_id}/thumbnail", response_class=Response, responses=JPEG)
    async def object_thumbnail(file_uuid: AssetId, track_id: TrackId, request: Request) -> Response:
        """Return the object as a JPEG, from the frame in which it is large and sure; it is made once, and kept."""
        video, index = await videos.get(file_uuid), await index_of(file_uuid)
        _, boxes = await stored_object(file_uuid, track_id)
        key = _picture_key(index, track_id)
        if await context.objects.head(key) is None:
            await making.run(key, lambda: _make(context, index, boxes, key))
        info = await context.objects.head(key)
        if info is None:
            raise AssetNotFound([file_uuid])  # it was deleted meanwhile
        file = StoredFile.derived(video, info, derived_name(video.filename, f"object {track_id}", ".jpg"))
        return await send_file(context.objects, request, file, CACHE)

    return router


def _picture_key(index: VideoIndex, track_id: int) -> str:
    """Return the object key of the picture of an object; another index has others."""
    found_by = hashlib.sha256(f"{to_micros(index.indexed_at)} {index.objects}".encode()).hexdigest()[:16]
    return f"{objects_folder(index.asset_id)}{found_by}-{track_id}.jpg"


async def _make(context: Context, index: VideoIndex, boxes: TraceBoxes, key: str) -> None:
    """Make and store the picture of an object. Raises InvalidMedia where the frames that show it best are damaged."""
    jpeg = await _picture(context, index, boxes)
    await derived.put(context.objects, context.settings.spool, key, jpeg, "image/jpeg")
    if await context.people.get_index(index.asset_id) is None:
        await context.objects.delete(key)  # it was deleted meanwhile


async def _picture(context: Context, index: VideoIndex, boxes: TraceBoxes) -> bytes:
    for place in candidates(boxes, CANDIDATES):
        crop = around(whole_box(boxes, place, index), index)
        scale = SIDE / max(crop[2:])
        size = max(1, round(crop[2] * scale)), max(1, round(crop[3] * scale))
        try:
            request = FrameRequest(index.asset_id, int(boxes.frames[place]), crop=crop, size=size)
            return (await context.stage(FRAMES)(request)).jpeg
        except InvalidMedia:
            continue  # this frame is damaged; another one may be whole
    raise InvalidMedia("The frames that show this object best are damaged.")


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
        thumbnail_url=thumbnail_url(record.asset_id, record.track_id),
    )


def thumbnail_url(file_uuid: str, track_id: int) -> str:
    """Return the URL of the picture of an object."""
    return f"/api/v1/file/{file_uuid}/object/{track_id}/thumbnail"


def around(box: Box, index: VideoIndex) -> Box:
    """Return a box with its margin, inside the frame."""
    x, y, width, height = box
    across, down = round(width * MARGIN), round(height * MARGIN)
    left, top = max(0, x - across), max(0, y - down)
    return left, top, min(index.width, x + width + across) - left, min(index.height, y + height + down) - top
