"""What a contact sheet says of a shot."""

import pytest
from PIL import ImageFont

from graphs.shots.sheets import TEXT, caption
from tests.stores.test_shots import shot
from vision.objects.tags import Tag

SEEN = (Tag("person", 0.9, 3, 1.5), Tag("dog", 0.8, 1, 1.0), Tag("traffic light", 0.4, 2, 0.5))


def test_objects_are_a_line_of_their_own_where_any_are_seen() -> None:
    assert caption(shot(1, objects=SEEN, manual_tags=("night", "wide"))) == [
        "2   00:00:02.000   2.00 s",
        "pan_left · wide · eye_level · centered",
        "night",
        "person (3) · dog · traffic light (2)",
    ]
    assert [len(caption(shot(objects=each))) for each in (None, ())] == [3, 3]


@pytest.mark.parametrize("objects", [SEEN, None])
def test_the_font_has_all_that_is_written(objects: tuple[Tag, ...] | None) -> None:
    font = ImageFont.load_default(TEXT)
    missing = bytes(font.getmask("\U0010ffff"))
    letters = {letter for line in caption(shot(objects=objects)) for letter in line}
    assert len(letters) > 20
    assert [letter for letter in letters if bytes(font.getmask(letter)) == missing] == []
    assert bytes(font.getmask("\u00d7")) == missing  # so this test sees what is missing
