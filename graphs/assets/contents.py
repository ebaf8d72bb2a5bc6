"""Assets by what is in them: which have all of some objects and people, and where in each of them they are."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from pydantic import BaseModel, Field

from graphs.assets.schemas import Score
from graphs.indexing.classes import check_classes, classes_of
from graphs.indexing.faces import FaceSource
from graphs.indexing.objects import PERSON
from graphs.indexing.picture_objects import ObjectSource
from graphs.indexing.recognition import Person, Recognizer
from graphs.indexing.unseen import Unseen
from graphs.web.context import Context
from graphs.web.errors import IdentityNotFound
from graphs.web.parts import OptionalParts
from stores.people import ObjectRecord, TraceRecord
from stores.records import Asset, PictureFaces, PictureObjects
from vision.errors import InvalidInput, ModelNotLoaded
from vision.faces.calibration import similarity_percentage
from vision.media.sniff import MediaKind
from vision.stretches import together

MOST_STRETCHES: Final = 20
"""Of each of what was asked for, in one film."""
MOST_WANTED: Final = 20
"""Objects and people of one search."""
FEW: Final = 10_000
"""Pictures of which the faces are looked up; of more, those of the whole library are read."""


class Stretch(BaseModel):
    """One object or person in one stretch of a film; times are seconds from its first frame."""

    start: float
    end: float
    track_id: int | None = Field(default=None, description="of the object; of the body that the face is part of")
    trace_id: int | None = Field(default=None, description="of the face")


class ContentMatch(BaseModel):
    """What was asked for, in one asset."""

    wanted: str = Field(description="the class, or the name or uuid, as it was asked for")
    number: int = Field(description="how many of it a picture has; how many stretches a film")
    confidence: Score | None = Field(
        description="of the surest object; of a face in a picture how alike it is, from 0.75 on the same person; null "
        "for people in films"
    )
    stretches: list[Stretch] | None = Field(description=f"the first {MOST_STRETCHES} in a film; null for a picture")


class Moment(BaseModel):
    """A stretch of a film, in seconds."""

    start: float
    end: float


class Matched(BaseModel):
    """Where in an asset what was asked for is."""

    objects: list[ContentMatch]
    people: list[ContentMatch]
    together: list[Moment] | None = Field(
        description=f"the first {MOST_STRETCHES} stretches in which all of it is in sight at once; null for a picture"
    )
    together_number: int | None = Field(description="how many there are")
    together_time: float | None = Field(description="seconds of all of them")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What assets are to have: objects of all ``classes``, of at least the confidence ``least``, and all ``people``."""

    classes: tuple[str, ...]
    people: tuple[Person, ...]
    least: float


@dataclass(frozen=True, slots=True)
class Found:
    """Ids of the assets that have it."""

    films: set[str] = field(default_factory=set)
    pictures: set[str] = field(default_factory=set)

    def __contains__(self, asset: object) -> bool:
        if not isinstance(asset, Asset):
            return False
        return asset.asset_id in (self.films if asset.kind == "video" else self.pictures)


