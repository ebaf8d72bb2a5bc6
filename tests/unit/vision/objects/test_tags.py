"""Tags of pictures and of stretches of films, by hand-made tracks."""

import pytest

from vision.objects.detection import DetectedObject
from vision.objects.tags import Appearance, Tag, tags_of_picture, tags_of_stretch


def seen(label: str, confidence: float) -> DetectedObject:
    return DetectedObject(0, 0, 10, 10, confidence, label)


def test_a_picture_counts_what_is_in_it() -> None:
    assert tags_of_picture([seen("car", 0.5), seen("dog", 0.9), seen("car", 0.75)]) == (
        Tag("dog", 0.9, 1),
        Tag("car", 0.75, 2),
    )
    assert tags_of_picture([]) == ()


def test_who_comes_back_is_no_second_one_and_time_together_counts_once() -> None:
    film = [
        Appearance("dog", 0.5, 0.0, 2.0),
        Appearance("dog", 0.75, 3.0, 4.0),
        Appearance("car", 0.5, 1.0, 3.0),
        Appearance("car", 0.25, 2.0, 5.0),
    ]
    assert tags_of_stretch(film, 0.0, 10.0) == (Tag("car", 0.5, 2, 4.0), Tag("dog", 0.75, 1, 3.0))


def test_one_that_ends_as_the_next_begins_is_alone() -> None:
    film = [Appearance("dog", 0.5, 0.0, 2.0), Appearance("dog", 0.5, 2.0, 3.0)]
    assert tags_of_stretch(film, 0.0, 3.0) == (Tag("dog", 0.5, 1, 3.0),)


@pytest.mark.parametrize(
    ("start", "end", "tags"),
    [
        (0.0, 1.0, ()),
        (0.0, 1.5, (Tag("dog", 0.5, 1, 0.5),)),
        (1.25, 1.5, (Tag("dog", 0.5, 1, 0.25),)),
        (1.5, 9.0, (Tag("dog", 0.5, 1, 0.5),)),
        (2.0, 9.0, ()),
    ],
)
def test_a_stretch_has_only_what_is_seen_in_it(start: float, end: float, tags: tuple[Tag, ...]) -> None:
    assert tags_of_stretch([Appearance("dog", 0.5, 1.0, 2.0)], start, end) == tags
