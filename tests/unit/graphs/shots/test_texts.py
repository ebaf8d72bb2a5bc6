"""Texts of shots, and words in common."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from graphs.shots.texts import NO_TEXT, shared_words, text_of, text_parts
from stores.shots import Shot, tag_forms

BARE = Shot(
    video_asset_id="a" * 32,
    shot_index=0,
    start_frame=0,
    end_frame=9,
    start_timestamp=0,
    end_timestamp=0.4,
    keyframe_frame=5,
    keyframe_time=0.2,
    camera_movement="undetermined",
    movement_intensity=0,
    shot_size="undetermined",
    shot_angle="undetermined",
    framing="centered",
    analysis_timestamp=datetime(2026, 5, 4, tzinfo=UTC),
)


def test_the_texts_of_a_shot() -> None:
    shot = replace(
        BARE,
        scene_context="A car races off. ",
        usage_situations=("climax",),
        emotional_tone="tense",
        genre="thriller",
        auto_tags=("movement:pan_left", "size:wide", "night"),
        camera_movement="pan_left",
        shot_size="close_up",
        shot_angle="low_angle",
    )
    assert [text for text, _ in text_parts(shot)] == [
        "A car races off. climax",
        "tense thriller",
        "pan left, wide, night",
        "close up shot, low angle, pan left camera",
    ]
    assert text_of(replace(shot, manual_tags=("time:dawn",))).count("night") == 0
    assert "dawn" in text_of(replace(shot, manual_tags=("time:dawn",)))


def test_a_shot_about_which_nothing_is_said_still_has_a_text() -> None:
    assert text_parts(BARE) == [(NO_TEXT, 1.0)]


@pytest.mark.parametrize(
    ("wanted", "text", "expected"),
    [
        ("The cars are racing", "a car in a race", ["cars", "racing"]),
        ("a man and the sea", "the sea of a man", ["man", "sea"]),
        ("Dancers, dancing!", "a dance", ["dancing"]),
        ("Éclairs at night", "éclair; Night.", ["éclairs", "night"]),
        ("nothing of it", "something else", []),
    ],
)
def test_words_in_common(wanted: str, text: str, expected: list[str]) -> None:
    assert shared_words(wanted, text) == expected


def test_tags_are_found_with_and_without_their_category() -> None:
    assert tag_forms("Movement:pan_left") == {"movement:pan left", "pan left"}
    assert tag_forms("Film-Noir") == {"film noir"}
    assert tag_forms("odd:") == {"odd:"}