class Contents:
    """Finds assets by what is in them."""

    def __init__(self, context: Context, objects: ObjectSource, faces: FaceSource) -> None:
        self._context = context
        self._faces = faces
        self._unseen_objects = Unseen(objects, context.documents.without_objects)
        self._unseen_faces = Unseen(faces, context.documents.without_faces)

    async def wanted(self, objects: str | None, people: str | None, least: float) -> Wanted | None:
        """Return what a request asks for, None where that is nothing.

        Raises InvalidInput for classes that the detector does not know, and IdentityNotFound.
        """
        classes = classes_of(objects, "objects") or ()
        names = (
            [] if people is None else list(dict.fromkeys(filter(None, (each.strip() for each in people.split(",")))))
        )
        if people is not None and not names:
            raise InvalidInput("people names nobody; leave it out for assets with anybody or nobody.")
        if len(classes) + len(names) > MOST_WANTED:
            raise InvalidInput(f"Ask for no more than {MOST_WANTED} objects and people at once.")
        if not classes and not names:
            return None
        await check_classes(self._context, classes)
        return Wanted(classes, await self._people(names), least)

    async def look(self, wanted: Wanted, kind: MediaKind | None, parts: OptionalParts) -> bool:
        """Have the models look at some pictures that they never saw; return whether none is left.

        Where one does not serve, what it stored is all that there is, and ``parts`` says so. Raises StageError.
        """
        if kind not in (None, "image"):
            return True
        complete = True
        for name, is_wanted, unseen in (
            ("objects", bool(wanted.classes), self._unseen_objects),
            ("people", bool(wanted.people), self._unseen_faces),
        ):
            if is_wanted:
                with parts.optional(name):
                    complete &= await unseen.look()
        return complete

    async def find(self, wanted: Wanted, kind: MediaKind | None) -> Found:
        """Return the assets that have all of it."""
        return Found(
            await self._films(wanted) if kind in (None, "video") else set(),
            await self._pictures(wanted) if kind in (None, "image") else set(),
        )

    async def matched(self, wanted: Wanted, assets: Iterable[Asset]) -> dict[str, Matched]:
        """Return where it is, by the ids of assets that have it."""
        by_kind: dict[MediaKind, list[Asset]] = defaultdict(list)
        for asset in assets:
            by_kind[asset.kind].append(asset)
        return await self._in_films(wanted, by_kind["video"]) | await self._in_pictures(wanted, by_kind["image"])

    async def _people(self, names: Sequence[str]) -> tuple[Person, ...]:
        if not names:
            return ()
        by_uuid = await self._context.people.get_identities(names)
        known = [] if len(by_uuid) == len(names) else await self._context.people.list_identities()
        people = []
        for name in names:
            same = [each for each in known if each.name and each.name.casefold() == name.casefold()]
            identities = (by_uuid[name],) if name in by_uuid else tuple(same)
            if not identities:
                raise IdentityNotFound(name)
            people.append(Person(name, identities))
        return tuple(people)

    async def _films(self, wanted: Wanted) -> set[str]:
        people = self._context.people
        sets = [await people.films_with(wanted.classes, wanted.least)] if wanted.classes else []
        for person in wanted.people:
            sets.append(await people.films_of(person.uuids))
        return set.intersection(*sets)

    async def _pictures(self, wanted: Wanted) -> set[str]:
        documents = self._context.documents
        having = await documents.pictures_with(wanted.classes, wanted.least) if wanted.classes else None
        if not wanted.people or having == set():
            return having or set()
        recognizer = await self._recognizer(wanted)
        if recognizer is None:
            return set()
        version, compare = recognizer
        among = having if having is not None and len(having) <= FEW else None
        seen = [set[str]() for _ in wanted.people]
        async for ids, vectors in documents.face_vectors(version, among):
            cosines = await asyncio.to_thread(compare.cosines, vectors)
            for face, person in np.argwhere(cosines > 0).tolist():
                seen[person].add(ids[face])
        return set.intersection(*seen, *([] if having is None else [having]))

    async def _recognizer(self, wanted: Wanted) -> tuple[str, Recognizer] | None:
        """Return the version of the stored faces that are compared; None where no model serves, which ``look`` says."""
        try:
            version = await self._faces.model_version()
        except ModelNotLoaded:
            return None
        known = await self._context.people.list_identities()
        return version, Recognizer(wanted.people, known, version)

    async def _in_films(self, wanted: Wanted, films: Sequence[Asset]) -> dict[str, Matched]:
        if not films:
            return {}
        people, ids = self._context.people, [film.asset_id for film in films]
        bodies = [PERSON] if wanted.people else []
        objects: dict[str, list[ObjectRecord]] = defaultdict(list)
        traces: dict[str, list[TraceRecord]] = defaultdict(list)
        for record in await people.objects_in(ids, [*wanted.classes, *bodies]):
            objects[record.asset_id].append(record)
        if wanted.people:
            uuids = [each for person in wanted.people for each in person.uuids]
            for trace in await people.traces_in(ids, uuids):
                traces[trace.asset_id].append(trace)
        return {each.asset_id: _in_film(wanted, each, objects[each.asset_id], traces[each.asset_id]) for each in films}

    async def _in_pictures(self, wanted: Wanted, pictures: Sequence[Asset]) -> dict[str, Matched]:
        ids = [picture.asset_id for picture in pictures]
        objects: Mapping[str, PictureObjects] = {}
        faces: Mapping[str, PictureFaces] = {}
        recognizer = None
        if ids and wanted.classes:
            objects = await self._context.documents.get_objects(ids)
        if ids and wanted.people and (compared := await self._recognizer(wanted)):
            version, recognizer = compared
            faces = await self._context.documents.get_faces(version, ids)
        return {each: _in_picture(wanted, objects.get(each), faces.get(each), recognizer) for each in ids}


