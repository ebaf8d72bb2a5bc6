"""Routes of objects in assets: what is in a picture, and what is in the library by class."""

from collections import Counter
from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel, Field

from graphs.assets.schemas import ImageDimensions, Score
from graphs.indexing.classes import ClassName, check_classes
from graphs.indexing.picture_objects import ObjectSource
from graphs.web.access import caller
from graphs.web.context import Context, Timer
from graphs.web.schemas import ID_1, Answer, AssetId, Number, example
from graphs.web.uploads.library import Library
from stores.records import ClassCount
from vision.objects.detection import DetectedObject


class ObjectsRequest(BaseModel):
    """A picture, or a video, whose poster is looked at."""

    model_config = example(asset_id=ID_1, min_confidence=0.5, classes=["dog", "car"])
    asset_id: AssetId
    min_confidence: Number = Field(default=0.5, ge=0, le=1, description="the detector tells none below 0.3")
    classes: list[ClassName] | None = Field(
        default=None, max_length=100, description="only these, as model-info names them; without it all"
    )


class FoundObject(BaseModel):
    """One object; its box in pixels of the picture as it is shown."""

    label: str = Field(description="one of the 80 classes of COCO")
    confidence: Score
    x: float
    y: float
    width: float
    height: float


class ObjectsAnswer(Answer):
    """What is in a picture, surest first, and how many of each class."""

    asset_id: str
    filename: str
    image_dimensions: ImageDimensions
    objects: list[FoundObject]
    counts: dict[str, int]
    model_version: str


class LookedAt(BaseModel):
    """How many assets of a kind there are, and in how many of them objects were looked for."""

    looked_at: int
    total: int


class LibraryClass(BaseModel):
    """A class of objects, and where in the library it is."""

    label: str
    pictures: int = Field(description="that have one of it or more")
    objects: int = Field(description="of it in all pictures")
    films: int = Field(description="that have one of it or more")
    tracks: int = Field(description="of it in all films, one for each uninterrupted stretch")
    screen_time: float = Field(description="seconds of all films with at least one of it in sight")


class LibraryObjects(Answer):
    """What is in the library by class, that which is in most assets first."""

    model_config = example(
        classes=[{"label": "dog", "pictures": 41, "objects": 52, "films": 3, "tracks": 17, "screen_time": 83.4}],
        pictures={"looked_at": 1180, "total": 1200},
        films={"looked_at": 14, "total": 20},
        processing_time=0.02,
    )
    classes: list[LibraryClass]
    pictures: LookedAt
    films: LookedAt


def objects_router(context: Context, library: Library, source: ObjectSource) -> APIRouter:
    """Return the routes detect-objects, and objects of the library."""
    router = APIRouter(tags=["assets: objects"])

    @router.post("/detect-objects")
    async def detect_objects(request: ObjectsRequest, clock: Timer) -> ObjectsAnswer:
        """Find the objects in a picture: what each is, how sure that is, and where. Found once, they are stored."""
        asset = await library.get(request.asset_id)
        if request.classes:
            await check_classes(context, request.classes)
        found = await source.of(asset)
        objects = [
            _found(each)
            for each in found.objects
            if each.confidence >= request.min_confidence and (not request.classes or each.label in request.classes)
        ]
        return ObjectsAnswer(
            asset_id=asset.asset_id,
            filename=asset.filename,
            image_dimensions=ImageDimensions(width=found.width, height=found.height),
            objects=objects,
            counts=dict(Counter(each.label for each in objects)),
            model_version=found.model_version.rpartition(":")[0],
            processing_time=clock.seconds,
        )

    @router.get("/assets/objects")
    async def library_objects(clock: Timer) -> LibraryObjects:
        """Count what is in the pictures and films of the library, by class of objects."""
        documents = context.documents
        hidden = await documents.hidden_from(caller.get().name)
        totals = await documents.count_assets()
        for asset in (await documents.get_assets(hidden)).values():
            if not asset.deleting:
                totals[asset.kind] -= 1
        pictures, pictures_seen = await documents.count_classes(hidden)
        films, films_seen = await context.people.count_classes(hidden)
        return LibraryObjects(
            classes=_classes(pictures, films),
            pictures=LookedAt(looked_at=pictures_seen, total=totals.get("image", 0)),
            films=LookedAt(looked_at=films_seen, total=totals.get("video", 0)),
            processing_time=clock.seconds,
        )

    return router


def _classes(pictures: Sequence[ClassCount], films: Sequence[ClassCount]) -> list[LibraryClass]:
    none = ClassCount("", 0, 0)
    in_pictures, in_films = ({each.label: each for each in counts} for counts in (pictures, films))
    classes = [
        LibraryClass(
            label=label,
            pictures=in_pictures.get(label, none).assets,
            objects=in_pictures.get(label, none).objects,
            films=in_films.get(label, none).assets,
            tracks=in_films.get(label, none).objects,
            screen_time=round(in_films.get(label, none).screen_time, 3),
        )
        for label in in_pictures.keys() | in_films
    ]
    return sorted(classes, key=lambda each: (-each.pictures - each.films, each.label))


def _found(each: DetectedObject) -> FoundObject:
    return FoundObject(
        label=each.label,
        confidence=round(each.confidence, 4),
        x=round(each.x, 2),
        y=round(each.y, 2),
        width=round(each.width, 2),
        height=round(each.height, 2),
    )
