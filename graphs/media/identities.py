"""Routes of identities: people known across videos, by reference photos or because they were seen in one.

Also who is in one video.
"""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Path, Query
from numpy.typing import NDArray

from graphs.indexing.faces import FaceSource
from graphs.indexing.people import identity_version, unit
from graphs.media.schemas import (
    Appearance,
    AppearancesAnswer,
    FilePeopleAnswer,
    FilePerson,
    IdentitiesAnswer,
    IdentityAnswer,
    IdentityChange,
    IdentityDeleted,
    IdentityModel,
    IdentitySplit,
    NewIdentity,
    NewIdentityAnswer,
    SimilarIdentity,
    SplitAnswer,
)
from graphs.media.traces import indexed, thumbnail_url, trace_of
from graphs.web.audit import note
from graphs.web.context import Context
from graphs.web.errors import IdentityNotFound
from graphs.web.schemas import AssetId, RemovedCounts, numbered
from graphs.web.uploads.library import Library, Videos
from stores.deletion import Removed
from stores.people import Identity, TraceRecord
from stores.records import Asset
from vision.errors import InvalidInput
from vision.faces.calibration import similarity_percentage

SAME_PERCENT: Final = 75.0
OTHER_PERCENT: Final = 50.0
"""Below it a reference photo is taken for one of somebody else."""
MAX_SIMILAR: Final = 5
IDENTITY_LENGTH: Final = 64
MAX_REJECTED: Final = 1000
"""Traces of an identity of which is kept that they are somebody else; of more the last ones."""
IdentityId = Annotated[str, Path(max_length=IDENTITY_LENGTH)]


