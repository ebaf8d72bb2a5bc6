"""Tags of what was seen, as clients see them, and those of the tracks of a film."""

import math
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Final

from pydantic import BaseModel, Field

from graphs.web.context import Context
from stores.people import ObjectRecord
from stores.records import Asset
from vision.objects.tags import Appearance, Tag, tags_of_stretch


class ObjectTag(BaseModel):
    """A class of objects that was seen."""

    label: str = Field(description="one of the classes of the detector, as model-info names them")
    confidence: float = Field(ge=0, le=1, description="of the surest of them; in a film the mean of its detections")
    at_once: int = Field(description="most of them in one picture or frame")
    screen_time: float | None = Field(description="seconds with at least one of them in sight; null for a picture")


TAGS: Final = Field(
    default=None,
    description="what was seen in it, by class: of a video in the whole film, longest first, of a picture surest "
    "first; null where nobody has looked for objects yet",
)
"""The field ``tags`` of an asset."""


async def tags_of(context: Context, assets: Iterable[Asset]) -> dict[str, list[ObjectTag]]:
    """Return what is stored of what was seen in assets, by their ids; not of those where nobody has looked."""
    kinds = {asset.asset_id: asset.kind for asset in assets}
    films = [asset_id for asset_id, kind in kinds.items() if kind == "video"]
    pictures = [asset_id for asset_id, kind in kinds.items() if kind == "image"]
    tags = await context.people.film_tags(films) if films else {}
    tags |= await context.documents.picture_tags(pictures) if pictures else {}
    return {asset_id: shown_tags(seen) for asset_id, seen in tags.items()}


def appearances_of(records: Iterable[ObjectRecord]) -> list[Appearance]:
    """Return when the objects of a film are in sight."""
    return [each.appearance for each in records]


def tags_of_film(records: Iterable[ObjectRecord]) -> list[ObjectTag]:
    """Return the tags of a whole film, longest seen first."""
    return shown_tags(tags_of_stretch(appearances_of(records), 0.0, math.inf))


def rounded(tag: Tag) -> Tag:
    """Return a tag in the digits of answers."""
    time = None if tag.screen_time is None else round(tag.screen_time, 3)
    return replace(tag, confidence=round(tag.confidence, 4), screen_time=time)


def shown_tags(tags: Iterable[Tag]) -> list[ObjectTag]:
    """Return tags as clients see them."""
    return [ObjectTag(**asdict(rounded(each))) for each in tags]
