"""Boxes of stored traces and objects, as they are drawn into a video: of all, a choice, or one that it follows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

import numpy as np
from fastapi import Depends, Query

from graphs.indexing.classes import MOST_TEXT, check_classes, classes_of
from graphs.media.errors import TraceNotFound, TrackNotFound, not_indexed
from graphs.media.objects import TrackId
from graphs.media.spans import Span
from graphs.media.traces import TraceId
from graphs.web.context import Context, task_group
from stores.people import ObjectRecord, TraceBoxes, TraceRecord
from vision.media.overlay import PALETTE
from vision.media.plan import BoxTrack

AROUND_S: Final = 1.0
"""Traces that end or begin so near to a part are read too, as times of traces are rounded."""
FACE: Final = "face"
"""What faces are called among the classes of objects."""

Key = str | int | tuple[str, int]
"""Whose a colour is: an identity, a trace of nobody known, or ``("object", track_id)``."""


class Choice(NamedTuple):
    """What is drawn: ``classes`` of objects, and ``face`` for faces, None for all; of at least ``min_confidence``."""

    classes: tuple[str, ...] | None = None
    min_confidence: float = 0.0

    @property
    def faces(self) -> bool:
        """Return whether faces are drawn."""
        return self.classes is None or FACE in self.classes

    @property
    def query(self) -> dict[str, str]:
        """Return the query parameters that make this choice."""
        query = {} if self.classes is None else {"classes": ",".join(self.classes)}
        return query | ({"min_confidence": f"{self.min_confidence:g}"} if self.min_confidence else {})


EVERYTHING: Final = Choice()


async def choice_of(
    classes: Annotated[
        str | None,
        Query(
            max_length=MOST_TEXT,
            description="only these classes of objects, separated by commas; face stands for faces; without it all",
            examples=["dog,car,face"],
        ),
    ] = None,
    min_confidence: Annotated[
        float, Query(ge=0, le=1, description="only what was found with this mean confidence at least", examples=[0.5])
    ] = 0.0,
) -> Choice:
    """Return what is to be drawn. Raises InvalidInput where classes are given, but none is named."""
    return Choice(classes_of(classes), min_confidence)


ChoiceOf = Annotated[Choice, Depends(choice_of)]


class Subject(NamedTuple):
    """What a video follows: the trace or the object of this number."""

    kind: "FollowedKind"
    number: int

    @property
    def label(self) -> str:
        """Return what tells its video from others, for the name of a file."""
        return f"{self.kind.name} {self.number}"

    @property
    def query(self) -> dict[str, str]:
        """Return the query parameter that names it."""
        return {self.kind.parameter: str(self.number)}


class FollowedKind(NamedTuple):
    """A kind of subjects: ``name`` as in paths, ``parameter`` that has its number, ``text`` for descriptions."""

    name: str
    parameter: str
    text: str


TRACE: Final = FollowedKind("trace", "trace_id", "one person, over the frames of the trace")
OBJECT: Final = FollowedKind("object", "track_id", "one object, over the frames of its track")


async def _trace_of_path(trace_id: TraceId) -> Subject:
    return Subject(TRACE, trace_id)


async def _object_of_path(track_id: TrackId) -> Subject:
    return Subject(OBJECT, track_id)


FOLLOWED: Final = ((TRACE, _trace_of_path), (OBJECT, _object_of_path))
"""Each kind, and the dependency that reads a subject from a path with its parameter."""


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """What is drawn in one colour, with one label."""

    key: Key
    label: str
    boxes: TraceBoxes


class Boxes:
    """Read the boxes of a video's traces and objects, labelled and in colours."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._people = context.people

    async def of_all(
        self, file_uuid: str, span: Span, choice: Choice = EVERYTHING, *, numbers: bool = False
    ) -> BoxTrack | None:
        """Return all boxes in this part; None for a video that is not indexed.

        ``numbers``: labels of objects have their number and confidence. Raises InvalidInput for a class that there is
        not.
        """
        if await self._people.get_index(file_uuid) is None:
            return None
        traces = await self._people.list_traces(file_uuid)
        objects = await self._people.list_objects(file_uuid)
        await check_classes(self._context, choice.classes or (), {FACE, *(each.label for each in objects)})
        colours = _colours(traces, objects)
        wanted = [
            each
            for each in objects
            if (choice.classes is None or each.label in choice.classes)
            and each.confidence >= choice.min_confidence
            and _overlaps(each, span)
        ]
        faces = [each for each in traces if choice.faces and _overlaps(each, span)]
        async with task_group() as group:
            face_tasks = [group.create_task(self._people.get_trace(file_uuid, each.trace_id)) for each in faces]
            tasks = [group.create_task(self._people.get_object(file_uuid, each.track_id)) for each in wanted]
        seen = [trace for each in face_tasks if (trace := each.result()) is not None]
        sure = [trace for trace in seen if _confidence(trace[1]) >= choice.min_confidence]
        found = [stored for task in tasks if (stored := task.result()) is not None]
        persons = {trace.trace_id: person_of(trace) for trace in traces}
        things = [_Drawn(owner_of(each, persons), _name(each, numbers=numbers), boxes) for each, boxes in found]
        return _track([*things, *await self._faces(sure)], colours)

    async def check(self, file_uuid: str, choice: Choice) -> None:
        """Raise InvalidInput for a class that there is not."""
        if choice.classes:
            counts = await self._people.count_objects(file_uuid)
            await check_classes(self._context, choice.classes, {FACE, *counts})

    async def of_one(self, file_uuid: str, subject: Subject) -> tuple[TraceRecord | ObjectRecord, BoxTrack]:
        """Return one trace or object and its boxes. Raises NotIndexed, TraceNotFound and TrackNotFound."""
        if subject.kind is OBJECT:
            return await self._object(file_uuid, subject.number)
        return await self._trace(file_uuid, subject.number)

    async def _trace(self, file_uuid: str, trace_id: int) -> tuple[TraceRecord, BoxTrack]:
        trace = await self._people.get_trace(file_uuid, trace_id)
        if trace is None:
            index = await self._people.get_index(file_uuid)
            if index is None or not index.models:
                raise await not_indexed(self._context, file_uuid)
            raise TraceNotFound(file_uuid, trace_id)
        return trace[0], _track(await self._faces([trace]), await self._all_colours(file_uuid))

    async def _object(self, file_uuid: str, track_id: int) -> tuple[ObjectRecord, BoxTrack]:
        stored = await self._people.get_object(file_uuid, track_id)
        if stored is None:
            if await self._people.get_index(file_uuid) is None:
                raise await not_indexed(self._context, file_uuid)
            raise TrackNotFound(file_uuid, track_id)
        record, boxes = stored
        persons = {trace.trace_id: person_of(trace) for trace in await self._people.list_traces(file_uuid)}
        drawn = _Drawn(owner_of(record, persons), f"{record.label} {record.track_id}", boxes)
        return record, _track([drawn], await self._all_colours(file_uuid))

    async def _all_colours(self, file_uuid: str) -> dict[Key, int]:
        return _colours(await self._people.list_traces(file_uuid), await self._people.list_objects(file_uuid))

    async def _faces(self, traces: Sequence[tuple[TraceRecord, TraceBoxes]]) -> list[_Drawn]:
        identities = await self._people.get_identities(
            {record.identity_uuid for record, _ in traces if record.identity_uuid}
        )
        drawn = []
        for record, boxes in traces:
            identity = identities.get(record.identity_uuid or "")
            name = identity.name if identity else None
            label = f"{name} ({record.trace_id})" if name else f"trace {record.trace_id}"
            drawn.append(_Drawn(person_of(record), label, boxes))
        return drawn