def _in_film(wanted: Wanted, film: Asset, records: Sequence[ObjectRecord], traces: Sequence[TraceRecord]) -> Matched:
    sure = [each for each in records if each.confidence >= wanted.least]
    tracks = [[each for each in sure if each.label == label] for label in wanted.classes]
    stretches = [[_track(each) for each in its] for its in tracks]
    bodies = {each.trace_id: each for each in records if each.trace_id is not None}
    frame = 1 / film.fps if film.fps else 0.0
    seen = [
        [_trace(each, bodies.get(each.trace_id), frame) for each in traces if each.identity_uuid in person.uuids]
        for person in wanted.people
    ]
    common = together([[(each.start, each.end) for each in its] for its in (*stretches, *seen)])
    return Matched(
        objects=[
            _match(label, its, max((each.confidence for each in own), default=0.0))
            for label, its, own in zip(wanted.classes, stretches, tracks, strict=True)
        ],
        people=[_match(person.wanted, its, None) for person, its in zip(wanted.people, seen, strict=True)],
        together=[Moment(start=round(start, 6), end=round(end, 6)) for start, end in common[:MOST_STRETCHES]],
        together_number=len(common),
        together_time=round(sum(end - start for start, end in common), 6),
    )


def _track(record: ObjectRecord) -> Stretch:
    start = record.first_time
    return Stretch(start=round(start, 6), end=round(start + record.screen_time, 6), track_id=record.track_id)


def _trace(trace: TraceRecord, body: ObjectRecord | None, frame: float) -> Stretch:
    """Return where somebody is seen: while their face is, and the body that it is part of, also turned away."""
    start, end = trace.first_time, trace.last_time + frame
    if body is not None:
        start, end = min(start, body.first_time), max(end, body.first_time + body.screen_time)
    track_id = None if body is None else body.track_id
    return Stretch(start=round(start, 6), end=round(end, 6), track_id=track_id, trace_id=trace.trace_id)


def _match(wanted: str, stretches: Sequence[Stretch], confidence: float | None) -> ContentMatch:
    return ContentMatch(
        wanted=wanted,
        number=len(stretches),
        confidence=None if confidence is None else round(confidence, 4),
        stretches=sorted(stretches, key=lambda each: each.start)[:MOST_STRETCHES],
    )


def _in_picture(
    wanted: Wanted, objects: PictureObjects | None, faces: PictureFaces | None, recognizer: Recognizer | None
) -> Matched:
    found = [] if objects is None else [each for each in objects.objects if each.confidence >= wanted.least]
    sure = [[each.confidence for each in found if each.label == label] for label in wanted.classes]
    alike = [list[float]() for _ in wanted.people]
    if faces is not None and recognizer is not None:
        alike = [
            [similarity_percentage(cosine) / 100 for cosine in column if cosine > 0]
            for column in recognizer.cosines(faces.vectors).T.tolist()
        ]
    return Matched(
        objects=[_counted(label, its) for label, its in zip(wanted.classes, sure, strict=True)],
        people=[_counted(person.wanted, its) for person, its in zip(wanted.people, alike, strict=True)],
        together=None,
        together_number=None,
        together_time=None,
    )


def _counted(wanted: str, confidences: Sequence[float]) -> ContentMatch:
    return ContentMatch(
        wanted=wanted, number=len(confidences), confidence=round(max(confidences, default=0.0), 4), stretches=None
    )
