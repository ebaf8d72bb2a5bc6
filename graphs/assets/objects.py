"""The route that finds the objects in a picture."""

from collections import Counter

from fastapi import APIRouter
from pydantic import BaseModel, Field

from deployments.objects.detector import OBJECTS
from graphs.assets.schemas import ImageDimensions, Score
from graphs.indexing.classes import ClassName, check_classes
from graphs.web.context import Context, Timer
from graphs.web.images import ImageDecoder
from graphs.web.schemas import ID_1, Answer, AssetId, Number, example
from graphs.web.uploads.library import Library
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


def objects_router(context: Context, library: Library) -> APIRouter:
    """Return the route detect-objects."""
    router = APIRouter(tags=["assets: objects"])
    pictures = ImageDecoder(context.settings.max_image_pixels)

    @router.post("/detect-objects")
    async def detect_objects(request: ObjectsRequest, clock: Timer) -> ObjectsAnswer:
        """Find the objects in a picture: what each is, how sure that is, and where."""
        asset = await library.get(request.asset_id)
        if request.classes:
            await check_classes(context, request.classes)
        async with pictures.decoded(await library.picture(asset)) as picture:
            found = await context.stage(OBJECTS)(picture.image)
        objects = [
            _found(each)
            for each in found.objects
            if each.confidence >= request.min_confidence and (not request.classes or each.label in request.classes)
        ]
        return ObjectsAnswer(
            asset_id=asset.asset_id,
            filename=asset.filename,
            image_dimensions=ImageDimensions(width=picture.width, height=picture.height),
            objects=objects,
            counts=dict(Counter(each.label for each in objects)),
            model_version=found.model_version,
            processing_time=clock.seconds,
        )

    return router


def _found(each: DetectedObject) -> FoundObject:
    return FoundObject(
        label=each.label,
        confidence=round(each.confidence, 4),
        x=round(each.x, 2),
        y=round(each.y, 2),
        width=round(each.width, 2),
        height=round(each.height, 2),
    )
