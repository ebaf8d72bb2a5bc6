"""The face that stands for a trace: among the largest and surest ones the sharpest.

Two stages: area × confidence leaves ten candidates, detected ones before interpolated ones; FFmpeg's blurdetect picks
among them, on pictures of one size. What it picked is kept until the video is indexed anew.
"""

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from deployments.media.frames import FRAMES, FrameRequest
from deployments.media.sharpness import SHARPNESS
from graphs.indexing.people import faces_folder
from graphs.media.errors import NotIndexed, TraceNotFound
from graphs.web.context import Context, task_group
from stores import derived as belongings
from stores.objects import ObjectNotFound
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
class Chosen:
    """``box``: x, y, width, height in whole pixels; ``score``: area × confidence; ``time`` in seconds."""

    frame: int
    time: float
    box: Box
    confidence: float
    score: float
    blur: float | None


class Representatives:
    """Chooses faces, each once at a time in this process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._room = asyncio.Semaphore(TRACES_AT_ONCE)
        self._choosing: dict[str, asyncio.Task[tuple[Chosen, bytes]]] = {}

    async def chosen(self, file_uuid: str, trace_id: int) -> tuple[TraceRecord, Chosen, bytes]:
        """A trace, the face that stands for it, and a JPEG of it. Raises NotIndexed and TraceNotFound."""
        index = await self._context.people.get_index(file_uuid)
        if index is None:
            raise NotIndexed(file_uuid)
        found = await self._context.people.get_trace(file_uuid, trace_id)
        if found is None:
            raise TraceNotFound(file_uuid, trace_id)
        key = f"{faces_folder(file_uuid)}{to_micros(index.indexed_at)}-{trace_id}"
        try:
            return found[0], *await self._kept(key)
        except ObjectNotFound:
            return found[0], *await self._choose_once(key, index, found[1])

    async def _kept(self, key: str) -> tuple[Chosen, bytes]:
        facts = json.loads(await self._context.objects.get(f"{key}.json"))
        return Chosen(**facts | {"box": tuple(facts["box"])}), await self._context.objects.get(f"{key}.jpg")

    async def _choose_once(self, key: str, index: VideoIndex, boxes: TraceBoxes) -> tuple[Chosen, bytes]:
        task = self._choosing.get(key)
        if task is None:
            task = self._choosing[key] = asyncio.create_task(self._choose(key, index, boxes))
            task.add_done_callback(lambda done: self._was_chosen(key, done))
        # Shielded: one caller that leaves must not take the answer from the others.
        return await asyncio.shield(task)

    def _was_chosen(self, key: str, task: asyncio.Task[tuple[Chosen, bytes]]) -> None:
        self._choosing.pop(key, None)
        if not task.cancelled():
            # Looked at here because every caller may have left; asyncio would report it as lost.
            task.exception()

    async def _choose(self, key: str, index: VideoIndex, boxes: TraceBoxes) -> tuple[Chosen, bytes]:
        async with self._room, task_group() as group:
            looking = [group.create_task(self._look(index, boxes, place)) for place in candidates(boxes, CANDIDATES)]
        looked = [found for task in looking if (found := task.result()) is not None]
        if not looked:
            raise InvalidMedia("The frames that show this face best are damaged.")
        chosen, jpeg = min(looked, key=lambda each: float("inf") if each[0].blur is None else each[0].blur)
        await self._keep(key, index.asset_id, chosen, jpeg)
        return chosen, jpeg

    async def _look(self, index: VideoIndex, boxes: TraceBoxes, place: int) -> tuple[Chosen, bytes] | None:
        frame, confidence = int(boxes.frames[place]), float(boxes.confidences[place])
        box = whole_box(boxes, place, index)
        request = FrameRequest(index.asset_id, frame, crop=square_around(box, index), size=(SIDE, SIDE))
        try:
            picture = await self._context.stage(FRAMES)(request)
        except InvalidMedia:
            return None  # this frame is damaged; another one may be whole
        blur = await self._context.stage(SHARPNESS)(picture.jpeg)
        score = round(box[2] * box[3] * confidence, 2)
        return Chosen(frame, picture.time, box, confidence, score, blur.blur), picture.jpeg

    async def _keep(self, key: str, asset_id: str, chosen: Chosen, jpeg: bytes) -> None:
        objects, spool = self._context.objects, self._context.settings.spool
        # What is looked for first is written last.
        await belongings.put(objects, spool, f"{key}.jpg", jpeg, "image/jpeg")
        await belongings.put(objects, spool, f"{key}.json", json.dumps(asdict(chosen)).encode(), "application/json")
        if await self._context.people.get_index(asset_id) is None:
            await belongings.remove(objects, faces_folder(asset_id))  # it was deleted meanwhile


def candidates(boxes: TraceBoxes, count: int) -> list[int]:
    """Places of the boxes with the greatest area × confidence; interpolated ones only where none was detected."""
    places = np.flatnonzero(boxes.detected)
    if not len(places):
        places = np.arange(len(boxes.frames))
    scores = boxes.boxes[places, 2] * boxes.boxes[places, 3] * boxes.confidences[places]
    best: list[int] = places[np.argsort(-scores, kind="stable")[:count]].tolist()
    return best


def whole_box(boxes: TraceBoxes, place: int, index: VideoIndex) -> Box:
    """A box in whole pixels, one wide and high at least, inside the frame."""
    x, y, width, height = boxes.boxes[place].tolist()
    left, top = min(max(0, round(x)), index.width - 1), min(max(0, round(y)), index.height - 1)
    right, bottom = (
        max(left + 1, min(index.width, round(x + width))),
        max(top + 1, min(index.height, round(y + height))),
    )
    return left, top, right - left, bottom - top


def square_around(box: Box, index: VideoIndex) -> Box:
    """The square about a face that is cut out: as large as the frame allows, moved into it where it reaches beyond."""
    x, y, width, height = box
    side = min(round(CONTEXT * max(width, height)), index.width, index.height)
    left = min(max(0, x + (width - side) // 2), index.width - side)
    top = min(max(0, y + (height - side) // 2), index.height - side)
    return left, top, side, side
