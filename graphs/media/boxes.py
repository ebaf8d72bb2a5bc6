"""Boxes of stored traces, as they are drawn into a video."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from graphs.media.errors import TraceNotFound, not_indexed
from graphs.media.spans import Span
from graphs.web.context import Context, task_group
from stores.people import TraceBoxes, TraceRecord
from vision.media.overlay import PALETTE
from vision.media.plan import BoxTrack

AROUND_S: Final = 1.0
"""Traces that end or begin so near to a part are read too, as times of traces are rounded."""


class Boxes:
    """Read the boxes of a video's traces, labelled and in colours."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def of_all(self, file_uuid: str, span: Span) -> BoxTrack | None:
        """Return the boxes of all traces in this part; None for a video that is not indexed."""
        if await self._context.people.get_index(file_uuid) is None:
            return None
        records = await self._context.people.list_traces(file_uuid)
        async with task_group() as group:
            tasks = [
                group.create_task(self._context.people.get_trace(file_uuid, record.trace_id))
                for record in records
                if _overlaps(record, span)
            ]
        traces = [task.result() for task in tasks]
        return await self._track([trace for trace in traces if trace is not None], _colours(records))

    async def of_one(self, file_uuid: str, trace_id: int) -> tuple[TraceRecord, BoxTrack]:
        """Return one trace and its boxes. Raises NotIndexed and TraceNotFound."""
        trace = await self._context.people.get_trace(file_uuid, trace_id)
        if trace is None:
            if await self._context.people.get_index(file_uuid) is None:
                raise await not_indexed(self._context, file_uuid)
            raise TraceNotFound(file_uuid, trace_id)
        records = await self._context.people.list_traces(file_uuid)
        return trace[0], await self._track([trace], _colours(records))

    async def _track(self, traces: Sequence[tuple[TraceRecord, TraceBoxes]], colours: dict[str | int, int]) -> BoxTrack:
        identities = await self._context.people.get_identities(
            {record.identity_uuid for record, _ in traces if record.identity_uuid}
        )
        labels = []
        for record, _ in traces:
            identity = identities.get(record.identity_uuid or "")
            name = identity.name if identity else None
            labels.append(f"{name} ({record.trace_id})" if name else f"trace {record.trace_id}")
        sizes = [len(boxes.frames) for _, boxes in traces]
        frames = np.concatenate([boxes.frames for _, boxes in traces] or [np.zeros(0, np.int64)])
        order = np.argsort(frames, kind="stable")
        boxes = np.concatenate([boxes.boxes for _, boxes in traces] or [np.zeros((0, 4), np.float32)])
        return BoxTrack(
            frames=frames[order],
            boxes=boxes[order],
            colours=np.repeat(np.array([colours[_person(record)] for record, _ in traces], np.int32), sizes)[order],
            names=np.repeat(np.arange(len(traces), dtype=np.int32), sizes)[order],
            labels=tuple(labels),
        )


def _person(trace: TraceRecord) -> str | int:
    return trace.identity_uuid or trace.trace_id


def _colours(traces: Sequence[TraceRecord]) -> dict[str | int, int]:
    """Return a colour for each person, in order of appearance.

    Where there are more people than colours, whoever appears gets one that nobody has who is on the screen then.
    """
    colours: dict[str | int, int] = {}
    on_screen: list[tuple[int, int]] = []
    for trace in sorted(traces, key=lambda trace: (trace.first_frame, trace.trace_id)):
        on_screen = [(last, colour) for last, colour in on_screen if last >= trace.first_frame]
        person = _person(trace)
        if person not in colours:
            taken = {colour for _, colour in on_screen}
            free = ((len(colours) + step) % len(PALETTE) for step in range(len(PALETTE)))
            colours[person] = next((colour for colour in free if colour not in taken), len(colours) % len(PALETTE))
        on_screen.append((trace.last_frame, colours[person]))
    return colours


def _overlaps(trace: TraceRecord, span: Span) -> bool:
    if span.start_frame is not None and span.end_frame is not None:
        return trace.last_frame >= span.start_frame and trace.first_frame <= span.end_frame
    if span.start_time is not None and span.end_time is not None and span.fps is None:
        return trace.last_time >= span.start_time - AROUND_S and trace.first_time <= span.end_time + AROUND_S
    return True
