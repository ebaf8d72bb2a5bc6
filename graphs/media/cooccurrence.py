"""Routes of co-occurrence: where two people, two objects, or a person and an object are in the same frames of a film.

A person is there where the face is seen, and, for the route of any two, also where it is turned away and the track of
the body goes on that the face is inside of. Nobody co-occurs with themselves: two traces and tracks count as two only
where they are of different people or objects, so of a class with itself there have to be two at once.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray

from graphs.indexing.classes import check_classes
from graphs.media.boxes import FACE, Key, owner_of, person_of
from graphs.media.errors import NeverTogether, TraceNotFound, TrackNotFound, not_indexed, objects_missing
from graphs.media.identities import IdentityId, known_identity, known_pair
from graphs.media.objects import thumbnail_url as object_url
from graphs.media.representatives import Representatives
from graphs.media.schemas import (
    Cooccurrence,
    CooccurrenceAnswer,
    CooccurringPerson,
    CooccurringSide,
    FirstCooccurrence,
    RepresentativeFace,
    SharedStretch,
    SidesAnswer,
)
from graphs.media.traces import bbox, indexed
from graphs.media.traces import thumbnail_url as face_url
from graphs.web.context import Context, task_group
from graphs.web.schemas import AssetId
from graphs.web.uploads.library import Videos
from stores.people import Identity, ObjectRecord, TraceRecord, VideoIndex
from vision.errors import InvalidInput
from vision.objects.classes import class_name

READS_AT_ONCE: Final = 16
FORMS: Final = "identity:<identity_uuid>, class:<name>, trace:<trace_id> or object:<track_id>"
SideText = Annotated[
    str,
    Query(
        min_length=1,
        max_length=100,
        description=f"{FORMS}; the class face stands for the faces of everybody",
        examples=["identity:1c816d3e-771e-58d8-aa04-c2f1e35528dc", "class:dog"],
    ),
]
Frames = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """One trace or track: ``key`` is whose it is, ``frames`` int64[n], ascending, those that it is seen in."""

    key: Key
    record: TraceRecord | ObjectRecord
    frames: Frames


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of the two, as a request names it, with its traces, and its tracks: of a person those of the body."""

    text: str
    name: str | None
    is_person: bool
    traces: Sequence[TraceRecord] = ()
    tracks: Sequence[ObjectRecord] = ()

    @property
    def records(self) -> list[TraceRecord | ObjectRecord]:
        """Return its traces and tracks."""
        return [*self.traces, *self.tracks]


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """An indexed film with all its traces and objects."""

    context: Context
    index: VideoIndex
    traces: Sequence[TraceRecord]
    objects: Sequence[ObjectRecord]
    persons: Mapping[int, Key] = field(default_factory=dict)
    """Whose each trace is."""

    @classmethod
    async def read(cls, context: Context, index: VideoIndex) -> "Film":
        """Return a film from the store."""
        traces = await context.people.list_traces(index.asset_id)
        objects = await context.people.list_objects(index.asset_id)
        return cls(context, index, traces, objects, {trace.trace_id: person_of(trace) for trace in traces})

    async def side(self, text: str, parameter: str, min_confidence: float) -> Side:
        """Return what a request names; of a class only tracks of at least this mean confidence.

        Raises InvalidInput, NotIndexed, ModelNotLoaded, IdentityNotFound, TraceNotFound and TrackNotFound.
        """
        kind, _, value = (part.strip() for part in text.partition(":"))
        if kind == "class" and value:
            return await self._class(class_name(value), min_confidence)
        if kind == "identity" and value:
            await self._require_people()
            identity = await known_identity(self.context, value)
            own = [trace for trace in self.traces if trace.identity_uuid == identity.identity_uuid]
            return self._person(f"identity:{identity.identity_uuid}", identity.name, own)
        if kind in ("trace", "object") and value.isdecimal() and value.isascii():
            return await (self._trace if kind == "trace" else self._object)(int(value))
        raise InvalidInput(f"{parameter} is {text!r}; it has to be {FORMS}.")

    async def _class(self, name: str, min_confidence: float) -> Side:
        if name == FACE:
            await self._require_people()
            return Side(f"class:{FACE}", FACE, False, self.traces)
        await self._require_objects()
        labels = {each.label for each in self.objects}
        await check_classes(self.context, [name], {FACE, *labels})
        tracks = [each for each in self.objects if each.label == name and each.confidence >= min_confidence]
        return Side(f"class:{name}", name, False, (), tracks)

    async def _trace(self, number: int) -> Side:
        await self._require_people()
        own = [trace for trace in self.traces if trace.trace_id == number]
        if not own:
            raise TraceNotFound(self.index.asset_id, number)
        known = await self.context.people.get_identities([each.identity_uuid for each in own if each.identity_uuid])
        name = next((identity.name for identity in known.values()), None)
        return self._person(f"trace:{number}", name, own)

    async def _object(self, number: int) -> Side:
        await self._require_objects()
        own = [each for each in self.objects if each.track_id == number]
        if not own:
            raise TrackNotFound(self.index.asset_id, number)
        return Side(f"object:{number}", own[0].label, False, (), own)

    def _person(self, text: str, name: str | None, traces: Sequence[TraceRecord]) -> Side:
        inside = {trace.trace_id for trace in traces}
        return Side(text, name, True, traces, [each for each in self.objects if each.trace_id in inside])

    async def _require_people(self) -> None:
        if not self.index.models:
            raise await not_indexed(self.context, self.index.asset_id)

    async def _require_objects(self) -> None:
        if self.index.objects is None:
            raise await objects_missing(self.context, self.index.asset_id)

    async def appearances(self, side: Side, other: Side) -> list[Appearance]:
        """Return the traces and tracks of a side that may be in one frame with those of the other."""
        seen = _seen_before(other.records, self.frame_count)
        slots = asyncio.Semaphore(READS_AT_ONCE)

        async def appearance(record: TraceRecord | ObjectRecord) -> Appearance | None:
            if isinstance(record, ObjectRecord):  # a track has no gaps, a trace may have some
                frames = np.arange(record.first_frame, record.last_frame + 1)
                return Appearance(owner_of(record, self.persons), record, frames)
            async with slots:
                stored = await self.context.people.get_trace(self.index.asset_id, record.trace_id)
            return None if stored is None else Appearance(person_of(record), record, stored[1].frames)

        near = [each for each in side.records if seen[each.last_frame + 1] > seen[each.first_frame]]
        async with task_group() as group:
            tasks = [group.create_task(appearance(each)) for each in near]
        return [found for task in tasks if (found := task.result()) is not None]

    @property
    def frame_count(self) -> int:
        """Return the number of its frames."""
        return max([self.index.frame_count, *(each.last_frame + 1 for each in self.records)])

    @property
    def records(self) -> list[TraceRecord | ObjectRecord]:
        """Return all traces and objects."""
        return [*self.traces, *self.objects]

    def seconds(self, frames: Iterable[int]) -> list[float]:
        """Return when frames begin: exactly where traces and tracks begin or end, between those as at an even rate."""
        times = {0: 0.0, self.frame_count: self.index.duration}
        for each in self.objects:
            times[each.last_frame + 1] = each.first_time + each.screen_time
        for record in self.records:
            times |= {record.first_frame: record.first_time, record.last_frame: record.last_time}
        known = sorted(times)
        seconds = np.interp(list(frames), known, [times[each] for each in known])
        return [round(float(each), 6) for each in seconds]


