"""The representative face of a trace: among the largest and surest ones the sharpest.

It is chosen in two steps: area × confidence leaves ten candidates, detected ones before interpolated ones; FFmpeg's
blurdetect picks among them, on pictures of one size. The result is stored until the video is indexed anew.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from deployments.media.frames import FRAMES, FrameRequest
from deployments.media.sharpness import SHARPNESS
from graphs.indexing.people import faces_folder
from graphs.media.errors import TraceNotFound, not_indexed
from graphs.web.context import Context, task_group
from graphs.web.errors import AssetNotFound
from graphs.web.per_asset import SingleFlight
from stores import derived
from stores.objects import ObjectInfo, ObjectNotFound
from stores.people import TraceBoxes, TraceRecord, VideoIndex
from stores.records import to_micros
from vision.errors import InvalidMedia

CANDIDATES: Final = 10
SIDE: Final = 320
"""Pixels of a thumbnail."""
CONTEXT: Final = 1.5
"""Side of the square that is cut out, in longer sides of the face."""
TRACES_AT_ONCE: Final = 4

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ChosenFace:
    """``box``: x, y, width, height in whole pixels; ``score``: area × confidence; ``time`` in seconds."""

    frame: int
    time: float
    box: Box
    confidence: float
    score: float
    blur: float | None


class Representatives:
    """Choose representative faces, each once at a time in this process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._slots = asyncio.Semaphore(TRACES_AT_ONCE)
        self._choosing = SingleFlight[ChosenFace]()

    async def of(self, file_uuid: str, trace_id: int) -> tuple[TraceRecord, ChosenFace]:
        """Return a trace and its representative face. Raises NotIndexed and TraceNotFound."""
        record, key, choose = await self._of(file_uuid, trace_id)
        try:
            facts = json.loads(await self._context.objects.get(f"{key}.json"))
        except ObjectNotFound:
            return record, await self._choosing.run(key, choose)
        return record, ChosenFace(**facts | {"box": tuple(facts["box"])})

    async def picture(self, file_uuid: str, trace_id: int) -> ObjectInfo:
        """Return the stored JPEG of the representative face. Raises NotIndexed and TraceNotFound."""
        _, key, choose = await self._of(file_uuid, trace_id)
        info = await self._context.objects.head(f"{key}.jpg")
        if info is None:
            await self._choosing.run(key, choose)
            info = await self._context.objects.head(f"{key}.jpg")
        if info is None:
            raise AssetNotFound([file_uuid])  # it was deleted meanwhile
        return info

    async def _of(
        self, file_uuid: str, trace_id: int
    ) -> tuple[TraceRecord, str, Callable[[], Coroutine[Any, Any, ChosenFace]]]:
        """Return a trace, the object key of what is stored of its face, and what chooses it. Raises as ``of``."""
        index = await self._context.people.get_index(file_uuid)
        if index is None or not index.models:
            raise await not_indexed(self._context, file_uuid)
        trace = await self._context.people.get_trace(file_uuid, trace_id)
        if trace is None:
            raise TraceNotFound(file_uuid, trace_id)
        record, boxes = trace
        key = f"{faces_folder(file_uuid)}{to_micros(index.indexed_at)}-{trace_id}"
        return record, key, lambda: self._choose(key, index, boxes)

    async def _choose(self, key: str, index: VideoIndex, boxes: TraceBoxes) -> ChosenFace:
        async with self._slots, task_group() as group:
            tasks = [group.create_task(self._measure(index, boxes, place)) for place in candidates(boxes, CANDIDATES)]
        faces = [face for task in tasks if (face := task.result()) is not None]
        if not faces:
            raise InvalidMedia("The frames that show this face best are damaged.")
        best, jpeg = min(faces, key=lambda each: float("inf") if each[0].blur is None else each[0].blur)
        await self._store(key, index.asset_id, best, jpeg)
        return best

    async def _measure(self, index: VideoIndex, boxes: TraceBoxes, place: int) -> tuple[ChosenFace, bytes] | None:
        frame, confidence = int(boxes.frames[place]), float(boxes.confidences[place])
        box = whole_box(boxes, place, index)
        request = FrameRequest(index.asset_id, frame, crop=square_around(box, index), size=(SIDE, SIDE))
        try:
            picture = await self._context.stage(FRAMES)(request)
        except InvalidMedia:
            return None  # this frame is damaged; another one may be whole
        blur = await self._context.stage(SHARPNESS)(picture.jpeg)
        score = round(box[2] * box[3] * confidence, 2)
        return ChosenFace(frame, picture.time, box, confidence, score, blur.blur), picture.jpeg

    async def _store(self, key: str, asset_id: str, face: ChosenFace, jpeg: bytes) -> None:
        objects, spool = self._context.objects, self._context.settings.spool
        await derived.put(objects, spool, f"{key}.json", json.dumps(asdict(face)).encode(), "application/json")
        await derived.put(objects, spool, f"{key}.jpg", jpeg, "image/jpeg")
        if await self._context.people.get_index(asset_id) is None:
            await derived.remove(objects, faces_folder(asset_id))  # it was deleted meanwhile


def candidates(boxes: TraceBoxes, count: int) -> list[int]:
    """Return places of the boxes of greatest area × confidence; interpolated ones only where none was detected."""
    places = np.flatnonzero(boxes.detected)
    if not len(places):
        places = np.arange(len(boxes.frames))
    scores = boxes.boxes[places, 2] * boxes.boxes[places, 3] * boxes.confidences[places]
    best: list[int] = places[np.argsort(-scores, kind="stable")[:count]].tolist()
    return best


def whole_box(boxes: TraceBoxes, place: int, index: VideoIndex) -> Box:
    """Return a box in whole pixels, one wide and high at least, inside the frame."""
    x, y, width, height = boxes.boxes[place].tolist()
    left, top = min(max(0, round(x)), index.width - 1), min(max(0, round(y)), index.height - 1)
    right, bottom = (
        max(left + 1, min(index.width, round(x + width))),
        max(top + 1, min(index.height, round(y + height))),
    )
    return left, top, right - left, bottom - top


def square_around(box: Box, index: VideoIndex) -> Box:
    """Return the square around a face that is cut out: as large as the frame allows, and moved inside it."""
    x, y, width, height = box
    side = min(round(CONTEXT * max(width, height)), index.width, index.height)
    left = min(max(0, x + (width - side) // 2), index.width - side)
    top = min(max(0, y + (height - side) // 2), index.height - side)
    return left, top, side, side
