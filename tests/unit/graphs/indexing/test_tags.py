"""Tags of films by their stored tracks, and lists of classes in URLs."""

import pytest

from graphs.indexing.classes import classes_of
from graphs.indexing.tags import ObjectTag, tags_of_film
from stores.people import ObjectRecord
from vision.errors import InvalidInput


def track(number: int, label: str, start: float, screen_time: float, confidence: float = 0.5) -> ObjectRecord:
    return ObjectRecord(
        asset_id="film",
        track_id=number,
        label=label,
        first_frame=round(25 * start),
        last_frame=round(25 * (start + screen_time)) - 1,
        first_time=start,
        last_time=start + screen_time - 0.04,
        sightings=3,
        confidence=confidence,
        screen_time=screen_time,
        trace_id=None,
    )


def test_a_film_is_tagged_by_how_long_and_how_many_at_once() -> None:
    film = [
        track(1, "dog", 0.0, 2.0),
        track(2, "dog", 2.0, 1.0, 0.87654),
        track(3, "car", 1.0, 0.5),
        track(4, "car", 1.25, 0.5),
    ]
    assert tags_of_film(film) == [
        ObjectTag(label="dog", confidence=0.8765, at_once=1, screen_time=3.0),
        ObjectTag(label="car", confidence=0.5, at_once=2, screen_time=0.75),
    ]
    assert tags_of_film([]) == []


def test_classes_of_a_url_have_one_name_each() -> None:
    assert classes_of(None) is None
    assert classes_of("Dog, tvmonitor,,tv ,potted_plant") == ("dog", "tv", "potted plant")
    with pytest.raises(InvalidInput, match=r"^objects names no class"):
        classes_of(" , _", "objects")
