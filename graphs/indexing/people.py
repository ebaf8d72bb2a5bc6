"""Link the faces of a video to traces, and the traces to people known from other videos and photos, or to new ones."""

import asyncio
import itertools
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deployments.analysis.identities import IDENTITIES
from deployments.analysis.tracks import TRACKS, TrackRequest
from deployments.people.identity import IDENTITY
from deployments.people.video_faces import VIDEO_FACES
from graphs.indexing.checkpoint import check_asset
from graphs.indexing.decode import Timeline
from graphs.indexing.inference import BLANK, detector_version, retry
from graphs.indexing.objects import objects_folder
from graphs.web.context import Context, task_group
from stores import derived
from stores.jobs import Json
from stores.objects import Objects
from stores.people import Identity, ObjectRecord, TraceBoxes, TraceRecord, VideoIndex
from vision.errors import InvalidInput, MediaNotFound
from vision.faces.identities import Assignment, IdentityRequest
from vision.faces.tracking import Detections, Trace

SHOTS_AT_ONCE: Final = 16
LEAST_DETECTIONS: Final = 5
"""Of somebody new; who was seen less often is left without an identity."""
NAMESPACE: Final = uuid.UUID("6f0b6c1e-2f0d-4a64-9c56-6d2b35d8a7b4")


@dataclass(frozen=True, slots=True)
class PeopleModels:
    """``faces``: the version of the detector and its threshold; ``identity``: the version of the recognizer."""

    faces: str
    identity: str

    @property
    def version(self) -> str:
        """Return both in one string."""
        return f"{self.faces}+{self.identity}"

    @classmethod
    async def of(cls, context: Context) -> "PeopleModels":
        """Return those that serve now. Raises ModelNotLoaded and StageUnavailable."""
        detector, identity = await asyncio.gather(
            context.stage(VIDEO_FACES).ready_info(BLANK), identity_version(context)
        )
        return cls(detector_version(detector), identity)


async def identity_version(context: Context) -> str:
    """Return the version of the recognizer; only vectors of one version are compared.

    Raises ModelNotLoaded and StageUnavailable.
    """
    return str((await context.stage(IDENTITY).ready_info((BLANK, ())))["model_version"])


async def link_traces(
    context: Context, detections: Detections, first_frames: Sequence[int], timeline: Timeline
) -> list[Trace]:
    """Return the traces, of which none goes beyond a shot; ``first_frames``: of all shots but the first.

    Shots are linked one by one: the messages stay small, and several are linked at once. Raises StageError.
    """
    bounds = [0, *np.searchsorted(detections.frames, first_frames).tolist(), len(detections.frames)]
    slots = asyncio.Semaphore(SHOTS_AT_ONCE)

    async def link(start: int, end: int) -> tuple[Trace, ...]:
        part = Detections(**{each.name: getattr(detections, each.name)[start:end] for each in fields(Detections)})
        async with slots:
            request = TrackRequest(part, cuts=(), fps=timeline.facts.fps, step=timeline.step)
            return await retry(context.stage(TRACKS), request)

    async with task_group() as group:
        tasks = [group.create_task(link(*ends)) for ends in itertools.pairwise(bounds) if ends[0] < ends[1]]
    return [trace for task in tasks for trace in task.result()]


