"""Routes of the registry: enrol animals, look them up, and find the one on a photo."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Path, Query

from deployments.muzzle.gallery import GALLERY
from deployments.serving.vector_search import Forget, NearestQuery
from graphs.muzzle.photos import MuzzlePhotos, Photo
from graphs.muzzle.print_schemas import PhotoCheck
from graphs.muzzle.prints import RECHECKED, MuzzlePrints, checked
from graphs.muzzle.schemas import (
    AnimalId,
    AnimalModel,
    AnimalPage,
    Candidate,
    DeletedAnimal,
    EnrolRequest,
    EnrolResponse,
    IdentifyRequest,
    IdentifyResponse,
)
from graphs.muzzle.texts import EXISTS_RESPONSES, NOT_FOUND_RESPONSES, OWN_RESPONSES, PHOTO_RESPONSES, PHOTOS_RESPONSES
from graphs.muzzle.verdicts import (
    VALID,
    Limits,
    concatenated,
    domain_check,
    identified,
    limits_of,
    mutual_criterion,
    mutual_similarity,
    ranked,
    reranked,
    template,
    unit,
)
from graphs.web.audit import note
from graphs.web.context import Context
from graphs.web.schemas import numbered
from stores.animals import Animal, animal_key
from stores.deletion import Removed
from stores.records import from_micros, to_micros
from vision.errors import InvalidInput, StageError
from vision.muzzle.ensemble import MuzzleEncoding

logger = logging.getLogger("ray.serve")

SPARE: Final = 8
"""Hits asked for beyond those wanted, as some may have been deleted since they were indexed."""
MOST_SIMILAR: Final = 5

Id = Annotated[AnimalId, Path(description="The id it was enrolled by")]


class AnimalNotFound(StageError):
    """An animal that was never enrolled, or was deleted."""

    code = "ANIMAL_NOT_FOUND"
    status = 404

    def __init__(self, animal_id: str) -> None:
        super().__init__(f"No animal {animal_id} is enrolled; enrol it with POST /animals.")


class AnimalExists(StageError):
    """An animal id that is already enrolled."""

    code = "ANIMAL_EXISTS"
    status = 409

    def __init__(self, animal_id: str) -> None:
        super().__init__(f"An animal {animal_id} is enrolled already; delete it first, or choose another id.")


class AnimalDuplicate(StageError):
    """An animal whose print is enrolled under another id."""

    code = "ANIMAL_DUPLICATE"
    status = 409

    def __init__(self, animal_id: str, inliers: int) -> None:
        super().__init__(
            f"This animal is already there as {animal_id}: their muzzle prints agree in {inliers} places. "
            'If they are two animals all the same, send "allow_duplicate": true.'
        )


class Gallery:
    """Search among the enrolled animals, checked against the registry."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def nearest(self, probe: MuzzleEncoding, k: int) -> tuple[list[Candidate], int]:
        """Return the k nearest animals, best first, and how many animals were searched."""
        query = NearestQuery(probe.model_version, unit(concatenated(probe)), k + SPARE)
        result = await self._context.stage(GALLERY)(query)
        keys = [hit.asset_id for hit in result.neighbours]
        animals = await self._context.animals.get(keys)
        stale = tuple(key for key in keys if key not in animals)
        if stale:
            await self.forget(probe.model_version, stale)
        current = [each for each in animals.values() if each.model_version == probe.model_version]
        candidates = ranked(probe, [(each.animal_id, each.template) for each in current])
        return candidates[:k], max(0, result.searched - len(stale))

    async def forget(self, model_version: str, keys: tuple[str, ...]) -> None:
        """Remove animals from the index; a later search drops those that are left."""
        try:
            await self._context.stage(GALLERY)(Forget(model_version, keys))
        except StageError as error:
            logger.warning("the index keeps %d deleted animals: %s", len(keys), error.code)


