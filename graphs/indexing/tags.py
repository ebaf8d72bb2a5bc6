"""Tags of what was seen, as clients see them, and those of the tracks of a film."""

import math
from collections.abc import Iterable

from pydantic import BaseModel, Field

from stores.people import ObjectRecord
from vision.objects.tags import Appearance, Tag, tags_of_stretch


class ObjectTag(BaseModel):
    """A class of objects that was seen."""

    label: str = Field(description="one of the classes of the detector, as model-info names them")
    confidence: float = Field(ge=0, le=1, description="of the surest of them; in a film the mean of its detections")
    at_once: int = Field(description="most of them in one picture or frame")
    screen_time: float | None = Field(description="seconds with at least one of them in sight; null for a picture")


def appearances_of(records: Iterable[ObjectRecord]) -> list[Appearance]:
    """Return when the objects of a film are in sight."""
    return [
        Appearance(each.label, each.confidence, each.first_time, each.first_time + each.screen_time) for each in records
    ]


def tags_of_film(records: Iterable[ObjectRecord]) -> list[ObjectTag]:
    """Return the tags of a whole film, longest seen first."""
    return shown_tags(tags_of_stretch(appearances_of(records), 0.0, math.inf))


def shown_tags(tags: Iterable[Tag]) -> list[ObjectTag]:
    """Return tags as clients see them."""
    return [
        ObjectTag(
            label=each.label,
            confidence=round(each.confidence, 4),
            at_once=each.at_once,
            screen_time=None if each.screen_time is None else round(each.screen_time, 3),
        )
        for each in tags
    ]