@dataclass(frozen=True, slots=True, eq=False)
class Assigned:
    """``traces`` of a video as they are stored; ``new``: identities of theirs that are not stored yet."""

    traces: list[tuple[TraceRecord, TraceBoxes]]
    new: list[Identity]

    @property
    def identities(self) -> set[str]:
        """Return the uuids of all whom traces belong to."""
        return {record.identity_uuid for record, _ in self.traces if record.identity_uuid is not None}


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """What identities are told by, of the traces of one video in their order.

    ``vectors`` float32[n, 128] as of ``Trace``, ``spans`` int64[n, 2] first and last frame, ``counts`` int64[n] how
    many detections a vector is the mean of.
    """

    vectors: NDArray[np.float32]
    spans: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, traces: Sequence[Trace]) -> "Faces":
        """Return those of traces that are not stored yet."""
        return cls(
            _stacked([trace.vector for trace in traces]),
            np.array([(trace.frames[0], trace.frames[-1]) for trace in traces], np.int64).reshape(-1, 2),
            np.array([trace.detected.sum() for trace in traces], np.int64),
        )

    @classmethod
    def of_stored(cls, records: Sequence[TraceRecord]) -> "Faces":
        """Return those of stored traces."""
        return cls(
            _stacked([record.vector for record in records]),
            np.array([(record.first_frame, record.last_frame) for record in records], np.int64).reshape(-1, 2),
            np.array([record.face_count for record in records], np.int64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """``uuids``: whose each trace of a video is, None of nobody's; ``new``: those of them that are not stored yet."""

    uuids: list[str | None]
    new: list[Identity]


async def assign_identities(
    context: Context, asset_id: str, traces: Sequence[Trace], times: NDArray[np.float64], model: str
) -> Assigned:
    """Number the traces from 1 and find whose they are; ``model`` made their vectors, ``times`` are of all frames.

    A second call returns the same identities, whether those of the first were stored or not. Raises StageError.
    """
    owners = await find_owners(context, asset_id, Faces.of(traces), model)
    records = [
        (
            TraceRecord(
                asset_id=asset_id,
                trace_id=number,
                first_frame=int(trace.frames[0]),
                last_frame=int(trace.frames[-1]),
                first_time=float(times[trace.frames[0]]),
                last_time=float(times[trace.frames[-1]]),
                face_count=int(trace.detected.sum()),
                identity_uuid=owner,
                vector=trace.vector,
            ),
            TraceBoxes(trace.frames, trace.boxes, trace.confidences, trace.detected),
        )
        for number, (trace, owner) in enumerate(zip(traces, owners.uuids, strict=True), 1)
    ]
    return Assigned(records, owners.new)


async def find_owners(context: Context, asset_id: str, faces: Faces, model: str) -> Owners:
    """Return whose the traces of a video are: people who are known by vectors of ``model``, or new ones.

    Raises StageError.
    """
    stored = await context.people.list_identities()
    known = [identity for identity in stored if identity.models == model]
    taken = {identity.identity_uuid for identity in stored}
    owners, new = list[str | None]([None] * len(faces.vectors)), list[Identity]()
    for rejected, members in _by_rejection(faces.vectors, known).items():
        others = [identity for identity in known if identity.identity_uuid not in rejected]
        request = IdentityRequest(
            vectors=faces.vectors[members],
            spans=faces.spans[members],
            counts=faces.counts[members],
            known=tuple(identity.identity_uuid for identity in others),
            known_vectors=_stacked([identity.vector for identity in others]),
        )
        assignments = await context.stage(IDENTITIES)(request)
        found = _new_identities(asset_id, request, assignments, model, members, taken)
        new += found.values()
        for place, each in zip(members, assignments, strict=True):
            owners[place] = each.known or (found[each.group].identity_uuid if each.group in found else None)
    return Owners(owners, new)


def _by_rejection(vectors: NDArray[np.float32], known: Sequence[Identity]) -> dict[frozenset[str], list[int]]:
    """Return places of traces by the identities that they are not, as somebody said so of a trace like them.

    Like them means: more alike than the identity itself. Traces of different rejections are never taken for one person.
    """
    judged = [identity for identity in known if len(identity.rejected)]
    places: dict[frozenset[str], list[int]] = {}
    for place, vector in enumerate(vectors):
        others = (each for each in judged if (each.rejected @ vector).max() >= each.vector @ vector)
        places.setdefault(frozenset(each.identity_uuid for each in others), []).append(place)
    return places


def _new_identities(
    asset_id: str,
    request: IdentityRequest,
    assignments: Sequence[Assignment],
    model: str,
    places: Sequence[int],
    taken: Collection[str],
) -> dict[int, Identity]:
    """Return by group an identity for those that are nobody known and were detected often enough.

    ``places``: of the traces of the request among all traces of the video; ``taken``: uuids of other people.
    """
    now = datetime.now(UTC)
    new: dict[int, Identity] = {}
    for group in sorted({each.group for each in assignments if each.known is None}):
        members = [index for index, each in enumerate(assignments) if each.group == group]
        counts = request.counts[members]
        if counts.sum() < LEAST_DETECTIONS:
            continue
        mean = (request.vectors[members] * counts[:, None]).sum(0)
        new[group] = Identity(
            identity_uuid=_free_uuid(f"{asset_id} {model} {places[members[0]]}", taken),
            name=None,
            models=model,
            vector=unit(mean),
            weight=float(counts.sum()),
            references=(),
            created_at=now,
        )
    return new


def _free_uuid(seed: str, taken: Collection[str]) -> str:
    """Return the same uuid for the same seed, unless that is somebody else's: who the trace was said not to be."""
    seeds = itertools.chain([seed], (f"{seed} {number}" for number in itertools.count(2)))
    return next(each for each in (str(uuid.uuid5(NAMESPACE, seed)) for seed in seeds) if each not in taken)


async def assign_again(context: Context, asset_id: str, models: PeopleModels) -> Json:
    """Find whose the stored traces of a video are, as if it had just been indexed; return the result of the job.

    Raises StageError, InvalidInput where the index is gone or of other models, and MediaNotFound, leaving nothing.
    """
    index = await context.people.get_index(asset_id)
    if index is None or index.models != models.version:
        raise InvalidInput("The index was removed or replaced after this job was submitted; ask for the index again.")
    records = await context.people.list_traces(asset_id)
    owners = await find_owners(context, asset_id, Faces.of_stored(records), models.identity)
    for identity in owners.new:
        await context.people.put_identity(identity)
    by_trace = {record.trace_id: owner for record, owner in zip(records, owners.uuids, strict=True)}
    await context.people.set_identities(asset_id, by_trace)
    try:
        await check_asset(context, asset_id)
    except MediaNotFound:
        for identity in owners.new:
            await context.people.delete_identity(identity.identity_uuid)
        raise
    return {
        "traces": len(records),
        "identities": len({*owners.uuids} - {None}),
        "new_identities": len(owners.new),
        "models": models.version,
    }


async def store_people(
    context: Context, index: VideoIndex, assigned: Assigned, objects: Sequence[tuple[ObjectRecord, TraceBoxes]] = ()
) -> None:
    """Replace the index of a video. Raises MediaNotFound, leaving nothing, where it was deleted meanwhile."""
    for identity in assigned.new:
        await context.people.put_identity(identity)
    await context.people.put_index(index, assigned.traces, objects)
    await remove_pictures(context.objects, index.asset_id)  # those of the index before
    try:
        await check_asset(context, index.asset_id)
    except MediaNotFound:
        # It was deleted after the last check, so nobody else removes this.
        await context.people.delete_index(index.asset_id)
        for identity in assigned.new:
            await context.people.delete_identity(identity.identity_uuid)
        raise


def faces_folder(asset_id: str) -> str:
    """Return the prefix of the keys of the representative faces of a video's traces."""
    return f"{derived.folder(asset_id)}faces/"


async def remove_pictures(objects: Objects, asset_id: str) -> int:
    """Remove the pictures of the traces and objects of a video; return how many there were."""
    folders = (faces_folder(asset_id), objects_folder(asset_id))
    return sum([await derived.remove(objects, folder) for folder in folders])


def unit(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the vector as float32 of length 1."""
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)


def _stacked(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)