def cooccurrence_router(context: Context, videos: Videos, representatives: Representatives) -> APIRouter:
    """Return the routes co-occurrence, and co-occur-with of two identities."""
    router = APIRouter(tags=["media: people"])

    @router.get("/file/{file_uuid}/co-occurrence")
    async def co_occurrence(
        file_uuid: AssetId,
        a: SideText,
        b: SideText,
        min_confidence: Annotated[
            float, Query(ge=0, le=1, description="least mean confidence of a class's tracks")
        ] = 0,
        limit: Annotated[int, Query(ge=1, le=1000, description="stretches that are listed, the first ones")] = 100,
    ) -> SidesAnswer:
        """Return where any two are in the same frames: people, classes of objects, single traces and tracks.

        Somebody is there also where the face is turned away, as long as the body is followed that it belongs to;
        `frames_without_face` says how often that is. A class co-occurs with itself where there are two of it at once.
        """
        await videos.get(file_uuid)
        film = await Film.read(context, await indexed(context, file_uuid, people=False))
        first, second = await film.side(a, "a", min_confidence), await film.side(b, "b", min_confidence)
        is_twice = first.text == second.text
        if is_twice and not first.text.startswith("class:"):
            raise InvalidInput(f"{first.text} is named twice; name two, or a class that there may be two of.")
        ours = await film.appearances(first, second)
        theirs = ours if is_twice else await film.appearances(second, first)
        shared = await asyncio.to_thread(shared_frames, ours, theirs, film.frame_count)
        if not len(shared):
            raise NeverTogether(f"{first.text} and {second.text} share no frame of {file_uuid}.")
        runs = np.split(shared, np.flatnonzero(np.diff(shared) > 1) + 1)
        starts, ends = [int(run[0]) for run in runs], [int(run[-1]) for run in runs]
        begin, end = film.seconds(starts), film.seconds(last + 1 for last in ends)
        one, other = pair_at(ours, theirs, starts[0])
        return SidesAnswer(
            file_uuid=file_uuid,
            a=_shown(first, one, ours, shared),
            b=_shown(second, other, theirs, shared),
            first_cooccurrence=FirstCooccurrence(frame_number=starts[0], timestamp_secs=begin[0]),
            total_cooccurrence_frames=len(shared),
            total_cooccurrence_secs=round(sum(end) - sum(begin), 6),
            stretches=[
                SharedStretch(start_frame=start, end_frame=last, start_time=since, end_time=until)
                for start, last, since, until in list(zip(starts, ends, begin, end, strict=True))[:limit]
            ],
            stretch_count=len(runs),
        )

    @router.get("/file/{file_uuid}/identities/{identity_uuid_a}/co-occur-with/{identity_uuid_b}")
    async def co_occur(
        file_uuid: AssetId, identity_uuid_a: IdentityId, identity_uuid_b: IdentityId
    ) -> CooccurrenceAnswer:
        """Return the first frame that the faces of two people share, how many they share, and a face of each."""
        await videos.get(file_uuid)
        film = await Film.read(context, await indexed(context, file_uuid))
        first, second = await known_pair(context, identity_uuid_a, identity_uuid_b)
        sides = [_faces_of(film, first), _faces_of(film, second)]
        ours, theirs = await film.appearances(*sides), await film.appearances(*reversed(sides))
        shared = await asyncio.to_thread(shared_frames, ours, theirs, film.frame_count)
        if not len(shared):
            raise NeverTogether(f"{first.identity_uuid} and {second.identity_uuid} share no frame of {file_uuid}.")
        frame = int(shared[0])
        trace_a, trace_b = (_number(each) for each in pair_at(ours, theirs, frame))

        async def face_of(trace_id: int) -> RepresentativeFace:
            _, face = await representatives.of(file_uuid, trace_id)
            return RepresentativeFace(
                frame_number=face.frame,
                bbox=bbox(face.box),
                confidence=round(face.confidence, 4),
                thumbnail_url=face_url(file_uuid, trace_id),
            )

        async with task_group() as group:
            face_a, face_b = group.create_task(face_of(trace_a)), group.create_task(face_of(trace_b))
        return CooccurrenceAnswer(
            file_uuid=file_uuid,
            identity_a=CooccurringPerson(identity_uuid=first.identity_uuid, name=first.name, trace_id=trace_a),
            identity_b=CooccurringPerson(identity_uuid=second.identity_uuid, name=second.name, trace_id=trace_b),
            first_cooccurrence=Cooccurrence(
                frame_number=frame,
                timestamp_secs=film.seconds([frame])[0],
                total_cooccurrence_frames=len(shared),
                representative_face_a=face_a.result(),
                representative_face_b=face_b.result(),
            ),
        )

    return router