def _track(drawn: Sequence[_Drawn], colours: Mapping[Key, int]) -> BoxTrack:
    sizes = [len(each.boxes.frames) for each in drawn]
    frames = np.concatenate([each.boxes.frames for each in drawn] or [np.zeros(0, np.int64)])
    order = np.argsort(frames, kind="stable")
    boxes = np.concatenate([each.boxes.boxes for each in drawn] or [np.zeros((0, 4), np.float32)])
    return BoxTrack(
        frames=frames[order],
        boxes=boxes[order],
        colours=np.repeat(np.array([colours[each.key] for each in drawn], np.int32), sizes)[order],
        names=np.repeat(np.arange(len(drawn), dtype=np.int32), sizes)[order],
        labels=tuple(each.label for each in drawn),
    )


def person_of(trace: TraceRecord) -> Key:
    """Return whose a trace is."""
    return trace.identity_uuid or trace.trace_id


def owner_of(record: ObjectRecord, persons: Mapping[int, Key]) -> Key:
    """Return whose the track of an object is: that of a person whose face is inside it, by their trace, is theirs."""
    own: Key = ("object", record.track_id)
    return own if record.trace_id is None else persons.get(record.trace_id, own)


def _name(record: ObjectRecord, *, numbers: bool) -> str:
    return f"{record.label} {record.track_id} {record.confidence:.2f}" if numbers else record.label


def _confidence(boxes: TraceBoxes) -> float:
    return float(boxes.confidences[boxes.detected].mean()) if boxes.detected.any() else 0.0


def _colours(traces: Sequence[TraceRecord], objects: Sequence[ObjectRecord] = ()) -> dict[Key, int]:
    """Return a colour for each person and object, in order of appearance.

    Where there are more of them than colours, what appears gets one that nothing has which is on the screen then.
    """
    persons = {trace.trace_id: person_of(trace) for trace in traces}
    seen = [(each.first_frame, 0, each.trace_id, each.last_frame, person_of(each)) for each in traces]
    seen += [(each.first_frame, 1, each.track_id, each.last_frame, owner_of(each, persons)) for each in objects]
    colours: dict[Key, int] = {}
    on_screen: list[tuple[int, int]] = []
    for first, _, _, last, key in sorted(seen, key=lambda each: each[:3]):
        on_screen = [(until, colour) for until, colour in on_screen if until >= first]
        if key not in colours:
            taken = {colour for _, colour in on_screen}
            free = ((len(colours) + step) % len(PALETTE) for step in range(len(PALETTE)))
            colours[key] = next((colour for colour in free if colour not in taken), len(colours) % len(PALETTE))
        on_screen.append((last, colours[key]))
    return colours


def _overlaps(record: TraceRecord | ObjectRecord, span: Span) -> bool:
    if span.start_frame is not None and span.end_frame is not None:
        return record.last_frame >= span.start_frame and record.first_frame <= span.end_frame
    if span.start_time is not None and span.end_time is not None and span.fps is None:
        return record.last_time >= span.start_time - AROUND_S and record.first_time <= span.end_time + AROUND_S
    return True
