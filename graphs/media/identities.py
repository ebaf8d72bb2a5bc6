"""Routes of identities: people known across videos, by reference photos or because they were seen."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray

from graphs.indexing.faces import FaceSource
from graphs.indexing.people import identity_version, unit
from graphs.media.cooccurrence import IDENTITY_LENGTH, IdentityId, known_identity, known_pair
from graphs.media.models import (
    IdentitiesAnswer,
    IdentityAnswer,
    IdentityChange,
    IdentityDeleted,
    IdentityModel,
    NewIdentity,
    NewIdentityAnswer,
    SimilarIdentity,
)
from graphs.web.context import Context
from graphs.web.uploads.library import Library
from stores.people import Identity
from vision.errors import InvalidInput
from vision.faces.calibration import similarity_percentage

SAME_PERCENT: Final = 75.0
OTHER_PERCENT: Final = 50.0
"""Below it a reference photo is taken for one of somebody else."""
MOST_SIMILAR: Final = 5


def identities_router(context: Context, faces: FaceSource) -> APIRouter:
    """identities."""
    router = APIRouter(prefix="/identities", tags=["media: identities"])
    library = Library(context)

    @router.get("")
    async def list_identities(
        after: Annotated[str, Query(max_length=IDENTITY_LENGTH, description="``next`` of the page before")] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> IdentitiesAnswer:
        """Everybody known, named or not."""
        found = await context.people.list_identities(after=after, limit=limit + 1)
        page = [_model(identity) for identity in found[:limit]]
        return IdentitiesAnswer(identities=page, next=page[-1].identity_uuid if len(found) > limit else None)

    @router.post("", status_code=201)
    async def new_identity(body: NewIdentity) -> NewIdentityAnswer:
        """A person by reference photos. Videos that are indexed from now on find this person again."""
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
        similar = _similar(identity, await context.people.list_identities())
        await context.people.put_identity(identity)
        return NewIdentityAnswer(identity=_model(identity), similar=similar)

    @router.get("/{identity_uuid}")
    async def get_identity(identity_uuid: IdentityId) -> IdentityAnswer:
        """One identity."""
        return IdentityAnswer(identity=_model(await known_identity(context, identity_uuid)))

    @router.patch("/{identity_uuid}")
    async def rename(identity_uuid: IdentityId, body: IdentityChange) -> IdentityAnswer:
        """Name somebody, or take the name away."""
        identity = replace(await known_identity(context, identity_uuid), name=body.name)
        await context.people.put_identity(identity)
        return IdentityAnswer(identity=_model(identity))

    @router.post("/{identity_uuid_a}/merge/{identity_uuid_b}")
    async def merge(identity_uuid_a: IdentityId, identity_uuid_b: IdentityId) -> IdentityAnswer:
        """Say that both are the same person: a keeps its uuid, gets all traces and photos of b, and b is gone."""
        kept, gone = await known_pair(context, identity_uuid_a, identity_uuid_b)
        merged = _merged(kept, gone)
        await context.people.merge_identities(merged, gone.identity_uuid)
        return IdentityAnswer(identity=_model(merged))

    @router.delete("/{identity_uuid}")
    async def delete(identity_uuid: IdentityId) -> IdentityDeleted:
        """Forget somebody; the traces stay and are nobody's."""
        await known_identity(context, identity_uuid)
        await context.people.delete_identity(identity_uuid)
        return IdentityDeleted(identity_uuid=identity_uuid)

    return router


async def _largest_face(faces: FaceSource, asset_id: str, library: Library) -> NDArray[np.float32]:
    found = await faces.of(await library.get(asset_id))
    if not found:
        raise InvalidInput(f"No face was found in {asset_id}; leave it out or take another photo.")
    return found[0][1].vector


def _refuse_strangers(vectors: dict[str, NDArray[np.float32]]) -> None:
    """Raises InvalidInput when the largest face of one photo is unlike those of the others."""
    for asset_id, vector in vectors.items():
        others = [other for key, other in vectors.items() if key != asset_id]
        if others and similarity_percentage(float(vector @ unit(np.mean(others, axis=0)))) < OTHER_PERCENT:
            raise InvalidInput(f"The largest face in {asset_id} is not that of the other photos; leave it out.")


def _similar(identity: Identity, others: Sequence[Identity]) -> list[SimilarIdentity]:
    found = [
        SimilarIdentity(
            identity_uuid=other.identity_uuid,
            name=other.name,
            similarity_percentage=round(similarity_percentage(float(identity.vector @ other.vector)), 2),
        )
        for other in others
        if other.models == identity.models
    ]
    same = [each for each in found if each.similarity_percentage >= SAME_PERCENT]
    return sorted(same, key=lambda each: -each.similarity_percentage)[:MOST_SIMILAR]


def _merged(kept: Identity, gone: Identity) -> Identity:
    references = tuple(dict.fromkeys(kept.references + gone.references))
    merged = replace(kept, name=kept.name or gone.name, references=references)
    if kept.models != gone.models:
        return merged  # vectors of two models have no mean
    vector = unit(kept.weight * kept.vector + gone.weight * gone.vector)
    return replace(merged, vector=vector, weight=kept.weight + gone.weight)


def _model(identity: Identity) -> IdentityModel:
    return IdentityModel(
        identity_uuid=identity.identity_uuid,
        name=identity.name,
        reference_asset_ids=list(identity.references),
        weight=identity.weight,
        models=identity.models,
        created_at=identity.created_at,
    )