def shared_frames(ours: Sequence[Appearance], theirs: Sequence[Appearance], frame_count: int) -> Frames:
    """Return the frames, ascending, in which there is one of ours and another one, of somebody else, of theirs."""
    first, second = _by_key(ours), _by_key(theirs)
    pairs, same = np.zeros((2, frame_count), np.int64), np.zeros(frame_count, np.int64)
    for count, frames_by_key in zip(pairs, (first, second), strict=True):
        for frames in frames_by_key.values():
            count[frames] += 1
    for key in first.keys() & second.keys():
        same[np.intersect1d(first[key], second[key], assume_unique=True)] += 1
    return np.flatnonzero(pairs[0] * pairs[1] > same)


def pair_at(ours: Sequence[Appearance], theirs: Sequence[Appearance], frame: int) -> tuple[Appearance, Appearance]:
    """Return who is in a shared frame, one of each side: by their faces, where these are seen."""
    pairs = ((one, other) for one in _at(ours, frame) for other in _at(theirs, frame) if one.key != other.key)
    return min(pairs, key=lambda pair: [isinstance(each.record, ObjectRecord) for each in pair])


def _at(appearances: Sequence[Appearance], frame: int) -> list[Appearance]:
    return [each for each in appearances if frame in each.frames]


def _by_key(appearances: Sequence[Appearance]) -> dict[Key, Frames]:
    """Return the frames of everybody, each frame once."""
    frames = defaultdict[Key, list[Frames]](list)
    for each in appearances:
        frames[each.key].append(each.frames)
    return {key: np.unique(np.concatenate(its)) for key, its in frames.items()}