def identities_router(context: Context, faces: FaceSource) -> APIRouter:
    """Return the routes of identities."""
    router = APIRouter(prefix="/identities", tags=["media: identities"])
    library = Library(context)

    @router.get("")
    async def list_identities(
        after: Annotated[str, Query(max_length=IDENTITY_LENGTH, description="``next`` of the page before")] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> IdentitiesAnswer:
        """List everybody known, named or not."""
        # One more than asked for tells whether there is a next page.
        identities = await context.people.list_identities(after=after, limit=limit + 1)
        page = await _models(context, identities[:limit])
        return IdentitiesAnswer(identities=page, next=page[-1].identity_uuid if len(identities) > limit else None)

    @router.post("", status_code=201)
    async def new_identity(body: NewIdentity) -> NewIdentityAnswer:
        """Add a person by reference photos. Videos that are indexed from now on find this person again."""
        assets = await library.get_all(library.batch(body.asset_ids))
        model = await identity_version(context)
        vectors = {asset.asset_id: await _largest_face(faces, asset.asset_id, library) for asset in assets.values()}
        _refuse_strangers(vectors)
        identity = Identity(
            identity_uuid=str(uuid.uuid4()),
            name=body.name,
            models=model,
            vector=unit(np.mean(list(vectors.values()), axis=0)),
            weight=float(len(vectors)),
            references=tuple(vectors),
            created_at=datetime.now(UTC),
        )
        note(identity.identity_uuid)
        similar = _similar(identity, await context.people.list_identities())
        await context.people.put_identity(identity)
        return NewIdentityAnswer(identity=await _model(context, identity), similar=similar)

    @router.get("/{identity_uuid}")
    async def get_identity(identity_uuid: IdentityId) -> IdentityAnswer:
        """Return one identity."""
        return IdentityAnswer(identity=await _model(context, await known_identity(context, identity_uuid)))

    @router.patch("/{identity_uuid}")
    async def rename(identity_uuid: IdentityId, body: IdentityChange) -> IdentityAnswer:
        """Name somebody, or remove the name."""
        identity = replace(await known_identity(context, identity_uuid), name=body.name)
        await context.people.put_identity(identity)
        return IdentityAnswer(identity=await _model(context, identity))

    @router.post("/{identity_uuid_a}/merge/{identity_uuid_b}")
    async def merge(identity_uuid_a: IdentityId, identity_uuid_b: IdentityId) -> IdentityAnswer:
        """Merge two identities of the same person: a keeps its uuid, gets all traces and photos of b, and b is gone."""
        kept, gone = await known_pair(context, identity_uuid_a, identity_uuid_b)
        merged = _merged(kept, gone)
        await context.people.merge_identities(merged, gone.identity_uuid)
        return IdentityAnswer(identity=await _model(context, merged))

    @router.get("/{identity_uuid}/appearances")
    async def appearances(
        identity_uuid: IdentityId,
        after: Annotated[str, Query(max_length=160, description="``next`` of the page before")] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> AppearancesAnswer:
        """List where one person appears, in all videos."""
        identity = await known_identity(context, identity_uuid)
        place = _place(after)
        # One more than asked for tells whether there is a next page.
        traces = await context.people.list_appearances(identity.identity_uuid, after=place, limit=limit + 1)
        page = traces[:limit]
        files = await library.known({trace.asset_id for trace in page})
        shown = [_appearance(trace, files[trace.asset_id]) for trace in page if trace.asset_id in files]
        following = f"{page[-1].trace_id}-{page[-1].asset_id}" if len(traces) > limit else None
        return AppearancesAnswer(identity_uuid=identity.identity_uuid, appearances=shown, next=following)

    @router.post("/{identity_uuid}/split")
    async def split(identity_uuid: IdentityId, body: IdentitySplit) -> SplitAnswer:
        """Say that appearances are of somebody else, who becomes an identity; so they are in a video indexed again."""
        kept = await known_identity(context, identity_uuid)
        wanted = {(each.file_uuid, each.trace_id) for each in body.traces}
        traces = await context.people.list_appearances(kept.identity_uuid)
        given = [trace for trace in traces if (trace.asset_id, trace.trace_id) in wanted]
        if len(given) < len(wanted):
            raise InvalidInput(f"{len(wanted) - len(given)} of these are no appearances of {identity_uuid}.")
        remaining = [trace for trace in traces if (trace.asset_id, trace.trace_id) not in wanted]
        if not remaining and not kept.references:
            raise InvalidInput("These are all appearances of this person; rename the person instead.")
        new, left = _split(kept, given, remaining, body.name)
        await context.people.split_identity(left, new, sorted(wanted))
        identity, others = await _models(context, [new, left])
        return SplitAnswer(identity=identity, remaining=others)

    @router.delete("/{identity_uuid}")
    async def delete(identity_uuid: IdentityId) -> IdentityDeleted:
        """Delete an identity; its traces stay, without an identity."""
        await known_identity(context, identity_uuid)
        removed = Removed(documents=int(await context.people.delete_identity(identity_uuid))).counts()
        note(removed=removed)
        return IdentityDeleted(identity_uuid=identity_uuid, removed=RemovedCounts.model_validate(removed))

    return router


def file_identities_router(context: Context, videos: Videos) -> APIRouter:
    """Return the route identities of a file."""
    router = APIRouter(tags=["media: people"])

    @router.get("/file/{file_uuid}/identities")
    async def people(file_uuid: AssetId) -> FilePeopleAnswer:
        """List who is in this video."""
        await videos.get(file_uuid)
        await indexed(context, file_uuid)
        traces = await context.people.list_traces(file_uuid)
        by_person: dict[str | None, list[TraceRecord]] = defaultdict(list)
        for trace in traces:
            by_person[trace.identity_uuid].append(trace)
        unassigned = by_person.pop(None, [])
        identities = await context.people.get_identities([uuid for uuid in by_person if uuid is not None])
        persons = [_person(identities.get(uuid or ""), uuid or "", its) for uuid, its in by_person.items()]
        return FilePeopleAnswer(
            file_uuid=file_uuid,
            identities=sorted(persons, key=lambda person: person.first_frame),
            unassigned_traces=len(unassigned),
        )

    return router


async def known_identity(context: Context, identity_uuid: str) -> Identity:
    """Return one identity. Raises IdentityNotFound."""
    identity = (await context.people.get_identities([identity_uuid])).get(identity_uuid)
    if identity is None:
        raise IdentityNotFound(identity_uuid)
    return identity


async def known_pair(context: Context, first: str, second: str) -> tuple[Identity, Identity]:
    """Return two different identities. Raises IdentityNotFound, and InvalidInput for the same one twice."""
    if first == second:
        raise InvalidInput(f"{first} is named twice; name two different identities.")
    return await known_identity(context, first), await known_identity(context, second)


async def _largest_face(faces: FaceSource, asset_id: str, library: Library) -> NDArray[np.float32]:
    detected = await faces.of(await library.get(asset_id))
    if not detected:
        raise InvalidInput(f"No face was found in {asset_id}; leave it out or take another photo.")
    return detected[0][1].vector


def _refuse_strangers(vectors: dict[str, NDArray[np.float32]]) -> None:
    """Raise InvalidInput when the largest face of one photo is unlike those of the others."""
    for asset_id, vector in vectors.items():
        others = [other for key, other in vectors.items() if key != asset_id]
        if others and similarity_percentage(float(vector @ unit(np.mean(others, axis=0)))) < OTHER_PERCENT:
            raise InvalidInput(f"The largest face in {asset_id} is not that of the other photos; leave it out.")


def _place(after: str) -> tuple[str, int]:
    """Return the place in a list of appearances that a cursor names. Raises InvalidInput."""
    if not after:
        return "", 0
    trace_id, asset_id = numbered(after, digits=10)
    return asset_id, trace_id


def _appearance(trace: TraceRecord, file: Asset) -> Appearance:
    return Appearance(
        file_uuid=trace.asset_id,
        filename=file.filename,
        **trace_of(trace).model_dump(exclude={"identity_uuid"}),
    )


def _split(
    kept: Identity, given: Sequence[TraceRecord], remaining: Sequence[TraceRecord], name: str | None
) -> tuple[Identity, Identity]:
    """Return an identity of the traces that are given away, and the other without them."""
    rejected = np.concatenate([kept.rejected, [unit(trace.vector) for trace in given]])[-MAX_REJECTED:]
    left = replace(kept, rejected=rejected.astype(np.float32))
    if remaining and not kept.references:  # of photos there is a vector that no trace is part of
        left = replace(left, vector=_mean(remaining), weight=float(sum(trace.face_count for trace in remaining)))
    new = Identity(
        identity_uuid=str(uuid.uuid4()),
        name=name,
        models=kept.models,
        vector=_mean(given),
        weight=float(sum(trace.face_count for trace in given)),
        references=(),
        created_at=datetime.now(UTC),
    )
    return new, left


def _mean(traces: Sequence[TraceRecord]) -> NDArray[np.float32]:
    return unit(np.sum([trace.face_count * trace.vector for trace in traces], axis=0))


def _similar(identity: Identity, others: Sequence[Identity]) -> list[SimilarIdentity]:
    similar = [
        SimilarIdentity(
            identity_uuid=other.identity_uuid,
            name=other.name,
            similarity_percentage=round(similarity_percentage(float(identity.vector @ other.vector)), 2),
        )
        for other in others
        if other.models == identity.models
    ]
    same = [each for each in similar if each.similarity_percentage >= SAME_PERCENT]
    return sorted(same, key=lambda each: -each.similarity_percentage)[:MAX_SIMILAR]


def _merged(kept: Identity, gone: Identity) -> Identity:
    references = tuple(dict.fromkeys(kept.references + gone.references))
    merged = replace(kept, name=kept.name or gone.name, references=references)
    if kept.models == gone.models:
        # What was said of each other does not hold any more.
        rejections = [_unlike(kept.rejected, gone.vector), _unlike(gone.rejected, kept.vector)]
        merged = replace(merged, rejected=np.concatenate(rejections)[-MAX_REJECTED:])
    if kept.models != gone.models:
        return merged  # vectors of two models have no mean
    vector = unit(kept.weight * kept.vector + gone.weight * gone.vector)
    return replace(merged, vector=vector, weight=kept.weight + gone.weight)


def _unlike(vectors: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return those of these vectors that are not of the person with this one."""
    return vectors[[similarity_percentage(float(each @ vector)) < OTHER_PERCENT for each in vectors]]


async def _models(context: Context, identities: Sequence[Identity]) -> list[IdentityModel]:
    """Return identities as they are answered."""
    longest = await context.people.longest_traces(identity.identity_uuid for identity in identities)
    return [
        IdentityModel(
            identity_uuid=identity.identity_uuid,
            name=identity.name,
            thumbnail_url=thumbnail_url(*longest[identity.identity_uuid])
            if identity.identity_uuid in longest
            else None,
            reference_asset_ids=list(identity.references),
            weight=identity.weight,
            models=identity.models,
            created_at=identity.created_at,
        )
        for identity in identities
    ]


async def _model(context: Context, identity: Identity) -> IdentityModel:
    return (await _models(context, [identity]))[0]


def _person(identity: Identity | None, identity_uuid: str, traces: Sequence[TraceRecord]) -> FilePerson:
    longest = max(traces, key=lambda trace: trace.face_count)
    return FilePerson(
        identity_uuid=identity_uuid,
        name=identity.name if identity else None,
        trace_ids=[trace.trace_id for trace in traces],
        face_count=sum(trace.face_count for trace in traces),
        first_frame=min(trace.first_frame for trace in traces),
        last_frame=max(trace.last_frame for trace in traces),
        first_time=round(min(trace.first_time for trace in traces), 6),
        last_time=round(max(trace.last_time for trace in traces), 6),
        thumbnail_url=thumbnail_url(longest.asset_id, longest.trace_id),
    )