def add_animal_routes(router: APIRouter, context: Context) -> None:
    """Add /animals, /animals/{animal_id} and /identify."""
    photos, prints, gallery, animals = MuzzlePhotos(context), MuzzlePrints(context), Gallery(context), context.animals

    @router.post("/animals", tags=["Animals"], status_code=201, responses=PHOTOS_RESPONSES | EXISTS_RESPONSES)
    async def enrol_animal(request: EnrolRequest) -> EnrolResponse:
        """Enrol an animal by 3 to 12 photos of its muzzle (JSON base64 input).

        Every photo must show a muzzle, be sharp, large and well framed, and all of them must be alike. An animal whose
        print is there under another id is refused with a 409 that names it. The photos are not kept, only their codes
        and prints.
        """
        if await animals.get([animal_key(request.animal_id)]):
            raise AnimalExists(request.animal_id)
        references = await photos.from_texts("photos", request.photos)
        encodings = await photos.encode(references)
        limits = limits_of(context.settings, encodings[0].thresholds)
        animal = _animal(request.animal_id, references, encodings, limits)
        taken = await prints.take(references, encodings)
        checks = [checked(each) for each in taken.qualities]
        if not request.allow_poor_photos:
            _require_quality(references, checks)
        nearest = await _nearest(gallery, encodings)
        matches = await prints.duplicates(taken.prints, nearest)
        twin = max(matches, key=lambda each: matches[each].inliers, default=None)
        if twin is not None and matches[twin].inliers >= limits.inliers and not request.allow_duplicate:
            raise AnimalDuplicate(twin, matches[twin].inliers)
        note(request.animal_id)
        if not await animals.insert(animal, taken.prints):
            raise AnimalExists(request.animal_id)
        similar = _similar(reranked(nearest, matches, limits), limits)
        return EnrolResponse(animal=_model(animal), similar=similar, photo_checks=checks)

    @router.get("/animals", tags=["Animals"], responses=PHOTOS_RESPONSES | OWN_RESPONSES)
    async def list_animals(
        after: Annotated[str | None, Query(max_length=160, description="`next` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=500, description="most animals of the page")] = 100,
    ) -> AnimalPage:
        """The enrolled animals, the latest first, in pages."""
        place = None
        if after is not None:
            micros, key = numbered(after, digits=17)
            place = from_micros(micros), key
        page, enrolled = await asyncio.gather(animals.latest(place, limit + 1), animals.count())
        shown = page[:limit]
        following = f"{to_micros(shown[-1].created_at)}-{shown[-1].key}" if len(page) > limit else None
        return AnimalPage(animals=[_model(each) for each in shown], next=following, enrolled=enrolled)

    @router.get("/animals/{animal_id}", tags=["Animals"], responses=PHOTOS_RESPONSES | NOT_FOUND_RESPONSES)
    async def get_animal(animal_id: Id) -> AnimalModel:
        """An enrolled animal."""
        enrolled = await animals.get([animal_key(animal_id)])
        if not enrolled:
            raise AnimalNotFound(animal_id)
        return _model(enrolled[animal_key(animal_id)])

    @router.delete("/animals/{animal_id}", tags=["Animals"], responses=PHOTOS_RESPONSES | NOT_FOUND_RESPONSES)
    async def delete_animal(animal_id: Id) -> DeletedAnimal:
        """Forget an animal."""
        key = animal_key(animal_id)
        enrolled = await animals.get([key])
        if not await animals.delete(key):
            raise AnimalNotFound(animal_id)
        for animal in enrolled.values():
            await gallery.forget(animal.model_version, (key,))
        note(removed=Removed(documents=1).counts())
        return DeletedAnimal(animal_id=animal_id)

    @router.post("/identify", tags=["Animals"], responses=PHOTO_RESPONSES | OWN_RESPONSES)
    async def identify_animal(request: IdentifyRequest) -> IdentifyResponse:
        """Find the animal of one photo among all that are enrolled, or say that it is unknown.

        The 16 animals nearest by their codes are compared by their prints.
        """
        photo = await photos.from_text("photo", request.photo)
        (probe,) = await photos.encode([photo])
        limits = limits_of(context.settings, probe.thresholds)
        nearest, searched = await gallery.nearest(probe, max(RECHECKED, request.top_k))
        quality, matches = await prints.search(photo, probe, nearest)
        candidates = reranked(nearest, matches, limits)
        decision, summary = identified(probe, candidates, quality, limits)
        enrolled = await animals.count()
        return IdentifyResponse(
            decision=decision,
            summary=summary,
            candidates=candidates[: request.top_k],
            none_of_these=decision.verdict == "UNKNOWN",
            quality=checked(quality),
            searched=searched,
            outdated=enrolled - await animals.count(probe.model_version),
        )


def _animal(animal_id: str, photos: Sequence[Photo], encodings: Sequence[MuzzleEncoding], limits: Limits) -> Animal:
    """Build the record of an animal. Raises InvalidInput when a photo shows no muzzle, or when the photos differ."""
    for photo, encoding in zip(photos, encodings, strict=True):
        checked = domain_check(encoding, limits).decision
        if checked.verdict != VALID:
            raise InvalidInput(f"{photo.name}: {checked.explanation}")
    codes = [concatenated(encoding) for encoding in encodings]
    mutual = mutual_criterion(mutual_similarity(codes), limits.mutual)
    if not mutual.passed:
        raise InvalidInput(f"{mutual.description}.")
    return Animal(
        animal_id=animal_id,
        model_version=encodings[0].model_version,
        model_ids=encodings[0].model_ids,
        references=np.stack(codes),
        template=template(codes),
        created_at=datetime.now(UTC),
    )


def _require_quality(photos: Sequence[Photo], checks: Sequence[PhotoCheck]) -> None:
    """Raise InvalidInput with advice for every photo that is not good enough."""
    poor = [
        f"{photo.name}: {'; '.join(check.reasons)}."
        for photo, check in zip(photos, checks, strict=True)
        if not check.usable
    ]
    if poor:
        raise InvalidInput(
            f'{" ".join(poor)} Take better photos, or send "allow_poor_photos": true to enrol it by these.'
        )


async def _nearest(gallery: Gallery, encodings: Sequence[MuzzleEncoding]) -> list[Candidate]:
    """Return the enrolled animals nearest to any of the photos by their codes, nearest first."""
    best: dict[str, Candidate] = {}
    for encoding in encodings:
        for candidate in (await gallery.nearest(encoding, RECHECKED))[0]:
            before = best.get(candidate.animal_id, candidate)
            best[candidate.animal_id] = min(before, candidate, key=lambda each: each.euclidean_distance)
    return sorted(best.values(), key=lambda each: each.euclidean_distance)


def _similar(candidates: Sequence[Candidate], limits: Limits) -> list[Candidate]:
    """Return the first of the candidates that the codes or the prints of the new animal match."""
    same = [
        each
        for each in candidates
        if (each.cosine_similarity >= limits.cosine and each.euclidean_distance <= limits.distance)
        or (each.print_inliers or 0) >= limits.inliers
    ]
    return same[:MOST_SIMILAR]


def _model(animal: Animal) -> AnimalModel:
    return AnimalModel(
        animal_id=animal.animal_id,
        photos=len(animal.references),
        mutual_similarity=mutual_similarity(list(animal.references)),
        model_version=animal.model_version,
        model_ids=list(animal.model_ids),
        created_at=animal.created_at,
    )
