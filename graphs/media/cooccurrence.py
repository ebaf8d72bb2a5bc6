"""Routes of the people of one video: who is in it, and where two of them are together."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Path
from numpy.typing import NDArray

from graphs.media.errors import IdentityNotFound, NeverTogether
from graphs.media.models import (
    Cooccurrence,
    CooccurrenceAnswer,
    CooccurringPerson,
    FilePeopleAnswer,
    FilePerson,
    RepresentativeFace,
)
from graphs.media.representatives import Representatives
from graphs.media.results import bbox, indexed, thumbnail_url
from graphs.web.context import Context, task_group
from graphs.web.schemas import AssetId
from graphs.web.uploads.library import Videos
from stores.people import Identity, TraceRecord
from vision.errors import InvalidInput

IDENTITY_LENGTH: Final = 64
IdentityId = Annotated[str, Path(max_length=IDENTITY_LENGTH)]


def cooccurrence_router(context: Context, videos: Videos, representatives: Representatives) -> APIRouter:
    """identities of a file, co-occur-with."""
    router = APIRouter(tags=["media: people"])

    @router.get("/file/{file_uuid}/identities")
    async def people(file_uuid: AssetId) -> FilePeopleAnswer:
        """Who is in this video."""
        await videos.get(file_uuid)
        await indexed(context, file_uuid)
        traces = await context.people.list_traces(file_uuid)
        by_person: dict[str | None, list[TraceRecord]] = defaultdict(list)
        for trace in traces:
            by_person[trace.identity_uuid].append(trace)
        nobody = by_person.pop(None, [])
        named = await context.people.get_identities([uuid for uuid in by_person if uuid is not None])
        found = [_person(named.get(uuid or ""), uuid or "", its) for uuid, its in by_person.items()]
        return FilePeopleAnswer(
            file_uuid=file_uuid,
            identities=sorted(found, key=lambda person: person.first_frame),
            unassigned_traces=len(nobody),
        )

    @router.get("/file/{file_uuid}/identities/{identity_uuid_a}/co-occur-with/{identity_uuid_b}")
    async def co_occur(
        file_uuid: AssetId, identity_uuid_a: IdentityId, identity_uuid_b: IdentityId
    ) -> CooccurrenceAnswer:
        """The first frame that two people share, how many they share, and a face of each."""
        await videos.get(file_uuid)
        await indexed(context, file_uuid)
        first, second = await known_pair(context, identity_uuid_a, identity_uuid_b)
        ones, others = await _frames(context, file_uuid, first), await _frames(context, file_uuid, second)
        shared = np.intersect1d(_all(ones), _all(others))
        if not len(shared):
            raise NeverTogether(f"{first.identity_uuid} and {second.identity_uuid} share no frame of {file_uuid}.")
        frame = int(shared[0])
        trace_a, trace_b = _trace_at(ones, frame), _trace_at(others, frame)

        async def face(trace_id: int) -> RepresentativeFace:
            _, chosen, _ = await representatives.chosen(file_uuid, trace_id)
            return RepresentativeFace(
                frame_number=chosen.frame,
                bbox=bbox(chosen.box),
                confidence=round(chosen.confidence, 4),
                thumbnail_url=thumbnail_url(file_uuid, trace_id),
            )

        async with task_group() as group:
            face_a, face_b = group.create_task(face(trace_a)), group.create_task(face(trace_b))
        return CooccurrenceAnswer(
            file_uuid=file_uuid,
            identity_a=CooccurringPerson(identity_uuid=first.identity_uuid, name=first.name, trace_id=trace_a),
            identity_b=CooccurringPerson(identity_uuid=second.identity_uuid, name=second.name, trace_id=trace_b),
            first_cooccurrence=Cooccurrence(
                frame_number=frame,
                timestamp_secs=await _time_of(context, file_uuid, frame),
                total_cooccurrence_frames=len(shared),
                representative_face_a=face_a.result(),
                representative_face_b=face_b.result(),
            ),
        )

    return router


async def known_identity(context: Context, identity_uuid: str) -> Identity:
    """Raises IdentityNotFound."""
    found = (await context.people.get_identities([identity_uuid])).get(identity_uuid)
    if found is None:
        raise IdentityNotFound(identity_uuid)
    return found


async def known_pair(context: Context, first: str, second: str) -> tuple[Identity, Identity]:
    """Two different identities. Raises IdentityNotFound, and InvalidInput for the same one twice."""
    if first == second:
        raise InvalidInput(f"{first} is named twice; name two different identities.")
    return await known_identity(context, first), await known_identity(context, second)


def _person(identity: Identity | None, identity_uuid: str, traces: Sequence[TraceRecord]) -> FilePerson:
    best = max(traces, key=lambda trace: trace.face_count)
    return FilePerson(
        identity_uuid=identity_uuid,
        name=identity.name if identity else None,
        trace_ids=[trace.trace_id for trace in traces],
        face_count=sum(trace.face_count for trace in traces),
        first_frame=min(trace.first_frame for trace in traces),
        last_frame=max(trace.last_frame for trace in traces),
        first_time=round(min(trace.first_time for trace in traces), 6),
        last_time=round(max(trace.last_time for trace in traces), 6),
        thumbnail_url=thumbnail_url(best.asset_id, best.trace_id),
    )


async def _frames(context: Context, file_uuid: str, identity: Identity) -> dict[int, NDArray[np.int64]]:
    """Frames of each trace of a person in this video."""
    traces = await context.people.list_traces(file_uuid, identity_uuid=identity.identity_uuid)
    found = [await context.people.get_trace(file_uuid, trace.trace_id) for trace in traces]
    return {record.trace_id: boxes.frames for record, boxes in filter(None, found)}


def _all(frames: dict[int, NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *frames.values()])


def _trace_at(frames: dict[int, NDArray[np.int64]], frame: int) -> int:
    return next(trace_id for trace_id, its in frames.items() if frame in its)


async def _time_of(context: Context, file_uuid: str, frame: int) -> float:
    """Seconds of a frame: exact where a trace begins or ends, as the first one of two people does; between, linear."""
    times = {0: 0.0}
    for trace in await context.people.list_traces(file_uuid):
        times |= {trace.first_frame: trace.first_time, trace.last_frame: trace.last_time}
    frames = sorted(times)
    return round(float(np.interp(frame, frames, [times[each] for each in frames])), 6)