def _seen_before(records: Sequence[TraceRecord | ObjectRecord], frame_count: int) -> Frames:
    """Return int64[frame_count + 1], before each frame how many there are in which one of the records is seen."""
    edges = np.zeros(frame_count + 1, np.int64)
    np.add.at(edges, [each.first_frame for each in records], 1)
    np.add.at(edges, [each.last_frame + 1 for each in records], -1)
    return np.concatenate([[0], np.cumsum(np.cumsum(edges[:-1]) > 0)])


def _faces_of(film: Film, identity: Identity) -> Side:
    own = [trace for trace in film.traces if trace.identity_uuid == identity.identity_uuid]
    return Side(identity.identity_uuid, identity.name, True, own)


def _number(appearance: Appearance) -> int:
    record = appearance.record
    return record.track_id if isinstance(record, ObjectRecord) else record.trace_id


def _shown(side: Side, first: Appearance, appearances: Sequence[Appearance], shared: Frames) -> CooccurringSide:
    is_track, number = isinstance(first.record, ObjectRecord), _number(first)
    without_face = None
    if side.is_person:
        faces = [each.frames for each in appearances if isinstance(each.record, TraceRecord)]
        without_face = len(np.setdiff1d(shared, np.concatenate([np.zeros(0, np.int64), *faces])))
    return CooccurringSide(
        what=side.text,
        name=side.name,
        seen_by="face" if not is_track else "body" if side.is_person else "object",
        trace_id=None if is_track else number,
        track_id=number if is_track else None,
        thumbnail_url=(object_url if is_track else face_url)(first.record.asset_id, number),
        frames_without_face=without_face,
    )
